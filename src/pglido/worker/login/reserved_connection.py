"""One place for an admin, though the process is out of descriptors: whoever else comes then is told so.

Descriptors that nobody uses are held open. At the limit one of them makes room for the next client, who may go on only
to the console and as an admin; the others are for the console's socket pair. The place is free again when that client
has left. Meanwhile nobody else is taken until there are descriptors again.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from ...relay.stage import RAW
from ..lifecycle import Lifecycle
from .fast_path import FastLogin
from .refusals import FULL

# The client's own, and a socket pair.
KEPT = 3
# Seconds between two looks whether the place is free, and how long its client has to become an admin.
PAUSE = 0.05
PATIENCE = 5.0


class ReservedConnection:
    """The place of one worker; `listen` has a listening socket's clients be taken again."""

    def __init__(self, lifecycle: Lifecycle, fast_login: FastLogin, listen: Callable[[socket.socket], None]) -> None:
        self.lifecycle = lifecycle
        self.fast_login = fast_login
        self.listen = listen
        self._kept: list[int] = []
        self._failed_listeners: list[socket.socket] = []

    def fill(self) -> bool:
        """Hold as many descriptors as are needed; False where they can't be had now."""
        try:
            while len(self._kept) < KEPT:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def offer(self, sock: socket.socket, error: OSError) -> bool:
        """Take the next client of a listening socket, which is at rest for `error`, into the place.

        False where that is not the reason, or the place is not free: the socket is to be listened to later.
        """
        if error.errno != errno.EMFILE or self.fast_login.spare or not self.fill():
            return False
        os.close(self._kept.pop())
        self._failed_listeners.append(sock)
        try:
            self.fast_login.take_spare(sock.fileno(), sock.family == socket.AF_UNIX)
        except OSError:
            self.fast_login.spare = 0
        self._look_soon()
        return True

    def seat(self) -> None:
        """The client is an admin: leave the descriptors to its console."""
        while self._kept:
            os.close(self._kept.pop())

    def _look_soon(self) -> None:
        asyncio.get_running_loop().call_later(PAUSE, self._look)

    def _look(self) -> None:
        """Free the place if its client has left."""
        client = self.lifecycle.clients.get(self.fast_login.spare)
        if client is not None:
            if client.stage != RAW and self.lifecycle.transport.now - client.born > PATIENCE:
                self.lifecycle.kill(client, *FULL)
            elif self._failed_listeners and self.fill():
                # Others have left, or the limit is a higher one.
                self._resume_listeners()
            self._look_soon()
            return
        for left in [one for one in self.lifecycle.lingering if one.serial == self.fast_login.spare]:
            # It has been told, and needs no descriptor to hear it.
            del self.lifecycle.lingering[left]
            self.lifecycle.transport.close(left)
        if not self.fill():
            # Others have taken what it left.
            self._look_soon()
            return
        self.fast_login.spare = 0
        self._resume_listeners()

    def _resume_listeners(self) -> None:
        listeners, self._failed_listeners = self._failed_listeners, []
        for sock in listeners:
            self.listen(sock)
