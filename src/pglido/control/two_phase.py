"""What follows from the first phase of a reload (two-phase commit, with the control process as coordinator).

Rules:
1. Every worker that runs is asked. Each says once that it is ready, or what is wrong.
2. A worker that ends or hangs is not waited for. Its successor, or itself when it moves again, takes what was decided.
3. What one worker says is wrong is enough: all drop the new configuration.
4. If all that were asked have ended over it, so would their successors: dropped, too.
"""

from __future__ import annotations

import enum

from .commands import Verdicts


class Outcome(enum.Enum):
    """What all are told in the second phase."""

    COMMIT = enum.auto()
    ABORT = enum.auto()


def outcome_of(verdicts: Verdicts) -> Outcome | None:
    """What follows; None as long as somebody is waited for."""
    if verdicts.waiting:
        return None
    if verdicts.problems or (verdicts.asked and verdicts.ended == verdicts.asked):
        return Outcome.ABORT
    return Outcome.COMMIT
