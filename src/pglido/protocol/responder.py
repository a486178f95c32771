"""The server's side of the protocol for who answers a few statements without PostgreSQL: bytes in, events out,
replies in, bytes out. No socket, no clock.

A user calls `feed` with what came, and `next` for the first event of a message (None: more bytes are needed). It gives
each event its `reply`, which returns the following event, until `Answered` ends the message. `taken` is what is to be
sent. What statements mean, and what a transaction has changed, is the user's.

Rules (protocol chapter, "Message Flow"; tcop/postgres.c):
1. One message at a time: no `next` while an event waits for its reply.
2. After an error in the extended protocol everything up to Sync is skipped. An error ends all portals, and so does the
   end of a transaction. A simple query ends the unnamed statement and the unnamed portal.
3. What is kept for a client is bounded: one message, and a number of statements and of portals. The user stops calling
   `next` while `made` bytes are enough.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Generic, NamedTuple, TypeVar

from . import codes, messages
from .errors import PgError, ProtocolViolation
from .frontend import read_bind, read_execute, read_parse, read_query, read_target
from .rows import Column, Rows, data_row, parameter_description, row_description
from .startup import NAME_SIZE

Meaning = TypeVar("Meaning")


class Rules(NamedTuple):
    """What differs between users: `longest` is the most bytes of a message, its length field counted, `statements` and
    `portals` the most of them, `place` where the client is, for errors; `split` cuts a simple query into statements.
    """

    longest: int
    statements: int
    portals: int
    place: str
    split: Callable[[str], Sequence[str]]


class Statement(NamedTuple, Generic[Meaning]):
    """A statement that was understood. `meaning` is its user's, None for the empty query; `columns` is None where it
    gives no rows; `types` are its parameters', 0 for one that nobody chose.
    """

    meaning: Meaning | None
    columns: tuple[Column, ...] | None = None
    types: tuple[int, ...] = ()


class Answer(NamedTuple):
    """What came of a statement. A `tag` of SELECT gets the number of rows; `reports` are settings that have changed;
    `status` is the transaction's from now on (I or T), empty: as it was.
    """

    tag: str
    rows: Rows = ()
    reports: Sequence[tuple[str, str]] = ()
    status: str = ""


# Events.


class Prepare(NamedTuple):
    """What does this statement mean? The reply is a Statement. `types` are those given; None in a simple query, which
    has no parameters.
    """

    sql: str
    types: tuple[int, ...] | None


class Fill(NamedTuple, Generic[Meaning]):
    """A Bind with values: the reply is the Statement with these in place of its parameters."""

    statement: Statement[Meaning]
    values: tuple[bytes | None, ...]


class Run(NamedTuple, Generic[Meaning]):
    """To be executed, now: the reply is an Answer."""

    statement: Statement[Meaning]


class FunctionCall(NamedTuple):
    """A FunctionCall: the reply is the error that refuses it."""


class Ended(NamedTuple):
    """A transaction has ended well; the reply is None."""


class Failed(NamedTuple):
    """Something failed: a transaction is rolled back. The reply is the error as the client is told it."""

    error: PgError


class Answered(NamedTuple):
    """The message has been dealt with; no reply. `ends`: the client may wait for what was said up to here."""

    ends: bool


class Terminated(NamedTuple):
    """The client leaves; no reply."""


Event = Prepare | Fill[Meaning] | Run[Meaning] | FunctionCall | Ended | Failed | Answered | Terminated
Reply = Statement[Meaning] | Answer | PgError | None
_Talk = Generator[Event[Meaning], Reply[Meaning], None]


class _Portal(Generic[Meaning]):
    __slots__ = ("answer", "formats", "sent", "statement")

    def __init__(self, statement: Statement[Meaning], formats: tuple[int, ...]) -> None:
        self.statement = statement
        self.formats = formats
        self.answer: Answer | None = None
        self.sent = 0


class Responder(Generic[Meaning]):
    """One client's: what it has prepared and bound, and what of its bytes is still to be read.

    `status` is that of its transaction; `idle`: no whole message is there.
    """

    __slots__ = ("_at", "_buffer", "_failed", "_out", "_portals", "_rules", "_statements", "_talk", "idle", "status")

    def __init__(self, rules: Rules) -> None:
        self.status = "I"
        self.idle = True
        self._rules = rules
        self._buffer: bytearray | None = None
        self._at = 0
        self._out: bytearray | None = None
        self._failed = False
        self._statements: dict[bytes, Statement[Meaning]] | None = None
        self._portals: dict[bytes, _Portal[Meaning]] | None = None
        self._talk: _Talk[Meaning] | None = None

    # What users call.

    def feed(self, data: bytes) -> None:
        """Bytes came from the client."""
        if self._buffer is None:
            self._buffer = bytearray(data)
        else:
            self._buffer += data
        self.idle = False

    def next(self) -> Event[Meaning] | None:
        """The first event of the next message; None: more bytes are needed. Raises ProtocolViolation: it is over."""
        assert self._talk is None, "an event waits for its reply"
        try:
            message = self._message()
            if message is None:
                return None
            kind, body = message
            if kind == codes.TERMINATE:
                return Terminated()
            action = _ACTIONS.get(kind)
            if action is None:
                raise ProtocolViolation(f"invalid frontend message type {kind}")
            if self._failed and kind != codes.SYNC:
                return Answered(True)
            self._talk = self._dealing(kind, action(self, body))
            return self.reply(None)
        except ProtocolViolation:
            self._buffer = self._talk = None
            self._at = 0
            self.idle = True
            raise

    def reply(self, reply: Reply[Meaning]) -> Event[Meaning]:
        """The user's reply to the last event; returns the one after it. An error in place of what was asked for is
        what the client is told.
        """
        talk = self._talk
        assert talk is not None, "no event waits for a reply"
        event = talk.send(reply)
        if isinstance(event, Answered):
            self._talk = None
        return event

    def tell(self, data: bytes) -> None:
        """Send whole messages in front of what follows."""
        if self._out is None:
            self._out = bytearray(data)
        else:
            self._out += data

    @property
    def made(self) -> int:
        """Bytes that are to be sent."""
        return len(self._out) if self._out is not None else 0

    def taken(self) -> bytes:
        """What is to be sent to the client, once."""
        out, self._out = self._out, None
        return bytes(out) if out is not None else b""

    # Messages.

    def _message(self) -> tuple[int, bytes] | None:
        """The next whole message: its type and body."""
        buffer, at = self._buffer, self._at
        if buffer is not None and len(buffer) - at >= 5:
            size = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if not 4 <= size <= self._rules.longest:
                most = self._rules.longest
                raise ProtocolViolation(f"invalid message length {size}: at most {most} bytes are taken here")
            stop = at + 1 + size
            if stop <= len(buffer):
                self._at = stop
                return buffer[at], bytes(buffer[at + 5 : stop])
        if buffer is not None:
            del buffer[:at]
            self._buffer = buffer or None
        self._at = 0
        self.idle = True
        return None

    def _dealing(self, kind: int, action: _Talk[Meaning]) -> _Talk[Meaning]:
        """One message from its first event to its last, whatever fails in it."""
        try:
            yield from action
        except ProtocolViolation:
            raise
        except PgError as error:
            self._portals = None
            # Its traceback has frames that have it: a cycle, which would stay until the collector comes.
            told = yield Failed(error.with_traceback(None))
            assert isinstance(told, PgError)
            self.tell(messages.error("ERROR", told.sqlstate, told.text, told.detail, told.hint))
            if kind in (codes.QUERY, codes.FUNCTION_CALL):
                self.tell(messages.ready(self.status))
            else:
                self._failed = True
        yield Answered(self._failed or kind in _ENDS)

    def _query(self, body: bytes) -> _Talk[Meaning]:
        sql = read_query(body)
        for kept in (self._statements, self._portals):
            if kept is not None:
                kept.pop(b"", None)
        statements = self._rules.split(sql)
        if not statements:
            self.tell(messages.EMPTY_QUERY_RESPONSE)
        for one in statements:
            statement = _understood((yield Prepare(one, None)))
            if statement.meaning is None:
                self.tell(messages.EMPTY_QUERY_RESPONSE)
                continue
            portal = _Portal(statement, ())
            portal.answer = self._came((yield Run(statement)))
            if statement.columns is not None:
                self.tell(row_description(statement.columns))
            self._give(portal, portal.answer, 0)
            self._report(portal.answer)
        yield from self._end()

    def _parse(self, body: bytes) -> _Talk[Meaning]:
        asked = read_parse(body)
        key = _key(asked.name)
        known = self._statements = self._statements or {}
        if not key:
            known.pop(key, None)
        if key in known:
            raise PgError("42P05", f'prepared statement "{asked.name}" already exists')
        self._bounded(len(known), self._rules.statements, "prepared statements")
        known[key] = _understood((yield Prepare(asked.sql, asked.types)))
        self.tell(messages.PARSE_COMPLETE)

    def _bind(self, body: bytes) -> _Talk[Meaning]:
        asked = read_bind(body)
        statement = self._statement(asked.statement)
        count, needed = len(asked.values), len(statement.types)
        if len(asked.formats) > 1 and len(asked.formats) != count:
            raise PgError("08P01", f"bind message has {len(asked.formats)} parameter formats but {count} parameters")
        if count != needed:
            raise PgError(
                "08P01",
                f"bind message supplies {count} parameters, but prepared statement"
                f' "{asked.statement}" requires {needed}',
            )
        key = _key(asked.portal)
        portals = self._portals = self._portals or {}
        if key and key in portals:
            raise PgError("42P03", f'cursor "{asked.portal}" already exists')
        self._bounded(len(portals) - (key in portals), self._rules.portals, "portals")
        _known_formats(asked.formats)
        if count and statement.meaning is not None:
            statement = _understood((yield Fill(statement, asked.values)))
        formats: tuple[int, ...] = ()
        if statement.columns is not None:
            formats, columns = asked.result_formats, len(statement.columns)
            if len(formats) > 1 and len(formats) != columns:
                raise PgError(
                    "08P01", f"bind message has {len(formats)} result formats but query has {columns} columns"
                )
            _known_formats(formats)
        portals[key] = _Portal(statement, formats)
        self.tell(messages.BIND_COMPLETE)

    def _describe(self, body: bytes) -> _Talk[Meaning]:
        yield from ()
        target = read_target(body)
        formats: tuple[int, ...] = ()
        if target.kind == "S":
            statement = self._statement(target.name)
            self.tell(parameter_description(statement.types))
        else:
            portal = self._portal(target.name)
            statement, formats = portal.statement, portal.formats
        columns = statement.columns
        self.tell(messages.NO_DATA if columns is None else row_description(columns, formats))

    def _execute(self, body: bytes) -> _Talk[Meaning]:
        asked = read_execute(body)
        portal = self._portal(asked.portal)
        statement = portal.statement
        if statement.meaning is None:
            self.tell(messages.EMPTY_QUERY_RESPONSE)
        elif portal.answer is None:
            portal.answer = self._came((yield Run(statement)))
            self._give(portal, portal.answer, asked.limit)
            self._report(portal.answer)
        elif statement.columns is None:
            raise PgError("55000", f'portal "{asked.portal}" cannot be run')
        else:
            self._give(portal, portal.answer, asked.limit)

    def _close(self, body: bytes) -> _Talk[Meaning]:
        yield from ()
        target = read_target(body)
        kept = self._statements if target.kind == "S" else self._portals
        if kept is not None:
            kept.pop(_key(target.name), None)
        self.tell(messages.CLOSE_COMPLETE)

    def _sync(self, body: bytes) -> _Talk[Meaning]:
        self._failed = False
        yield from self._end()

    def _function_call(self, body: bytes) -> _Talk[Meaning]:
        error = yield FunctionCall()
        assert isinstance(error, PgError)
        raise error

    def _nothing(self, body: bytes) -> _Talk[Meaning]:
        """Flush: all is sent anyway. COPY data outside of a COPY: PostgreSQL ignores it, too."""
        yield from ()

    # What several of them do.

    def _end(self) -> _Talk[Meaning]:
        """The end of a simple query, or a Sync."""
        if self.status == "I":
            self._portals = None
            yield Ended()
        self.tell(messages.ready(self.status))

    def _came(self, reply: Reply[Meaning]) -> Answer:
        """What came of a statement. Raises the error that came instead."""
        if isinstance(reply, PgError):
            raise reply
        assert isinstance(reply, Answer)
        self.status = reply.status or self.status
        return reply

    def _give(self, portal: _Portal[Meaning], answer: Answer, limit: int) -> None:
        """The next rows of a portal, and its tag; PortalSuspended where the limit is reached, be there more or not."""
        columns = portal.statement.columns or ()
        rows = answer.rows[portal.sent : portal.sent + limit] if limit > 0 else answer.rows[portal.sent :]
        portal.sent += len(rows)
        self.tell(b"".join([data_row(columns, row, portal.formats) for row in rows]))
        if 0 < limit == len(rows):
            self.tell(messages.PORTAL_SUSPENDED)
        else:
            self.tell(messages.command_complete(f"SELECT {len(rows)}" if answer.tag == "SELECT" else answer.tag))

    def _report(self, answer: Answer) -> None:
        for name, value in answer.reports:
            self.tell(messages.parameter_status(name, value))

    def _statement(self, name: str) -> Statement[Meaning]:
        found = (self._statements or {}).get(_key(name))
        if found is None:
            which = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise PgError("26000", f"{which} does not exist")
        return found

    def _portal(self, name: str) -> _Portal[Meaning]:
        found = (self._portals or {}).get(_key(name))
        if found is None:
            raise PgError("34000", f'portal "{name}" does not exist')
        return found

    def _bounded(self, count: int, most: int, what: str) -> None:
        if count >= most:
            raise PgError("53400", f"too many {what} (at most {most} {self._rules.place})")


_ACTIONS = {
    codes.QUERY: Responder._query,
    codes.PARSE: Responder._parse,
    codes.BIND: Responder._bind,
    codes.DESCRIBE: Responder._describe,
    codes.EXECUTE: Responder._execute,
    codes.CLOSE: Responder._close,
    codes.SYNC: Responder._sync,
    codes.FLUSH: Responder._nothing,
    codes.FUNCTION_CALL: Responder._function_call,
    codes.COPY_DATA: Responder._nothing,
    codes.COPY_DONE: Responder._nothing,
    codes.COPY_FAIL: Responder._nothing,
}


# Up to these messages clients wait for an answer.
_ENDS = frozenset((codes.QUERY, codes.FUNCTION_CALL, codes.SYNC, codes.FLUSH))


def _key(name: str) -> bytes:
    """The name of a statement or portal, as long as PostgreSQL compares it."""
    return name.encode()[:NAME_SIZE]


def _understood(reply: Reply[Meaning]) -> Statement[Meaning]:
    """What a statement means. Raises the error that came instead."""
    if isinstance(reply, PgError):
        raise reply
    assert isinstance(reply, Statement)
    return reply


def _known_formats(formats: tuple[int, ...]) -> None:
    for code in formats:
        if code not in (0, 1):
            raise PgError("22023", f"unsupported format code: {code}")
