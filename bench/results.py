"""What was measured, and the ratios between contestants: plain values, no processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from .scenarios import Scenario

Latency = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Measurement:
    """One contestant in one scenario in one round.

    `rate` is in units of the scenario per second, `cpu` the contestant's processor time per unit in
    microseconds, `latency` the 50th, 99th and 99.9th percentile in milliseconds (none for COPY, and none of so few
    values that it would be their largest), `memory` the bytes of its processes afterwards, `per_idle` bytes for
    each of the idle clients if there are any. `connecting` is the mean time to connect in milliseconds, where each
    transaction has its own connection; its latency then includes that.
    """

    rate: float
    cpu: float
    latency: Latency | None = None
    memory: int = 0
    per_idle: float | None = None
    connecting: float | None = None


@dataclass(frozen=True)
class Entry:
    """A contestant; `ours` is pglido in one of its forms, `to` the name of another form that it is compared to."""

    name: str
    version: str
    ours: bool
    to: str = ""


@dataclass(frozen=True)
class Metric:
    """One figure that contestants are compared by."""

    name: str
    title: str
    better: Literal["lower", "higher"]
    of: Callable[[Measurement], float | None]

    def lost(self, ratio: float) -> bool:
        """Is this ratio of ours to the peer's on the wrong side of 1?"""
        return ratio > 1 if self.better == "lower" else ratio < 1


METRICS = (
    Metric("cpu", "CPU", "lower", lambda one: one.cpu),
    Metric("rate", "rate", "higher", lambda one: one.rate),
    Metric("p99", "99 %", "lower", lambda one: one.latency[1] if one.latency else None),
    Metric("per_idle", "memory per idle client", "lower", lambda one: one.per_idle),
)
BY_METRIC = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True)
class Ratio:
    """Ours divided by the peer's in each round both have; `stand_in` if the peer's figures are of another scenario."""

    metric: Metric
    rounds: tuple[float, ...]
    stand_in: str = ""

    @property
    def median(self) -> float:
        return median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.rounds), max(self.rounds)

    @property
    def mark(self) -> str:
        """`!!` lost in every round, `!` lost in the median, else nothing."""
        if all(map(self.metric.lost, self.rounds)):
            return "!!"
        return "!" if self.metric.lost(self.median) else ""


@dataclass
class Results:
    """All of a run. `rounds[scenario][contestant]` maps the number of a round to its measurement."""

    entries: list[Entry]
    scenarios: Sequence[Scenario]
    machine: dict[str, str] = field(default_factory=dict)
    plan: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, dict[str, dict[int, Measurement]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def ours(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.ours]

    @property
    def peers(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.ours]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of who is compared to whom: each of ours to all peers, and some to another of ours."""
        peers = [peer.name for peer in self.peers]
        return [(one.name, other) for one in self.ours for other in (*peers, *((one.to,) if one.to else ()))]

    def add(self, scenario: str, contestant: str, number: int, one: Measurement) -> None:
        """Keep a measurement."""
        self.rounds.setdefault(scenario, {}).setdefault(contestant, {})[number] = one

    def fail(self, scenario: str, contestant: str, reason: str) -> None:
        """Keep why there is no measurement; rounds measured before stay."""
        self.failures.setdefault(scenario, {})[contestant] = reason

    def failure(self, scenario: str, contestant: str) -> str:
        """Why there is no measurement, or an empty text."""
        return self.failures.get(scenario, {}).get(contestant, "")

    def of(self, scenario: str, contestant: str) -> dict[int, Measurement]:
        """What was measured, by round."""
        return self.rounds.get(scenario, {}).get(contestant, {})

    def typical(self, scenario: str, contestant: str) -> Measurement | None:
        """The median of each figure over the rounds; None if there are none."""
        rounds = list(self.of(scenario, contestant).values())
        if not rounds:
            return None
        latencies = [one.latency for one in rounds if one.latency]
        return Measurement(
            median(one.rate for one in rounds),
            median(one.cpu for one in rounds),
            (
                median(each[0] for each in latencies),
                _median_of([each[1] for each in latencies]),
                _median_of([each[2] for each in latencies]),
            )
            if latencies
            else None,
            int(median(one.memory for one in rounds)),
            _median_of([one.per_idle for one in rounds]),
            _median_of([one.connecting for one in rounds]),
        )

    def ratio(self, scenario: Scenario, ours: str, peer: str, metric: Metric) -> Ratio | None:
        """Ours to the peer's, round by round; None where there is nothing to compare."""
        mine, theirs, stand_in = self.of(scenario.name, ours), self.of(scenario.name, peer), ""
        if not theirs and scenario.stand_in:
            theirs, stand_in = self.of(scenario.stand_in, peer), scenario.stand_in
        found = []
        for number in sorted(mine.keys() & theirs.keys()):
            a, b = metric.of(mine[number]), metric.of(theirs[number])
            if a and b and a > 0 and b > 0:
                found.append(a / b)
        return Ratio(metric, tuple(found), stand_in) if found else None


def _median_of(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None
