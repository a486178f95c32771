"""The arithmetic and grammar of SCRAM-SHA-256 (RFC 5802, RFC 7677) that both sides of an exchange share, compiled."""

import hashlib
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import NamedTuple

from .digests import hmac_sha256, sha256
from .saslprep import saslprep

SCRAM = b"SCRAM-SHA-256"
SCRAM_PLUS = b"SCRAM-SHA-256-PLUS"
END_POINT = b"p=tls-server-end-point,,"
NONCE_SIZE = 18  # PostgreSQL's SCRAM_RAW_NONCE_LEN: 24 characters in Base64.

# PostgreSQL's PG_MAX_SASL_MESSAGE_LENGTH; real messages have about 100 to 250 bytes.
MAX_MESSAGE = 1024

# A peer chooses the iterations that we then calculate, about 0.3 us each.
# OWASP recommends 600,000 for stored passwords; PostgreSQL's default is 4096.
MAX_ITERATIONS = 1_000_000

Random = Callable[[int], bytes]

_PRINTABLE = rb"[\x21-\x2b\x2d-\x7e]+"
_BASE64 = rb"[A-Za-z0-9+/=]+"
_VALUE = rb"[^,\0]*"

SERVER_FIRST = re.compile(
    rb"r=(?P<nonce>" + _PRINTABLE + rb"),s=(?P<salt>" + _BASE64 + rb"),i=(?P<iterations>[0-9]{1,10})"
)
SERVER_FINAL = re.compile(rb"v=(?P<signature>" + _BASE64 + rb")|e=(?P<error>" + _VALUE + rb")")


class Derived(NamedTuple):
    """The three keys that come from a password, a salt and an iteration count."""

    client_key: bytes
    stored_key: bytes
    server_key: bytes


class Keys:
    """What a client's SCRAM login showed: enough to log in to a server that has the very same verifier.

    Compiled, as each login makes one; shows no content in a `repr`, as the `secrets`.
    """

    __slots__ = ("client_key", "iterations", "salt", "server_key")

    def __init__(self, iterations: int, salt: bytes, client_key: bytes, server_key: bytes) -> None:
        self.iterations = iterations
        self.salt = salt
        self.client_key = client_key
        self.server_key = server_key


def derive(password: bytes, salt: bytes, iterations: int) -> Derived:
    """Calculate the keys; `password` is prepared already. About 1 ms for 4096 iterations."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client_key = hmac_sha256(salted, b"Client Key")
    server_key = hmac_sha256(salted, b"Server Key")
    return Derived(client_key, digest(client_key), server_key)


def digest(key: bytes) -> bytes:
    """H: what makes StoredKey of ClientKey."""
    return sha256(key)


class Derivations:
    """Keys once derived from passwords in clear, the most recently used kept; `size` bounds them.

    An entry depends on nothing but its key, so none is ever out of date.
    """

    __slots__ = ("_keys", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[tuple[str, bytes, int], Derived] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, password: str, salt: bytes, iterations: int) -> Derived | None:
        """The keys, if they were kept."""
        key = (password, salt, iterations)
        found = self._keys.pop(key, None)
        if found is not None:
            self._keys[key] = found
        return found

    def keep(self, password: str, salt: bytes, iterations: int, derived: Derived) -> None:
        """Keep these keys, and forget the least recently used where there is no room."""
        self._keys[password, salt, iterations] = derived
        if len(self._keys) > self._size:
            # Another thread may have had it in its hand.
            self._keys.pop(next(iter(self._keys)), None)

    def get(self, password: str, salt: bytes, iterations: int) -> Derived:
        """The keys, calculated now if they were not kept."""
        found = self.find(password, salt, iterations)
        if found is None:
            found = derive(saslprep(password), salt, iterations)
            self.keep(password, salt, iterations, found)
        return found


def sign(key: bytes, auth_message: bytes) -> bytes:
    """ClientSignature (with StoredKey) or ServerSignature (with ServerKey).

    No key is kept prepared: whether one was would tell by the time whose it is.
    """
    return hmac_sha256(key, auth_message)


def fresh_nonce(rng: Random) -> bytes:
    """Our half of the nonce, printable."""
    return base64(rng(NONCE_SIZE))


def base64(data: bytes) -> bytes:
    """Base64 on one line."""
    return b2a_base64(data, newline=False)


def unbase64(text: bytes) -> bytes:
    """Decode Base64, strictly: no other character, no missing or surplus padding. Raises ValueError."""
    return a2b_base64(text, strict_mode=True)
