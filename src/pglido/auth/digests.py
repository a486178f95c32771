"""SHA-256 and HMAC-SHA-256, by libcrypto without detours where that is possible, else by Python's own functions."""

import hashlib
import hmac
from collections.abc import Callable


def python_hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC with SHA-256 (RFC 2104): 32 bytes."""
    return hmac.digest(key, data, "sha256")


def python_sha256(data: bytes) -> bytes:
    """SHA-256 (FIPS 180-4): 32 bytes."""
    return hashlib.sha256(data).digest()


hmac_sha256: Callable[[bytes, bytes], bytes] = python_hmac_sha256
sha256: Callable[[bytes], bytes] = python_sha256
try:
    from .libcrypto import Libcrypto

    _found = Libcrypto()
    hmac_sha256, sha256 = _found.hmac_sha256, _found.sha256
except (ImportError, AttributeError, OSError):
    # Not compiled, or another library than OpenSSL 3.
    pass
