"""Build the messages that a client sends, and take apart those that a server sends."""

import struct
from collections.abc import Iterator

SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
COPY_DONE = b"c\0\0\0\4"


def message(kind: str, body: bytes = b"") -> bytes:
    """One message of type `kind`."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    """A simple Query."""
    return message("Q", sql.encode() + b"\0")


def rest_of(sql: str) -> bytes:
    """What follows the name in a Parse without types."""
    return sql.encode() + b"\0\0\0"


def parse(name: str, sql: str) -> bytes:
    """A Parse without parameter types."""
    return message("P", name.encode() + b"\0" + rest_of(sql))


def bind(statement: str, *values: bytes, portal: str = "") -> bytes:
    """A Bind with parameters in text form."""
    sized = b"".join(struct.pack("!i", len(value)) + value for value in values)
    names = portal.encode() + b"\0" + statement.encode() + b"\0"
    return message("B", names + struct.pack("!hh", 0, len(values)) + sized + b"\0\0")


def describe(name: str, what: str = "S") -> bytes:
    """A Describe of a statement (S) or a portal (P)."""
    return message("D", what.encode() + name.encode() + b"\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    """An Execute of a portal, of at most `rows` rows if not 0."""
    return message("E", portal.encode() + b"\0" + struct.pack("!i", rows))


def close(name: str, what: str = "S") -> bytes:
    """A Close of a statement (S) or a portal (P)."""
    return message("C", what.encode() + name.encode() + b"\0")


def copy_data(data: bytes) -> bytes:
    """A CopyData."""
    return message("d", data)


def copy_fail(reason: str) -> bytes:
    """A CopyFail."""
    return message("f", reason.encode() + b"\0")


def call(number: int) -> bytes:
    """A FunctionCall without arguments."""
    return message("F", struct.pack("!ihhh", number, 0, 0, 0))


def split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The messages in `data`; a cut one at the end raises AssertionError."""
    at = 0
    while at < len(data):
        assert at + 5 <= len(data), f"a message is cut: {data[at:]!r}"
        size = int.from_bytes(data[at + 1 : at + 5], "big")
        assert size >= 4, f"impossible length: {data[at : at + 20]!r}"
        assert at + 1 + size <= len(data), f"a message is cut: {data[at : at + 60]!r}"
        yield chr(data[at]), data[at + 5 : at + 1 + size]
        at += size + 1


def complete(data: bytes | bytearray) -> int:
    """How many bytes of whole messages `data` begins with."""
    at = 0
    while at + 5 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 5], "big") + 1
        if at + size > len(data):
            break
        at += size
    return at
