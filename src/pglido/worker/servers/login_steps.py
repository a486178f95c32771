"""The steps of a login to a server (`auth.server_login`), taken on a stream."""

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from ...auth.server_login import Derive, Receive, Send, StartTls, Talk
from ...transport.connect import Address
from ...transport.stream import Gone, Stream, Unsafe
from ...transport.tls_context import ServerTls
from ..errors import DialError

T = TypeVar("T")


class HashingService(Protocol):
    """Key derivations, beside the loop."""

    async def run_own(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, for a login to a server."""


async def carry_out(
    stream: Stream, talk: Talk[T], hashing: HashingService, begin_tls: Callable[[], Awaitable[None]] | None = None
) -> T:
    """What the conversation returns or raises; `begin_tls` where it may ask for TLS."""
    reply: bytes | None = None
    while True:
        try:
            step = talk.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        reply = None
        match step:
            case Send(data):
                stream.send(data)
            case Receive(size):
                reply = b""
                with contextlib.suppress(Gone):
                    reply = await stream.exactly(size)
            case StartTls():
                assert begin_tls is not None, "TLS is asked for before the login only"
                await begin_tls()
            case Derive(call):
                reply = await hashing.run_own(call)


async def start_tls(stream: Stream, address: Address, tls: ServerTls) -> None:
    """TLS from here on, for the server has agreed. Raises DialError."""
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
