"""The consoles that are open: how many there may be, and their numbers, by which they can be cancelled."""

from __future__ import annotations

import logging
import socket

from ..admin.control_api import ControlApi
from ..admin.session import CancelKey, Session, refuse, serve
from ..ipc.cancel_key import CONSOLE, cancel_key, size_of_key
from ..ipc.messages import Console
from . import daemon

log = logging.getLogger("pglido.control")

KEPT = 16  # descriptors that no console gets: workers are restarted, covered and given the log's with them
KEPT_FOR_ADMINS = 8  # descriptors that consoles of stats_users don't get
MOST = 1 << 23  # numbers, as they fit into a process id without a worker's part


class Consoles:
    """Those of this process; `secret` makes their keys."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sessions: dict[int, Session] = {}
        self._latest = 0

    async def open(self, control: ControlApi, client: Console, fds: tuple[int, ...]) -> None:
        """Talk to a client over its descriptor until it or the pooler goes, or tell it why not."""
        if not fds:
            log.error("console refused to %s: out of file descriptors", client.address)
            return
        sock = socket.socket(fileno=fds[0])
        if daemon.nearly_last(fds[0], KEPT if client.admin else KEPT + KEPT_FOR_ADMINS):
            log.error("console refused to %s: nearly out of file descriptors", client.address)
            refuse(client, sock, "53300", "no more connections allowed (out of file descriptors)")
            return
        number = self._next()
        key = cancel_key(self._secret, CONSOLE, number, size_of_key(client.protocol & 0xFFFF))
        await serve(control, client, sock, CancelKey(number, key), self._sessions)

    def cancel(self, number: int, key_size: int) -> None:
        """Break off what this console waits for, if it is still there and was given a key of this size."""
        session = self._sessions.get(number)
        if session is not None and len(session.key.secret) == key_size:
            session.cancel()

    def _next(self) -> int:
        """A number that no open console has."""
        while True:
            self._latest = (self._latest + 1) % MOST or 1
            if self._latest not in self._sessions:
                return self._latest
