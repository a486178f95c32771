# cython: annotation_typing=True
"""TLS of one connection without its socket (RFC 8446): what came is opened, what goes is sealed.

So encrypted bytes are received and sent as all others, with one call for what has come together.
"""

import ssl
from typing import Any

import cython

# The type of the record that a ClientHello begins with (RFC 8446, section 5.1).
HANDSHAKE = 0x16
# No record holds more (RFC 8446, section 5.1). What passes at once is cut into such pieces, for OpenSSL keeps as much
# memory as it ever had to hold.
PIECE = 16384


class TlsRecords:
    """One connection's TLS: `session` (ssl.SSLObject) knows version, cipher, certificate; `going` is to be sent."""

    def __init__(self, context: ssl.SSLContext, serving: bool, name: str | None) -> None:
        self.came: Any = ssl.MemoryBIO()
        self.going: Any = ssl.MemoryBIO()
        self.session: Any = context.wrap_bio(self.came, self.going, server_side=serving, server_hostname=name)

    def handshake(self, data: bytes) -> bool:
        """Take what came of the handshake; returns whether it is over. Raises ssl.SSLError and CertificateError."""
        self.came.write(data)
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def open(self, data: cython.p_char, size: cython.Py_ssize_t, into: Any) -> cython.Py_ssize_t:
        """Take what came, and put what it says into a view that has room for `size` bytes and two records.

        Returns how much that is; below 0 (minus one, minus that much) where the peer has ended, or broke the protocol.
        """
        total: cython.Py_ssize_t = 0
        at: cython.Py_ssize_t = 0
        got: cython.Py_ssize_t
        step: cython.Py_ssize_t
        while True:
            try:
                while self.came.pending:
                    got = self.session.read(len(into) - total, into[total:] if total else into)
                    if not got:
                        return -1 - total
                    total += got
            except ssl.SSLWantReadError:
                pass  # the rest of a record is still to come
            except OSError:
                return -1 - total
            if at == size:
                return total
            step = min(size - at, PIECE)
            self.came.write(data[at : at + step])
            at += step

    def seal(self, data: cython.p_char, size: cython.Py_ssize_t) -> bytes:
        """What is to be sent for these bytes. Raises OSError."""
        at: cython.Py_ssize_t = 0
        sealed: list[bytes] = []
        while at < size:
            at += self.session.write(data[at : min(at + PIECE, size)])
            sealed.append(self.going.read())
        return b"".join(sealed)
