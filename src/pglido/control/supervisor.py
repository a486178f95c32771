"""Starts the workers, keeps them running, ends them.

Rules: there is one task per worker, which starts a process, carries its messages until the channel ends,
reaps it and decides: restart after a pause that doubles from crash to crash (and is forgotten after a good
while), or, if no worker has ever been ready, stop everything because one said that it can't boot or could not be
started, or because it crashed again and again. A dead
worker's row of the shared counters is zeroed and its death told before its successor starts. `look`, called by a clock,
judges by heartbeats which workers hang (see `heartbeat`): the others accept in their place, and after
`worker_timeout` they are killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ..ipc.channel import Channel, ChannelBroken, ChannelClosed, close_all
from ..ipc.messages import (
    CANNOT_BOOT,
    TO_CONTROL,
    Cover,
    Drain,
    Failed,
    Message,
    Ready,
    Stop,
    ToControl,
    Uncover,
)
from ..ipc.shared_counters import SharedCounter, SharedCounters
from ..log import copied
from .heartbeat import Heartbeat, longest_silence

log = logging.getLogger("pglido.control")

# -P: no module comes from the directory in which pglido was started.
COMMAND = (sys.executable, "-P", "-m", "pglido.worker")
GOOD_WHILE = 60.0  # seconds; a worker that lived this long starts anew with the first pause
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
LONGEST_PAUSE_READY = 1.0  # where it was ready before it died: it works, and is missed
HOPELESS = 4  # crashes in a row, while no worker has ever been ready
GRACE = 5.0  # seconds from being told to stop, or from losing the channel, until SIGKILL


Greeting = Sequence[tuple[Message, Sequence[int]]]
"""The first messages to a new worker, with the descriptors that go with each."""


class Events(Protocol):
    """Who wants to know."""

    def greeting(self) -> Greeting:
        """What a new worker is told; the descriptors are the supervisor's then."""
        ...

    def received(self, worker: int, message: ToControl, fds: tuple[int, ...]) -> None:
        """A message that the supervisor has no business with."""
        ...

    def died(self, worker: int) -> None:
        """The process is reaped."""
        ...

    def became_ready(self) -> None:
        """A worker accepts clients."""
        ...


@dataclass
class Worker:
    """One slot: what runs there now, and what became of those before."""

    index: int
    state: str = "stopped"  # starting, ready, hanging, draining, stopped, waiting (for the pause to end)
    pid: int = 0
    started: float = 0.0  # epoch
    restarts: int = 0
    crashes: int = 0  # in a row
    was_ready: bool = False  # the process that runs, or ran last
    began: bool = False  # some process here has been ready
    channel: Channel[ToControl] | None = None
    process: Process | None = field(default=None, repr=False)
    age: float = 0.0  # seconds since the process was started, as far as looks were taken
    heartbeat: Heartbeat = field(default_factory=Heartbeat)  # of the slot, whichever process runs there
    covers: set[int] = field(default_factory=set)  # workers in whose place it accepts


class Supervisor:
    """The worker processes. `sockets` gives a worker's listening sockets."""

    def __init__(
        self,
        count: int,
        counters: SharedCounters,
        sockets: Callable[[int], Sequence[socket.socket]],
        events: Events,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.workers = [Worker(index) for index in range(count)]
        self.failure: str | None = None
        self._counters = counters
        self._sockets = sockets
        self._events = events
        self._command = tuple(command)
        self._ending = asyncio.Event()
        self._ever_ready = False
        self._goodbye: Message | None = None

    async def run(self) -> None:
        """Returns when all workers have ended after `drain` or `stop`, or after a failure (see `failure`)."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(self._keep(worker), name=f"worker {worker.index}")

    @property
    def ready(self) -> bool:
        """Every worker accepts clients."""
        return all(worker.state == "ready" for worker in self.workers)

    @property
    def ending(self) -> bool:
        """No worker will be restarted."""
        return self._ending.is_set()

    def tell(self, index: int, message: Message, fds: Sequence[int] = ()) -> None:
        """Post a message to a worker; lost, and the descriptors closed, when it does not run."""
        if 0 <= index < len(self.workers) and (channel := self.workers[index].channel) is not None:
            channel.post(message, fds)
        else:
            close_all(fds)

    def name(self, index: int) -> str:
        """What the log and the console call a worker."""
        return f"worker {index} (process {self.workers[index].pid})"

    def silent(self, index: int) -> float:
        """Seconds for which a worker has not moved."""
        return self.workers[index].heartbeat.silent

    def tell_all(self, message: Message) -> None:
        """Post a message to all workers."""
        for worker in self.workers:
            self.tell(worker.index, message)

    def alive(self) -> list[int]:
        """Workers that have a channel."""
        return [w.index for w in self.workers if w.channel is not None and not w.channel.closed]

    def answering(self) -> list[int]:
        """Workers that have a channel and do not hang."""
        return [index for index in self.alive() if not self.workers[index].heartbeat.hangs]

    def look(self, elapsed: float, worker_timeout: float) -> None:
        """Judge all workers by their heartbeats, `elapsed` seconds after the look before."""
        for worker in self.workers:
            worker.heartbeat.look(self._counters.get(SharedCounter.BEATS, worker.index), elapsed)
            worker.age += elapsed
            silent = min(worker.heartbeat.silent, worker.age)
            if worker.state == "ready" and worker.heartbeat.hangs:
                worker.state = "hanging"
                log.error(
                    "worker %d (process %d) has not moved for %.1f s, the others accept in its place",
                    *(worker.index, worker.pid, silent),
                )
            elif worker.state == "hanging" and not worker.heartbeat.hangs:
                worker.state = "ready"
                log.warning("worker %d (process %d) moves again", worker.index, worker.pid)
            limit = longest_silence(worker_timeout, worker.state)
            if worker.process is not None and limit and silent >= limit:
                log.error(
                    "worker %d (process %d) has not moved for %.1f s: killed (worker_timeout)",
                    *(worker.index, worker.pid, silent),
                )
                _kill(worker.process)
        self._share_out()

    def not_covered(self, index: int, other: int) -> None:
        """A worker could not take the sockets of another: it gets them again with the next look."""
        self.workers[index].covers.discard(other)

    def drain(self, timeout: float, clients: bool = False) -> None:
        """Let the workers come to an end within `timeout` seconds (0: however long it takes); none is
        restarted.
        """
        self._end(Drain(timeout, clients))
        if timeout:
            asyncio.get_running_loop().call_later(timeout + 1, self.stop)

    def stop(self) -> None:
        """End the workers now; those that do not obey are killed."""
        self._end(Stop())
        asyncio.get_running_loop().call_later(GRACE, self._kill)

    # ---- inside

    def _end(self, goodbye: Message) -> None:
        self._goodbye = goodbye
        self._ending.set()
        for worker in self.workers:
            if worker.channel is not None:
                worker.state = "draining"
        self.tell_all(goodbye)

    def _share_out(self) -> None:
        """Have the workers that accept do so in place of those that do not."""
        if self._ending.is_set():
            return
        # One that has yet to begin gets its clients when it does: they would all be on the first that is ready.
        left = {worker.index for worker in self.workers if worker.began and worker.heartbeat.hangs}
        for worker in self.workers:
            if worker.channel is None or worker.state != "ready":
                continue
            for index in worker.covers - left:
                worker.channel.post(Uncover(index))
            worker.covers &= left
            for index in left - worker.covers:
                own = set(self._sockets(worker.index))
                others = [sock.fileno() for sock in self._sockets(index) if sock not in own]
                try:
                    worker.channel.post(Cover(index), copied(others))
                except OSError as error:
                    log.error("worker %d gets no sockets of worker %d yet: %s", worker.index, index, error.strerror)
                else:
                    worker.covers.add(index)

    def _kill(self) -> None:
        for worker in self.workers:
            if worker.process is not None and worker.process.returncode is None:
                log.error("worker %d (process %d) does not stop: killed", worker.index, worker.pid)
                _kill(worker.process)

    def _fail(self, text: str) -> None:
        if self.failure is None:
            self.failure = text
        if not self._ending.is_set():
            self.stop()

    async def _keep(self, worker: Worker) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                status = await self._live(worker)
            except OSError as error:
                text = f"worker {worker.index} cannot be started: {error}"
                if not self._ever_ready:
                    self._fail(text)
                    break
                log.error("%s", text)
                status = CANNOT_BOOT
            self._bury(worker)
            if self._ending.is_set():
                break
            if status == CANNOT_BOOT and not self._ever_ready:
                self._fail(f"worker {worker.index} cannot start; see the log")
                break
            if time.monotonic() - began > GOOD_WHILE:
                worker.crashes = 0
            longest = LONGEST_PAUSE_READY if worker.was_ready else LONGEST_PAUSE
            pause = min(longest, FIRST_PAUSE * 2 ** min(worker.crashes, 20))
            worker.crashes += 1
            worker.restarts += 1
            self._counters.bump(SharedCounter.CRASHES, worker.index)
            log.error(
                "worker %d (process %d) %s; restart in %.1f s", worker.index, worker.pid, _how(status), pause
            )
            if not self._ever_ready and worker.crashes >= HOPELESS:
                self._fail(
                    f"worker {worker.index} crashed {HOPELESS} times and none ever started: {_how(status)}"
                )
                break
            worker.state = "waiting"
            try:
                await asyncio.wait_for(self._ending.wait(), pause)
            except TimeoutError:
                continue
        worker.state = "stopped"

    async def _live(self, worker: Worker) -> int:
        """From the start of a process to its exit status. Raises OSError if none can be started."""
        worker.was_ready = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        listening = [sock.fileno() for sock in self._sockets(worker.index)]
        arguments = [
            "--index",
            str(worker.index),
            "--parent",
            str(os.getpid()),
            "--channel",
            str(theirs.fileno()),
            "--counters",
            str(self._counters.fd),
        ]
        if listening:
            arguments += ["--listen", ",".join(map(str, listening))]
        try:
            # A process group of its own: what a terminal sends to pglido must not reach a worker before it
            # can ignore it.
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                pass_fds=[theirs.fileno(), self._counters.fd, *listening],
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        worker.process, worker.pid, worker.started = process, process.pid, time.time()
        worker.state = "starting"
        worker.age = 0.0
        worker.covers = set()
        worker.channel = Channel(ours, TO_CONTROL)
        try:
            for message, fds in self._events.greeting():
                worker.channel.post(message, fds)
            if self._goodbye is not None:  # it came while the process was being made
                worker.channel.post(self._goodbye)
            await self._listen(worker, worker.channel)
        finally:
            worker.channel.close()
            status = await self._reap(worker, process)
        return status

    async def _listen(self, worker: Worker, channel: Channel[ToControl]) -> None:
        """Carry messages until the channel ends."""
        while True:
            try:
                message, fds = await channel.receive()
            except ChannelClosed:
                return
            except ChannelBroken as error:
                log.error("worker %d (process %d): %s", worker.index, worker.pid, error)
                return
            if isinstance(message, Ready):
                log.info("worker %d is ready (process %d)", worker.index, worker.pid)
                if worker.state == "starting":
                    worker.state = "ready"
                    worker.heartbeat.silent = 0.0
                worker.was_ready = worker.began = True
                self._ever_ready = True
                self._events.became_ready()
            elif isinstance(message, Failed):
                text = f"worker {worker.index}: {message.text}"
                if self._ever_ready:
                    log.error("%s", text)
                else:
                    self._fail(text)
            else:
                try:
                    self._events.received(worker.index, message, fds)
                except Exception:
                    log.exception("bug: %s of worker %d failed", type(message).__name__, worker.index)

    @staticmethod
    async def _reap(worker: Worker, process: Process) -> int:
        """Its exit status; a process that lives on without a channel is killed."""
        try:
            return await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            log.error(
                "worker %d (process %d) closed its channel and lives on: killed", worker.index, worker.pid
            )
            _kill(process)
            return await process.wait()

    def _bury(self, worker: Worker) -> None:
        worker.channel = worker.process = None
        worker.state = "stopped"
        self._counters.clear(worker.index)
        self._events.died(worker.index)


def _kill(process: Process) -> None:
    """SIGKILL; no error where the process has ended meanwhile."""
    with suppress(ProcessLookupError):
        process.kill()


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
