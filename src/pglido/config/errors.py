"""What the operator got wrong, with file, line, key, what was found and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """Where something stands; line 0 means the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Problem(NamedTuple):
    """One thing that is wrong. `found` is a clause ("found ...", "unknown key"); the rest may be empty."""

    place: Place
    key: str
    found: str
    expected: str = ""
    suggestion: str = ""

    @property
    def file(self) -> str:
        """The file it stands in."""
        return self.place.file

    @property
    def line(self) -> int:
        """The line it stands on, from 1; 0 when it is about the file as a whole."""
        return self.place.line

    def __str__(self) -> str:
        parts = [f"{self.place}: "]
        if self.key:
            parts.append(f"{self.key}: ")
        parts.append(self.found)
        if self.expected:
            parts.append(f", expected {self.expected}")
        if self.suggestion:
            parts.append(f'; did you mean "{self.suggestion}"?')
        return "".join(parts)


class ConfigError(Exception):
    """The configuration can't be used; `str()` gives one line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` is most likely a slip of, or an empty string."""
    close = difflib.get_close_matches(word.lower()[:100], list(known), n=1, cutoff=0.7)
    return close[0] if close else ""


def quoted(value: object) -> str:
    """`value` as it would stand in a file, on one line and not too long to read."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in value[:80]) + '"'
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "[" + ", ".join(quoted(item) for item in value[:5]) + (", ..." if len(value) > 5 else "") + "]"
    elif isinstance(value, int) and abs(value) > 10**18:
        text = "a number beyond all bounds"
    else:
        text = str(value)
    return text if len(text) <= 90 else text[:86] + "..."
