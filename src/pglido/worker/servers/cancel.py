"""Cancels: CancelRequests that come in by a connection of their own, and those that a worker has reasons for itself.

The connection by which a request came is held open until the server has it (protocol chapter "Canceling Requests in
Progress": the client waits for its end, and what it asks after that can't be hit).
"""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from hmac import compare_digest
from itertools import count
from typing import Protocol

from ...ipc import messages as ipc
from ...ipc.cancel_key import CONSOLE, LONG_KEY, SHORT_KEY, size_of_key
from ...ipc.channel import Channel
from ...ipc.shared_counters import SharedCounter
from ...relay.stage import RAW
from ..cancel_keys import serials_of, worker_of
from ..connections import ClientConnection, ServerConnection
from ..lifecycle import Lifecycle

# Seconds that a server has for reading a query, before what cancels it is sent; so many times longer before it is sent
# again, as the query may not have been read by then.
PAUSE = 0.01
AGAIN = 4
# Seconds after a client got its server in which that may not have read the client's query.
FRESH = 0.1
# Seconds after which nobody needs to wait any more: whoever had the request may be gone.
LONGEST = 10.0


class HeldConnections:
    """Connections of one worker that are open for others to see, by number."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._fds: dict[int, int] = {}

    def hold(self, fd: int) -> int:
        """Keep this connection open, though it is closed elsewhere, until `let_go` of the number that is returned."""
        number = next(self._numbers)
        try:
            self._fds[number] = os.dup(fd)
        except OSError:
            # Out of descriptors: better cancelled than waited for.
            return number
        asyncio.get_running_loop().call_later(LONGEST, self.let_go, number)
        return number

    def let_go(self, number: int) -> None:
        """Close it, if that has not been done."""
        fd = self._fds.pop(number, None)
        if fd is not None:
            os.close(fd)


class CancelSender(Protocol):
    """Opens connections for CancelRequests."""

    async def send_cancel(self, server: ServerConnection) -> None:
        """Ask a server to cancel what it does; ends when the server has taken the request in."""


class CancelRequests:
    """Those of one worker; `workers` is how many there are, `channel` leads to them, `sender` to servers."""

    def __init__(self, lifecycle: Lifecycle, channel: Channel[ipc.ToWorker], sender: CancelSender) -> None:
        self.lifecycle = lifecycle
        self.sender = sender
        self.channel = channel
        self.workers = 1
        self.held = HeldConnections()

    def request(self, pid: int, key: bytes, fd: int) -> None:
        """A CancelRequest came in by the connection `fd`: for a client of this worker, of another, or of the console.

        A wrong key does nothing, as in PostgreSQL, and never leaves this worker.
        """
        worker = worker_of(pid)
        serial = self._serial_of(worker, pid, key)
        if serial is None:
            return
        number = self.held.hold(fd)
        if worker == CONSOLE:
            self.channel.post(ipc.CancelConsole(serial, len(key), number))
        elif worker == self.lifecycle.index:
            self._request_here(serial, len(key), partial(self.held.let_go, number))
        else:
            self.channel.post(ipc.CancelAt(worker, serial, len(key), number))

    def request_elsewhere(self, message: ipc.CancelHere) -> None:
        """One came in at another worker, which is told when it is over."""
        over = ipc.CancelOver(message.sender, message.number)
        self._request_here(message.serial, message.key_size, partial(self.channel.post, over))

    def _serial_of(self, worker: int, pid: int, key: bytes) -> int | None:
        """The serial of the client to whom this key was given, by whichever process this worker was then."""
        if not CONSOLE <= worker < self.workers or len(key) not in (SHORT_KEY, LONG_KEY):
            return None
        keys = self.lifecycle.cancel_keys
        latest = pid if worker == CONSOLE else self.lifecycle.counters.get(SharedCounter.SERIALS, worker)
        for serial in serials_of(pid, latest):
            if compare_digest(keys.of(worker, serial, len(key)), key):
                return serial
        return None

    def _request_here(self, serial: int, key_size: int, over: Callable[[], None]) -> None:
        """Cancel what this client is doing, if it is still there and was given a key of this size.

        `over` is called when the server has the request, or none is made.
        """
        client = self.lifecycle.clients.get(serial)
        known = client is not None and key_size == size_of_key(client.minor)
        under_way = self.cancel_client(client) if client is not None and known else None
        if under_way is None:
            over()
        else:
            under_way.add_done_callback(lambda _: over())

    def cancel_client(self, client: ClientConnection) -> "asyncio.Task[None] | None":
        """Cancel what a client has asked for, also if that is still to begin; None where nothing is under way now."""
        server = client.server
        if client.ticket is not None:
            client.cancel_wanted = True
        elif client.stage == RAW and isinstance(client.peer, ServerConnection):
            return self.cancel_at_server(client.peer)
        elif server is not None and server.session.adopting():
            # Not the settings in front of the client's query, nor the question behind the one before. Where the client
            # has said nothing since that was answered, nothing of its own is under way.
            session = server.session
            asks = client.waiting or session.state.coming is not None or session.replies.count > 1
            return self.cancel_soon(client) if asks else None
        elif server is not None and server.session.replies.head:
            under_way = self.cancel_at_server(server)
            if under_way is not None and self.lifecycle.transport.now - client.started < FRESH:
                return self.lifecycle.spawn(self._repeat(client, client.asked, under_way))
            return under_way
        return None

    def cancel_soon(self, client: ClientConnection) -> "asyncio.Task[None]":
        """Cancel what a client has asked for once the server has surely read it: what comes before is ignored."""
        return self.lifecycle.spawn(self._repeat(client, client.asked, None))

    async def _repeat(self, client: ClientConnection, asked: float, first: "asyncio.Task[None] | None") -> None:
        """Cancel it while it goes on, after the `first` attempt; never what the client asks for afterwards.

        Where something is asked behind it, there is one attempt: a second one could hit that.
        """
        pause, tries = PAUSE, 0
        if first is not None:
            tries = 1
            await first
        while pause < LONGEST:
            await asyncio.sleep(pause)
            server = client.server
            if server is None or client.asked != asked:
                return
            replies = server.session.replies
            if not server.session.adopting():
                if not replies.head or (tries and replies.own != 1):
                    return
                under_way = self.cancel_at_server(server)
                if under_way is not None:
                    await under_way
                tries += 1
            pause *= AGAIN

    def cancel_at_server(self, server: ServerConnection) -> "asyncio.Task[None] | None":
        """Cancel what a server is doing, if it still does it when it can be told."""
        if not server.pid:
            return None
        # From now on, not from when the task starts, nobody else gets this server.
        server.cancels += 1
        return self.lifecycle.spawn(self.sender.send_cancel(server))
