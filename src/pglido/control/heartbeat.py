"""Judges by heartbeats whether a worker still serves: pure, and without asking anybody.

Each worker advances a counter in shared memory (`SharedCounter.BEATS`) at every look of its clock, about three times a
second. The control process reads the counters every `LOOK` seconds. Rules:

1. A worker is silent from the moment at which its counter was last seen to change.
2. A look adds at most two `LOOK` to the silence: if the control process itself stood still, that is not the workers'.
3. In place of a worker that is silent for `HANGS_AFTER` the others accept the connections that come to its sockets.
4. A process that is silent for `worker_timeout` is killed. While it starts it may be silent for `BOOT_TIME`.
"""

from __future__ import annotations

from dataclasses import dataclass

LOOK = 0.25  # seconds between two looks
HANGS_AFTER = 1.5  # seconds; four beats are missing then
BOOT_TIME = 60.0  # seconds until the first beat: a process starts and reads its modules


@dataclass
class Heartbeat:
    """The last value of one worker's counter, and for how many seconds it has not changed."""

    beat: int = 0
    silent: float = 0.0

    def look(self, beat: int, elapsed: float) -> None:
        """The counter is `beat` now, `elapsed` seconds after the look before."""
        if beat != self.beat:
            self.beat = beat
            self.silent = 0.0
        else:
            self.silent += min(elapsed, 2 * LOOK)

    @property
    def hangs(self) -> bool:
        """Whether others have to accept in its place."""
        return self.silent >= HANGS_AFTER


def longest_silence(worker_timeout: float, state: str) -> float:
    """Seconds of silence after which a process in this state is killed; 0: never."""
    if not worker_timeout:
        return 0.0
    return max(worker_timeout, BOOT_TIME if state == "starting" else HANGS_AFTER)
