"""The results as tables of words, as text for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from pglido.cli.demo import aligned

from .results import BY_METRIC, METRICS, Entry, Ratio, Results
from .scenarios import SCENARIOS, Scenario

FIGURES = (
    *("scenario", "contestant", "per second", "CPU each", "median", "99 %", "99.9 %"),
    *("connecting", "memory", "per idle client"),
)
RATIOS = ("scenario", "pglido", "to", "CPU", "rate", "99 %", "per idle client")
COMPARED = tuple(BY_METRIC[name] for name in ("cpu", "rate", "p99", "per_idle"))

READ = """\
Ratios are pglido's figure divided by the peer's, in the same round: the median of all rounds, and from the
smallest to the largest. Of CPU, latency and memory less than 1 is better for pglido, of the rate more than 1.
! pglido is behind in the median, !! in every round."""
STOOD_IN = "* The peer has no prepared statements in transaction mode: compared with its simple queries."


def figures(results: Results) -> list[list[str]]:
    """The table of medians, its head first; a row for each contestant in each scenario."""
    rows = [list(FIGURES)]
    for scenario in results.scenarios:
        for entry in results.entries:
            row = _figures(results, scenario, entry)
            if row:
                rows.append([scenario.name, entry.name, *row])
    return rows


def _figures(results: Results, scenario: Scenario, entry: Entry) -> list[str]:
    one = results.typical(scenario.name, entry.name)
    if one is None:
        return []
    unit = "MB" if scenario.unit == "MB" else ""
    return [
        f"{one.rate:,.0f}{f' {unit}' if unit else ''}",
        f"{one.cpu:,.1f} µs{f'/{unit}' if unit else ''}",
        *map(_ms, one.latency or (None, None, None)),
        _ms(one.connecting),
        f"{one.memory / 1e6:,.1f} MB",
        "" if one.per_idle is None else f"{one.per_idle:,.0f} B",
    ]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f} ms"


def ratios(results: Results) -> list[list[str]]:
    """The table of ratios, its head first; a row for each pglido and peer in each scenario."""
    rows = [list(RATIOS)]
    for scenario in results.scenarios:
        for ours, peer in results.pairs:
            found = [results.ratio(scenario, ours, peer, metric) for metric in COMPARED]
            if any(found):
                star = "*" if any(one and one.stand_in for one in found) else ""
                rows.append([scenario.name, ours, peer + star, *map(ratio, found)])
    return rows


def ratio(one: Ratio | None) -> str:
    """`0.85 (0.80 to 0.91) !`"""
    if one is None:
        return ""
    low, high = one.spread
    return f"{one.median:.2f} ({low:.2f} to {high:.2f}) {one.mark}".rstrip()


def failed(results: Results) -> list[list[str]]:
    """What is missing and why, the same reason once; its head first."""
    rows = [["contestant", "scenarios", "why"]]
    grouped: dict[tuple[str, str], list[str]] = {}
    for scenario in results.scenarios:
        for entry in results.entries:
            reason = results.failure(scenario.name, entry.name)
            if reason:
                grouped.setdefault((entry.name, reason), []).append(scenario.name)
    for (name, reason), scenarios in grouped.items():
        rows.append([name, ", ".join(scenarios), " ".join(reason.split())])
    return rows


def stood_in(results: Results) -> bool:
    """Is any ratio one to figures of another scenario?"""
    return any(row[2].endswith("*") for row in ratios(results)[1:])


def terminal(results: Results) -> str:
    """All of it as text."""
    parts = [_block("What was measured, medians of all rounds", _sparse(figures(results)))]
    compared = ratios(results)
    if len(compared) > 1:
        parts += [_block("Compared", _sparse(compared)), READ + (f"\n{STOOD_IN}" if stood_in(results) else "")]
    reasons = failed(results)
    if len(reasons) > 1:
        told = "\n".join(f"  {name}: {scenarios}: {why}" for name, scenarios, why in reasons[1:])
        parts.append(f"Failed, or not possible\n\n{told}")
    parts += results.notes
    return "\n\n".join(parts)


def _block(title: str, table: list[list[str]]) -> str:
    return f"{title}\n\n{aligned(table)}"


def _sparse(table: list[list[str]]) -> list[list[str]]:
    """Without columns that are empty below the head, and with the name of a scenario only where it begins."""
    kept = [number for number in range(len(table[0])) if number < 2 or any(row[number] for row in table[1:])]
    rows = [[row[number] for number in kept] for row in table]
    return [
        rows[0],
        *([("" if row[0] == before[0] else row[0]), *row[1:]] for before, row in pairwise(rows)),
    ]


def as_json(results: Results) -> str:
    """Everything, each round included."""
    return json.dumps(_plain(results), indent=1, ensure_ascii=False) + "\n"


def _plain(results: Results) -> dict[str, Any]:
    return {
        "machine": results.machine,
        "plan": results.plan,
        "contestants": [asdict(entry) for entry in results.entries],
        "notes": results.notes,
        "scenarios": {scenario.name: _scenario(results, scenario) for scenario in results.scenarios},
    }


def _scenario(results: Results, scenario: Scenario) -> dict[str, Any]:
    return {
        "title": scenario.title,
        "unit": scenario.unit,
        "load": asdict(scenario.load),
        "door": asdict(scenario.door),
        "rounds": {
            name: {str(number): asdict(one) for number, one in rounds.items()}
            for name, rounds in results.rounds.get(scenario.name, {}).items()
        },
        "failed": results.failures.get(scenario.name, {}),
        "ratios": [
            {
                "of": ours,
                "to": peer,
                "metric": metric.name,
                "better": metric.better,
                "rounds": found.rounds,
                "median": found.median,
                "spread": found.spread,
                "to_scenario": found.stand_in or scenario.name,
            }
            for ours, peer in results.pairs
            for metric in METRICS
            if (found := results.ratio(scenario, ours, peer, metric))
        ],
    }


def listing(scenarios: Sequence[Scenario] = SCENARIOS) -> str:
    """The names and titles of scenarios."""
    return aligned([["name", "what"], *([scenario.name, scenario.title] for scenario in scenarios)])
