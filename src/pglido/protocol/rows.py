"""Rows as a server sends them: RowDescription and DataRow of the few types that pglido's own answers have."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from . import codes
from .messages import message

# OIDs of types (pg_type.dat), and their sizes in bytes.
TEXT, INT4, INT8, NUMERIC, BOOL = 25, 23, 20, 1700, 16
_SIZES = {TEXT: -1, INT4: 4, INT8: 8, NUMERIC: -1, BOOL: 1}

Value = str | int | bool | None
Rows = Sequence[Sequence[Value]]


class Column(NamedTuple):
    """A column of an answer; `type` is one of the OIDs above."""

    name: str
    type: int = TEXT


def format_of(formats: Sequence[int], column: int) -> int:
    """The format (0 text, 1 binary) of a column: without formats text, one is for all columns."""
    if not formats:
        return 0
    return formats[0] if len(formats) == 1 else formats[column]


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
