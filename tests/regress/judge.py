"""What the outputs of the lanes say about each test: is pglido seen, and if so, is it known why?

* What pglido's client sees must be what a client of PostgreSQL has seen, in any of the direct lanes.
* A test that prints different things without pglido says nothing: it is not counted.
* A difference is known only in the places that its entry in known.toml names.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

CONTEXT = 3  # lines around a difference; a place is looked for in these too
KEYS = {"where", "reason", "unstable", "servers"}


class Kind(Enum):
    """What became of a test; the value is how the report says it."""

    SAME = "the same"
    WAVERING = "differs in one of two replays"
    KNOWN = "known to differ"
    UNSTABLE = "unstable without pglido"
    WRONG = "differs"


class KnownError(ValueError):
    """known.toml is wrong; the text says where."""


@dataclass(frozen=True)
class Known:
    """A difference that is known: in each place where the outputs differ, one of the texts of `where` stands."""

    where: tuple[str, ...]
    reason: str
    unstable: bool = False  # so it does not count
    servers: tuple[int, ...] = ()  # only on these versions; on all if empty

    def explains(self, hunks: Iterable[str], version: int) -> bool:
        """Is this all there is, on this version of PostgreSQL?"""
        if self.servers and version not in self.servers:
            return False
        return all(any(text in hunk for text in self.where) for hunk in hunks)


@dataclass(frozen=True)
class Verdict:
    """What became of one test, why if that is known, and the places where the outputs differ."""

    test: str
    kind: Kind
    reason: str = ""
    hunks: tuple[str, ...] = ()


def read_known(path: Path) -> dict[str, Known]:
    """The known differences by test. Raises KnownError."""
    return {test: _known(test, entry) for test, entry in tomllib.loads(path.read_text()).items()}


def _known(test: str, entry: Mapping[str, Any]) -> Known:
    if unknown := set(entry) - KEYS:
        raise KnownError(f"known.toml, {test}: no such key: {', '.join(sorted(unknown))}")
    if not entry.get("where") or not entry.get("reason"):
        raise KnownError(f"known.toml, {test}: a difference has places (where) and a reason")
    return Known(tuple(entry["where"]), entry["reason"], entry.get("unstable", False), tuple(entry.get("servers", ())))


def judge(test: str, direct: Sequence[str], pooled: Sequence[str], known: Known | None, version: int) -> Verdict:
    """The verdict on one test, from what it printed in each lane."""
    strange = [output for output in pooled if output not in direct]
    if not strange:
        return Verdict(test, Kind.SAME)
    places = [hunks(direct[0], output) for output in strange]
    if known and all(known.explains(each, version) for each in places):
        return Verdict(test, Kind.UNSTABLE if known.unstable else Kind.KNOWN, known.reason, places[0])
    if len(set(direct)) > 1:
        return Verdict(test, Kind.UNSTABLE, "prints different things from one direct lane to the other", places[0])
    if len(strange) < len(pooled):
        return Verdict(test, Kind.WAVERING, hunks=places[0])
    return Verdict(test, Kind.WRONG, hunks=places[-1])


def hunks(one: str, other: str) -> tuple[str, ...]:
    """The places where two outputs differ, each with some lines around it, as in a unified diff."""
    found: list[list[str]] = []
    for line in difflib.unified_diff(one.splitlines(), other.splitlines(), n=CONTEXT, lineterm=""):
        if line.startswith("@@"):
            found.append([line])
        elif found:
            found[-1].append(line)
    return tuple("\n".join(each) for each in found)


def score(verdicts: Sequence[Verdict]) -> tuple[int, int]:
    """How many tests print the same through pglido, and of how many that count."""
    counted = [each for each in verdicts if each.kind is not Kind.UNSTABLE]
    return sum(each.kind is Kind.SAME for each in counted), len(counted)
