"""What becomes of connections that end, and the pools' plans carried out, those that take time as tasks.

The relay calls `rested`, `server_gone`, `raw_gone` and `refuse_block` here, the rest in `dispatch`.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from ..config.enums import SessionStateMode
from ..ipc.shared_counters import LimitReached, pins_of
from ..pooling.pool import Plan, ServerSlot, Verb
from ..pooling.queue import Ticket
from ..pooling.states import CLOSING, IDLE, OPENING
from ..protocol import messages
from ..protocol.codes import ERROR_RESPONSE
from ..protocol.codes import IDLE as STATUS_IDLE
from ..session.state import parameters as _parameters
from ..session.state.state_query import UNDYING
from ..sql.scanner import DEFINES
from ..transport.connection import RELAY, Link
from . import slow_rounds
from .connections import ClientConnection, ServerConnection
from .dispatch import Dispatch, ServerRequest
from .errors import PoolRefused
from .pool_runtime import PoolRuntime, birth_of, keep_defaults

log = logging.getLogger("pglido.worker")

EMPTY_CHECK = "<empty>"
# How PostgreSQL says that it ends the connection.
FATAL = ("FATAL", "PANIC")
# What takes away all that a client may have left.
DISCARD = "DISCARD ALL"
# What a client is told after query_wait_notify, as by PgBouncer.
QUEUED = "No server connection available in postgres backend, client being queued"

class Lifecycle(Dispatch):
    """All connections of one worker."""

    def __init__(self, index: int, event_backend: str = "auto") -> None:
        super().__init__(index, event_backend)
        self.backends: dict[ServerConnection, None] = {}
        self.pools: dict[tuple[str, str], PoolRuntime] = {}
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

    def startup_params_for(self, guest: ClientConnection) -> _parameters.SessionParameters:
        """What the server of a client must have been opened with, where clients keep their servers."""
        assert guest.live is not None
        return birth_of(guest.live.settings, guest.session.home)

    def keep_defaults(self, guest: ClientConnection, backend: ServerConnection) -> None:
        """A client gets a server that began with something else than its last one: see that it keeps its own."""
        keep_defaults(guest, backend)

    def serve_errand(self, errand: ServerRequest, backend: ServerConnection) -> None:
        """The turn of a coroutine has come."""
        if errand.backend.cancelled():
            self.give(backend)
        else:
            self.pump.collect(backend)
            errand.backend.set_result(backend)

    def worn_out(self, backend: ServerConnection) -> None:
        """A server is free, and not wanted any more."""
        slot = backend.slot
        why = "recalled by the broker" if slot.recalled else "obsolete connection" if slot.doomed else "server_lifetime"
        self.close_server(backend, why)

    def rested(self, backend: ServerConnection) -> None:
        """A server without a client has said something, or was left: bring it to rest, then give it on."""
        session = backend.session
        state = session.state
        slot = backend.slot
        if slot.state == IDLE or slot.state == CLOSING or backend.closed:
            return
        if session.copying or session.skipping or session.open:
            # What it has answered since has made it wait for more.
            self.pump.send(backend, session.abandon())
        if not session.free():
            if session.status != STATUS_IDLE and not session.replies.head:
                self.pump.send(backend, session.ask("ROLLBACK"))
        elif backend.cancels:
            return
        elif backend.reset_due or state.dirty():
            backend.reset_due = False
            query = DISCARD if state.dirty() else backend.live.settings.server_reset_query
            state.cleaned()
            if query:
                self.pump.send(backend, session.ask(query))
            else:
                self.rested(backend)
        elif state.unverified:
            # What there is of functions is for all to know, also when the client has left meanwhile.
            backend.deadline = self.pump.now + backend.live.settings.server_connect_timeout
            self.pump.send(backend, session.own(state.question()))
        elif state.settings.hasty and state.settings is not state.home:
            # It would end while it rests, or just when the next client gets it.
            backend.deadline = self.pump.now + (backend.live.settings.cancel_wait_timeout or 10.0)
            self.pump.send(backend, session.own(state.adopt(state.home)))
        else:
            backend.deadline = 0.0
            if slot.state == OPENING:
                slot.pool.opened(slot, self.pump.now)
            self.give(backend)

    def abandon(self, guest: ClientConnection, backend: ServerConnection) -> None:
        """A client left its server behind: cancel what runs, roll back, clean, keep the server."""
        half_sent = guest.session.half_sent()
        keep = guest.session.rules.keep
        self.pump.part(guest, backend)
        if half_sent:
            self.close_server(backend, "client disconnected in the middle of a message")
            return
        if backend.pinned:
            self.unpinned(backend)
        backend.reset_due = keep or backend.live.settings.server_reset_query_always
        backend.session.worn = backend.session.worn or backend.session.state.pins & UNDYING != 0
        backend.deadline = self.pump.now + (backend.live.settings.cancel_wait_timeout or 10.0)
        # A question is short, and what it learns of functions is for all.
        busy = bool(backend.session.replies.head) and not backend.session.state.deciding
        self.pump.send(backend, backend.session.abandon())
        if busy and not guest.leaving:
            self.outside.cancels.server(backend)
        self.rested(backend)

    def pinned(self, guest: ClientConnection) -> None:
        """A client is between two transactions, and can't give its server back."""
        backend = guest.server
        assert backend is not None
        if backend.pinned:
            return
        settings, why = backend.live.settings, backend.session.state.why()
        backend.pinned = self.pump.now
        if settings.on_session_state == SessionStateMode.REJECT:
            self.kill(guest, "0A000", f"session state is not allowed here (on_session_state): {why}")
            return
        limit = max(1, int(settings.pool_size * settings.max_pinned_share))
        try:
            backend.claims = self.outside.board.claim([(pins_of(backend.live.key), limit)])
        except LimitReached:
            text = f"too many clients of this pool keep their servers (max_pinned_share), this one for: {why}"
            self.kill(guest, "53300", text)
            return
        backend.stats.pins += 1
        log.info("client keeps its server: %s", why, extra=guest.extra())

    def wished(self, guest: ClientConnection) -> bool:
        """A client wants something before it goes on; returns whether it may at once."""
        may: bool = self.outside.wished(guest)
        return may

    def untied(self, guest: ClientConnection) -> None:
        """What a client has asked for is done, and its server free."""
        self.outside.signals.done(guest)

    def heard(self, guest: ClientConnection) -> None:
        """What a client listens to is another now."""
        self.outside.heard(guest)

    def catch_up(self, guest: ClientConnection) -> bool:
        """See that a listening client gets all that was sent before now, then its ReadyForQuery (else: False)."""
        hub = guest.live.hub if guest.live is not None else None
        return hub is not None and hub.catch_up(guest, self.pump.ready)

    def unpinned(self, backend: ServerConnection) -> None:
        """What a client kept its server for is gone, or the client is."""
        backend.pinned = 0.0
        self.outside.board.release(backend.claims)
        backend.claims = ()

    def refuse_block(self, guest: ClientConnection) -> None:
        """A transaction block in statement mode."""
        self.kill(guest, "08P01", "transaction blocks not allowed in statement pooling mode")

    def overlong(self, seconds: float, link: Link | None, worst: float, kind: int) -> None:
        """A round took so long that clients notice, or what came after it (`link` is None)."""
        if self.outside.listening:  # not while the worker starts
            slow_rounds.tell(seconds, link, worst, kind)

    def failed(self, link: Link) -> None:
        """A bug, met while dealing with this link: it is closed, with all that depends on it."""
        log.exception("bug: a connection is closed for it")
        if isinstance(link, ClientConnection):
            self.kill(link, "XX000", "internal error of the pooler")
        elif isinstance(link, ServerConnection):
            self.server_gone(link, "internal error of the pooler")
        else:
            self.pump.close(link)

    def stream_lost(self, link: Link) -> None:
        """A client hung up while its login waits for something else."""
        if isinstance(link, ClientConnection) and link.login is not None:
            self.end(link, "client unexpected eof")

    # Ends.

    def kill(
        self, guest: ClientConnection, sqlstate: str, text: str, severity: str = "FATAL", detail: str = ""
    ) -> None:
        """Tell a client why, and close it. In the middle of a reply nothing can be told."""
        backend = guest.server
        whole = backend is None or backend.session.between_messages()
        more = f"{detail}; client {guest.uuid}" if detail else f"client {guest.uuid}"
        data = messages.error(severity, sqlstate, text, more) if whole else b""
        self.end(guest, f"{text}, {detail}" if detail else text, data)

    def server_gone(self, backend: ServerConnection, why: str) -> None:
        """A server closed its connection, died, or can't be trusted any more."""
        guest = backend.client
        session = backend.session
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
        if backend.slot.state == OPENING:
            text = f"connect_query failed: {session.fault or why}"
            backend.slot.pool.failed(backend.slot, sqlstate, text, self.pump.now)
        self.close_server(backend, why, logging.WARNING)
        if guest is None:
            return
        if not whole or told:
            last = b""
        elif not last:
            text = "server conn crashed?" if not session.fault else session.fault
            last = messages.error("FATAL", "08P01", text, f"client {guest.uuid}, server {backend.uuid}")
        self.end(guest, why, last)

    def close_server(self, backend: ServerConnection, why: str, level: int = logging.INFO) -> None:
        """Close a server connection; its lease serves those who wait, or goes back."""
        if backend not in self.backends:
            return
        del self.backends[backend]
        if backend.pinned:
            self.unpinned(backend)
        guest = backend.client
        if guest is not None:
            self.pump.part(guest, backend)
        log.log(level, "server connection closed: %s", why, extra=backend.extra())
        if not backend.eof and backend.mode == RELAY:
            self.pump.send(backend, backend.session.farewell())
        self.pump.close(backend)
        if backend.session.notification_sender.named:
            # Somebody else's server may get its process id.
            self.outside.sender_gone(backend)
        backend.session.drop()
        backend.slot.pool.closed_slot(backend.slot)
        self.plan_soon(backend.live)

    def raw_gone(self, link: Link) -> None:
        """One end of a raw relay closed: so does the other, after what was sent has gone out."""
        guest = link if isinstance(link, ClientConnection) else link.peer
        if isinstance(guest, ClientConnection):
            self.end(guest, "client close request" if link is guest else "the other end of its relay closed")
        else:
            self.pump.close(link)

    def part_raw(self, guest: ClientConnection) -> None:
        """Close the other end of a client's raw relay."""
        other, guest.peer = guest.peer, None
        if other is not None:
            other.peer = None
            if isinstance(other, ServerConnection):
                self.close_server(other, "replication connection ended")
            else:
                self.pump.close(other)

    # Plans.

    def plan_soon(self, live: PoolRuntime) -> None:
        """Have the pool's plan carried out after what is going on."""
        if not live.planned:
            live.planned = True
            asyncio.get_running_loop().call_soon(self.carry_out, live)

    def carry_out(self, live: PoolRuntime) -> None:
        """Do what the pool's policy says is to be done now."""
        live.planned = False
        self.pump.now = time.monotonic()
        live.policy.minimum = live.warm()
        for plan in live.policy.plan(self.pump.now):
            self.do(live, plan)

    def do(self, live: PoolRuntime, plan: Plan) -> None:
        """Carry out one plan."""
        match plan.verb:
            case Verb.CONNECT:
                assert plan.slot is not None
                self.spawn(self.outside.open_server(live, plan.slot))
            case Verb.CHECK:
                assert plan.slot is not None
                self._check(plan.slot)
            case Verb.CLOSE:
                assert plan.slot is not None
                self.close_server(plan.slot.server, "idle or obsolete")
            case Verb.REJECT:
                assert plan.ticket is not None
                assert plan.problem is not None
                self._reject(plan.ticket, *plan.problem, plan.detail)
            case Verb.NOTIFY:
                assert plan.ticket is not None
                if isinstance(plan.ticket.client, ClientConnection):
                    self.pump.send(plan.ticket.client, messages.notice(QUEUED, plan.detail))
            case _:
                self.outside.tell_broker(live, plan)

    def _check(self, slot: ServerSlot) -> None:
        backend: ServerConnection = slot.server
        query = backend.live.settings.server_check_query
        backend.deadline = self.pump.now + backend.live.settings.server_connect_timeout
        self.pump.send(backend, backend.session.ask("" if query == EMPTY_CHECK else query))

    def _reject(self, ticket: Ticket, sqlstate: str, text: str, detail: str) -> None:
        client = ticket.client
        if isinstance(client, ServerRequest):
            if not client.backend.done():
                client.backend.set_exception(PoolRefused(sqlstate, text, detail))
            return
        client.ticket = None
        self.kill(client, sqlstate, text, detail=detail)

    # Errands.

    async def borrow(
        self,
        live: PoolRuntime,
        startup_params: _parameters.SessionParameters,
        wanted: _parameters.SessionParameters,
        generation: int = 0,
    ) -> ServerConnection:
        """A server for the login of a client, got by standing in line. Raises PoolRefused."""
        slot = live.policy.take(startup_params, wanted, self.pump.now, generation)
        if slot is not None:
            self.pump.collect(slot.server)
            return slot.server  # type: ignore[no-any-return]
        refusal = live.policy.refusal(self.pump.now)
        if refusal is not None:
            raise PoolRefused(*refusal)
        errand = ServerRequest()
        ticket = live.policy.knock(errand, startup_params, wanted, self.pump.now, generation)
        if live.policy.needs_plan(self.pump.now):
            self.plan_soon(live)
        try:
            return await errand.backend
        except asyncio.CancelledError:
            if errand.backend.done() and not errand.backend.cancelled():
                self.bring_back(errand.backend.result())
            raise
        finally:
            live.policy.leave(ticket)

    def bring_back(self, backend: ServerConnection) -> None:
        """A borrowed server that owes nothing goes back into its pool."""
        if backend.closed or backend.eof:
            self.server_gone(backend, "server conn crashed?")
            return
        self.pump.relay(backend)
        self.give(backend)

    def welcome(self, backend: ServerConnection) -> None:
        """A server has logged in."""
        self.pump.relay(backend)
        query = backend.live.settings.connect_query
        functions = backend.live.rules.functions
        startup_params = backend.slot.startup_params
        replicates = (
            isinstance(startup_params, _parameters.SessionParameters) and "replication" in startup_params.values
        )
        unknown = not functions.known or not functions.defaults
        if backend.live.rules.inspected and unknown and not replicates:
            backend.session.state.unverified |= DEFINES
        if query:
            backend.deadline = self.pump.now + backend.live.settings.server_connect_timeout
            self.pump.send(backend, backend.session.ask(query))
        else:
            self.rested(backend)
