"""The part of PostgreSQL's protocol that the console speaks: frontend messages in, rows and tags out.

Bytes only, no sockets. Chapter "Message Formats" of PostgreSQL's manual.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..protocol import codes
from ..protocol.errors import ProtocolViolation
from ..protocol.messages import message

MAX_MESSAGE = 1 << 16  # nobody types more

TEXT, INT4, INT8, NUMERIC, BOOL = 25, 23, 20, 1700, 16
_SIZES = {TEXT: -1, INT4: 4, INT8: 8, NUMERIC: -1, BOOL: 1}

Value = str | int | bool | None

BIND_COMPLETE = message(codes.BIND_COMPLETE, b"")
NO_DATA = message(codes.NO_DATA, b"")
PORTAL_SUSPENDED = message(codes.PORTAL_SUSPENDED, b"")
EMPTY_QUERY_RESPONSE = message(codes.EMPTY_QUERY_RESPONSE, b"")


class Column(NamedTuple):
    name: str
    type: int = TEXT


class Parse(NamedTuple):
    name: str
    sql: str
    types: tuple[int, ...]


class Bind(NamedTuple):
    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


class Target(NamedTuple):
    """Of Describe and Close: kind is S or P."""

    kind: str
    name: str


class Execute(NamedTuple):
    portal: str
    limit: int


class _Body:
    """Reads a message body front to back; raises ProtocolViolation where it is too short."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def text(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        piece, self._at = self._body[self._at : end], end + 1
        try:
            return piece.decode()
        except UnicodeDecodeError:
            raise ProtocolViolation('invalid byte sequence for encoding "UTF8"') from None

    def raw(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._body):
            raise ProtocolViolation("insufficient data left in message")
        piece = self._body[self._at : self._at + size]
        self._at += size
        return piece

    def int16(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.raw(4), "big", signed=True)

    def value(self) -> bytes | None:
        size = self.int32()
        return None if size == -1 else self.raw(size)

    def formats(self) -> tuple[int, ...]:
        found = tuple(self.int16() for _ in range(self.int16()))
        if any(code not in (0, 1) for code in found):
            raise ProtocolViolation("invalid format code")
        return found

    def end(self) -> None:
        if self._at != len(self._body):
            raise ProtocolViolation("invalid message format")


def read_query(body: bytes) -> str:
    """The text of a Query."""
    source = _Body(body)
    sql = source.text()
    source.end()
    return sql


def read_parse(body: bytes) -> Parse:
    """A Parse."""
    source = _Body(body)
    name, sql = source.text(), source.text()
    found = Parse(name, sql, tuple(source.int32() for _ in range(source.int16())))
    source.end()
    return found


def read_bind(body: bytes) -> Bind:
    """A Bind."""
    source = _Body(body)
    portal, statement = source.text(), source.text()
    formats = source.formats()
    values = tuple(source.value() for _ in range(source.int16()))
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


def format_of(formats: Sequence[int], column: int) -> int:
    """The format of one column or parameter: none given is text, one is for all."""
    if not formats:
        return 0
    if len(formats) == 1:
        return formats[0]
    if column >= len(formats):
        raise ProtocolViolation("wrong number of format codes")
    return formats[column]


def row_description(columns: Sequence[Column], formats: Sequence[int] = ()) -> bytes:
    """A RowDescription."""
    parts = [struct.pack("!h", len(columns))]
    for number, (name, kind) in enumerate(columns):
        parts.append(name.encode() + b"\0")
        parts.append(struct.pack("!ihihih", 0, 0, kind, _SIZES[kind], -1, format_of(formats, number)))
    return message(codes.ROW_DESCRIPTION, b"".join(parts))


def data_row(columns: Sequence[Column], values: Sequence[Value], formats: Sequence[int] = ()) -> bytes:
    """A DataRow, each value in the format asked for."""
    parts = [struct.pack("!h", len(columns))]
    for number, (column, value) in enumerate(zip(columns, values, strict=True)):
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
            continue
        data = _binary(column.type, value) if format_of(formats, number) else _text(value)
        parts.append(struct.pack("!i", len(data)) + data)
    return message(codes.DATA_ROW, b"".join(parts))


def parameter_description(types: Sequence[int]) -> bytes:
    """A ParameterDescription; type 0 (not told) becomes text."""
    kinds = [kind or TEXT for kind in types]
    return message(codes.PARAMETER_DESCRIPTION, struct.pack(f"!h{len(kinds)}i", len(kinds), *kinds))


def command_complete(tag: str) -> bytes:
    """A CommandComplete."""
    return message(codes.COMMAND_COMPLETE, tag.encode() + b"\0")


def ready(status: str) -> bytes:
    """A ReadyForQuery; `status` is I, T or E."""
    return message(codes.READY_FOR_QUERY, status.encode())


def _text(value: str | int | bool) -> bytes:
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return str(value).encode("utf-8", "replace").replace(b"\0", b"")


def _binary(kind: int, value: str | int | bool) -> bytes:
    if kind == TEXT:
        return _text(value)
    number = int(value)
    if kind == NUMERIC:
        return _binary_numeric(number)
    return number.to_bytes(_SIZES[kind], "big", signed=kind != BOOL)


def _binary_numeric(number: int) -> bytes:
    """numeric_send of an integer: digits to base 10,000, weight, sign, scale."""
    digits: list[int] = []
    rest = abs(number)
    while rest:
        rest, digit = divmod(rest, 10000)
        digits.insert(0, digit)
    weight = len(digits) - 1 if digits else 0
    while digits and not digits[-1]:
        digits.pop()
    sign = 0x4000 if number < 0 else 0
    return struct.pack(f"!HhHH{len(digits)}H", len(digits), weight, sign, 0, *digits)
