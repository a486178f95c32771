# cython: annotation_typing=True
"""SHA-256 and HMAC-SHA-256 by the libcrypto that Python itself uses (OpenSSL 3). Compiled only (Cython).

Python's own functions look an algorithm up by its name and make a context anew at each call: 1.6 us, of which the
calculation takes 0.3. Those of OpenSSL that are meant for all algorithms (EVP_MAC) take 4,800 instructions for an HMAC
besides the calculation, and in a login their code is never in the caches; what is here takes 300. Nothing of OpenSSL is
needed to build this: the functions are found at runtime, in the library that `_hashlib` is linked to.
"""

import ctypes

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.string import memset
from cython.cimports.pglido.auth.openssl import BLOCK, CONTEXT, SIZE, final_t, fips_t, init_t, update_t

from .. import compat

INNER, OUTER = 0x36, 0x5C  # ipad and opad of RFC 2104


def address(library: object, name: str) -> cython.size_t:
    """Where a function of the library is. Raises AttributeError where it has none of that name."""
    place: cython.size_t = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    return place


def demand(done: cython.bint) -> None:
    """Raise OSError unless it was done."""
    if not done:
        raise OSError("libcrypto refuses SHA-256")


class Libcrypto:
    """The functions. Raises AttributeError or OSError where they are not to be had.

    Where the system demands certified modules (FIPS) they are not, as they are no part of one.
    """

    def __init__(self) -> None:
        library: object = ctypes.CDLL(compat.hashing_library())
        certified = cython.cast(fips_t, address(library, "EVP_default_properties_is_fips_enabled"))
        demand(certified(cython.NULL) == 0)
        self.init = cython.cast(init_t, address(library, "SHA256_Init"))
        self.update = cython.cast(update_t, address(library, "SHA256_Update"))
        self.final = cython.cast(final_t, address(library, "SHA256_Final"))

    def digest(
        self, out: cython.p_char, block: cython.p_const_char, blocked: cython.size_t,
        data: cython.p_const_char, size: cython.size_t,
    ) -> None:
        """SHA-256 of a block, or none, and what follows it."""
        context = cython.declare(cython.uint[CONTEXT])
        demand(
            self.init(context) == 1
            and self.update(context, block, blocked) == 1
            and self.update(context, data, size) == 1
            and self.final(out, context) == 1
        )

    def hmac_sha256(self, key: bytes, data: bytes) -> bytes:
        """HMAC with SHA-256 (RFC 2104): 32 bytes."""
        inner = cython.declare(cython.char[BLOCK])
        outer = cython.declare(cython.char[BLOCK])
        out = cython.declare(cython.char[SIZE])
        at: cython.Py_ssize_t
        if len(key) > BLOCK:
            key = self.sha256(key)
        memset(inner, INNER, BLOCK)
        memset(outer, OUTER, BLOCK)
        for at in range(len(key)):
            inner[at] ^= key[at]
            outer[at] ^= key[at]
        self.digest(out, inner, BLOCK, PyBytes_AS_STRING(data), len(data))
        self.digest(out, outer, BLOCK, out, SIZE)
        made: bytes = PyBytes_FromStringAndSize(out, SIZE)
        return made

    def sha256(self, data: bytes) -> bytes:
        """SHA-256 (FIPS 180-4): 32 bytes."""
        out = cython.declare(cython.char[SIZE])
        self.digest(out, cython.NULL, 0, PyBytes_AS_STRING(data), len(data))
        made: bytes = PyBytes_FromStringAndSize(out, SIZE)
        return made
