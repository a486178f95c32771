"""The SHOW commands of statistics: four views of the same counters."""

from __future__ import annotations

from time import monotonic

from ..ipc.snapshot import Answers, Subject
from ..protocol.rows import Rows, Value
from .columns import Show, numeric, text
from .control_api import ControlApi
from .stats import COUNTERS, Counts

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


def _stats(control: ControlApi, answers: Answers) -> Rows:
    averages = control.averages.averages(monotonic())
    return [
        [name, *_values(counts), *_values(averages[name])]
        for name, counts in control.averages.totals().items()
    ]


def _stats_totals(control: ControlApi, answers: Answers) -> Rows:
    return [[name, *_values(counts)] for name, counts in control.averages.totals().items()]


def _stats_averages(control: ControlApi, answers: Answers) -> Rows:
    return [[name, *_values(counts)] for name, counts in control.averages.averages(monotonic()).items()]


def _totals(control: ControlApi, answers: Answers) -> Rows:
    sums, averages = control.averages.overall(monotonic())
    return [
        [f"{prefix}_{_IN_SUM.get(name, name)}", counts[name]]
        for prefix, counts in (("total", sums), ("avg", averages))
        for name in COUNTERS
    ]


STATISTICS: dict[str, Show] = {
    "STATS": Show(STATS, _stats, Subject.STATS),
    "STATS_AVERAGES": Show(STATS_AVERAGES, _stats_averages, Subject.STATS),
    "STATS_TOTALS": Show(STATS_TOTALS, _stats_totals, Subject.STATS),
    "TOTALS": Show(text("name") + numeric("value"), _totals, Subject.STATS),
}
