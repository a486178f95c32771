"""The running pooler as the control process sees it: passes messages on, counts leases, reloads, shuts down.

It is what the console looks at and commands. Everything happens in one event loop; signal handlers only
enqueue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from .. import log as logs
from ..admin.commands import CommandError
from ..admin.control_api import Reloaded, WorkerSnapshot
from ..admin.stats import Averages
from ..config.errors import ConfigError
from ..config.model import Config, PoolKey, Settings
from ..ipc import process_memory
from ..ipc.messages import (
    Ask,
    CancelAt,
    CancelConsole,
    CancelHere,
    CancelOver,
    Console,
    Done,
    Gates,
    Grant,
    Kept,
    Load,
    Measure,
    Message,
    Met,
    NotCovered,
    Recall,
    Return,
    Rows,
    SenderGone,
    StandInAt,
    StandInHere,
    StandInIs,
    StandInOver,
    ToControl,
    Vacate,
    Want,
)
from ..ipc.shared_counters import SharedCounter, SharedCounters, pins_of
from ..ipc.snapshot import DatabaseCounters, Snapshot, Subject, of_kind
from ..pooling.broker import Broker
from ..pooling.leases import LeaseLimits, LeasePlan, LeaseVerb
from . import daemon
from .commands import Commands, Patience
from .consoles import Consoles
from .heartbeat import LOOK
from .memory_limit import MemoryLimit
from .operations import Operations
from .reload import Loaded
from .rollout import Rollout
from .sockets import Listeners
from .supervisor import COMMAND, Greeting, Supervisor

log = logging.getLogger("pglido.control")

TELLING = Patience(timeout=5.0, silence=1.0)  # about itself

MESSAGES: dict[LeaseVerb, Callable[[LeasePlan], Message]] = {
    LeaseVerb.GRANT: lambda plan: Grant(plan.pool),
    LeaseVerb.ASK: lambda plan: Recall(plan.pool, idle=True, rest=plan.rest),
    LeaseVerb.RECALL: lambda plan: Recall(plan.pool, idle=False, rest=plan.rest),
    LeaseVerb.MEASURE: lambda plan: Measure(plan.pool),
}


class Pooler:
    """All that is running. `run` lasts until the last worker has ended."""

    def __init__(
        self,
        loaded: Loaded,
        workers: int,
        listeners: Listeners,
        counters: SharedCounters,
        outputs: logs.Outputs = logs.STDERR,
        command: Sequence[str] = COMMAND,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.counters = counters
        self.listeners = listeners
        self.started = time.time()
        self.broker = Broker(self._limits, self._pins)
        backend = loaded.config.settings.event_backend
        self.supervisor = Supervisor(workers, counters, listeners.of, self, [*command, "--event-backend", backend])
        self.commands = Commands(self.supervisor)
        self.operations = Operations(self.commands, self.supervisor, lambda: self.config)
        self.rollout = Rollout(loaded, outputs, self.supervisor, self.commands, self._changed, environ)
        self.averages = Averages(time.monotonic())
        self.memory = MemoryLimit()
        self.state = "starting"  # running, draining, stopping
        self.up = asyncio.Event()
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._tick: asyncio.TimerHandle | None = None
        self._looked = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self.consoles = Consoles(counters.secret())
        self._met: dict[bytes, tuple[int, int]] = {}
        self._actions: dict[type[ToControl], Callable[[int, Any, tuple[int, ...]], None]] = {
            Done: lambda worker, message, fds: self.commands.answers(worker, message),
            Rows: lambda worker, message, fds: self.commands.tells(worker, message),
            Want: self._want,
            Return: self._return,
            Kept: self._kept,
            Load: self._load,
            CancelAt: self._cancel,
            CancelConsole: self._cancel_console,
            CancelOver: self._to_worker,
            StandInAt: self._stand_in,
            StandInIs: self._to_worker,
            StandInOver: self._to_worker,
            Vacate: self._pass_on,
            SenderGone: self._pass_on,
            Met: self._remember,
            NotCovered: lambda worker, message, fds: self.supervisor.not_covered(worker, message.worker),
            Console: self._console,
        }

    @property
    def loaded(self) -> Loaded:
        """What is in force."""
        return self.rollout.loaded

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.loaded.config

    @property
    def settings(self) -> Settings:
        """The global settings in force."""
        return self.loaded.config.settings

    @property
    def secrets(self) -> Mapping[str, str]:
        """See ControlApi."""
        return self.loaded.users

    @property
    def failure(self) -> str | None:
        """Why it ended by itself."""
        return self.supervisor.failure

    async def run(self) -> None:
        """Start the workers, obey signals; returns when all workers have ended."""
        loop = asyncio.get_running_loop()
        for number in self.HANDLERS:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        for turn in (self._obey, self._keep_stats, self._watch, self._look_at_memory):
            self._start(_again_and_again(turn))
        try:
            await self.supervisor.run()
        finally:
            self.state = "stopping"
            for number in self.HANDLERS:
                loop.remove_signal_handler(number)
            if self._tick is not None:
                self._tick.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.rollout.close()

    # ---- what the console may do

    def workers(self) -> list[WorkerSnapshot]:
        """See ControlApi."""
        counters = self.counters
        return [
            WorkerSnapshot(
                index=worker.index,
                pid=worker.pid,
                state=worker.state,
                started=worker.started,
                restarts=worker.restarts,
                crashes=counters.get(SharedCounter.CRASHES, worker.index),
                clients=counters.get(SharedCounter.CLIENTS, worker.index),
                accepted=counters.get(SharedCounter.ACCEPTED, worker.index),
                silent=int(worker.heartbeat.silent),
                memory=counters.get(SharedCounter.MEMORY, worker.index),
                bugs=counters.get(SharedCounter.BUGS, worker.index),
            )
            for worker in self.supervisor.workers
        ]

    def running(self) -> set[int]:
        """See ControlApi."""
        return set(self.supervisor.alive())

    def worker_name(self, index: int) -> str:
        """See ControlApi."""
        return self.supervisor.name(index)

    async def ask(self, subject: Subject) -> dict[int, list[Snapshot]]:
        """See ControlApi."""
        verdicts = await self.commands.run(Ask(subject), self.supervisor.answering(), TELLING)
        for worker in sorted(verdicts.hung):
            log.warning("worker %d does not answer", worker)
        return {worker: verdicts.rows.get(worker, []) for worker in sorted(verdicts.done)}

    async def refresh_stats(self) -> set[int]:
        """See ControlApi."""
        answers = await self.ask(Subject.STATS)
        for worker, rows in answers.items():
            self.averages.take(worker, of_kind(DatabaseCounters, rows))
        return set(answers)

    async def reload(self) -> Reloaded:
        """Read the configuration again and give it to all, until all have taken it.

        Raises ConfigError; then all is as it was.
        """
        reloaded = await self.rollout.reload()
        log.info("reload: done")
        return reloaded

    @property
    def in_file(self) -> Mapping[str, str]:
        """See ControlApi."""
        return self.rollout.in_file

    async def set_value(self, key: str, text: str) -> set[int]:
        """See ControlApi."""
        return await self.rollout.set_value(key, text)

    def _changed(self) -> None:
        """Another configuration is in force."""
        self.listeners.tune(self.settings)
        self.operations.reconfigured()
        self._carry_out(self.broker.reconfigured(time.monotonic()))

    def shutdown(self, mode: str, timeout: float = 0.0) -> None:
        """End: `now`; `servers`, when transactions are over; `clients`, when clients have left (timeout 0:
        whenever).
        """
        log.info("shutting down (%s)", {"now": "now", "servers": "after transactions"}.get(mode, "after clients"))
        daemon.notify("STOPPING=1")
        self.listeners.close()
        if mode == "now":
            self.state = "stopping"
            self.supervisor.stop()
        else:
            self.state = "draining"
            self.supervisor.drain(timeout, clients=mode == "clients")

    # ---- what the supervisor tells

    def greeting(self) -> Greeting:
        """See Events."""
        gates = self.operations.gates
        # Before the configuration: who is let in by that is let in as long as they say so.
        before = [(gates, ())] if gates != Gates() else []
        met = [(Met(self._met), ())] if self._met else []
        return [*before, *self.rollout.greeting(), *met]

    def received(self, worker: int, message: ToControl, fds: tuple[int, ...]) -> None:
        """See Events."""
        action = self._actions.get(type(message))
        if action is not None:
            action(worker, message, fds)
        elif fds:
            for fd in fds:
                os.close(fd)

    def died(self, worker: int) -> None:
        """See Events."""
        self.commands.died(worker)
        self.averages.retire(worker)
        self._carry_out(self.broker.died(worker, time.monotonic()))

    def became_ready(self) -> None:
        """See Events."""
        if self.supervisor.ready and self.state == "starting":
            self.state = "running"
            self.up.set()
            log.info("ready: %s", ", ".join(self.listeners.addresses))
            daemon.notify("READY=1", f"STATUS={len(self.supervisor.workers)} workers")

    # ---- messages

    def _want(self, worker: int, message: Want, fds: tuple[int, ...]) -> None:
        now = time.monotonic()
        self._carry_out(
            self.broker.want(worker, message.pool, message.since, message.count, message.granted, message.urgent, now)
        )

    def _return(self, worker: int, message: Return, fds: tuple[int, ...]) -> None:
        self._carry_out(self.broker.returned(worker, message.pool, message.count, time.monotonic()))

    def _kept(self, worker: int, message: Kept, fds: tuple[int, ...]) -> None:
        self._carry_out(self.broker.kept(worker, message.pool, time.monotonic()))

    def _load(self, worker: int, message: Load, fds: tuple[int, ...]) -> None:
        now = time.monotonic()
        plans = self.broker.measured(worker, message.pool, message, now)
        self._carry_out(plans)

    def _cancel(self, worker: int, message: CancelAt, fds: tuple[int, ...]) -> None:
        self.supervisor.tell(message.worker, CancelHere(message.serial, message.key_size, worker, message.number))

    def _cancel_console(self, worker: int, message: CancelConsole, fds: tuple[int, ...]) -> None:
        self.consoles.cancel(message.console, message.key_size)
        self.supervisor.tell(worker, CancelOver(worker, message.number))

    def _stand_in(self, worker: int, message: StandInAt, fds: tuple[int, ...]) -> None:
        here = StandInHere(message.pid, message.cancels, message.address, worker, message.number)
        self.supervisor.tell(message.worker, here)

    def _to_worker(self, worker: int, message: CancelOver | StandInIs | StandInOver, fds: tuple[int, ...]) -> None:
        self.supervisor.tell(message.worker, message)

    def _pins(self, pool: PoolKey, worker: int) -> int:
        return self.counters.part(pins_of(pool), worker)

    def _pass_on(self, worker: int, message: Vacate | SenderGone | Met, fds: tuple[int, ...]) -> None:
        for other in self.supervisor.alive():
            if other != worker:
                self.supervisor.tell(other, message)

    def _remember(self, worker: int, message: Met, fds: tuple[int, ...]) -> None:
        message.learn(self._met)
        self._pass_on(worker, message, fds)

    def _console(self, worker: int, message: Console, fds: tuple[int, ...]) -> None:
        self._start(self.consoles.open(self, message, fds))

    # ---- leases

    def _limits(self, pool: PoolKey) -> LeaseLimits | None:
        found = self.config.pool(*pool)
        if found is None:
            return None
        return LeaseLimits(
            pool_size=found.pool_size,
            reserve=found.reserve_pool_size if found.reserve_pool_timeout > 0 else 0,
            reserve_timeout=found.reserve_pool_timeout,
            database=found.max_db_connections,
            user=found.max_user_connections,
        )

    def _carry_out(self, plans: Sequence[LeasePlan]) -> None:
        for plan in plans:
            self.supervisor.tell(plan.worker, MESSAGES[plan.verb](plan))
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        due = self.broker.due()
        if due is not None:
            loop = asyncio.get_running_loop()
            self._tick = loop.call_later(max(0.001, due - time.monotonic()), self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        self._carry_out(self.broker.tick(time.monotonic()))

    # ---- tasks

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug in the control process", exc_info=error)

    async def _keep_stats(self) -> None:
        await asyncio.sleep(self.settings.stats_period)
        await self.refresh_stats()
        now = time.monotonic()
        if self.settings.log_stats:
            _, average = self.averages.overall(now)
            log.info("stats: %s", STATS_LINE.format(**average))
        self.averages.turn(now)

    async def _watch(self) -> None:
        await asyncio.sleep(LOOK)
        logs.flush()
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        self.supervisor.look(elapsed, self.settings.worker_timeout)

    async def _look_at_memory(self) -> None:
        await asyncio.sleep(LOOK)
        limit = self.settings.max_memory
        used = process_memory.private() + self.counters.total(SharedCounter.MEMORY)
        if self.memory.look(used, limit):
            shown = f"{used >> 20} MB in use, max_memory is {limit >> 20} MB"
            if self.memory.short:
                log.warning("memory is short, new clients and statements are refused: %s", shown)
            else:
                log.info("memory is not short any more: %s", shown)
        for row in range(self.counters.rows):
            self.counters.put(SharedCounter.SHORT, row, int(self.memory.short))

    async def _obey(self) -> None:
        number = await self._signals.get()
        log.info("got %s", number.name)
        self.HANDLERS[number](self)

    def handle_term(self) -> None:
        """SIGTERM, SIGINT: finish transactions; the second time now."""
        timeout = self.settings.shutdown_timeout
        if self.supervisor.ending or not timeout:
            self.shutdown("now")
        else:
            self.shutdown("servers", timeout)

    def handle_quit(self) -> None:
        """SIGQUIT: stop now."""
        self.shutdown("now")

    def handle_hup(self) -> None:
        """SIGHUP: reload; what is wrong is in the log."""
        self._start(self._reload())

    async def _reload(self) -> None:
        with suppress(ConfigError):  # it is in the log
            await self.reload()

    def handle_usr1(self) -> None:
        """SIGUSR1: pause all databases, as PgBouncer does."""
        self._start(self._ordered("PAUSE", self.operations.pause("")))

    def handle_usr2(self) -> None:
        """SIGUSR2: resume."""
        self._start(self._ordered("RESUME", self.operations.resume("")))

    async def _ordered(self, what: str, order: Coroutine[Any, Any, set[int]]) -> None:
        """What becomes of it is in the log."""
        try:
            hung = await order
        except CommandError as error:
            log.warning("%s: %s", what, error)
        else:
            names = ", ".join(map(self.worker_name, sorted(hung)))
            log.log(logging.WARNING if hung else logging.INFO, "%s: done%s", what, f" but in {names}" if hung else "")

    HANDLERS: ClassVar[dict[signal.Signals, Callable[[Pooler], None]]] = {
        signal.SIGTERM: handle_term,
        signal.SIGINT: handle_term,
        signal.SIGQUIT: handle_quit,
        signal.SIGHUP: handle_hup,
        signal.SIGUSR1: handle_usr1,
        signal.SIGUSR2: handle_usr2,
    }


STATS_LINE = (
    "{xact_count} xacts/s, {query_count} queries/s, {client_login_count} logins/s, in {received} B/s,"
    " out {sent} B/s, xact {xact_time} us, query {query_time} us, wait {wait_time} us/s"
)


async def _again_and_again(turn: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what has to be done as long as the pooler runs, whatever goes wrong with one turn. Each begins by waiting."""
    while True:
        try:
            await turn()
        except Exception:
            log.exception("bug in the control process: a turn of %s failed", turn.__name__)
