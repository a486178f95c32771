"""The session of a client of a listen-only database: its bytes in, replies and wishes out. No socket, no server.

Rules:
1. One message at a time. A LISTEN stops it (`wish`) until the server listens to that channel (`granted`).
2. A transaction is one simple Query, or what stands between two Syncs. What was listened and unlistened in it comes
   into force at its end, if nothing in it failed: `channels` is that; `changed` says that such a transaction has ended.
3. Whatever the client sends, what is kept of it is bounded: a message, a number of statements, a share of replies.
"""

from typing import Protocol

from ...protocol import codes, messages
from ...protocol.errors import ProtocolViolation
from ...sql.lexer import cut
from ...sql.listen_statements import ListenStatement, ListenStatementError, ListenVerb, not_served, understand
from ..state.parameters import REPORTED
from .listen_only_parameters import spelled

# Bytes of one message: what may be said here is short.
LONGEST = 16384
# Replies that are made before the client takes some.
ENOUGH = 32768
# Prepared statements and portals of one client.
MOST = 100
# Settings that drivers make when they connect; the others are not the client's to set here.
SETTABLE = ("application_name", "client_encoding", "datestyle", "extra_float_digits")

HINT = (
    "It takes LISTEN, UNLISTEN, SELECT 1, the empty query, SHOW of what was reported at login, and SET of"
    " application_name, client_encoding, datestyle and extra_float_digits: one statement at a time."
)
NO_DATA = b"n\0\0\0\4"
BIND_COMPLETE = b"2\0\0\0\4"
NO_PARAMETERS = b"t\0\0\0\6\0\0"
PORTAL_SUSPENDED = b"s\0\0\0\4"
EMPTY_QUERY_RESPONSE = b"I\0\0\0\4"
INT4, TEXT = 23, 25
NOBODY: frozenset[bytes] = frozenset()
EMPTY = ListenStatement(ListenVerb.EMPTY)


class ClientIdentity(Protocol):
    """Whose session it is, for the texts of errors."""

    @property
    def uuid(self) -> str: ...


class Portal:
    """A statement about to be executed; `binary` is how its column is sent, `ran` whether it was executed already."""

    __slots__ = ("binary", "ran", "statement")

    def __init__(self, statement: ListenStatement, binary: bool) -> None:
        self.statement = statement
        self.binary = binary
        self.ran = False


class ListenOnlySession:
    """One client's session; `known` are the parameters that all are told, `own` what differs for this client."""

    __slots__ = (
        "_ahead",
        "_buffer",
        "_draft",
        "_failed",
        "_portals",
        "_simple",
        "_statements",
        "changed",
        "channels",
        "fault",
        "known",
        "out",
        "over",
        "own",
        "wish",
    )

    def __init__(self, known: dict[str, str], own: dict[str, str]) -> None:
        self.known = known
        self.own: dict[str, str] | None = own or None
        self.channels = NOBODY
        self.changed = False
        self.wish: bytes | None = None
        self.fault: str | None = None
        self.over = False
        self.out = b""
        self._ahead = False
        self._buffer = b""
        self._draft: set[bytes] | None = None
        self._failed = False
        self._simple = False
        self._statements: dict[bytes, ListenStatement] | None = None
        self._portals: dict[bytes, Portal] | None = None

    def parameters(self) -> dict[str, str]:
        """What the client is told of parameters."""
        return {**self.known, **(self.own or {})}

    def feed(self, data: bytes) -> None:
        """Bytes came from the client; `run` deals with them."""
        self._buffer = self._buffer + data if self._buffer else data
        self._ahead = True

    def taken(self) -> bytes:
        """What is to be sent to the client."""
        data, self.out = self.out, b""
        return data

    def idle(self) -> bool:
        """Is there nothing to do until more bytes come?"""
        return not self._ahead

    def run(self, whose: ClientIdentity) -> None:
        """Deal with what came, up to a wish, the end, or enough replies."""
        replies: list[bytes] = []
        made = at = 0
        buffer = self._buffer
        self._ahead = False
        try:
            while self.wish is None and not self.over:
                if made > ENOUGH:
                    self._ahead = True
                    break
                if len(buffer) - at < 5:
                    break
                size = int.from_bytes(buffer[at + 1 : at + 5], "big")
                if not 4 <= size <= LONGEST:
                    raise ProtocolViolation(f"invalid message length {size}: at most {LONGEST} bytes are taken here")
                stop = at + 1 + size
                if len(buffer) < stop:
                    break
                reply = self._message(buffer[at], buffer[at + 5 : stop], whose)
                at = stop
                made += len(reply)
                replies.append(reply)
        except ProtocolViolation as broken:
            self.fault = str(broken)
            self.over = True
        self._buffer = b"" if self.over else buffer[at:]
        self.out += b"".join(replies)

    def granted(self) -> None:
        """The server listens to the channel of the wish."""
        assert self.wish is not None
        self._working().add(self.wish)
        self.wish = None
        self.out += _tag(b"LISTEN")
        if self._simple:
            self._simple = False
            self.out += self._commit()
        self._ahead = bool(self._buffer)

    # Transactions.

    def _working(self) -> set[bytes]:
        if self._draft is None:
            self._draft = set(self.channels)
        return self._draft

    def _commit(self) -> bytes:
        """A transaction ends well."""
        if self._draft is not None:
            if self._draft != self.channels:
                self.channels = frozenset(self._draft)
            self._draft = None
            self.changed = True
        self._portals = None
        return messages.READY_IDLE

    def _roll_back(self) -> None:
        self.changed = self.changed or self._draft is not None
        self._draft = None
        self._portals = None

    def _refuse(self, error: ListenStatementError, whose: ClientIdentity) -> bytes:
        """An ErrorResponse; what the transaction has done is undone."""
        self._roll_back()
        if error.sqlstate == "0A000":
            return messages.error("ERROR", error.sqlstate, str(error), f"client {whose.uuid}", HINT)
        return messages.error("ERROR", error.sqlstate, str(error))

    # Messages.

    def _message(self, kind: int, body: bytes, whose: ClientIdentity) -> bytes:
        if kind == codes.TERMINATE:
            self.over = True
            return b""
        if self._failed and kind != codes.SYNC:
            if kind in _KNOWN:
                return b""
            raise ProtocolViolation(f"invalid frontend message type {kind}")
        try:
            if kind == codes.QUERY:
                return self._query(_strings(body, 1)[0])
            if kind == codes.SYNC:
                self._failed = False
                return self._commit()
            if kind == codes.FUNCTION_CALL:
                raise not_served()
            if kind in _EXTENDED:
                return self._extended(kind, body)
            if kind in _KNOWN:
                return b""  # Flush: all is sent anyway; COPY data outside of a COPY is ignored by PostgreSQL too
        except ListenStatementError as error:
            refusal = self._refuse(error, whose)
            if kind in (codes.QUERY, codes.FUNCTION_CALL):
                return refusal + messages.READY_IDLE
            self._failed = True
            return refusal
        raise ProtocolViolation(f"invalid frontend message type {kind}")

    def _query(self, sql: bytes) -> bytes:
        if self._statements is not None:
            self._statements.pop(b"", None)
        statement = understand(sql)
        head = _cut_notice(statement)
        if statement.verb is ListenVerb.LISTEN and statement.name not in self._working():
            self.wish = statement.name
            self._simple = True
            return head
        return head + self._columns(statement, False) + self._do(statement, False) + self._commit()

    def _columns(self, statement: ListenStatement, binary: bool) -> bytes:
        """The RowDescription, or nothing."""
        if statement.verb is ListenVerb.SELECT_1:
            return _row_description(b"?column?", INT4, 4, binary)
        if statement.verb is ListenVerb.SHOW:
            return _row_description(self._shown(statement)[0].encode(), TEXT, -1, binary)
        return b""

    def _do(self, statement: ListenStatement, binary: bool, row_only: bool = False) -> bytes:
        """Carry out a statement, and the whole answer (its row only, where the client wanted no more)."""
        verb = statement.verb
        if verb is ListenVerb.EMPTY:
            return EMPTY_QUERY_RESPONSE
        if verb is ListenVerb.SELECT_1:
            row = _data_row(b"\0\0\0\1" if binary else b"1")
            return row if row_only else row + _tag(b"SELECT 1")
        if verb is ListenVerb.SHOW:
            row = _data_row(self._shown(statement)[1].encode())
            return row if row_only else row + _tag(b"SHOW")
        if verb is ListenVerb.SET:
            return self._set(statement)
        if verb is ListenVerb.UNLISTEN:
            self._working().discard(statement.name)
            return _tag(b"UNLISTEN")
        if verb is ListenVerb.UNLISTEN_ALL:
            self._working().clear()
            return _tag(b"UNLISTEN")
        return _tag(b"LISTEN")

    def _shown(self, statement: ListenStatement) -> tuple[str, str]:
        wanted = statement.name.decode()
        for name, value in self.parameters().items():
            if name.lower() == wanted:
                return name, value
        raise not_served()

    def _set(self, statement: ListenStatement) -> bytes:
        name = statement.name.decode()
        if name not in SETTABLE:
            raise not_served()
        value = spelled(name, statement.value, self.parameters())
        reported = REPORTED.get(name)
        if reported is None or self.parameters().get(reported) == value:
            return _tag(b"SET")
        self.own = {**(self.own or {}), reported: value}
        return _tag(b"SET") + messages.parameter_status(reported, value)

    # The extended protocol.

    def _extended(self, kind: int, body: bytes) -> bytes:
        if kind == codes.PARSE:
            return self._parse(body)
        if kind == codes.BIND:
            return self._bind(body)
        if kind == codes.DESCRIBE:
            return self._describe(body)
        if kind == codes.EXECUTE:
            return self._execute(body)
        return self._close(body)

    def _parse(self, body: bytes) -> bytes:
        name, sql = _strings(body, 2, 2)
        at = len(name) + len(sql) + 2
        types = _int16(body, at)
        if len(body) != at + 2 + 4 * types:
            raise ProtocolViolation("invalid message format")
        name = cut(name)
        statements = self._statements = self._statements or {}
        if name and name in statements:
            raise ListenStatementError("42P05", f'prepared statement "{_text(name)}" already exists')
        if types:
            raise not_served()
        if name not in statements and len(statements) >= MOST:
            raise ListenStatementError("53400", f"more than {MOST} prepared statements")
        statement = understand(sql)
        if statement.verb is ListenVerb.SHOW:
            self._shown(statement)
        statements[name] = statement
        return messages.PARSE_COMPLETE

    def _statement(self, name: bytes) -> ListenStatement:
        found = (self._statements or {}).get(cut(name))
        if found is None:
            which = f'prepared statement "{_text(name)}"' if name else "unnamed prepared statement"
            raise ListenStatementError("26000", f"{which} does not exist")
        return found

    def _portal(self, name: bytes) -> Portal:
        found = (self._portals or {}).get(cut(name))
        if found is None:
            raise ListenStatementError("34000", f'portal "{_text(name)}" does not exist')
        return found

    def _bind(self, body: bytes) -> bytes:
        portal, name = _strings(body, 2, 6)
        at = len(portal) + len(name) + 2
        count = _int16(body, at)
        at += 2 + 2 * count
        values = _int16(body, at)
        statement = self._statement(name)
        if values or count > 1:
            raise ListenStatementError(
                "08P01",
                f"bind message supplies {values} parameters, but prepared statement"
                f' "{_text(name)}" requires 0',
            )
        formats = _int16(body, at + 2)
        if len(body) != at + 4 + 2 * formats:
            raise ProtocolViolation("invalid message format")
        columns = 1 if statement.verb in (ListenVerb.SELECT_1, ListenVerb.SHOW) else 0
        if formats > 1 and formats != columns:
            raise ListenStatementError(
                "08P01", f"bind message has {formats} result formats but query has {columns} columns"
            )
        form = _int16(body, at + 4) if formats else 0
        if form > 1:
            raise ListenStatementError("22023", f"unsupported format code: {form}")
        portals = self._portals = self._portals or {}
        portal = cut(portal)
        if portal and portal in portals:
            raise ListenStatementError("42P03", f'cursor "{_text(portal)}" already exists')
        if portal not in portals and len(portals) >= MOST:
            raise ListenStatementError("53400", f"more than {MOST} portals")
        portals[portal] = Portal(statement, form == 1)
        return BIND_COMPLETE

    def _describe(self, body: bytes) -> bytes:
        kind, name = _target(body)
        if kind == b"S":
            return NO_PARAMETERS + (self._columns(self._statement(name), False) or NO_DATA)
        portal = self._portal(name)
        return self._columns(portal.statement, portal.binary) or NO_DATA

    def _execute(self, body: bytes) -> bytes:
        (name,) = _strings(body, 1, 4)
        if len(body) != len(name) + 5:
            raise ProtocolViolation("invalid message format")
        limit = int.from_bytes(body[len(name) + 1 :], "big", signed=True)
        portal = self._portal(name)
        statement = portal.statement
        rows = statement.verb in (ListenVerb.SELECT_1, ListenVerb.SHOW)
        if portal.ran and statement.verb is not ListenVerb.EMPTY:
            if not rows:
                raise ListenStatementError("55000", f'portal "{_text(name)}" cannot be run')
            return _tag(b"SELECT 0" if statement.verb is ListenVerb.SELECT_1 else b"SHOW")
        portal.ran = True
        head = _cut_notice(statement)
        if statement.verb is ListenVerb.LISTEN and statement.name not in self._working():
            self.wish = statement.name
            return head
        if rows and limit == 1:
            return self._do(statement, portal.binary, row_only=True) + PORTAL_SUSPENDED
        return head + self._do(statement, portal.binary)

    def _close(self, body: bytes) -> bytes:
        kind, name = _target(body)
        things: dict[bytes, ListenStatement] | dict[bytes, Portal] | None
        things = self._statements if kind == b"S" else self._portals
        if things is not None:
            things.pop(cut(name), None)
        return messages.CLOSE_COMPLETE


_EXTENDED = frozenset((codes.PARSE, codes.BIND, codes.DESCRIBE, codes.EXECUTE, codes.CLOSE))
_KNOWN = _EXTENDED | frozenset(b"QHFdcf")


# Bytes.


def _strings(body: bytes, count: int, more: int = 0) -> list[bytes]:
    """The zero-terminated strings at the beginning; `more` bytes must follow at least, none at all if it is 0."""
    found: list[bytes] = []
    at = 0
    for _ in range(count):
        end = body.find(b"\0", at)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        found.append(body[at:end])
        at = end + 1
    if len(body) - at < more or (not more and at != len(body)):
        raise ProtocolViolation("invalid message format")
    return found


def _int16(body: bytes, at: int) -> int:
    if at + 2 > len(body):
        raise ProtocolViolation("insufficient data left in message")
    return int.from_bytes(body[at : at + 2], "big")


def _target(body: bytes) -> tuple[bytes, bytes]:
    """What Describe and Close are about: S or P, and the name."""
    kind = body[:1]
    if kind not in (b"S", b"P"):
        raise ProtocolViolation("invalid message format")
    return kind, _strings(body[1:], 1)[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _tag(words: bytes) -> bytes:
    return messages.message(codes.COMMAND_COMPLETE, words + b"\0")


def _data_row(value: bytes) -> bytes:
    return messages.message(codes.DATA_ROW, b"\0\1" + len(value).to_bytes(4, "big") + value)


def _row_description(name: bytes, type_: int, size: int, binary: bool) -> bytes:
    about = b"\0\0\0\0" + b"\0\0" + type_.to_bytes(4, "big") + size.to_bytes(2, "big", signed=True) + b"\xff" * 4
    return messages.message(codes.ROW_DESCRIPTION, b"\0\1" + name + b"\0" + about + (b"\0\1" if binary else b"\0\0"))


def _cut_notice(statement: ListenStatement) -> bytes:
    """What PostgreSQL says of a name that is too long."""
    if not statement.cut:
        return b""
    text = f'identifier "{_text(statement.cut)}" will be truncated to "{_text(statement.name)}"'
    return messages.remark("NOTICE", "42622", text)
