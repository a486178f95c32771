"""Commands to the workers, and what became of each in each of them.

Rules:
1. A command has a number. Every worker that it went to answers once with `Done`, which says what was wrong if
   something was; before that it may tell `Rows`.
2. A worker that ends is not waited for. Its successor answers in its place, if it gets the command, too.
3. A worker that does not move, or does not answer in time, is not waited for. It counts as hung until it answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..ipc.messages import Abort, Action, Command, Done, Message, Rows
from ..ipc.snapshot import Snapshot
from .heartbeat import HANGS_AFTER, LOOK


class Patience(NamedTuple):
    """A worker is not waited for after so many seconds in all, or after so many in which it has not moved."""

    timeout: float
    silence: float


AT_ONCE = Patience(timeout=10.0, silence=HANGS_AFTER)
# What waits for clients, whose transactions may take as long as they do.
AS_LONG_AS_IT_TAKES = Patience(timeout=float("inf"), silence=HANGS_AFTER)


@dataclass
class Verdicts:
    """What was heard so far of the command with this number.

    `waiting` are those that have yet to answer; `done` have; `problems` is what some of these say was wrong; `hung` are
    not waited for; `ended` have ended before they answered.
    """

    number: int
    asked: frozenset[int]
    waiting: set[int] = field(init=False)
    done: set[int] = field(default_factory=set)
    problems: dict[int, str] = field(default_factory=dict)
    hung: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    rows: dict[int, list[Snapshot]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = set(self.asked)

    def tells(self, worker: int, rows: list[Snapshot]) -> None:
        """The worker tells a part of its answer."""
        self.rows.setdefault(worker, []).extend(rows)

    def answers(self, worker: int, problem: str) -> None:
        """The worker has done it, or says what is wrong; also after it was given up, or its successor."""
        self._no_more_waited_for(worker)
        self.done.add(worker)
        if problem:
            self.problems[worker] = problem

    def ends(self, worker: int) -> None:
        """The process has ended."""
        if worker in self.waiting or worker in self.hung:
            self._no_more_waited_for(worker)
            self.ended.add(worker)
            self.rows.pop(worker, None)

    def hangs(self, worker: int) -> None:
        """The worker does not move, or does not answer in time."""
        if worker in self.waiting:
            self._no_more_waited_for(worker)
            self.hung.add(worker)

    def _no_more_waited_for(self, worker: int) -> None:
        self.waiting.discard(worker)
        self.hung.discard(worker)
        self.ended.discard(worker)


class Workers(Protocol):
    """Whom the commands go to."""

    def tell(self, index: int, message: Message, fds: Sequence[int] = ()) -> None:
        """Post a message to a worker."""

    def silent(self, index: int) -> float:
        """Seconds for which this worker has not moved."""


class Commands:
    """Those that are under way."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._number = 0
        self._running: dict[int, Verdicts] = {}
        self._heard = asyncio.Event()

    async def run(self, action: Action, workers: Iterable[int], patience: Patience) -> Verdicts:
        """Have these workers do something; returns when all have, but for those that are not waited for."""
        with self.under_way(workers) as verdicts:
            for worker in verdicts.asked:
                self._workers.tell(worker, Command(verdicts.number, action))
            try:
                await self.heard(verdicts, patience)
            finally:
                for worker in verdicts.waiting | verdicts.hung:
                    self._workers.tell(worker, Abort(verdicts.number))
        return verdicts

    @contextmanager
    def under_way(self, workers: Iterable[int]) -> Iterator[Verdicts]:
        """The verdicts of a command that is sent by the caller, and answered until the end of the block."""
        self._number += 1
        verdicts = self._running[self._number] = Verdicts(self._number, frozenset(workers))
        try:
            yield verdicts
        finally:
            del self._running[verdicts.number]

    async def heard(self, verdicts: Verdicts, patience: Patience) -> None:
        """Wait until nobody is waited for any more."""
        end = time.monotonic() + patience.timeout
        while verdicts.waiting:
            self._heard.clear()
            with suppress(TimeoutError):
                # Not wait_for(): in Python 3.11 that may swallow a cancel.
                async with asyncio.timeout(LOOK):
                    await self._heard.wait()
            late = time.monotonic() > end
            for worker in list(verdicts.waiting):
                if late or self._workers.silent(worker) >= patience.silence:
                    verdicts.hangs(worker)

    # ---- what the workers say

    def tells(self, worker: int, message: Rows) -> None:
        """A part of an answer."""
        verdicts = self._running.get(message.number)
        if verdicts is not None:
            verdicts.tells(worker, message.rows)

    def answers(self, worker: int, message: Done) -> None:
        """The end of an answer."""
        verdicts = self._running.get(message.number)
        if verdicts is not None:
            verdicts.answers(worker, message.problem)
            self._heard.set()

    def died(self, worker: int) -> None:
        """A worker has ended."""
        for verdicts in self._running.values():
            verdicts.ends(worker)
        self._heard.set()
