"""Read pglido's own configuration: `[pglido]`, `[databases.NAME]`, `[users.NAME]` and `include` in TOML.

Included files come first, in their order, and the file that includes them has the last word, key by key.
Any text may hold `${NAME}` or `${NAME:-default}` from the environment; `$$` is a dollar sign, and a dollar in
front of anything else stands for itself. A path is relative to the file it stands in.
"""

from __future__ import annotations

import glob
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from .builder import ConfigBuilder, read_file
from .errors import Place, nearest, quoted
from .model import rows
from .schema import Scope
from .toml_lines import lines_of

# Deep enough for any tree of files; a file that includes itself is told earlier.
DEEPEST_INCLUDE = 10

_VARIABLE = re.compile(r"\$(?:(\$)|\{([^}]*)(\}?))")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")
_SECTIONS: dict[str, Scope] = {"databases": "databases", "users": "users"}
_TOP = ("pglido", "databases", "users", "include")


class _Unset(ValueError):
    """A variable that can't be had; the text says which and why."""


def read_toml(draft: ConfigBuilder, path: str, environ: Mapping[str, str], chain: tuple[str, ...] = ()) -> None:
    """Read the file `path` and what it includes into the draft."""
    try:
        data = read_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        draft.blame(Place(path), "", f"can't be read: {reason}")
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        draft.blame(Place(path, line), "", f"found the byte 0x{data[error.start]:02x}", "UTF-8")
        return
    read_text(draft, path, text, environ, chain)


def read_text(
    draft: ConfigBuilder, path: str, text: str, environ: Mapping[str, str], chain: tuple[str, ...] = ()
) -> None:
    """Read `text` as the content of `path`; `chain` is the files that include it."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = _AT_LINE.search(message)
        line = int(at[1]) if at else text.count("\n") + 1
        draft.blame(Place(path, line), "", f"not TOML: {_AT_LINE.sub('', message)}")
        return
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number beyond all bounds"
        draft.blame(Place(path), "", f"not TOML: {reason}")
        return
    _File(draft, path, lines_of(text), environ).read(tree, chain)


class _File:
    """One file on its way into the draft."""

    def __init__(
        self, draft: ConfigBuilder, path: str, lines: Mapping[tuple[str, ...], int], environ: Mapping[str, str]
    ) -> None:
        self.draft = draft
        self.path = path
        self.lines = lines
        self.environ = environ
        self.directory = os.path.dirname(os.path.abspath(path))

    def place(self, *keys: str) -> Place:
        """Where a key stands, or the nearest table around it."""
        for depth in range(len(keys), 0, -1):
            if (line := self.lines.get(keys[:depth])) is not None:
                return Place(self.path, line)
        return Place(self.path)

    def read(self, tree: dict[str, Any], chain: tuple[str, ...]) -> None:
        if "include" in tree:
            self._include(tree["include"], chain)
        for key, value in tree.items():
            if key not in _TOP:
                self._stray(key, value)
            elif key == "pglido":
                if self._is_table(value, "[pglido]", key):
                    self._entry("pglido", "", ("pglido",), value)
            elif key in _SECTIONS and self._is_table(value, f"[{key}.NAME]", key):
                for name, entry in value.items():
                    self._named(_SECTIONS[key], name, entry)

    def _named(self, scope: Scope, name: str, entry: Any) -> None:
        place = self.place(scope, name)
        if not self._is_table(entry, f"a table [{scope}.{name}]", scope, name):
            return
        if self.draft.open(scope, name, place):
            self._entry(scope, name, (scope, name), entry)

    def _is_table(self, value: Any, expected: str, *keys: str) -> bool:
        if isinstance(value, dict):
            return True
        self.draft.blame(self.place(*keys), ".".join(keys), f"found {quoted(value)}", expected)
        return False

    def _stray(self, key: str, value: Any) -> None:
        if key in rows():
            self.draft.blame(self.place(key), key, "found outside of any table", "it in [pglido]")
        else:
            tables = "[pglido], [databases.NAME], [users.NAME] or include"
            self.draft.blame(self.place(key), key, "unknown key", tables, nearest(key, _TOP))

    def _entry(self, scope: Scope, name: str, keys: tuple[str, ...], table: dict[str, Any]) -> None:
        for key, raw in table.items():
            place = self.place(*keys, key)
            if isinstance(raw, dict) and key not in rows(scope):
                hint = f'; a name with dots needs quotes: [{scope}."{name}.{key}"]' if name else ""
                self.draft.blame(place, ".".join((*keys, key)), f"found a table{hint}", "a key with a value")
                continue
            try:
                value = expand(raw, self.environ)
            except _Unset as error:
                self.draft.blame(place, ".".join((*keys, key)), str(error))
                continue
            self.draft.put(scope, name, key, value, place, shown=raw, resolve=self._resolve)

    def _resolve(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.directory, path))

    def _include(self, raw: Any, chain: tuple[str, ...]) -> None:
        place = self.place("include")
        patterns = [raw] if isinstance(raw, str) else raw
        if not isinstance(patterns, list) or not all(isinstance(item, str) for item in patterns):
            self.draft.blame(place, "include", f"found {quoted(raw)}", "a list of file names")
            return
        chain = (*chain, os.path.realpath(self.path))
        for pattern in patterns:
            try:
                full = self._resolve(expand(pattern, self.environ))
            except _Unset as error:
                self.draft.blame(place, "include", str(error))
                continue
            names = sorted(glob.glob(full)) if glob.has_magic(full) and "\0" not in full else [full]
            for name in names:
                if "\0" not in name and os.path.realpath(name) in chain:
                    self.draft.blame(place, "include", f"the file {name} includes itself")
                elif len(chain) >= DEEPEST_INCLUDE:
                    self.draft.blame(place, "include", f"more than {DEEPEST_INCLUDE} files deep")
                elif "\0" not in name and not os.path.exists(name):
                    self.draft.blame(place, "include", f"there is no file {name}")
                else:
                    read_toml(self.draft, name, self.environ, chain)


def expand(raw: Any, environ: Mapping[str, str]) -> Any:
    """`raw` with the variables replaced in every text; ValueError for one that is not set or has no name."""
    if isinstance(raw, list):
        return [expand(item, environ) for item in raw]
    if not isinstance(raw, str) or "$" not in raw:
        return raw

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        name = _NAME.fullmatch(match[2]) if match[3] else None
        if name is None:
            raise _Unset(f'found {quoted(match[0])}, expected ${{NAME}}; write "$$" for a dollar sign')
        known = environ.get(name[1])
        if known is None and name[2] is None:
            raise _Unset(f"the environment variable {name[1]} is not set")
        return name[2] or "" if known is None else known

    return _VARIABLE.sub(value, raw)
