"""Which client a text means to cancel or terminate: the numbers that clients got at login, and where they stand.

Such a number is above that of any process (`LOWEST`). It is found where it is the argument of `pg_cancel_backend` or
`pg_terminate_backend`, a constant or a parameter, and where `pid` is compared with it in a text that reads
pg_stat_activity. What it is replaced with has as many digits, so that nothing else changes its place.
"""

from collections.abc import Iterator
from typing import NamedTuple

from .tokens import Token, name_of, tokenize

# Of a process id there are 22 bits at most (PID_MAX_LIMIT in Linux), of a worker's number in one that pglido gives the
# upper eight of 31 (`worker.cancel_keys.pid_of`).
LOWEST = 1 << 23
HIGHEST = (1 << 31) - 1
FUNCTIONS = frozenset({b"pg_cancel_backend", b"pg_terminate_backend"})
CANCELS = b"pg_cancel_backend"
SHOWN, COLUMN = b"pg_stat_activity", b"pid"
# What may follow the number: else it is part of something larger.
BEHIND = frozenset("),:;w")
BINARY = 1


class NumberPlace(NamedTuple):
    """Where a number stands: `text[first:end]` are the digits of a constant, or (0, 0) where it is a `parameter`."""

    first: int
    end: int
    parameter: int


class ParameterPlace(NamedTuple):
    """Where the value of a parameter stands in a Bind."""

    first: int
    end: int
    binary: bool


def wanted(text: bytes, bind: bytes) -> tuple[int, ...]:
    """The numbers of clients that a text means; `bind` is its Bind from the formats on, empty where there is none."""
    text = text.partition(b"\0")[0]
    found = [_number(text[first:end]) for first, end, parameter in places(text) if not parameter]
    found += [_read(bind, value) for value in _chosen(text, bind)]
    return tuple(dict.fromkeys([number for number in found if LOWEST <= number <= HIGHEST]))


def put_constants(text: bytes, processes: dict[int, int]) -> bytes:
    """The text, or the end of a Parse, with process ids in place of these numbers."""
    made = bytearray(text)
    for first, end, parameter in places(text.partition(b"\0")[0]):
        process = 0 if parameter else processes.get(_number(text[first:end]), 0)
        if process:
            made[first:end] = b"%0*d" % (end - first, process)
    return bytes(made)


def put_values(text: bytes, bind: bytes, processes: dict[int, int]) -> bytes:
    """The Bind of the text, from the formats on, with process ids in place of these numbers."""
    made = bytearray(bind)
    for value in _chosen(text.partition(b"\0")[0], bind):
        first, end, binary = value
        process = processes.get(_read(bind, value), 0)
        if process:
            made[first:end] = process.to_bytes(end - first, "big") if binary else b"%0*d" % (end - first, process)
    return bytes(made)


def cancels(text: bytes) -> bool:
    """May the text cancel what a client does?"""
    return CANCELS in text.lower()


def places(text: bytes) -> list[NumberPlace]:
    """Where numbers of clients may stand."""
    tokens = tokenize(text)
    names = [name_of(text, token) if token[0] in 'w"' else b"" for token in tokens]
    found = []
    for at, name in enumerate(names):
        behind = at + 1
        if name in FUNCTIONS:
            while behind < len(tokens) and tokens[behind][0] == "(":
                behind += 1
        elif name == COLUMN and SHOWN in names and behind < len(tokens) and tokens[behind][0] == "=":
            behind += 1
        if behind > at + 1 and (place := _place(text, tokens, behind)) is not None:
            found.append(place)
    return found


def _place(text: bytes, tokens: list[Token], at: int) -> NumberPlace | None:
    """The number that the tokens say from there on, None if that is something else."""
    if at == len(tokens):
        return None
    kind, first, end = tokens[at]
    if kind == "'":
        at += 1
        first, end = first + 1, end - 1
    else:
        at += kind == "."
        while at < len(tokens) and tokens[at][0].isdigit() and (tokens[at][1] == end or tokens[at][1] == first):
            end = tokens[at][2]
            at += 1
    follows = tokens[at] if at < len(tokens) else (";", end + 1, end + 1)
    if follows[0] not in BEHIND or (follows[0] == "w" and follows[1] == end):
        return None
    digits = text[first:end]
    if kind == "." and digits[:1] == b"$" and digits[1:].isdigit() and len(digits) < 7:
        return NumberPlace(0, 0, int(digits[1:]))
    return NumberPlace(first, end, 0) if digits.isdigit() else None


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) <= 10 else 0


def _read(bind: bytes, value: ParameterPlace) -> int:
    first, end, binary = value
    if not binary:
        return _number(bind[first:end])
    return int.from_bytes(bind[first:end], "big") if end - first in (4, 8) else 0


def _chosen(text: bytes, bind: bytes) -> list[ParameterPlace]:
    """The values of parameters that stand for numbers of clients."""
    parameters = {place.parameter for place in places(text)} - {0} if bind else set()
    return [value for number, value in enumerate(_values(bind), 1) if number in parameters] if parameters else []


def _values(bind: bytes) -> Iterator[ParameterPlace]:
    """The values in a Bind, from the formats on, up to where it is cut."""
    count = int.from_bytes(bind[:2], "big")
    if 2 + 2 * count > len(bind):
        return
    formats = [int.from_bytes(bind[at : at + 2], "big") for at in range(2, 2 + 2 * count, 2)]
    at = 2 + 2 * count
    for number in range(int.from_bytes(bind[at : at + 2], "big")):
        size = int.from_bytes(bind[at + 2 : at + 6], "big", signed=True)
        first, at = at + 6, at + 4 + max(size, 0)
        if first + max(size, 0) > len(bind):
            return
        binary = formats[0 if count == 1 else number] == BINARY if count and (count == 1 or number < count) else False
        yield ParameterPlace(first, first + max(size, 0), binary)
