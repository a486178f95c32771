"""Who gets which server, at every transaction: the decisions of the byte path, compiled.

The relay calls `attach` and `released`; what is rare is left to the `Lifecycle`, which is built on this.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ..ipc.shared_counters import SharedCounter, SharedCounters
from ..pooling.queue import Ticket
from ..pooling.states import CLOSING
from ..protocol.messages import READY_IDLE
from ..relay.dispatcher import Dispatcher
from ..relay.links import ClientLink, ServerLink
from ..relay.relay import Relay
from ..relay.stage import ENDS
from ..session.state.budget import MemoryBudget
from ..transport.backends import new_transport
from ..transport.connection import UNSET
from ..transport.transport import Transport
from .cancel_keys import SERIAL_MASK, CancelKeys
from .connections import ClientConnection, ServerConnection
from .login.access_log import AccessLog

if TYPE_CHECKING:
    from ..session.state.parameters import SessionParameters
    from .pool_runtime import PoolRuntime


CLIENTS = int(SharedCounter.CLIENTS)
SERIALS = int(SharedCounter.SERIALS)
MASK = SERIAL_MASK

# Seconds that a client which must go has for taking what is still to be sent to it.
LINGER = 10.0


class ServerRequest:
    """A coroutine of the worker's own that stands in line for a server as clients do."""

    __slots__ = ("server",)

    def __init__(self) -> None:
        self.server: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()


class CancelService(Protocol):
    """Cancels that this worker has reasons for itself."""

    def cancel_client(self, client: ClientConnection) -> "asyncio.Task[None] | None":
        """Cancel what a client has asked for, also if that is still to begin; None where nothing is under way now."""

    def cancel_soon(self, client: ClientConnection) -> "asyncio.Task[None]":
        """Cancel what a client has asked for once the server has surely read it."""

    def cancel_at_server(self, server: ServerConnection) -> "asyncio.Task[None] | None":
        """Cancel what a server is doing, if it still does it when it can be told."""


class Dispatch(Dispatcher):
    """The part of the `Lifecycle` that every transaction passes through.

    `no_ring` says why io_uring is not used, empty when it is or is not wanted; `counters` counts the clients of all
    workers, of which there may be `most` (0: any number).
    """

    def __init__(self, index: int, event_backend: str) -> None:
        self.index = index
        self.serial = 0
        self.cancel_keys: CancelKeys = UNSET
        self.draining = False
        self.clients: dict[int, ClientConnection] = {}
        self.lingering: dict[ClientConnection, float] = {}
        made = new_transport(event_backend)
        self.transport: Transport = made[0]
        self.no_ring: str = made[1]
        self.relay = Relay(self.transport, self)
        self.cancels: CancelService = UNSET
        self.access_log = AccessLog()
        self.counters: SharedCounters = UNSET
        self.most = 0
        self.freed: deque[ServerConnection] = deque()
        self.giving = False
        self.budget = MemoryBudget(0)

    if TYPE_CHECKING:

        def startup_params_for(self, client: ClientConnection) -> "SessionParameters": ...
        def kill(self, client: ClientConnection, sqlstate: str, text: str) -> None: ...
        def abandon(self, client: ClientConnection, server: ServerConnection) -> None: ...
        def part_raw(self, client: ClientConnection) -> None: ...
        def plan_soon(self, runtime: "PoolRuntime") -> None: ...
        def rested(self, server: ServerConnection) -> None: ...
        def keep_defaults(self, client: ClientConnection, server: ServerConnection) -> None: ...
        def unpinned(self, server: ServerConnection) -> None: ...
        def leave_hub(self, client: ClientConnection) -> None: ...
        def worn_out(self, server: ServerConnection) -> None: ...
        def serve_request(self, request: ServerRequest, server: ServerConnection) -> None: ...

    def next_serial(self) -> int:
        """A number for a new connection, which no other of this worker or one before it had.

        Never one whose process id for cancels would be that of none.
        """
        step = 2 if self.serial & MASK == MASK else 1
        self.serial += step
        self.counters.add(SERIALS, step)
        return self.serial

    def over_limit(self, client: ClientConnection) -> bool:
        """Is this client one too many? Then it is not counted any more: its place is not charged to the next one."""
        over = 0 < self.most < self.counters.total(CLIENTS) and client.claims
        if over and self.counters.concede(SharedCounter.CLIENTS, self.most):
            client.claims = ()
        return not client.claims

    def attach(self, link: ClientLink) -> bool:
        """A client needs a server: give it one at once, or put it in line."""
        client: ClientConnection = link  # type: ignore[assignment]
        pool = client.pool
        session = client.session
        startup_params = self.startup_params_for(client) if session.rules.keep else pool.startup_params
        now = self.transport.now
        if client.period != pool.period:
            client.period = pool.period
            pool.comers += 1
        slot = pool.take(startup_params, session.settings, now, client.generation)
        if slot is not None:
            self._pair(client, slot.server)
            client.stats.assignments += 1
            return True
        client.ticket = pool.wait(client, startup_params, session.settings, now, client.generation)
        if pool.needs_plan(now):
            assert client.runtime is not None
            self.plan_soon(client.runtime)
        return False

    def _pair(self, client: ClientConnection, server: ServerConnection) -> None:
        """A client gets this server."""
        if server.session_defaults is not client.fitted:
            self.keep_defaults(client, server)
        self.relay.pair(client, server)

    def released(self, link: ServerLink) -> None:
        """A server is free of its client."""
        server: ServerConnection = link  # type: ignore[assignment]
        if server.pinned:
            self.unpinned(server)
        if server.cancels or server.always_reset:
            server.reset_due = server.always_reset
            self.rested(server)
        elif server.session.state.settings.hasty:
            self.rested(server)
        else:
            self.give(server)

    def give(self, server: ServerConnection) -> None:
        """A clean server goes to the next in line, or to rest.

        Serving one client may free the server for the next at once: a loop, for the line may be long.
        """
        if self.giving:
            self.freed.append(server)
        else:
            self.giving = True
            try:
                self._give(server)
                while self.freed:
                    self._give(self.freed.popleft())
            finally:
                self.giving = False

    def _give(self, server: ServerConnection) -> None:
        slot = server.slot
        pool = slot.pool
        if server.session.state.renewed:
            server.session.state.renewed = False
            server.runtime.forget_welcomes()
        if server.session.worn:
            slot.doomed = True
        ticket = pool.freed(slot, server.session.state.settings, self.transport.now)
        if ticket is not None:
            self.serve(ticket, server)
        elif slot.state == CLOSING:
            self.worn_out(server)
        elif pool.line.size:
            self.plan_soon(server.runtime)

    def serve(self, ticket: Ticket, server: ServerConnection) -> None:
        """The turn of a ticket has come."""
        stats = server.stats
        stats.wait_time += self.transport.now - ticket.since
        if isinstance(ticket.client, ServerRequest):
            self.serve_request(ticket.client, server)
            return
        stats.assignments += 1
        client = ticket.client
        client.ticket = None
        self._pair(client, server)
        try:
            self.relay.resume(client)
        except Exception:
            # Whoever gave the server has nothing to do with it.
            self.failed(client)
            return
        if client.cancel_wanted:
            client.cancel_wanted = False
            self.cancels.cancel_soon(client)

    def client_gone(self, link: ClientLink, why: str) -> None:
        """A client left (`why` empty: with Terminate), or must go: the session's fault is told to it."""
        client: ClientConnection = link  # type: ignore[assignment]
        fault = client.session.fault
        if fault is not None and not client.eof:
            self.kill(client, *fault)
        else:
            self.end(client, why or "client close request")

    def end(self, client: ClientConnection, why: str, last: bytes = b"") -> None:
        """Close a client's connection after sending `last`."""
        if self.clients.pop(client.serial, None) is None:
            return
        self.access_log.left(client, why, int(self.transport.now - client.born))
        if client.late:
            # What it asked for is done, and answered but for this.
            last = READY_IDLE + last
        ticket = client.ticket
        if ticket is not None:
            client.pool.leave(ticket)
            client.ticket = None
        if client.listens:
            self.leave_hub(client)
        if client.server is not None:
            self.abandon(client, client.server)
        if client.session is not None:
            client.session.drop()
        if client.peer is not None:
            self.part_raw(client)
        if client.runtime is not None:
            client.pool.clients -= 1
        self.counters.release(client.claims)
        client.claims = ()
        login = client.login
        if login is not None:
            # It may wait in line for a server, for an answer, or for a derivation.
            client.login = None
            login.cancel()
        client.on_stage(ENDS)
        if client.eof or client.broken:
            self.transport.close(client)
        else:
            self.transport.send_and_close(client, last)
            if not client.closed:
                self.lingering[client] = self.transport.now + LINGER
