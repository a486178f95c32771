"""Verdicts as text: what differs and why, the score."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from .judge import Kind, Verdict, score

WIDTH = 110
SHOWN = {Kind.WRONG: 60, Kind.WAVERING: 20, Kind.KNOWN: 14}  # lines of a test's differences, if they are shown


def terminal(verdicts: Sequence[Verdict], floor: float) -> str:
    """All that a person wants to know; what is wrong comes last."""
    lines: list[str] = []
    for kind in (Kind.UNSTABLE, Kind.KNOWN, Kind.WAVERING, Kind.WRONG):
        for verdict in verdicts:
            if verdict.kind is kind:
                lines += [*_told(verdict), ""]
    same, counted = score(verdicts)
    unstable = len(verdicts) - counted
    lines.append(
        f"{same} of {counted} tests print the same through pglido: {share(verdicts):.1f} %, the floor is {floor:.1f} %"
        + (f"; {unstable} unstable without pglido not counted" if unstable else "")
    )
    if wrong := names(verdicts, Kind.WRONG):
        lines.append(f"Differ, and it is not known why: {wrong}")
    return "\n".join(lines)


def _told(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.test}: {verdict.kind.value}"
    if verdict.reason:
        yield textwrap.fill(" ".join(verdict.reason.split()), WIDTH, initial_indent="    ", subsequent_indent="    ")
    limit = SHOWN.get(verdict.kind, 0)
    lines = [line for hunk in verdict.hunks for line in hunk.splitlines()]
    if limit:
        yield from (f"      {line}" for line in lines[:limit])
        if len(lines) > limit:
            yield f"      ... {len(lines) - limit} lines more"


def share(verdicts: Sequence[Verdict]) -> float:
    """The score in percent; 100 if nothing counts."""
    same, counted = score(verdicts)
    return 100 * same / counted if counted else 100.0


def names(verdicts: Sequence[Verdict], kind: Kind) -> str:
    """The tests with this kind of verdict, in their order."""
    return " ".join(verdict.test for verdict in verdicts if verdict.kind is kind)
