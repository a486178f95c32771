"""Rare paths on a link, as coroutines: read exactly, start TLS."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from .connection import Link
from .inline_task import news
from .tls_record import HANDSHAKE, TlsRecords
from .transport import Transport


class Gone(ConnectionError):
    """The peer closed the connection."""


class Unsafe(ConnectionError):
    """The peer sent bytes where none may come, e.g. before TLS was up (CVE-2021-23214, CVE-2021-23222)."""


async def _news_for_task(link: Link) -> None:
    """Wait until something happens on `link`."""
    future = asyncio.get_running_loop().create_future()

    def wake(_: Link) -> None:
        if not future.done():
            future.set_result(None)

    link.waiter = wake
    try:
        await future
    finally:
        link.waiter = None


class Stream:
    """A link in collecting mode, read by one coroutine: a task's, or (`inline_task`) one stepped by the transport."""

    __slots__ = ("_had", "_news", "link", "transport")

    def __init__(self, transport: Transport, link: Link, visit: bool = False) -> None:
        self.transport = transport
        self.link = link
        self._had = b""
        self._news: Callable[[Link], Awaitable[None]] = news if visit else _news_for_task

    async def _more(self) -> None:
        link = self.link
        if link.inbox is None:
            if link.eof:
                raise Gone("the connection was closed")
            await self._news(link)
        if link.inbox is not None:
            self._had += link.inbox
            link.inbox = None
            self.transport.watch(link)

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes; raises Gone."""
        while len(self._had) < count:
            await self._more()
        data, self._had = self._had[:count], self._had[count:]
        return data

    async def look(self, count: int) -> bytes:
        """The next `count` bytes, left to be read again."""
        data = await self.exactly(count)
        self._had = data + self._had
        return data

    def send(self, data: bytes) -> None:
        """Send, now or when the peer takes it."""
        self.transport.send(self.link, data)

    def settle(self) -> None:
        """Give unread bytes back to the link, whose mode is about to change."""
        if self._had:
            self.link.inbox = self._had + (self.link.inbox or b"")
            self._had = b""

    def clean(self) -> bool:
        """Is nothing there that nobody asked for?"""
        return not self._had and self.link.inbox is None

    async def wait_writable(self) -> None:
        """Until the socket can be written (so a connect has ended) or has failed."""
        link = self.link
        if link.eof:
            raise Gone("the connection was closed")
        self.transport.connecting(link)
        await self._news(link)
        if link.closed:
            raise Gone("the connection was closed")

    async def begins_with_tls(self) -> bool:
        """Is the first byte that of a TLS handshake?"""
        return (await self.look(1))[0] == HANDSHAKE

    async def start_tls(
        self, context: ssl.SSLContext, *, serving: bool, name: str | None = None, begun: bool = False
    ) -> None:
        """Make the link a TLS one; `begun`: what has come is of TLS already.

        Raises ssl.SSLError, ssl.CertificateError, Gone, or Unsafe when plain bytes came before it.
        """
        if not begun and not self.clean():
            raise Unsafe("received unencrypted data after SSL request")
        tls = TlsRecords(context, serving, name)
        try:
            while not tls.handshake(self._had):
                self._had = b""
                self.send(tls.going.read())
                await self._more()
        finally:
            # The end of it, or an alert that tells what is wrong.
            self._had = b""
            self.send(tls.going.read())
        self.transport.secured(self.link, tls)
