"""Ask a server for TLS (protocol chapter "SSL Session Encryption")."""

import ssl
import struct

from ...protocol import codes
from ...transport.connect import Address
from ...transport.stream import Stream, Unsafe
from ...transport.tls_context import ServerTls
from ..errors import DialError

_SSL_REQUEST = struct.pack("!ii", 8, codes.SSL_REQUEST)


async def secure(stream: Stream, address: Address, tls: ServerTls, required: bool) -> bool:
    """Ask the server for TLS; returns whether it is on. Raises DialError where it must be and can't."""
    stream.send(_SSL_REQUEST)
    answer = await stream.exactly(1)
    if answer == b"N":
        if required:
            raise DialError("28000", f"server {address} does not support SSL, but SSL was required")
        return False
    if answer != b"S":
        raise DialError("08001", f"server {address} answered garbage to the SSL request")
    try:
        await stream.start_tls(tls.context(address.name), serving=False, name=address.name)
        assert stream.link.tls is not None
        tls.check(stream.link.tls.session, address.name)
    except Unsafe as error:
        raise DialError("08001", f"server {address}: {error}") from error
    except ssl.CertificateError as error:
        raise DialError("28000", f"TLS with server {address} failed: {error}") from error
    except OSError as error:
        raise DialError("08001", f"TLS with server {address} failed: {error}") from error
    return True
