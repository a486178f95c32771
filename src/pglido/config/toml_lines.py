"""Find the line of every key in a TOML text that tomllib has accepted, which tells values but no places."""

from __future__ import annotations

import re
import tomllib

Path = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRINGS = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[Path, int]:
    """Line, from 1, of each table and key by its full path. Keys inside arrays are left out.

    `text` must be valid TOML; for anything else the answer is of no use, but there is one.
    """
    return _Scan(text.replace("\r\n", "\n")).run()


class _Scan:
    """A position in the text, and what was found up to there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.counted = 0
        self.found: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return self.found
            start = self.at
            if self.text[self.at] == "[":
                self.at += 2 if self.text.startswith("[[", self.at) else 1
                table = self._key()
                self._note_all(table, 0, start)
                self.at = self._end_of_line()
            else:
                self._pair(table)
            if self.at == start:
                self.at += 1

    def _pair(self, prefix: Path) -> None:
        self._skip(_SPACE)
        start = self.at
        path = prefix + self._key()
        self._note_all(path, len(prefix), start)
        self._skip(_SPACE)
        if self.text.startswith("=", self.at):
            self.at += 1
        self._value(path)

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            if bare := _BARE_KEY.match(self.text, self.at):
                parts.append(bare[0])
                self.at = bare.end()
            elif string := _STRINGS.match(self.text, self.at):
                parts.append(_unquoted(string[0]))
                self.at = string.end()
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _value(self, path: Path | None) -> None:
        """Pass over a value; note the keys of an inline table, unless it stands in an array (`path` None)."""
        depth: list[str] = []
        prefixes: list[Path | None] = [path]
        self._skip(_SPACE)
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in "[{":
                depth.append(char)
                prefixes.append(prefixes[-1] if char == "{" else None)
                self.at += 1
                self._inside(depth, prefixes)
            elif char in "]}" and depth:
                depth.pop()
                prefixes.pop()
                self.at += 1
            elif char == "," and depth:
                self.at += 1
                self._inside(depth, prefixes)
            elif string := _STRINGS.match(self.text, self.at):
                self.at = string.end()
            else:
                self.at = max(_end(_BARE_VALUE, self.text, self.at), self.at + (1 if depth else 0))
            if not depth:
                return
            self._skip(_BLANK)

    def _inside(self, depth: list[str], prefixes: list[Path | None]) -> None:
        """After `{` or a comma in an inline table: read the key of the next value."""
        self._skip(_BLANK)
        if depth[-1] != "{" or self.text.startswith("}", self.at):
            return
        start = self.at
        key = self._key()
        prefix = prefixes[-1]
        if prefix is not None:
            self._note_all(prefix + key, len(prefix), start)
        self._skip(_SPACE)
        if self.text.startswith("=", self.at):
            self.at += 1
        self._skip(_SPACE)
        if self.text.startswith("{", self.at) and prefix is not None:
            prefixes.append(prefix + key)
            depth.append("{")
            self.at += 1
            self._inside(depth, prefixes)

    def _note_all(self, path: Path, known: int, position: int) -> None:
        """Note a dotted key: its first `known` parts are there already, the others are new here."""
        for depth in range(known + 1, len(path) + 1):
            self._note(path[:depth], position)

    def _note(self, path: Path, position: int) -> None:
        self.line += self.text.count("\n", self.counted, position)
        self.counted = position
        self.found.setdefault(path, self.line)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self.at = _end(pattern, self.text, self.at)

    def _end_of_line(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _unquoted(token: str) -> str:
    try:
        return str(tomllib.loads(f"k = {token}")["k"])
    except ValueError:
        return token
