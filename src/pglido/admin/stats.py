"""The counters of all workers, dead ones too, as totals and as averages over the last period."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import fields

from ..ipc.snapshot import DatabaseCounters

COUNTERS = tuple(field.name for field in fields(DatabaseCounters) if field.type is int)
# Times are averaged over what they were spent on, all else over seconds; PgBouncer's wait_time is per second
# too.
PER = {"xact_time": "xact_count", "query_time": "query_count"}

Counts = dict[str, int]
ByDatabase = dict[str, Counts]


class Averages:
    """Takes what the workers answer about stats; clocks are monotonic seconds.

    Averages are over the time since the last period but one began, so they cover between one and two periods,
    as PgBouncer's do.
    """

    def __init__(self, now: float) -> None:
        self._retired: ByDatabase = {}
        self._latest: dict[int, ByDatabase] = {}
        self._marks: list[tuple[float, ByDatabase]] = [(now, {}), (now, {})]

    def take(self, worker: int, rows: Iterable[DatabaseCounters]) -> None:
        """Take the totals that a worker has sent."""
        self._latest[worker] = {row.database: {name: getattr(row, name) for name in COUNTERS} for row in rows}

    def retire(self, worker: int) -> None:
        """A worker has ended: its last counters stay in the totals."""
        _add(self._retired, self._latest.pop(worker, {}))

    def turn(self, now: float) -> None:
        """A period (stats_period) ends at `now`: averages count from its beginning on."""
        self._marks = [self._marks[1], (now, self.totals())]

    def totals(self) -> ByDatabase:
        """Sums over all workers, by database, in order of their names."""
        sums: ByDatabase = {}
        for part in (self._retired, *self._latest.values()):
            _add(sums, part)
        return dict(sorted(sums.items()))

    def averages(self, now: float) -> ByDatabase:
        """Per second, or for times spent on transactions and queries, microseconds for each."""
        since, before = self._marks[0]
        seconds = now - since
        return {
            database: _averages(counts, before.get(database, {}), seconds)
            for database, counts in self.totals().items()
        }

    def overall(self, now: float) -> tuple[Counts, Counts]:
        """All databases as one: the totals, and their averages."""
        since, before = self._marks[0]
        totals = _sum(self.totals())
        return totals, _averages(totals, _sum(before), now - since)


def _sum(parts: ByDatabase) -> Counts:
    return {name: sum(counts[name] for counts in parts.values()) for name in COUNTERS}


def _averages(now: Counts, before: Counts, seconds: float) -> Counts:
    grown = {name: now[name] - before.get(name, 0) for name in COUNTERS}
    found: Counts = {}
    for name, value in grown.items():
        over = grown[PER[name]] if name in PER else seconds
        found[name] = int(value / over) if over > 0 else 0
    return found


def _add(sums: ByDatabase, part: ByDatabase) -> None:
    for database, counts in part.items():
        sum_ = sums.setdefault(database, dict.fromkeys(COUNTERS, 0))
        for name, value in counts.items():
            sum_[name] += value
