"""The run-time settings of a session as immutable, interned values: equal settings are the same object.

So "does this server fit this client" is one pointer comparison, and the SQL that leads from one to the other is
made once per pair.
"""

import weakref
from collections.abc import Iterable

from ...cache import Cache
from ...protocol import messages
from ...sql.tokens import identifier

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

# Who the session is: they change what it may set besides, and the first takes the second back.
IDENTITY = ("session_authorization", "role")

# The settings that decide what the text of a statement means when it is parsed; "$user" is in most search paths.
DIALECT = (
    *IDENTITY,
    "array_nulls",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "lc_monetary",
    "search_path",
    "standard_conforming_strings",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
)

# No server lists these among its settings.
UNLISTED = frozenset(IDENTITY)

# What ends with the transaction although SET takes it for the session's, or can't be read.
PASSING = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable", "seed"})

# Settings that could make the queries by which settings are set fail or wait: they are set to this first.
HINDERING = {"statement_timeout": "0", "transaction_timeout": "0", "default_transaction_deferrable": "off"}

# The server may be set to compile what takes no time to run.
UNCOMPILED = "SET LOCAL jit TO off;"

# What leads to or from settings with more characters than this is not worth keeping. What is kept of all: bytes, ways.
LARGE = 8192
KEPT_BYTES = 8 << 20
KEPT = 4096
# Bytes of a name or value besides its own.
BARE = 80

# How many columns one SELECT asks for; PostgreSQL takes up to 1664 (MaxTupleAttributeNumber).
COLUMNS = 1000

# Encodings in which a byte of a character may look like a quote, a backslash or a letter.
ODD_ENCODINGS = frozenset({"SJIS", "SHIFTJIS2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB"})


class SessionParameters:
    """What a session has set: `values` by lower-case name, and what it has `prepared` by SQL. Compare with `is`.

    `odd`: text must be read with care, for bytes may not be what they seem; `own_temp`: new objects may be temporary
    without a word; `size`: bytes in memory, about; `large`: what leads to or from them is not worth keeping; `hasty`:
    a server that rests with these ends by itself.
    """

    __slots__ = (
        "__weakref__",
        "dialect",
        "hasty",
        "large",
        "odd",
        "own_temp",
        "prepared",
        "prepared_names",
        "size",
        "values",
    )

    def __init__(self, values: dict[str, str], prepared: dict[str, str]) -> None:
        self.values = values
        self.prepared = prepared
        self.prepared_names = frozenset([name.encode() for name in prepared])
        self.dialect = tuple([(name, values[name]) for name in DIALECT if name in values])
        encoding = plain_name(values.get("client_encoding", ""))
        self.odd = values.get("standard_conforming_strings", "on") != "on" or encoding in ODD_ENCODINGS
        self.own_temp = "pg_temp" in values.get("search_path", "")
        self.hasty = values.get("idle_session_timeout", "0") != "0"
        texts = [*values, *values.values(), *prepared, *prepared.values()]
        self.size = sum(map(len, texts)) + BARE * len(texts)
        self.large = self.size > LARGE + BARE * len(texts)

    def with_value(self, name: str, value: str) -> "SessionParameters":
        """These settings with one more, or with another value of one."""
        if self.values.get(name) == value:
            return self
        return intern({**self.values, name: value}, self.prepared)

    def without_value(self, name: str) -> "SessionParameters":
        """These settings without one, which goes to its default."""
        return intern({one: value for one, value in self.values.items() if one != name}, self.prepared)

    def without(self, statement: bytes) -> "SessionParameters":
        """The same where a statement is not prepared."""
        prepared = {name: text for name, text in self.prepared.items() if name.encode() != statement}
        return intern(self.values, prepared)

    def __repr__(self) -> str:
        return f"<SessionParameters {self.values}>"


Key = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]
_alive: "weakref.WeakValueDictionary[Key, SessionParameters]" = weakref.WeakValueDictionary()
NO_STATEMENTS: dict[str, str] = {}


def intern(values: dict[str, str], prepared: dict[str, str] = NO_STATEMENTS) -> SessionParameters:
    """The one SessionParameters object of these values, by lower-case name, and of texts of PREPARE by name."""
    key = frozenset(values.items()), frozenset(prepared.items())
    settings = _alive.get(key)
    if settings is None:
        settings = _alive[key] = SessionParameters(dict(values), dict(prepared))
    return settings


def of_pairs(pairs: Iterable[tuple[str, str]]) -> SessionParameters:
    """Settings of a startup packet: the last value of a name counts, names in any case."""
    return intern({name.lower(): value for name, value in pairs})


def literal(text: str) -> str:
    """SQL for `text`, as the database has it, that reads the same whatever settings say.

    Of what is beyond ASCII the bytes come in hexadecimal digits, which no encoding changes.
    """
    if not text.isascii():
        digits = text.encode("utf-8", messages.ESCAPE).hex()
        return f"pg_catalog.convert_from(pg_catalog.decode('{digits}','hex'),pg_catalog.getdatabaseencoding())"
    quoted = text.replace("'", "''")
    if "\\" in quoted:
        return " E'" + quoted.replace("\\", "\\\\") + "'"
    return f"'{quoted}'"


def path_sql(now: SessionParameters, wanted: SessionParameters) -> str:
    """SQL that brings a server from `now` to `wanted`, maybe none; what `wanted` doesn't name goes to its default."""
    changes: dict[str, str | None] = {name: None for name in now.values if name not in wanted.values}
    changes |= {name: value for name, value in wanted.values.items() if now.values.get(name) != value}
    if not changes:
        return ""
    # As who the server logged in it may set whatever this client could; what it may not keeps its client (see
    # `session_state`).
    steps: list[tuple[str, str | None]] = [(name, None) for name in reversed(IDENTITY) if name in now.values]
    steps += [(name, changes[name]) for name in sorted(changes) if name not in UNLISTED]
    steps += [(name, wanted.values[name]) for name in IDENTITY if name in wanted.values]
    calls = []
    for name, value in steps:
        shown = "NULL" if value is None else literal(value)
        calls.append(f"pg_catalog.set_config({literal(name)},{shown},false)")
    parts = [calls[at : at + COLUMNS] for at in range(0, len(calls), COLUMNS)]
    return ";".join(["SELECT " + ",".join(part) for part in parts])


def path(now: SessionParameters, wanted: SessionParameters) -> tuple[bytes, int, int]:
    """The way from `now` to `wanted` (see `_path`); lately used ones are remembered."""
    if now.large or wanted.large:
        return _path(now, wanted)
    found: tuple[bytes, int, int] | None = _remembered.get((now, wanted))
    if found is None:
        found = _path(now, wanted)
        _remembered.put((now, wanted), found, len(found[0]) + now.size + wanted.size)
    return found


def _path(now: SessionParameters, wanted: SessionParameters) -> tuple[bytes, int, int]:
    """The messages that bring a server from `now` to `wanted`; how many Query messages must work, and how many may not.

    What was set there to cut queries short needs one in front. A statement that can't be prepared any more is missed
    where it is executed.
    """
    sent = b""
    count = 0
    eased = {name: value for name, value in HINDERING.items() if now.values.get(name, value) != value}
    sql = path_sql(now, wanted)
    if sql and eased:
        sql = path_sql(SessionParameters({**now.values, **eased}, now.prepared), wanted)
        sent = messages.query(";".join([f"SET {name} TO {value}" for name, value in eased.items()]))
        count = 1
    if sql:
        sent += messages.query(UNCOMPILED + sql)
        count += 1
    gone = [name for name, text in now.prepared.items() if wanted.prepared.get(name) != text]
    new = [name for name, text in wanted.prepared.items() if now.prepared.get(name) != text]
    tries = [f"DEALLOCATE {identifier(name.encode()).decode()}" for name in gone]
    tries += [wanted.prepared[name] for name in new]
    return sent + b"".join([messages.query(text) for text in tries]), count, len(tries)


_remembered = Cache(KEPT_BYTES, KEPT)


def unverified_copy(settings: SessionParameters) -> SessionParameters:
    """Settings of a session in which any of these may be back at its default: what isn't reported will be set again."""
    values = {name: value if name in ALWAYS_REPORTED else "\0" for name, value in settings.values.items()}
    return SessionParameters(values, settings.prepared)


def plain_name(client_encoding: str) -> str:
    """The name of an encoding without what may be written in several ways."""
    return client_encoding.upper().replace("-", "").replace("_", "")


EMPTY = intern({})
