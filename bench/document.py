"""The results as a section of a Markdown document, between two marks that stay."""

from __future__ import annotations

import os
from pathlib import Path

from . import report
from .results import Results

BEGIN, END = "<!-- run -->", "<!-- end of run -->"


def check(file: Path) -> None:
    """Raise ValueError if a run can't be put into this file: it is there, and has no marks."""
    if file.exists():
        _parts(file.read_text(), str(file))


def write(file: Path, results: Results, svg: Path | None = None) -> None:
    """Replace what is between the marks, or make the file. Raises ValueError where the marks are missing."""
    text = file.read_text() if file.exists() else f"{BEGIN}\n{END}\n"
    before, after = _parts(text, str(file))
    picture = os.path.relpath(svg, file.parent) if svg else ""
    file.write_text(f"{before}{BEGIN}\n\n{section(results, picture)}\n{END}{after}")


def _parts(text: str, name: str) -> tuple[str, str]:
    """What stands before the first mark and after the second."""
    before, begins, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not begins or not ends:
        raise ValueError(f"{name} has no {BEGIN} with {END} after it")
    return before, after


def section(results: Results, picture: str = "") -> str:
    """A dated run: the machine, the plot, the ratios, the figures, what is missing."""
    machine = results.machine
    rest = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "date")
    plan = results.plan
    parts = [
        f"### {machine.get('date', 'Undated')}",
        f"{rest}.",
        "\n".join(f"- {entry.name}: {entry.version}" for entry in results.entries),
        f"{plan.get('rounds', 0)} rounds of {plan.get('seconds', 0)} s for each figure, "
        f"{plan.get('copied_bytes', 0) / 1e6:,.0f} MB of COPY, pools of {plan.get('pool', 0)}.",
    ]
    if picture:
        parts.append(f"![Ratios of CPU per transaction and of transactions per second]({picture})")
    compared = report.ratios(results)
    if len(compared) > 1:
        parts += [_behind(results), "#### Ratios", _table(compared), report.READ]
        if report.stood_in(results):
            parts.append("\\" + report.STOOD_IN)
    parts += ["#### Medians", _table(report.figures(results))]
    reasons = report.failed(results)
    if len(reasons) > 1:
        parts += ["#### Failed, or not possible", _table(reasons)]
    return "\n\n".join([*parts, *results.notes]) + "\n"


def _behind(results: Results) -> str:
    """Where pglido loses, a line for each figure of each pair."""
    lines = []
    for ours, peer in results.pairs:
        for metric in report.COMPARED:
            found = [(each.name, results.ratio(each, ours, peer, metric)) for each in results.scenarios]
            lost = [f"{name} {one.median:.2f}{one.mark}" for name, one in found if one and one.mark]
            if lost:
                lines.append(f"- {ours} to {peer}, {metric.title}: {', '.join(lost)}")
    return "\n".join(["Where pglido is behind:", "", *lines]) if lines else "pglido is behind nowhere in this run."


def _table(rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    kept = [number for number in range(len(cells[0])) if any(row[number] for row in cells[1:])]
    lines = [f"| {' | '.join(row[number] for number in kept)} |" for row in cells]
    return "\n".join([lines[0], f"|{'---|' * len(kept)}", *lines[1:]])
