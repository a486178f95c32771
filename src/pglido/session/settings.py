"""The run-time settings of a session as immutable, interned values: equal settings are the same object.

So "does this server fit this client" is one pointer comparison, and the SQL that leads from one to the other is
made once per pair.
"""

import weakref
from collections.abc import Iterable
from functools import lru_cache

from ..wire import messages

# Reported by the server but not to be set: they tell what the server is.
FACTS = frozenset({"server_version", "server_encoding", "is_superuser", "integer_datetimes", "in_hot_standby"})

# The settings that the server reports (protocol chapter "Asynchronous Operations"), as it spells them.
REPORTED = {
    name.lower(): name
    for name in (
        "application_name",
        "client_encoding",
        "DateStyle",
        "default_transaction_read_only",
        "IntervalStyle",
        "scram_iterations",
        "search_path",
        "session_authorization",
        "standard_conforming_strings",
        "TimeZone",
    )
}

# Applied last, for it changes what the others are allowed to do.
LAST = "session_authorization"


class Settings:
    """What a session has set: lower-case name to value. Compare with `is`."""

    __slots__ = ("__weakref__", "values")

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def with_value(self, name: str, value: str) -> "Settings":
        """These settings with one more, or with another value of one."""
        if self.values.get(name) == value:
            return self
        return intern({**self.values, name: value})

    def __repr__(self) -> str:
        return f"<Settings {self.values}>"


_alive: "weakref.WeakValueDictionary[frozenset[tuple[str, str]], Settings]" = weakref.WeakValueDictionary()


def intern(values: dict[str, str]) -> Settings:
    """The one Settings object of these values; names are lower-case."""
    key = frozenset(values.items())
    settings = _alive.get(key)
    if settings is None:
        settings = _alive[key] = Settings(dict(values))
    return settings


def of_pairs(pairs: Iterable[tuple[str, str]]) -> Settings:
    """Settings of a startup packet: the last value of a name counts, names in any case."""
    return intern({name.lower(): value for name, value in pairs})


def literal(text: str) -> str:
    """`text` as an SQL string constant that reads the same whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    if "\\" in quoted:
        return " E'" + quoted.replace("\\", "\\\\") + "'"
    return f"'{quoted}'"


def path_sql(now: Settings, wanted: Settings) -> str:
    """SQL that brings a server from `now` to `wanted`; what `wanted` doesn't name goes back to its default."""
    changes: dict[str, str | None] = {name: None for name in now.values if name not in wanted.values}
    changes |= {name: value for name, value in wanted.values.items() if now.values.get(name) != value}
    names = sorted(changes, key=lambda name: (name == LAST and changes[name] is not None, name != LAST, name))
    calls = []
    for name in names:
        value = changes[name]
        shown = "NULL" if value is None else literal(value)
        calls.append(f"pg_catalog.set_config({literal(name)},{shown},false)")
    return "SELECT " + ",".join(calls)


@lru_cache(maxsize=1024)
def path(now: Settings, wanted: Settings) -> bytes:
    """The Query message that brings a server from `now` to `wanted`."""
    return messages.query(path_sql(now, wanted))


EMPTY = intern({})
