"""The SHOW commands of statistics: four views of the same counters."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from .averages import COUNTERS, Counts
from .protocol import Value
from .tabular import Answers, Rows, Show, numeric, text

if TYPE_CHECKING:
    from .pooler import Pooler

_IN_STATS = {"received": "recv"}  # the averages' own spelling
_IN_TOTALS = {"received": "bytes_received", "sent": "bytes_sent"}
_IN_SUM = {
    "received": "client_bytes",
    "sent": "server_bytes",
    "client_parse_count": "ps_client_parse_count",
    "server_parse_count": "ps_server_parse_count",
    "bind_count": "ps_bind_count",
}
_PARSES = frozenset({"client_parse_count", "server_parse_count", "bind_count"})

STATS = (
    text("database")
    + numeric(*(f"total_{name}" for name in COUNTERS))
    + numeric(*(f"avg_{_IN_STATS.get(name, name)}" for name in COUNTERS))
)
STATS_TOTALS = text("database") + numeric(*(_IN_TOTALS.get(name, name) for name in COUNTERS))
STATS_AVERAGES = text("database") + numeric(
    *(f"avg_{name}" if name in _PARSES else _IN_TOTALS.get(name, name) for name in COUNTERS)
)


def _values(counts: Counts) -> list[Value]:
    return [counts[name] for name in COUNTERS]


def _stats(pooler: Pooler, answers: Answers) -> Rows:
    averages = pooler.averages.averages(monotonic())
    return [
        [name, *_values(counts), *_values(averages[name])]
        for name, counts in pooler.averages.totals().items()
    ]


def _stats_totals(pooler: Pooler, answers: Answers) -> Rows:
    return [[name, *_values(counts)] for name, counts in pooler.averages.totals().items()]


def _stats_averages(pooler: Pooler, answers: Answers) -> Rows:
    return [[name, *_values(counts)] for name, counts in pooler.averages.averages(monotonic()).items()]


def _totals(pooler: Pooler, answers: Answers) -> Rows:
    sums, averages = pooler.averages.overall(monotonic())
    return [
        [f"{prefix}_{_IN_SUM.get(name, name)}", counts[name]]
        for prefix, counts in (("total", sums), ("avg", averages))
        for name in COUNTERS
    ]


STATISTICS: dict[str, Show] = {
    "STATS": Show(STATS, _stats, "stats"),
    "STATS_AVERAGES": Show(STATS_AVERAGES, _stats_averages, "stats"),
    "STATS_TOTALS": Show(STATS_TOTALS, _stats_totals, "stats"),
    "TOTALS": Show(text("name") + numeric("value"), _totals, "stats"),
}
