"""A configuration while it is being read: the values so far, where each key stands, and what is wrong.

Both readers fill one. Putting a key again replaces its value and its place. Nothing here raises for what an
operator wrote: it becomes a Problem, so that all of them can be told at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from .errors import ConfigError, Place, Problem, nearest
from .model import ADMIN_DATABASES, Config, Database, Settings, User, rows
from .schema import Dialect, Kind, Scope
from .values import InvalidValue, found, read

_SCOPES: tuple[Scope, ...] = ("pglido", "databases", "users")

# No configuration is larger; a device or a log file given by mistake is.
LARGEST_FILE = 16 * 1024 * 1024


class ConfigBuilder:
    """Values by scope, entry and key; `[pglido]` has the one entry ""."""

    def __init__(self, path: str, dialect: Dialect) -> None:
        self.path = path
        self.dialect = dialect
        self.values: dict[Scope, dict[str, dict[str, Any]]] = {scope: {} for scope in _SCOPES}
        self.values["pglido"][""] = {}
        self.places: dict[tuple[str, str, str], Place] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def blame(self, place: Place, key: str, text: str, expected: str = "", suggestion: str = "") -> None:
        """Note something that is wrong."""
        self.problems.append(Problem(place, key, text, expected, suggestion))

    def warn(self, place: Place, key: str, text: str) -> None:
        """Note something that works but should be known."""
        self.warnings.append(str(Problem(place, key, text)))

    def open(self, scope: Scope, entry: str, place: Place, *, anew: bool = False) -> bool:
        """Begin or go on with an entry; `anew` forgets what it held. False if it can't have that name."""
        if scope == "databases" and entry in ADMIN_DATABASES:
            self.blame(place, f"databases.{entry}", "this name belongs to the admin console", "another name")
            return False
        if not entry or "\0" in entry or any("\ud800" <= c <= "\udfff" for c in entry):
            self.blame(place, scope, "found an entry whose name is empty or no text", "a name")
            return False
        if anew and entry in self.values[scope]:
            self.values[scope].pop(entry, None)
            for known in [mark for mark in self.places if mark[:2] == (scope, entry)]:
                del self.places[known]
        self.values[scope].setdefault(entry, {})
        self.places[scope, entry, ""] = place
        return True

    def put(
        self, scope: Scope, entry: str, key: str, raw: Any, place: Place, *, shown: Any = None,
        resolve: Callable[[str], str] = os.path.abspath,
    ) -> None:
        """Set a key of an entry that is open. `shown` is what stands in the file, where `raw` was expanded;
        `resolve` makes the path of a file absolute."""
        field = rows(scope).get(key)
        if field is None:
            self._unknown(scope, entry, key, place)
            return
        try:
            value = read(field, raw, self.dialect)
        except InvalidValue as misfit:
            clause = found(field, raw if shown is None else shown)
            self.blame(place, name_of(scope, entry, key), clause, misfit.expected, misfit.suggestion)
            return
        if field.kind is Kind.PATH and value:
            value = resolve(value)
        self.values[scope][entry][key] = value
        self.places[scope, entry, key] = place

    def _unknown(self, scope: Scope, entry: str, key: str, place: Place) -> None:
        name = name_of(scope, entry, key)
        elsewhere = [other for other in _SCOPES if other != scope and key in rows(other)]
        suggestion = nearest(key, rows(scope))
        if scope == "pglido" and (field := rows("databases").get(key)) and field.overrides:
            suggestion = field.overrides
        if elsewhere and not suggestion:
            self.blame(place, name, f"unknown key here; it belongs in {self._title(elsewhere[0])}")
            return
        self.blame(place, name, "unknown key", f"a key of {self._title(scope)}", suggestion)

    def _title(self, scope: Scope) -> str:
        if self.dialect is Dialect.INI:
            return "[pgbouncer]" if scope == "pglido" else f"[{scope}]"
        return "[pglido]" if scope == "pglido" else f"[{scope}.NAME]"

    def place(self, scope: Scope, entry: str = "", key: str = "") -> Place:
        """Where a key stands; if it isn't in a file, where its entry does, else the file as a whole."""
        return (
            self.places.get((scope, entry, key)) or self.places.get((scope, entry, "")) or Place(self.path)
        )

    def config(self) -> Config:
        """The configuration with the defaults of the dialect; ConfigError if there are problems."""
        if self.problems:
            raise ConfigError(self.problems)
        return Config(
            path=self.path,
            dialect=self.dialect,
            settings=msgspec.structs.replace(defaults(self.dialect), **self.values["pglido"][""]),
            databases={name: Database(**values) for name, values in self.values["databases"].items()},
            users={name: User(**values) for name, values in self.values["users"].items()},
            warnings=tuple(self.warnings),
        )


def defaults(dialect: Dialect) -> Settings:
    """The global settings of an empty file: pglido's own, or PgBouncer's."""
    if dialect is Dialect.TOML:
        return Settings()
    return Settings(**{name: field.ini_default for name, field in rows().items()})


def name_of(scope: Scope, entry: str, key: str) -> str:
    """How a key is called in messages: `pool_mode`, `databases.app.pool_mode`."""
    return ".".join(part for part in (scope, entry, key) if part) if scope != "pglido" else key


def read_file(path: str) -> bytes:
    """The bytes of a configuration file; OSError or ValueError, with a text to show, if there are none."""
    with open(path, "rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"is larger than {LARGEST_FILE >> 20} MB")
    return data


