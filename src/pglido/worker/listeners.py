"""Listening sockets: those of this worker, and those of others while these hang."""

import asyncio
import logging
import selectors
import socket
from collections.abc import Sequence
from functools import partial

from ..ipc import messages as ipc
from ..ipc.channel import Channel
from ..transport.connection import Watched
from .lifecycle import Lifecycle
from .login.fast_path import FastLogin
from .login.reserved_connection import ReservedConnection

log = logging.getLogger("pglido.worker")

# Seconds of rest when no connection can be taken.
ACCEPT_PAUSE = 1


class Listeners:
    """`sockets` are this worker's own; `reserved` takes an admin where no other can be taken."""

    def __init__(
        self, lifecycle: Lifecycle, fast_login: FastLogin, channel: Channel[ipc.ToWorker], sockets: list[socket.socket]
    ) -> None:
        self.lifecycle = lifecycle
        self.fast_login = fast_login
        self.channel = channel
        self.sockets = sockets
        self.reserved = ReservedConnection(lifecycle, fast_login, self.listen)
        self._listening: dict[socket.socket, Watched] = {}
        self._covered: dict[int, list[socket.socket]] = {}

    def open(self) -> None:
        """Begin to take connections."""
        self.reserved.fill()
        for sock in self.sockets:
            self.listen(sock)

    def listen(self, sock: socket.socket) -> None:
        """Begin to take connections from a listening socket, past asyncio: in the transport's own round."""
        if not self.lifecycle.draining and sock.fileno() >= 0 and sock not in self._listening:
            watched = self._listening[sock] = Watched(None)
            unix = sock.family == socket.AF_UNIX
            watched.call = partial(self.fast_login.open, sock.fileno(), unix, partial(self._rest, sock))
            self.lifecycle.transport.watch_descriptor(watched, sock.fileno(), selectors.EVENT_READ, False)

    def _stop(self, sock: socket.socket) -> None:
        """Take no more connections from it for now."""
        watched = self._listening.pop(sock, None)
        if watched is not None:
            self.lifecycle.transport.unwatch_descriptor(watched, sock.fileno())
            # An event that is on its way must not reach a socket that is closed by then.
            watched.call = _nothing

    def _rest(self, sock: socket.socket, error: OSError) -> None:
        """A connection could not be taken, mostly for too many open files: without a pause it would be tried always."""
        self._stop(sock)
        if self.reserved.offer(sock, error):
            log.error("can't accept, but for an admin: %s", error)
            return
        log.error("can't accept, will try again in %d s: %s", ACCEPT_PAUSE, error)
        asyncio.get_running_loop().call_later(ACCEPT_PAUSE, self.listen, sock)

    def cover(self, worker: int, fds: Sequence[int]) -> None:
        """Accept in place of another worker, whose listening sockets these are; none if there was no room for them."""
        self.uncover(worker)
        if not fds:
            log.error("can't accept in place of worker %d: out of file descriptors", worker)
            self.channel.post(ipc.NotCovered(worker))
            return
        self._covered[worker] = [socket.socket(fileno=fd) for fd in fds]
        for sock in self._covered[worker]:
            self.listen(sock)

    def uncover(self, worker: int) -> None:
        """Leave another worker's sockets to it again."""
        for sock in self._covered.pop(worker, ()):
            self._stop(sock)
            sock.close()

    def close(self) -> None:
        """Take no more connections. Whoever comes is refused by the kernel, or served by a successor on the port."""
        for sock in [*self.sockets, *(sock for socks in self._covered.values() for sock in socks)]:
            self._stop(sock)
            sock.close()


def _nothing() -> None:
    """For a socket that is not accepted from any more."""
