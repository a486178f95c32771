"""Judges whether the pooler uses too much memory (`max_memory`): a soft limit, pure, and without asking anybody.

Each worker writes into shared memory (`SharedCounter.MEMORY`) how much memory it has, at every look of its clock; the
control process adds its own, looks every `heartbeat.LOOK` seconds, and tells the workers (`SharedCounter.SHORT`).
Rules:

1. What counts is memory that is no file's and not shared, over all processes: what would be free if they ended.
2. Memory is short from above the limit on until it is below `ENOUGH` of it: it does not begin and end all the time.
"""

from __future__ import annotations

from dataclasses import dataclass

ENOUGH = 0.9


@dataclass
class MemoryLimit:
    """Whether memory is `short`."""

    short: bool = False

    def look(self, used: int, limit: int) -> bool:
        """So many bytes are in use, and may be (0: any number); returns whether `short` is another than before."""
        before = self.short
        self.short = limit > 0 and used > (limit * ENOUGH if before else limit)
        return self.short != before
