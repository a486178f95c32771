"""What happens because time has passed: timeouts of clients, servers and logins, and the end of a drain."""

import asyncio
import logging
import time
from typing import Protocol

from .. import cache
from .. import log as logs
from ..config.model import Config
from ..ipc import process_memory
from ..ipc.shared_counters import SharedCounter, SharedCounters
from ..pooling.outage import last_error
from ..protocol.codes import IDLE
from .connections import ClientConnection
from .lifecycle import Lifecycle
from .login.fast_path import FastLogin
from .parent_death import orphaned
from .pool_runtime import PoolRuntime
from .servers.function_refresh import FunctionRefresh
from .servers.release_database import DatabaseRelease
from .slow_rounds import measured

log = logging.getLogger("pglido.worker")

# The shared counter that tells the control process that this worker serves.
BEATS = int(SharedCounter.BEATS)
# Seconds between two looks; PgBouncer's housekeeping has the same grain.
TICK = 0.333
# Clients without a server are looked at so many at a time, and all of them in so many looks: ten thousand took four
# milliseconds, in which nobody was served.
PART = 500
LOOKS = 30
# Seconds between two attempts to give memory back.
TRIM_PAUSE = 1.0
# Seconds between two lines in the log about what is not kept for clients.
REFUSALS_PAUSE = 10.0
# While a drain is under way, and while something asked of the broker is held back.
FAST_TICK = 0.05


class Timed(Protocol):
    """What a clock looks after: all of a worker.

    `parent` is the process id of the control process. It is `leaving` at a moment of the monotonic clock (None: it
    stays), once its clients are gone if it is to `wait_for_clients`, and has `ended` then.
    """

    parent: int
    board: SharedCounters
    host: Lifecycle
    config: Config
    departures: DatabaseRelease
    fast_login: FastLogin
    leaving: float | None
    wait_for_clients: bool
    ended: asyncio.Event

    def goodbye(self, guest: ClientConnection) -> None:
        """Close a client because the pooler stops."""


class Timers:
    """Looks at everything from time to time; no connection has a timer of its own."""

    def __init__(self, worker: Timed) -> None:
        self.worker = worker
        self._timer: asyncio.TimerHandle | None = None
        self._studies = FunctionRefresh(worker.host, time.monotonic())
        self._unseen: list[int] = []
        self._guests_at = 0.0
        self._trim_at = 0.0
        self._refusals_at = 0.0

    def start(self) -> None:
        """Begin to tick."""
        self._timer = asyncio.get_running_loop().call_later(FAST_TICK, self.tick)

    def hurry(self) -> None:
        """Look now."""
        if self._timer is not None:
            self._timer.cancel()
        self.tick()

    def tick(self) -> None:
        """One look; whatever goes wrong in it, the next one comes."""
        pressed = self.worker.host.draining
        self.worker.board.add(BEATS, 1)
        try:
            with measured(self.worker.host.pump, "a look at the clock"):
                pressed = self._look() or pressed
        except Exception:
            log.exception("bug: a look at the clock failed")
        if not self.worker.ended.is_set():
            self._timer = asyncio.get_running_loop().call_later(FAST_TICK if pressed else TICK, self.tick)

    def _look(self) -> bool:
        """Look at everything; returns whether something is pressing."""
        host = self.worker.host
        now = host.pump.now = time.monotonic()
        if orphaned(self.worker.parent):
            log.error("the control process (process %d) is gone", self.worker.parent)
            self.worker.ended.set()
        logs.flush()
        pressed = False
        for live in list(host.pools.values()):
            pressed = pressed or live.policy.line.size > live.policy.opening
            host.carry_out(live)
            if live.hub is not None:
                live.hub.tick(now)
            self._forget_unused(live, now)
        self._studies.look(now)
        self.worker.departures.look(now)
        for backend in list(host.backends):
            if backend.deadline and now > backend.deadline:
                host.server_gone(backend, "no answer in time while being cleaned or checked")
        for guest, until in list(host.lingering.items()):
            if guest.closed or now > until:
                del host.lingering[guest]
                host.pump.close(guest)
        self._look_at_memory(now)
        if now >= self._guests_at:
            self._guests_at = now + TICK
            self._look_at_guests(now)
        if host.draining:
            self._drain(now)
        return pressed

    def _forget_unused(self, live: PoolRuntime, now: float) -> None:
        """Forget a pool whose database is gone, or that `*` has made and nobody uses any more.

        One that could not be opened, such as that of a name made up, has nothing to be remembered.
        """
        worker, policy = self.worker, live.policy
        hub = live.hub
        if policy.clients or not policy.unused() or (hub is not None and hub.listen_connection.backend is not None):
            live.unused_since = 0.0
            return
        live.unused_since = live.unused_since or now
        if not policy.closed:
            timeout = worker.config.settings.autodb_idle_timeout
            idle = timeout and now - live.unused_since > timeout
            vain = policy.outage.problem is not None and now > policy.outage.retry_at
            if live.key[0] in worker.config.databases or not (idle or vain):
                return
        del worker.host.pools[live.key]
        worker.fast_login.forget()

    def _look_at_memory(self, now: float) -> None:
        """Say how much memory the worker has; where all have too much, give back what can be."""
        board, budget = self.worker.board, self.worker.host.budget
        board.put(SharedCounter.MEMORY, board.row, process_memory.private())
        budget.tight = board.get(SharedCounter.SHORT, board.row) > 0
        if budget.tight and now >= self._trim_at:
            self._trim_at = now + TRIM_PAUSE
            cache.clear_all()
            self.worker.fast_login.forget()
            process_memory.trim()
        if budget.refused and now >= self._refusals_at:
            self._refusals_at = now + REFUSALS_PAUSE
            log.warning("%d statements refused (53200), the last one for: %s", budget.refused, budget.reason)
            budget.refused = 0

    def _look_at_guests(self, now: float) -> None:
        host = self.worker.host
        login_timeout = self.worker.config.settings.client_login_timeout
        served = [backend.client for backend in host.backends if backend.client is not None]
        for guest in served + self._next_guests():
            problem = over_time(guest, now, login_timeout)
            if problem is not None:
                host.kill(guest, "08P01", problem, detail=last_error(down(guest)))

    def _next_guests(self) -> list[ClientConnection]:
        """The next part of all clients."""
        guests = self.worker.host.guests
        if not self._unseen:
            self._unseen = list(guests)
        count = max(PART, len(guests) // LOOKS)
        part, self._unseen = self._unseen[:count], self._unseen[count:]
        return [guests[serial] for serial in part if serial in guests and guests[serial].server is None]

    def _drain(self, now: float) -> None:
        worker = self.worker
        if not worker.wait_for_clients:
            for guest in list(worker.host.guests.values()):
                if resting(guest) and not guest.console:
                    worker.goodbye(guest)
        over = worker.leaving is not None and now > worker.leaving
        busy = any(backend.deadline for backend in worker.host.backends)
        served = any(not guest.console for guest in worker.host.guests.values())
        if over or not (served or busy):
            worker.ended.set()


def resting(guest: ClientConnection) -> bool:
    """Is the client outside of any transaction and query, with nothing on its way? One that only listens is."""
    if guest.session is None:
        return True
    if guest.ticket is not None or guest.paused or guest.out is not None or guest.session.waits_for_more():
        return False
    if guest.server is None:
        return not guest.session.begun
    session = guest.server.session
    kept = guest.session.rules.keep or session.state.pins
    return bool(kept) and session.status == IDLE and not session.replies.head


def down(guest: ClientConnection) -> tuple[str, str] | None:
    """What keeps servers from being opened for a client that is not let in yet, None where nothing does."""
    return guest.live.policy.outage.problem if guest.live is not None and guest.session is None else None


def over_time(guest: ClientConnection, now: float, login_timeout: float) -> str | None:
    """Which of its limits a client has overstepped, in PgBouncer's words."""
    if guest.session is None and guest.listener is None:
        late = guest.peer is None and login_timeout and now - guest.born > login_timeout
        if not late:
            return None
        return "client_login_timeout" if down(guest) is None else "client_login_timeout (server down)"
    live = guest.live
    if live is None or guest.ticket is not None:
        return None
    settings = live.settings_for(guest.user)
    session = guest.server.session if guest.server is not None else None
    working = session is not None and session.replies.head
    if session is None or (session.status == IDLE and not session.open and not working):
        if settings.client_idle_timeout and now - guest.rested > settings.client_idle_timeout:
            return "client_idle_timeout"
        pinned = session is not None and session.state.pins
        if pinned and settings.pin_timeout and now - guest.rested > settings.pin_timeout:
            return "pin_timeout"
        return None
    if settings.query_timeout and working and guest.asked and now - guest.asked > settings.query_timeout:
        return "query timeout"
    if settings.transaction_timeout and now - guest.started > settings.transaction_timeout:
        return "transaction timeout"
    idle = settings.idle_transaction_timeout
    if idle and not working and now - guest.rested > idle:
        return "idle transaction timeout"
    return None
