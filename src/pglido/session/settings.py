"""The run-time settings of a session as immutable, interned values: equal settings are the same object.

So "does this server fit this client" is one pointer comparison, and the SQL that leads from one to the other is
made once per pair.
"""

import codecs
import weakref
from collections.abc import Iterable
from functools import lru_cache

from ..wire import messages

# PostgreSQL's encodings that Python knows by another name (PostgreSQL manual, "Character Set Support").
CODECS = {
    "SQLASCII": "latin-1",
    "UNICODE": "utf-8",
    "EUCJIS2004": "euc_jis_2004",
    "EUCTW": "latin-1",
    "MULEINTERNAL": "latin-1",
    "SJIS": "cp932",
    "SHIFTJIS2004": "shift_jis_2004",
    "UHC": "cp949",
    **{f"LATIN{n}": f"iso8859-{part}" for n, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)},
    **{f"WIN{page}": f"cp{page}" for page in (866, 874, *range(1250, 1259))},
}

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

# Those that every supported version reports.
ALWAYS_REPORTED = frozenset(REPORTED) - {"default_transaction_read_only", "scram_iterations", "search_path"}

# The settings that decide what the text of a statement means when it is parsed.
DIALECT = (
    "array_nulls",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "lc_monetary",
    "standard_conforming_strings",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
)

# Applied last, for it changes what the others are allowed to do.
LAST = "session_authorization"


class Settings:
    """What a session has set: lower-case name to value. Compare with `is`."""

    __slots__ = ("__weakref__", "dialect", "values")

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values
        self.dialect = tuple([(name, values[name]) for name in DIALECT if name in values])

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
def path(now: Settings, wanted: Settings) -> tuple[bytes, int]:
    """The messages that bring a server from `now` to `wanted`, and how many Query messages they are.

    The server reads a Query in the encoding of its session, so that text beyond ASCII needs one in front.
    """
    sql = path_sql(now, wanted)
    if sql.isascii():
        return messages.query(sql), 1
    if "client_encoding" not in wanted.values:
        sql += ",pg_catalog.set_config('client_encoding',NULL,false)"
    elif now.values.get("client_encoding") == wanted.values["client_encoding"]:
        sql += f",pg_catalog.set_config('client_encoding',{literal(wanted.values['client_encoding'])},false)"
    return messages.query("SET client_encoding TO 'UTF8'") + messages.query(sql), 2


def doubted(settings: Settings) -> Settings:
    """Settings of a session in which any of these may be back at its default: what isn't reported will be set again."""
    return Settings({name: value if name in ALWAYS_REPORTED else "\0" for name, value in settings.values.items()})


def codec(client_encoding: str) -> str:
    """Python's name of a PostgreSQL encoding; bytes without a meaning of their own are read as Latin-1."""
    name = client_encoding.upper().replace("-", "").replace("_", "")
    found = CODECS.get(name, name.lower())
    try:
        return codecs.lookup(found).name
    except (LookupError, ValueError):
        return "latin-1"


EMPTY = intern({})
