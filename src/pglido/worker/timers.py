"""What happens because time has passed: timeouts of clients, servers and logins, and the end of a drain."""

import asyncio
import logging
import time
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, Protocol

from .. import cache
from .. import log as logs
from ..config.model import Config, Settings
from ..ipc import process_memory
from ..ipc.shared_counters import SharedCounter, SharedCounters
from ..pooling.outage import last_error
from ..pooling.states import OPEN, PAUSED, SHUT
from ..protocol.codes import IDLE as STATUS_IDLE
from ..relay.stage import ARRIVED, LISTEN_ONLY, LOGIN, PROVING, RAW, TLS
from .connections import ClientConnection
from .lifecycle import Lifecycle
from .login.fast_path import FastLogin
from .operations import Operations
from .parent_death import orphaned
from .pool_runtime import PoolRuntime
from .servers.function_refresh import FunctionRefresh
from .servers.release_database import DatabaseRelease
from .slow_rounds import measured
from .standing import ACTIVE, IDLE, IN_TRANSACTION, KEEPING, QUEUED, standing

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
    counters: SharedCounters
    lifecycle: Lifecycle
    database_releases: DatabaseRelease
    fast_login: FastLogin
    operations: Operations
    leaving: float | None
    wait_for_clients: bool
    ended: asyncio.Event

    @property
    def config(self) -> Config:
        """The configuration in force."""

    def goodbye(self, client: ClientConnection) -> None:
        """Close a client because the pooler stops."""


class Timers:
    """Looks at everything from time to time; no connection has a timer of its own."""

    def __init__(self, worker: Timed) -> None:
        self.worker = worker
        self._timer: asyncio.TimerHandle | None = None
        self._function_refresh = FunctionRefresh(worker.lifecycle, time.monotonic())
        self._unseen: list[int] = []
        self._clients_at = 0.0
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
        pressed = self.worker.lifecycle.draining
        self.worker.counters.add(BEATS, 1)
        try:
            with measured(self.worker.lifecycle.transport, "a look at the clock"):
                pressed = self._look() or pressed
        except Exception:
            log.exception("bug: a look at the clock failed")
        if not self.worker.ended.is_set():
            self._timer = asyncio.get_running_loop().call_later(FAST_TICK if pressed else TICK, self.tick)

    def _look(self) -> bool:
        """Look at everything; returns whether something is pressing."""
        lifecycle = self.worker.lifecycle
        now = lifecycle.transport.now = time.monotonic()
        if orphaned(self.worker.parent):
            log.error("the control process (process %d) is gone", self.worker.parent)
            self.worker.ended.set()
        logs.flush()
        pressed = False
        for runtime in list(lifecycle.pools.values()):
            waited_for = runtime.pool.gate == OPEN and runtime.pool.line.size > runtime.pool.opening
            pressed = pressed or waited_for
            lifecycle.carry_out(runtime)
            hub = lifecycle.hubs.get(runtime)
            if hub is not None:
                hub.tick(now)
            self._forget_unused(runtime, now)
        self._function_refresh.look(now)
        pressed = self.worker.operations.look() or pressed
        self.worker.database_releases.look(now)
        for server in list(lifecycle.servers):
            if server.deadline and now > server.deadline:
                lifecycle.server_gone(server, "no answer in time while being cleaned or checked")
        for client, until in list(lifecycle.lingering.items()):
            if client.closed or now > until:
                del lifecycle.lingering[client]
                lifecycle.transport.close(client)
        self._look_at_memory(now)
        if now >= self._clients_at:
            self._clients_at = now + TICK
            self._look_at_clients(now)
        if lifecycle.draining:
            self._drain(now)
        return pressed

    def _forget_unused(self, runtime: PoolRuntime, now: float) -> None:
        """Forget a pool whose database is gone, or that `*` has made and nobody uses any more.

        One that could not be opened, such as that of a name made up, has nothing to be remembered.
        """
        worker, pool = self.worker, runtime.pool
        hub = worker.lifecycle.hubs.get(runtime)
        if pool.clients or not pool.unused() or (hub is not None and hub.listen_connection.server is not None):
            runtime.unused_since = 0.0
            return
        runtime.unused_since = runtime.unused_since or now
        if pool.gate != SHUT:
            timeout = worker.config.settings.autodb_idle_timeout
            idle = timeout and now - runtime.unused_since > timeout
            vain = pool.outage.problem is not None and now > pool.outage.retry_at
            if runtime.key[0] in worker.config.databases or not (idle or vain):
                return
        worker.lifecycle.forget_pool(runtime)
        worker.fast_login.forget()

    def _look_at_memory(self, now: float) -> None:
        """Say how much memory the worker has; where all have too much, give back what can be."""
        counters, budget = self.worker.counters, self.worker.lifecycle.budget
        counters.put(SharedCounter.MEMORY, counters.row, process_memory.private())
        budget.tight = counters.get(SharedCounter.SHORT, counters.row) > 0
        if budget.tight and now >= self._trim_at:
            self._trim_at = now + TRIM_PAUSE
            cache.clear_all()
            self.worker.fast_login.forget()
            process_memory.trim()
        if budget.refused and now >= self._refusals_at:
            self._refusals_at = now + REFUSALS_PAUSE
            log.warning("%d statements refused (53200), the last one for: %s", budget.refused, budget.reason)
            budget.refused = 0

    def _look_at_clients(self, now: float) -> None:
        lifecycle = self.worker.lifecycle
        settings = self.worker.config.settings
        served = [server.client for server in lifecycle.servers if server.client is not None]
        for client in served + self._next_clients():
            if client.serial not in lifecycle.clients:
                continue  # the end of one before it was its end, too
            problem = over_time(client, now, settings)
            if problem is not None:
                lifecycle.kill(client, "08P01", problem, last_error(down(client)))

    def _next_clients(self) -> list[ClientConnection]:
        """The next part of all clients."""
        clients = self.worker.lifecycle.clients
        if not self._unseen:
            self._unseen = list(clients)
        count = max(PART, len(clients) // LOOKS)
        part, self._unseen = self._unseen[:count], self._unseen[count:]
        return [clients[serial] for serial in part if serial in clients and clients[serial].server is None]

    def _drain(self, now: float) -> None:
        worker = self.worker
        if not worker.wait_for_clients:
            for client in list(worker.lifecycle.clients.values()):
                if resting(client) and not client.console:
                    worker.goodbye(client)
        over = worker.leaving is not None and now > worker.leaving
        busy = any(server.deadline for server in worker.lifecycle.servers)
        served = any(not client.console for client in worker.lifecycle.clients.values())
        if over or not (served or busy):
            worker.ended.set()


def resting(client: ClientConnection) -> bool:
    """Is the client outside of any transaction and query, with nothing on its way? One that only listens is."""
    stands = standing(client)
    if stands < IDLE:
        return True
    if stands == QUEUED and client.pool.gate == PAUSED:
        # It has its turn only if somebody resumes.
        return not client.session.begun
    if stands in (QUEUED, ACTIVE) or client.paused or client.out is not None or client.session.waits_for_more():
        return False
    if client.server is None:
        return not client.session.begun
    session = client.server.session
    return bool(client.session.rules.keep or session.state.pins) and session.status == STATUS_IDLE


def down(client: ClientConnection) -> tuple[str, str] | None:
    """What keeps servers from being opened for a client that is not let in yet, None where nothing does."""
    return client.runtime.pool.outage.problem if client.stage == LOGIN and client.runtime is not None else None


class Limit(NamedTuple):
    """How long a client may be at something: the setting that says so, in seconds (0: for ever), and what it is told
    then, in PgBouncer's words. It has been at it `since` a time of the monotonic clock (None: it is not).
    """

    setting: str
    text: str
    since: Callable[[ClientConnection], float | None]


def _pinned(client: ClientConnection) -> float | None:
    return client.rested if client.server is not None and client.server.session.state.pins else None


def _asked(client: ClientConnection) -> float | None:
    return client.asked or None


LOGIN_LIMIT = Limit("client_login_timeout", "client_login_timeout", attrgetter("born"))
IDLE_LIMIT = Limit("client_idle_timeout", "client_idle_timeout", attrgetter("rested"))
PIN_LIMIT = Limit("pin_timeout", "pin_timeout", _pinned)
QUERY_LIMIT = Limit("query_timeout", "query timeout", _asked)
TRANSACTION_LIMIT = Limit("transaction_timeout", "transaction timeout", attrgetter("started"))
IDLE_TRANSACTION_LIMIT = Limit("idle_transaction_timeout", "idle transaction timeout", attrgetter("rested"))

# Where a client stands, and its limits there, the first one first. Who stands in line has those of its pool.
LIMITS: dict[int, tuple[Limit, ...]] = {
    ARRIVED: (LOGIN_LIMIT,),
    TLS: (LOGIN_LIMIT,),
    PROVING: (LOGIN_LIMIT,),
    LOGIN: (LOGIN_LIMIT,),
    LISTEN_ONLY: (IDLE_LIMIT,),
    RAW: (),
    IDLE: (IDLE_LIMIT,),
    QUEUED: (),
    ACTIVE: (QUERY_LIMIT, TRANSACTION_LIMIT),
    IN_TRANSACTION: (TRANSACTION_LIMIT, IDLE_TRANSACTION_LIMIT),
    KEEPING: (IDLE_LIMIT, PIN_LIMIT),
}


def over_time(client: ClientConnection, now: float, settings: Settings) -> str | None:
    """Which of its limits a client has overstepped, in PgBouncer's words; `settings` are those before it has a pool."""
    stands = standing(client)
    mine = settings if stands <= LOGIN or client.runtime is None else client.runtime.settings_for(client.user)
    for limit in LIMITS[stands]:
        seconds, since = getattr(mine, limit.setting), limit.since(client)
        if seconds and since is not None and now - since > seconds:
            return limit.text if down(client) is None else f"{limit.text} (server down)"
    return None
