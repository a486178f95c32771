"""Who gets which server, at every transaction: the decisions of the byte path, compiled.

The relay calls `attach` and `released`; what is rare is left to the `Lifecycle`, which is built on this.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from ..ipc.shared_cells import SharedCells
from ..ipc.shared_counters import SharedCounter
from ..pooling.queue import Ticket
from ..pooling.states import CLOSING
from ..protocol.messages import READY_IDLE
from ..relay.host_interface import HostInterface
from ..relay.links import ClientLink, ServerLink
from ..relay.relay import Relay
from ..session.state.budget import MemoryBudget
from ..transport.backends import new_pump
from ..transport.connection import UNSET
from .connections import SERIAL_MASK, ClientConnection, ServerConnection
from .login.access_log import AccessLog

if TYPE_CHECKING:
    from ..session.state.parameters import SessionParameters
    from .pool_runtime import PoolRuntime


CLIENTS = int(SharedCounter.CLIENTS)
MASK = SERIAL_MASK

# Seconds that a client which must go has for taking what is still to be sent to it.
LINGER = 10.0


class ServerRequest:
    """A coroutine of the worker's own that stands in line for a server as clients do."""

    __slots__ = ("backend",)

    def __init__(self) -> None:
        self.backend: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()


class Dispatch(HostInterface):
    """The part of the `Lifecycle` that every transaction passes through; `outside` is the Worker.

    `no_ring` says why io_uring is not used, empty when it is or is not wanted; `board` counts the clients of all
    workers, of which there may be `most` (0: any number).
    """

    def __init__(self, index: int, event_backend: str) -> None:
        self.index = index
        self.serial = 0
        self.draining = False
        self.guests: dict[int, ClientConnection] = {}
        self.lingering: dict[ClientConnection, float] = {}
        made = new_pump(self, event_backend)
        self.pump: Relay = made[0]
        self.no_ring: str = made[1]
        self.outside: Any = None
        self.access_log = AccessLog()
        self.board: SharedCells = UNSET
        self.most = 0
        self.freed: deque[ServerConnection] = deque()
        self.giving = False
        self.budget = MemoryBudget(0)

    if TYPE_CHECKING:

        def startup_params_for(self, guest: ClientConnection) -> "SessionParameters": ...
        def kill(self, guest: ClientConnection, sqlstate: str, text: str) -> None: ...
        def abandon(self, guest: ClientConnection, backend: ServerConnection) -> None: ...
        def part_raw(self, guest: ClientConnection) -> None: ...
        def plan_soon(self, live: "PoolRuntime") -> None: ...
        def rested(self, backend: ServerConnection) -> None: ...
        def keep_defaults(self, guest: ClientConnection, backend: ServerConnection) -> None: ...
        def unpinned(self, backend: ServerConnection) -> None: ...
        def worn_out(self, backend: ServerConnection) -> None: ...
        def serve_errand(self, errand: ServerRequest, backend: ServerConnection) -> None: ...

    def next_serial(self) -> int:
        """A number for a new connection; never one whose process id for cancels would be that of none."""
        self.serial += 1
        if self.serial & MASK == 0:
            self.serial += 1
        return self.serial

    def crowded(self, guest: ClientConnection) -> bool:
        """Is this client one too many? It is not counted any more then, so that none goes for one who goes already."""
        over = 0 < self.most < self.board.total(CLIENTS) and guest.claims
        if over and self.outside.board.concede(CLIENTS, self.most):
            guest.claims = ()
        return not guest.claims

    def attach(self, client: ClientLink) -> bool:
        """A client needs a server: give it one at once, or put it in line."""
        guest: ClientConnection = client  # type: ignore[assignment]
        pool = guest.pool
        session = guest.session
        startup_params = self.startup_params_for(guest) if session.rules.keep else pool.startup_params
        now = self.pump.now
        if guest.period != pool.period:
            guest.period = pool.period
            pool.comers += 1
        slot = pool.take(startup_params, session.settings, now, guest.generation)
        if slot is not None:
            self._pair(guest, slot.server)
            guest.stats.assignments += 1
            return True
        guest.ticket = pool.wait(guest, startup_params, session.settings, now, guest.generation)
        if pool.needs_plan(now):
            assert guest.live is not None
            self.plan_soon(guest.live)
        return False

    def _pair(self, guest: ClientConnection, backend: ServerConnection) -> None:
        """A client gets this server."""
        if backend.session_defaults is not guest.fitted:
            self.keep_defaults(guest, backend)
        self.pump.pair(guest, backend)

    def released(self, server: ServerLink) -> None:
        """A server is free of its client."""
        backend: ServerConnection = server  # type: ignore[assignment]
        if backend.pinned:
            self.unpinned(backend)
        if backend.cancels or backend.always_reset:
            backend.reset_due = backend.always_reset
            self.rested(backend)
        elif backend.session.state.settings.hasty:
            self.rested(backend)
        else:
            self.give(backend)

    def give(self, backend: ServerConnection) -> None:
        """A clean server goes to the next in line, or to rest.

        Serving one client may free the server for the next at once: a loop, for the line may be long.
        """
        if self.giving:
            self.freed.append(backend)
        else:
            self.giving = True
            try:
                self._give(backend)
                while self.freed:
                    self._give(self.freed.popleft())
            finally:
                self.giving = False

    def _give(self, backend: ServerConnection) -> None:
        slot = backend.slot
        pool = slot.pool
        if backend.session.state.renewed:
            backend.session.state.renewed = False
            backend.live.forget_profiles()
        if backend.session.worn:
            slot.doomed = True
        ticket = pool.freed(slot, backend.session.state.settings, self.pump.now)
        if ticket is not None:
            self.serve(ticket, backend)
        elif slot.state == CLOSING:
            self.worn_out(backend)
        elif pool.line.size:
            self.plan_soon(backend.live)

    def serve(self, ticket: Ticket, backend: ServerConnection) -> None:
        """The turn of a ticket has come."""
        stats = backend.stats
        stats.wait_time += self.pump.now - ticket.since
        if isinstance(ticket.client, ServerRequest):
            self.serve_errand(ticket.client, backend)
            return
        stats.assignments += 1
        guest = ticket.client
        guest.ticket = None
        self._pair(guest, backend)
        self.pump.resume(guest)
        if guest.cancel_wanted:
            guest.cancel_wanted = False
            self.outside.cancels.guest_soon(guest)

    def client_gone(self, client: ClientLink, why: str) -> None:
        """A client left (`why` empty: with Terminate), or must go: the session's fault is told to it."""
        guest: ClientConnection = client  # type: ignore[assignment]
        fault = guest.session.fault
        if fault is not None and not guest.eof:
            self.kill(guest, *fault)
        else:
            self.end(guest, why or "client close request")

    def end(self, guest: ClientConnection, why: str, last: bytes = b"") -> None:
        """Close a client's connection after sending `last`."""
        if self.guests.pop(guest.serial, None) is None:
            return
        self.access_log.left(guest, why, int(self.pump.now - guest.born))
        if guest.late:
            # What it asked for is done, and answered but for this.
            last = READY_IDLE + last
        ticket = guest.ticket
        if ticket is not None:
            guest.pool.leave(ticket)
            guest.ticket = None
        if guest.listens and guest.live is not None and guest.live.hub is not None:
            guest.live.hub.leave(guest)
        if guest.server is not None:
            self.abandon(guest, guest.server)
        if guest.session is not None:
            guest.session.drop()
        if guest.peer is not None:
            self.part_raw(guest)
        if guest.live is not None:
            guest.pool.clients -= 1
        self.board.release(guest.claims)
        guest.claims = ()
        login = guest.login
        if login is not None:
            # It may wait in line for a server, for an answer, or for a derivation.
            guest.login = None
            login.cancel()
        if guest.eof or guest.broken:
            self.pump.close(guest)
        else:
            self.pump.send_and_close(guest, last)
            if not guest.closed:
                self.lingering[guest] = self.pump.now + LINGER
