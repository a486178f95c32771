"""Read the messages of a client, body by body (chapter "Message Formats" of PostgreSQL's manual)."""

from typing import NamedTuple

from .errors import PgError, ProtocolViolation


class Parse(NamedTuple):
    """A Parse; `types` has an OID for each parameter that the client gave one for, 0: the server is to choose."""

    name: str
    sql: str
    types: tuple[int, ...]


class Bind(NamedTuple):
    """A Bind. Formats are as they were sent: none, one for all, or one for each; values None are NULL."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


class Target(NamedTuple):
    """A Describe or a Close: `kind` is S, a prepared statement, or P, a portal."""

    kind: str
    name: str


class Execute(NamedTuple):
    """An Execute; `limit` is the most rows wanted, 0 or less: all."""

    portal: str
    limit: int


class _Body:
    """Reads a body from front to back. Raises ProtocolViolation where it is too short, PgError for what is no UTF-8."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def text(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        piece, self._at = self._body[self._at : end], end + 1
        return decoded(piece)

    def raw(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._body):
            raise ProtocolViolation("insufficient data left in message")
        piece = self._body[self._at : self._at + size]
        self._at += size
        return piece

    def count(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.raw(4), "big", signed=True)

    def value(self) -> bytes | None:
        size = self.int32()
        return None if size == -1 else self.raw(size)

    def formats(self) -> tuple[int, ...]:
        return tuple([int.from_bytes(self.raw(2), "big", signed=True) for _ in range(self.count())])

    def end(self) -> None:
        if self._at != len(self._body):
            raise ProtocolViolation("invalid message format")


def decoded(text: bytes) -> str:
    """A client's text, which has to be UTF-8. Raises PgError, with PostgreSQL's message (report_invalid_encoding): it
    shows as many bytes as the first one of the broken character calls for.
    """
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        first = text[error.start]
        size = 4 if first & 0xF8 == 0xF0 else 3 if first & 0xF0 == 0xE0 else 2 if first & 0xE0 == 0xC0 else 1
        octets = " ".join(f"0x{one:02x}" for one in text[error.start : error.start + size])
        raise PgError("22021", f'invalid byte sequence for encoding "UTF8": {octets}') from None


def read_query(body: bytes) -> str:
    """The text of a Query. All readers raise ProtocolViolation for a malformed body, and PgError as `decoded` does."""
    source = _Body(body)
    sql = source.text()
    source.end()
    return sql


def read_parse(body: bytes) -> Parse:
    """A Parse."""
    source = _Body(body)
    name, sql = source.text(), source.text()
    found = Parse(name, sql, tuple([source.int32() for _ in range(source.count())]))
    source.end()
    return found


def read_bind(body: bytes) -> Bind:
    """A Bind."""
    source = _Body(body)
    portal, statement = source.text(), source.text()
    formats = source.formats()
    values = tuple([source.value() for _ in range(source.count())])
    found = Bind(portal, statement, formats, values, source.formats())
    source.end()
    return found


def read_target(body: bytes) -> Target:
    """A Describe or a Close."""
    source = _Body(body)
    kind = source.raw(1).decode("latin-1")
    if kind not in "SP":
        raise ProtocolViolation(f"invalid message subtype {body[0]}")
    found = Target(kind, source.text())
    source.end()
    return found


def read_execute(body: bytes) -> Execute:
    """An Execute."""
    source = _Body(body)
    found = Execute(source.text(), source.int32())
    source.end()
    return found
