"""The first phase of a reload as data: which workers are ready for the new configuration, and what follows from it.

Rules (two-phase commit, with the control process as coordinator):
1. Every worker that runs is asked. Each says once that it is ready, or what is wrong.
2. A worker that ends or hangs is not waited for. Its successor, or itself when it moves again, takes what was decided.
3. What one worker says is wrong is enough: all drop the new configuration.
4. If all that were asked have ended over it, so would their successors: dropped, too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Outcome(enum.Enum):
    """What all are told in the second phase."""

    COMMIT = enum.auto()
    ABORT = enum.auto()


@dataclass
class Poll:
    """What was heard so far. `waiting` are those that have yet to answer; `hung` those that are not waited for."""

    asked: frozenset[int]
    waiting: set[int] = field(init=False)
    problems: dict[int, str] = field(default_factory=dict)
    hung: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.waiting = set(self.asked)

    def answered(self, worker: int, problem: str) -> None:
        """The worker is ready, or says what is wrong; also after it was given up, or its successor."""
        self.waiting.discard(worker)
        self.hung.discard(worker)
        self.ended.discard(worker)
        if problem:
            self.problems[worker] = problem

    def ends(self, worker: int) -> None:
        """The process has ended."""
        if worker in self.waiting or worker in self.hung:
            self.waiting.discard(worker)
            self.hung.discard(worker)
            self.ended.add(worker)

    def hangs(self, worker: int) -> None:
        """The worker does not move, or does not answer in time."""
        if worker in self.waiting:
            self.waiting.discard(worker)
            self.hung.add(worker)

    @property
    def outcome(self) -> Outcome | None:
        """What follows; None as long as somebody is waited for."""
        if self.waiting:
            return None
        if self.problems or (self.asked and self.ended == self.asked):
            return Outcome.ABORT
        return Outcome.COMMIT
