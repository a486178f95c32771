"""What becomes of connections that end, and the pools' plans carried out, those that take time as tasks.

Of what the relay says, `attach`, `released` and `client_gone` are dealt with in `dispatch`, the rest here.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from ..config.enums import SessionStateMode
from ..config.model import Host as Place
from ..ipc.shared_counters import LimitReached, SharedCounter, pins_of
from ..pooling.pool import Plan, ServerSlot, Verb
from ..pooling.queue import Ticket
from ..pooling.states import CLOSING, IDLE, OPENING, PAUSED
from ..protocol import messages
from ..protocol.codes import ERROR_RESPONSE
from ..protocol.codes import IDLE as STATUS_IDLE
from ..relay.stage import LEAVING, LOGIN
from ..session.state import parameters as _parameters
from ..session.state.question import WAITS
from ..session.state.state_query import UNDYING
from ..sql.scanner import DEFINES
from ..transport.connection import HANDLED, UNSET, Link
from . import slow_rounds
from .connections import ClientConnection, ServerConnection
from .dispatch import Dispatch, ServerRequest
from .errors import PoolRefused
from .pool_runtime import PoolRuntime, startup_params_of
from .pubsub.hub import Hub

log = logging.getLogger("pglido.worker")

EMPTY_CHECK = "<empty>"
# How PostgreSQL says that it ends the connection.
FATAL = ("FATAL", "PANIC")
# What takes away all that a client may have left.
DISCARD = "DISCARD ALL"
# What a client is told after query_wait_notify, as by PgBouncer.
QUEUED = "No server connection available in postgres backend, client being queued"


class ServerOpener(Protocol):
    """Opens servers."""

    async def open_server(self, runtime: PoolRuntime, slot: ServerSlot) -> None:
        """Open the server of `slot`, and report how it went to the pool."""

    async def log_in(self, runtime: PoolRuntime, slot: ServerSlot) -> ServerConnection:
        """A server that has logged in. Raises LoginRefused, CannotOpen."""


class BrokerClient(Protocol):
    """The worker's end of the broker of leases, which is in the control process."""

    def tell(self, runtime: PoolRuntime, plan: Plan) -> None:
        """What a pool has to say about leases: WANT, RETURN, KEPT."""


class WishService(Protocol):
    """What the statements of clients do beyond their own session, in this worker and the others."""

    def wished(self, client: ClientConnection) -> bool:
        """See that a client of a pool with servers may go on; returns whether it may at once."""

    def done(self, client: ClientConnection) -> None:
        """What the client has asked for is done."""

    def heard(self, client: ClientConnection) -> None:
        """What the client listens to is another now."""

    def sender_gone(self, server: ServerConnection) -> None:
        """A server is gone that notifications are known by."""


class Lifecycle(Dispatch):
    """All connections of one worker, its pools, and their hubs.

    `tells_slow_rounds`: not while the worker starts.
    """

    def __init__(self, index: int, event_backend: str = "auto") -> None:
        super().__init__(index, event_backend)
        self.servers: dict[ServerConnection, None] = {}
        self.pools: dict[tuple[str, str], PoolRuntime] = {}
        self.hubs: dict[PoolRuntime, Hub] = {}
        self.opener: ServerOpener = UNSET
        self.broker: BrokerClient = UNSET
        self.wishes: WishService = UNSET
        self.tells_slow_rounds = False
        self.tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that reports its own errors."""
        task = asyncio.get_running_loop().create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("bug: a task failed", exc_info=task.exception())
            self.counters.add(SharedCounter.BUGS, 1)

    def startup_params_for(self, client: ClientConnection) -> _parameters.SessionParameters:
        """What the server of a client must have been opened with, where clients keep their servers."""
        assert client.runtime is not None
        return startup_params_of(client.runtime.settings, client.session.home)

    def keep_defaults(self, client: ClientConnection, server: ServerConnection) -> None:
        """A client gets a server that began with something else than its last one: see that it keeps its own."""
        own, here, session = client.session_defaults, server.session_defaults, client.session
        client.fitted = here
        if own is None or here is None:
            return
        missing = own.missing_in(here)
        if missing:
            session.settings = _parameters.intern({**missing, **session.settings.values}, session.settings.prepared)
            if not session.rules.keep:
                # There RESET leads to what the server was opened with.
                session.home = _parameters.intern({**missing, **session.home.values})

    def hub_of(self, runtime: PoolRuntime) -> Hub:
        """The hub of a pool, made when the first client asks for it."""
        hub = self.hubs.get(runtime)
        if hub is None:
            hub = self.hubs[runtime] = Hub(self, runtime)
        return hub

    def leave_hub(self, client: ClientConnection) -> None:
        """A client is gone that listens."""
        hub = self._hub_of(client)
        if hub is not None:
            hub.leave(client)

    def _hub_of(self, client: ClientConnection) -> Hub | None:
        return self.hubs.get(client.runtime) if client.runtime is not None else None

    def forget_sender(self, hosts: tuple[Place, ...], process: int) -> None:
        """Notifications of this server process, if there are any, are nobody's."""
        for runtime, hub in self.hubs.items():
            if runtime.settings.hosts == hosts:
                hub.senders.forget(process)

    def forget_pool(self, runtime: PoolRuntime) -> None:
        """Nobody uses this pool any more."""
        del self.pools[runtime.key]
        self.hubs.pop(runtime, None)

    async def log_in(self, runtime: PoolRuntime, slot: ServerSlot) -> ServerConnection:
        """A server that belongs to no pool. Raises LoginRefused, CannotOpen."""
        return await self.opener.log_in(runtime, slot)

    def serve_request(self, request: ServerRequest, server: ServerConnection) -> None:
        """The turn of a coroutine has come."""
        if request.server.cancelled():
            self.give(server)
        else:
            self.transport.collect(server)
            request.server.set_result(server)

    def worn_out(self, server: ServerConnection) -> None:
        """A server is free, and not wanted any more."""
        slot = server.slot
        if slot.recalled:
            why = "recalled by the broker"
        elif slot.pool.gate == PAUSED:
            why = "paused"
        else:
            why = "obsolete connection" if slot.doomed else "server_lifetime"
        self.close_server(server, why)

    def rested(self, server: ServerConnection) -> None:
        """A server without a client has said something, or was left: bring it to rest, then give it on."""
        session = server.session
        state = session.state
        slot = server.slot
        if slot.state == IDLE or slot.state == CLOSING or server.closed:
            return
        if session.awaits_more():
            # What it has answered since has made it wait for more.
            self.transport.send(server, session.abandon())
        if not session.free():
            if session.status != STATUS_IDLE and not session.replies.head:
                self.transport.send(server, session.ask("ROLLBACK"))
        elif server.cancels:
            return
        elif server.reset_due or state.dirty():
            server.reset_due = False
            query = DISCARD if state.dirty() else server.runtime.settings.server_reset_query
            state.cleaned()
            if query:
                self.transport.send(server, session.ask(query))
            else:
                self.rested(server)
        elif state.unverified:
            # What there is of functions is for all to know, also when the client has left meanwhile.
            server.deadline = self.transport.now + server.runtime.settings.server_connect_timeout
            self.transport.send(server, session.own(state.question()))
        elif state.settings.hasty and state.settings is not state.home:
            # It would end while it rests, or just when the next client gets it.
            server.deadline = self.transport.now + (server.runtime.settings.cancel_wait_timeout or 10.0)
            self.transport.send(server, session.own(state.adopt(state.home)))
        else:
            server.deadline = 0.0
            if slot.state == OPENING:
                slot.pool.opened(slot, self.transport.now)
            self.give(server)

    def abandon(self, client: ClientConnection, server: ServerConnection) -> None:
        """A client left its server behind: cancel what runs, roll back, clean, keep the server."""
        half_sent = client.session.half_sent()
        keep = client.session.rules.keep
        self.relay.part(client, server)
        if half_sent:
            self.close_server(server, "client disconnected in the middle of a message")
            return
        if server.pinned:
            self.unpinned(server)
        server.reset_due = keep or server.runtime.settings.server_reset_query_always
        server.session.worn = server.session.worn or server.session.state.pins & UNDYING != 0
        server.deadline = self.transport.now + (server.runtime.settings.cancel_wait_timeout or 10.0)
        # A question is short, and what it learns of functions is for all.
        busy = bool(server.session.replies.head) and not server.session.state.asking & WAITS
        self.transport.send(server, server.session.abandon())
        if busy and client.stage != LEAVING:
            self.cancels.cancel_at_server(server)
        self.rested(server)

    def pinned(self, client: ClientConnection) -> None:
        """A client is between two transactions, and can't give its server back."""
        server = client.server
        assert server is not None
        if server.pinned:
            return
        settings, why = server.runtime.settings, server.session.state.why()
        server.pinned = self.transport.now
        if settings.on_session_state == SessionStateMode.REJECT:
            self.kill(client, "0A000", f"session state is not allowed here (on_session_state): {why}")
            return
        limit = max(1, int(settings.pool_size * settings.max_pinned_share))
        try:
            server.claims = self.counters.claim([(pins_of(server.runtime.key), limit)])
        except LimitReached:
            text = f"too many clients of this pool keep their servers (max_pinned_share), this one for: {why}"
            self.kill(client, "53300", text)
            return
        server.stats.pins += 1
        log.info("client keeps its server: %s", why, extra=client.extra())

    def wished(self, client: ClientConnection) -> bool:
        """A client wants something before it goes on; returns whether it may at once."""
        return self.wishes.wished(client)

    def untied(self, client: ClientConnection) -> None:
        """What a client has asked for is done, and its server free."""
        self.wishes.done(client)

    def heard(self, client: ClientConnection) -> None:
        """What a client listens to is another now."""
        self.wishes.heard(client)

    def catch_up(self, client: ClientConnection) -> bool:
        """See that a listening client gets all that was sent before now, then its ReadyForQuery (else: False)."""
        hub = self._hub_of(client)
        return hub is not None and hub.catch_up(client, self.relay.ready)

    def unpinned(self, server: ServerConnection) -> None:
        """What a client kept its server for is gone, or the client is."""
        server.pinned = 0.0
        self.counters.release(server.claims)
        server.claims = ()

    def refuse_block(self, client: ClientConnection) -> None:
        """A transaction block in statement mode."""
        self.kill(client, "08P01", "transaction blocks not allowed in statement pooling mode")

    def overlong(self, seconds: float, link: Link | None, worst: float, kind: int) -> None:
        """A round took so long that clients notice, or what came after it (`link` is None)."""
        if self.tells_slow_rounds:
            slow_rounds.tell(seconds, link, worst, kind)

    def failed(self, link: Link) -> None:
        """A bug, met while dealing with this link: it is closed, with all that depends on it."""
        log.exception("bug: a connection is closed for it")
        self.counters.add(SharedCounter.BUGS, 1)
        if isinstance(link, ClientConnection):
            self.kill(link, "XX000", "internal error of the pooler")
        elif isinstance(link, ServerConnection):
            self.server_gone(link, "internal error of the pooler")
        else:
            self.transport.close(link)

    def stream_lost(self, link: Link) -> None:
        """A client hung up while its login waits for something else."""
        if isinstance(link, ClientConnection) and link.stage == LOGIN:
            self.end(link, "client unexpected eof")

    # Ends.

    def kill(self, client: ClientConnection, sqlstate: str, text: str, detail: str = "", why: str = "") -> None:
        """Tell a client why (FATAL), and close it. In the middle of a reply nothing can be told.

        `why` is what the log says, where that is more.
        """
        server = client.server
        whole = server is None or server.session.between_messages()
        more = f"{detail}; client {client.uuid}" if detail else f"client {client.uuid}"
        data = messages.error("FATAL", sqlstate, text, more) if whole else b""
        self.end(client, why or (f"{text}, {detail}" if detail else text), data)

    def server_gone(self, server: ServerConnection, why: str) -> None:
        """A server closed its connection, died, or can't be trusted any more."""
        client = server.client
        session = server.session
        told = session.told and not session.fault
        last = b""
        sqlstate = "08006"
        if session.last_error and not session.fault:
            said = messages.report_fields(session.last_error)
            if said.get("V") in FATAL:
                last = messages.message(ERROR_RESPONSE, session.last_error)
            sqlstate = said.get("C", sqlstate)
            why = f"{why}: {said.get('M', '')} (SQLSTATE {said.get('C', '')})"
        whole = session.between_messages()
        if server.slot.state == OPENING:
            text = f"connect_query failed: {session.fault or why}"
            server.slot.pool.failed(server.slot, sqlstate, text, self.transport.now)
        self.close_server(server, why, logging.WARNING)
        if client is None:
            return
        if not whole or told:
            last = b""
        elif not last:
            text = "server conn crashed?" if not session.fault else session.fault
            last = messages.error("FATAL", "08P01", text, f"client {client.uuid}, server {server.uuid}")
        self.end(client, why, last)

    def close_server(self, server: ServerConnection, why: str, level: int = logging.INFO) -> None:
        """Close a server connection; its lease serves those who wait, or goes back."""
        if server not in self.servers:
            return
        del self.servers[server]
        if server.pinned:
            self.unpinned(server)
        client = server.client
        if client is not None:
            self.relay.part(client, server)
        log.log(level, "server connection closed: %s", why, extra=server.extra())
        if not server.eof and server.mode == HANDLED:
            self.transport.send(server, server.session.farewell())
        self.transport.close(server)
        if server.session.notification_sender.named:
            # Somebody else's server may get its process id.
            self.wishes.sender_gone(server)
        server.session.drop()
        server.slot.pool.closed_slot(server.slot)
        self.plan_soon(server.runtime)

    def raw_gone(self, link: Link) -> None:
        """One end of a raw relay closed: so does the other, after what was sent has gone out."""
        client = link if isinstance(link, ClientConnection) else link.peer
        if isinstance(client, ClientConnection):
            self.end(client, "client close request" if link is client else "the other end of its relay closed")
        else:
            self.transport.close(link)

    def part_raw(self, client: ClientConnection) -> None:
        """Close the other end of a client's raw relay."""
        other, client.peer = client.peer, None
        if other is not None:
            other.peer = None
            if isinstance(other, ServerConnection):
                self.close_server(other, "replication connection ended")
            else:
                self.transport.close(other)

    # Plans.

    def plan_soon(self, runtime: PoolRuntime) -> None:
        """Have the pool's plan carried out after what is going on."""
        if not runtime.planned:
            runtime.planned = True
            asyncio.get_running_loop().call_soon(self.carry_out, runtime)

    def carry_out(self, runtime: PoolRuntime) -> None:
        """Carry out the pool's plan."""
        runtime.planned = False
        self.transport.now = time.monotonic()
        runtime.pool.minimum = runtime.warm()
        for plan in runtime.pool.plan(self.transport.now):
            self.do(runtime, plan)

    def do(self, runtime: PoolRuntime, plan: Plan) -> None:
        """Carry out one plan."""
        match plan.verb:
            case Verb.CONNECT:
                assert plan.slot is not None
                self.spawn(self.opener.open_server(runtime, plan.slot))
            case Verb.CHECK:
                assert plan.slot is not None
                self._check(plan.slot)
            case Verb.CLOSE:
                assert plan.slot is not None
                why = "paused" if runtime.pool.gate == PAUSED else "idle or obsolete"
                self.close_server(plan.slot.server, why)
            case Verb.REJECT:
                assert plan.ticket is not None
                assert plan.problem is not None
                self._reject(plan.ticket, *plan.problem, plan.detail)
            case Verb.NOTIFY:
                assert plan.ticket is not None
                if isinstance(plan.ticket.client, ClientConnection):
                    self.transport.send(plan.ticket.client, messages.notice(QUEUED, plan.detail))
            case _:
                self.broker.tell(runtime, plan)

    def _check(self, slot: ServerSlot) -> None:
        server: ServerConnection = slot.server
        query = server.runtime.settings.server_check_query
        server.deadline = self.transport.now + server.runtime.settings.server_connect_timeout
        self.transport.send(server, server.session.ask("" if query == EMPTY_CHECK else query))

    def _reject(self, ticket: Ticket, sqlstate: str, text: str, detail: str) -> None:
        client = ticket.client
        if isinstance(client, ServerRequest):
            if not client.server.done():
                client.server.set_exception(PoolRefused(sqlstate, text, detail))
            return
        client.ticket = None
        self.kill(client, sqlstate, text, detail=detail)

    def welcome(self, server: ServerConnection) -> None:
        """A server has logged in."""
        self.relay.relay(server)
        query = server.runtime.settings.connect_query
        functions = server.runtime.rules.functions
        startup_params = server.slot.startup_params
        replicates = (
            isinstance(startup_params, _parameters.SessionParameters) and "replication" in startup_params.values
        )
        unknown = not functions.known or not functions.defaults
        if server.runtime.rules.inspected and unknown and not replicates:
            server.session.state.unverified |= DEFINES
        if query:
            server.deadline = self.transport.now + server.runtime.settings.server_connect_timeout
            self.transport.send(server, server.session.ask(query))
        else:
            self.rested(server)
