"""Would a lease be of more use to another worker? What clients went through lately, and what a move would change.

Pure functions of measured times. Clients run in a closed loop: they wait for a server, have it, think, and come again.
Where servers are busy all the time, one server fewer stretches that circle in proportion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

WINDOW = 2.0  # seconds in which what was measured loses most of its weight; more where transactions are long
TURNS = 4.0  # of a server's clients, that are to have weight
STALE = 6.0  # seconds without a measurement after which older ones count no more
KNOWN = 0.5  # seconds of which something must be known, or half as long as a server has a client
SCARCE = 0.9  # from here on servers are too few: what chance adds is no longer what clients wait for
MARGIN = 1.25  # who gives up a lease must, after that, wait so many times less than who gets it waits now
HORIZON = 5.0  # seconds within which a move must have paid for itself
LOGIN = 0.05  # seconds of clients' waiting that must be saved for each login that a move costs


class LoadSums(Protocol):
    """What clients of one worker went through in one pool, since it knows the pool: `ipc.messages.Load`."""

    @property
    def wait(self) -> float:
        """Seconds that they waited for a server."""

    @property
    def assignments(self) -> int:
        """How often one got one."""

    @property
    def busy(self) -> float:
        """Seconds for which they had one."""

    @property
    def clients(self) -> int:
        """How many wanted one since the last time."""


@dataclass(slots=True)
class RecentLoad:
    """What clients of one worker went through in one pool: sums over `span` seconds, in which newer ones weigh more.

    `wait`: seconds waited for a server, `served`: how often a client got one, `used`: seconds in which clients had one.
    `circling`: seconds that clients took from one server to the next, but for those who come less often than measured.
    """

    span: float = 0.0
    wait: float = 0.0
    served: float = 0.0
    used: float = 0.0
    circling: float = 0.0
    last: tuple[float, int, float] | None = None  # the worker's own sums, at `taken`
    taken: float = 0.0

    def learn(self, wait: float, served: int, used: float, clients: int, now: float) -> None:
        """Add what happened since the last measurement, to so many clients; the first only begins to count."""
        before, passed = self.last, now - self.taken
        self.last, self.taken = (wait, served, used), now
        if before is None or passed > STALE:
            self.span = self.wait = self.served = self.used = self.circling = 0.0
            return
        fading = math.exp(-passed / max(WINDOW, TURNS * self.work))
        self.span = self.span * fading + passed
        self.wait = self.wait * fading + max(0.0, wait - before[0])
        self.served = self.served * fading + max(0, served - before[1])
        self.used = self.used * fading + max(0.0, used - before[2])
        self.circling = self.circling * fading + clients * passed

    def restart(self) -> None:
        """Something has changed: only what is measured from now on counts."""
        self.span = self.wait = self.served = self.used = self.circling = 0.0
        self.last = None

    @property
    def known(self) -> bool:
        """Is there enough to go by?"""
        return self.span >= max(KNOWN, self.work / 2)

    @property
    def delay(self) -> float:
        """Seconds that a client waits for a server; those who wait still count with what they have waited."""
        return self.wait / max(1.0, self.served)

    @property
    def work(self) -> float:
        """Seconds for which a client then has it."""
        return self.used / max(1.0, self.served)

    @property
    def rate(self) -> float:
        """Clients served per second."""
        return self.served / self.span if self.span else 0.0

    def delay_with(self, servers: int, kept: int) -> float:
        """Seconds that a client would wait with so many servers, apart from `kept` ones that no other client can use.

        With enough of them, clients wait because they come by chance: Sakasegawa's approximation of M/M/c. With too few
        their circle is stretched; those that rarely come are not counted, so it may come worse than said here.
        """
        if servers <= 0:
            return math.inf
        busy = max(0.0, self.used / self.span - kept) if self.span else 0.0
        circle = max(self.delay + self.work, self.circling / max(1.0, self.served))
        part = min(busy / servers, SCARCE)
        chance: float = self.work * part ** (math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - part))
        return max(chance, self.delay + circle * (busy / servers - 1))


def worth_moving(
    giver: RecentLoad, gives: int, taker: RecentLoad, has: int, kept: tuple[int, int], margin: float
) -> int:
    """How many of the `gives` servers of one worker would be better off with another that has `has`; 0 for none.

    Servers that clients keep are in neither number; `kept` is how many each of the two has of them. With each move the
    giver must then wait less than the taker did before it, with the first even `margin` times less: so a share that is
    rounded is left alone, and a move is not worth undoing.
    """
    for number in range(gives):
        before = taker.delay_with(has + number, kept[1]) if number else taker.delay
        after = taker.delay_with(has + number + 1, kept[1])
        saved = taker.rate * (before - min(before, after)) * HORIZON
        left = max(giver.delay, giver.delay_with(gives - number - 1, kept[0]))
        if left * (1.0 if number else margin) >= before or saved < LOGIN:
            return number
    return gives
