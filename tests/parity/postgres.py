"""A model of one PostgreSQL session: enough of the protocol to say what a client must see.

It answers bytes to bytes, at once and in order. Its SQL is a handful of statements that each do one thing:

    begin, commit, rollback     select WORD | select $1     rows N       big N        notice WORD
    error (refused by Parse)    fail (refused by Execute)   copy in      copy out     (an empty query)
    set NAME WORD               show NAME                   deallocate all    discard all    reset all

Settings are transactional and reported before ReadyForQuery, as PostgreSQL 14 and later do.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .frontend import complete, message, split

# lower-case name: how it is reported, and what it is when nobody has set it.
DEFAULTS = {
    "application_name": ("application_name", ""),
    "datestyle": ("DateStyle", "ISO, MDY"),
    "timezone": ("TimeZone", "UTC"),
}
# How the pooler's own queries begin.
UNCOMPILED = "SET LOCAL jit TO off;"
_SET_CONFIG = re.compile(r"pg_catalog\.set_config\('(\w+)',(NULL|'([^']*)'),false\)")
_ENDS = ("commit", "rollback")


class Refused(Exception):
    """An error of the server's."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


def report(sqlstate: str, text: str, kind: str = "E") -> bytes:
    """An ErrorResponse, or (N) a NoticeResponse."""
    severity = "ERROR" if kind == "E" else "NOTICE"
    body = f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0".encode()
    return message(kind, body)


def tag(text: str) -> bytes:
    """A CommandComplete."""
    return message("C", text.encode() + b"\0")


def row(value: bytes) -> bytes:
    """A DataRow of one column."""
    return message("D", struct.pack("!hi", 1, len(value)) + value)


ROW_DESCRIPTION = message("T", b"\0\1column\0" + bytes(18))


@dataclass
class Portal:
    """A bound statement; `done` rows of it were fetched."""

    sql: str
    values: tuple[bytes, ...] = ()
    done: int = 0


@dataclass
class Postgres:
    """One session; `start` is what its startup packet set, by lower-case name."""

    start: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pending = bytearray()
        self.prepared: dict[str, str] = {}
        self.unnamed: str | None = None
        self.portals: dict[str, Portal] = {}
        self.status = "I"
        self.skipping = False
        self.copying = ""  # by which protocol, Q or E
        self.ended = False
        self.settings = {name: self.start.get(name, value) for name, (_, value) in DEFAULTS.items()}
        self.reported = dict(self.settings)
        self.before = dict(self.settings)
        self.queries: list[str] = []  # that were executed, each once
        self.parses = 0
        self._discarded = False
        # Something was asked that no pooler can answer alike: a default that differs, before ReadyForQuery.
        self.beyond = False

    def reset_value(self, name: str) -> str:
        """What RESET makes of a setting."""
        return self.start.get(name, DEFAULTS[name][1])

    def feed(self, data: bytes) -> bytes:
        """What the session answers to these bytes."""
        self.pending += data
        end = complete(self.pending)
        whole = bytes(self.pending[:end])
        del self.pending[:end]
        return b"".join(part for kind, body in split(whole) for part in self._one(kind, body))

    def _one(self, kind: str, body: bytes) -> Iterator[bytes]:
        if self.ended:
            return
        if self.copying:
            yield from self._copied(kind, body)
            return
        if self.skipping and kind not in "SX":
            return
        try:
            yield from STEPS[kind](self, body)
        except Refused as error:
            yield from self._error(error, kind)

    def _error(self, error: Refused, kind: str) -> Iterator[bytes]:
        yield report(error.sqlstate, str(error))
        self._rolled_back()
        if self.status != "I":
            self.status = "E"
        if kind in "QF":
            yield self._ready()
        else:
            self.skipping = True

    def _ready(self) -> bytes:
        if self.status == "I":
            self._committed()
        self._discarded = False
        changed = [name for name, value in self.settings.items() if self.reported[name] != value]
        self.reported = dict(self.settings)
        told = (f"{DEFAULTS[name][0]}\0{self.settings[name]}\0".encode() for name in changed)
        return b"".join(message("S", body) for body in told) + message("Z", self.status.encode())

    def _committed(self) -> None:
        self.portals.clear()
        self.before = dict(self.settings)

    def _rolled_back(self) -> None:
        self.portals.clear()
        self.settings = dict(self.before)

    # The simple protocol.

    def _query(self, body: bytes) -> Iterator[bytes]:
        self.unnamed = None
        sql = _plain(body[:-1])
        statements = [sql] if sql.startswith("SELECT pg_catalog.") else sql.split(";")
        statements = [part.strip() for part in statements]
        if "error" in statements:
            raise Refused("42601", 'syntax error at or near "error"')
        if not any(statements):
            yield message("I")
        for one in statements:
            if one:
                if one == "discard all" and len(statements) > 1:
                    raise Refused("25001", "DISCARD ALL cannot run inside a transaction block")
                self._allowed(one)
                shows = self._shows(one)
                if shows:
                    yield ROW_DESCRIPTION
                yield from self._run(Portal(one), 0)
                if self.copying:
                    self.copying = "Q"
                    return
        yield self._ready()

    def _call(self, body: bytes) -> Iterator[bytes]:
        if self.status == "E":
            self._allowed("call")
        yield message("V", struct.pack("!i", 4) + body[:4])
        yield self._ready()

    # The extended protocol.

    def _parse(self, body: bytes) -> Iterator[bytes]:
        name, text, _ = body.split(b"\0", 2)
        sql = _plain(text)
        if not name:
            self.unnamed = None
        self.parses += 1
        if sql == "error":
            raise Refused("42601", 'syntax error at or near "error"')
        if sql:
            # The empty query may be parsed even in a failed transaction, though not bound.
            self._allowed(sql)
        if not name:
            self.unnamed = sql
        elif name.decode() in self.prepared:
            raise Refused("42P05", f'prepared statement "{name.decode()}" already exists')
        else:
            self.prepared[name.decode()] = sql
        yield message("1")

    def _statement(self, name: str) -> str:
        if not name:
            if self.unnamed is None:
                raise Refused("26000", "unnamed prepared statement does not exist")
            return self.unnamed
        if name not in self.prepared:
            raise Refused("26000", f'prepared statement "{name}" does not exist')
        return self.prepared[name]

    def _portal(self, name: str) -> Portal:
        if name not in self.portals:
            raise Refused("34000", f'portal "{name}" does not exist')
        return self.portals[name]

    def _bind(self, body: bytes) -> Iterator[bytes]:
        portal, statement, rest = (*body.split(b"\0", 2),)
        sql = self._statement(statement.decode())
        values = _values(rest)
        if len(values) != sql.count("$"):
            raise Refused(
                "08P01",
                f"bind message supplies {len(values)} parameters, but prepared statement "
                f'"{statement.decode()}" requires {sql.count("$")}',
            )
        self._allowed(sql)
        if portal and portal.decode() in self.portals:
            raise Refused("42P03", f'cursor "{portal.decode()}" already exists')
        self.portals[portal.decode()] = Portal(sql, values)
        yield message("2")

    def _describe(self, body: bytes) -> Iterator[bytes]:
        name = body[1:-1].decode()
        sql = self._statement(name) if body[:1] == b"S" else self._portal(name).sql
        # PostgreSQL would still describe here what shows nothing; a pooler that must parse it first can't.
        self._allowed(sql)
        if body[:1] == b"S":
            yield message("t", struct.pack("!h", sql.count("$")) + b"\0\0\0\x19" * sql.count("$"))
        yield ROW_DESCRIPTION if self._shows(sql) else message("n")

    def _execute(self, body: bytes) -> Iterator[bytes]:
        name = body[:-5].decode()
        portal = self._portal(name)
        self._allowed(portal.sql)
        yield from self._run(portal, int.from_bytes(body[-4:], "big"))
        if self.copying:
            self.copying = "E"

    def _close(self, body: bytes) -> Iterator[bytes]:
        name = body[1:-1].decode()
        if body[:1] == b"P":
            self.portals.pop(name, None)
        elif name:
            self.prepared.pop(name, None)
        else:
            self.unnamed = None
        yield message("3")

    def _sync(self, body: bytes) -> Iterator[bytes]:
        self.skipping = False
        yield self._ready()

    def _nothing(self, body: bytes) -> Iterator[bytes]:
        return iter(())

    def _terminate(self, body: bytes) -> Iterator[bytes]:
        self.ended = True
        return iter(())

    # SQL.

    def _allowed(self, sql: str) -> None:
        if self.status == "E" and sql not in _ENDS:
            raise Refused("25P02", "current transaction is aborted, commands ignored until end of transaction block")

    @staticmethod
    def _shows(sql: str) -> bool:
        return sql.lower().split(" ", 1)[0] in ("select", "rows", "big", "show")

    def _run(self, portal: Portal, limit: int) -> Iterator[bytes]:
        self.queries.append(portal.sql)
        word, _, more = portal.sql.partition(" ")
        if word == "select":
            yield row(portal.values[0] if portal.values else more.encode())
            yield tag("SELECT 1")
        elif word == "SELECT":
            yield row(self._set_config(more))
            yield tag("SELECT 1")
        elif word == "rows":
            left = int(more) - portal.done
            count = min(limit, left) if limit else left
            for number in range(portal.done, portal.done + count):
                yield row(b"%d" % number)
            portal.done += count
            yield message("s") if limit and count == limit else tag(f"SELECT {count}")
        elif word == "big":
            yield row(b"x" * int(more))
            yield tag("SELECT 1")
        elif word == "fail":
            raise Refused("22012", "division by zero")
        elif word == "notice":
            yield report("00000", more, "N")
            yield tag("NOTICE")
        elif word == "set":
            name, _, value = more.partition(" ")
            self.beyond = self.beyond or self._discarded
            self.settings[name] = value
            yield tag("SET")
        elif word == "show":
            self.beyond = self.beyond or self._discarded
            yield row(self.settings[more].encode())
            yield tag("SHOW")
        elif portal.sql == "copy in":
            self.copying = "?"
            yield message("G", b"\0\0\1\0\0")
        elif portal.sql == "copy out":
            yield message("H", b"\0\0\1\0\0") + message("d", b"a\n") + message("d", b"b\n") + message("c")
            yield tag("COPY 2")
        elif not portal.sql:
            yield message("I")
        else:
            yield tag(self._command(portal))

    def _command(self, portal: Portal) -> str:
        sql = portal.sql
        if sql == "begin":
            if self.status == "I":
                self._committed()
                self.status = "T"
        elif sql in _ENDS:
            failed = self.status == "E"
            if failed or sql == "rollback":
                self._rolled_back()
            self.status = "I"
            self._committed()
            return "ROLLBACK" if failed else sql.upper()
        elif sql == "deallocate all":
            self.prepared.clear()
        elif sql == "discard all":
            if self.status != "I":
                raise Refused("25001", "DISCARD ALL cannot run inside a transaction block")
            self.prepared.clear()
            self.settings = {name: self.reset_value(name) for name in DEFAULTS}
            self._discarded = True
            # It commits at once, so that no error behind it in the batch takes it back.
            self._committed()
        elif sql == "reset all":
            self.settings = {name: self.reset_value(name) for name in DEFAULTS}
            self._discarded = True
            return "RESET"
        else:
            raise AssertionError(f"the model does not know {sql!r}")
        return sql.upper()

    def _set_config(self, sql: str) -> bytes:
        calls = _SET_CONFIG.findall(sql)
        assert calls, sql
        for name, shown, value in calls:
            self.settings[name] = self.reset_value(name) if shown == "NULL" else value
        return b"set"

    # COPY.

    def _copied(self, kind: str, body: bytes) -> Iterator[bytes]:
        if kind in "SH" or (kind == "d" and body != b"bad"):
            return
        if kind == "X":
            self.ended = True
            return
        how, self.copying = self.copying, ""
        try:
            if kind == "c":
                yield tag("COPY 1")
                if how == "Q":
                    yield self._ready()
                return
            if kind == "d":
                raise Refused("22P04", "extra data after last expected column")
            if kind == "f":
                raise Refused("57014", f"COPY from stdin failed: {body[:-1].decode()}")
            raise Refused("08P01", f"unexpected message type 0x{ord(kind):02X} during COPY from stdin")
        except Refused as error:
            yield from self._error(error, how)


STEPS = {
    "Q": Postgres._query,
    "F": Postgres._call,
    "P": Postgres._parse,
    "B": Postgres._bind,
    "D": Postgres._describe,
    "E": Postgres._execute,
    "C": Postgres._close,
    "S": Postgres._sync,
    "H": Postgres._nothing,
    "d": Postgres._nothing,
    "c": Postgres._nothing,
    "f": Postgres._nothing,
    "X": Postgres._terminate,
}


def _plain(text: bytes) -> str:
    """The statement, in lower case if it is not one of the pooler's own."""
    sql = text.decode().removeprefix(UNCOMPILED)
    return sql if sql.startswith("SELECT pg_catalog.") else sql.lower()


def _values(rest: bytes) -> tuple[bytes, ...]:
    at = 2 + 2 * int.from_bytes(rest[:2], "big")
    count = int.from_bytes(rest[at : at + 2], "big")
    at += 2
    values = []
    for _ in range(count):
        size = int.from_bytes(rest[at : at + 4], "big")
        values.append(rest[at + 4 : at + 4 + size])
        at += 4 + size
    return tuple(values)
