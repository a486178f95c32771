"""Build and read whole messages: the small, rare ones that pglido itself sends or looks into."""

import struct
from collections.abc import Iterable, Iterator

from . import codes

_HEADER = struct.Struct("!ci")
_INT = struct.Struct("!i")

PARSE_COMPLETE = b"1\0\0\0\4"
BIND_COMPLETE = b"2\0\0\0\4"
CLOSE_COMPLETE = b"3\0\0\0\4"
NO_DATA = b"n\0\0\0\4"
PORTAL_SUSPENDED = b"s\0\0\0\4"
EMPTY_QUERY_RESPONSE = b"I\0\0\0\4"
SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
SSL_REQUEST = (8).to_bytes(4, "big") + codes.SSL_REQUEST.to_bytes(4, "big")
READY_IDLE = b"Z\0\0\0\5I"
AUTHENTICATION_OK = b"R\0\0\0\x08\0\0\0\0"
EMPTY_QUERY = b"Q\0\0\0\5\0"
# What follows the name in a Parse of the empty query.
EMPTY_STATEMENT = b"\0\0\0"
COPY_DONE = b"c\0\0\0\4"

# How bytes that are no UTF-8 are kept in text (see PEP 383).
ESCAPE = "surrogateescape"


# "ROLLBACK" in the extended protocol, through the unnamed statement and portal.
ROLL_BACK = b"P\0\0\0\x10\0ROLLBACK\0\0\0" + b"B\0\0\0\x0c\0\0\0\0\0\0\0\0" + b"E\0\0\0\x09\0\0\0\0\0"


def message(kind: int, body: bytes) -> bytes:
    """One message: type byte, int32 length that counts itself, body."""
    return _HEADER.pack(bytes((kind,)), len(body) + 4) + body


def query(sql: str) -> bytes:
    """A simple Query; bytes that were no UTF-8 are what they were."""
    return message(codes.QUERY, sql.encode("utf-8", ESCAPE) + b"\0")


def parse(name: bytes, rest: bytes) -> bytes:
    """A Parse of statement `name`; `rest` is query text, zero, parameter count and types as on the wire."""
    return message(codes.PARSE, name + b"\0" + rest)


def close_statement(name: bytes) -> bytes:
    """A Close of a prepared statement."""
    return message(codes.CLOSE, b"S" + name + b"\0")


def describe_statement(name: bytes) -> bytes:
    """A Describe of a prepared statement."""
    return message(codes.DESCRIBE, b"S" + name + b"\0")


def columns(body: bytes) -> bytes:
    """Of a RowDescription what a client goes by: each column's name, type and type modifier; of a NoData nothing.

    Raises ValueError where it is cut.
    """
    found = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at) + 1
        if end + 18 > len(body):
            raise ValueError("columns cut")
        found.append(body[at:end] + body[end + 6 : end + 10] + body[end + 12 : end + 16])
        at = end + 18
    return b"".join(found)


def copy_fail(reason: str) -> bytes:
    """A CopyFail."""
    return message(codes.COPY_FAIL, reason.encode() + b"\0")


def parameter_status(name: str, value: str) -> bytes:
    """A ParameterStatus; bytes that were no UTF-8 are what they were."""
    return message(codes.PARAMETER_STATUS, name.encode() + b"\0" + value.encode("utf-8", ESCAPE) + b"\0")


def command_complete(tag: str) -> bytes:
    """A CommandComplete."""
    return message(codes.COMMAND_COMPLETE, tag.encode() + b"\0")


def ready(status: str) -> bytes:
    """A ReadyForQuery; `status` is I, T or E."""
    return message(codes.READY_FOR_QUERY, status.encode())


def backend_key_data(pid: int, key: bytes) -> bytes:
    """A BackendKeyData; the key has 4 bytes in protocol 3.0 and up to 256 in 3.2."""
    return message(codes.BACKEND_KEY_DATA, _INT.pack(pid) + key)


def negotiate_protocol_version(minor: int, unknown: Iterable[str]) -> bytes:
    """A NegotiateProtocolVersion: the newest minor version served, and the `_pq_.` options not understood."""
    names = [name.encode() + b"\0" for name in unknown]
    body = _INT.pack(codes.PROTOCOL_3_0 + minor) + _INT.pack(len(names)) + b"".join(names)
    return message(codes.NEGOTIATE_PROTOCOL_VERSION, body)


def error(severity: str, sqlstate: str, text: str, detail: str = "", hint: str = "") -> bytes:
    """An ErrorResponse (severity ERROR or FATAL) of pglido's own."""
    return message(codes.ERROR_RESPONSE, _report(severity, sqlstate, text, detail, hint))


def notice(text: str, detail: str = "", hint: str = "") -> bytes:
    """A NoticeResponse of pglido's own."""
    return message(codes.NOTICE_RESPONSE, _report("NOTICE", "00000", text, detail, hint))


def remark(severity: str, sqlstate: str, text: str, detail: str = "") -> bytes:
    """A NoticeResponse of another severity."""
    return message(codes.NOTICE_RESPONSE, _report(severity, sqlstate, text, detail, ""))


def _report(severity: str, sqlstate: str, text: str, detail: str, hint: str) -> bytes:
    fields = (("S", severity), ("V", severity), ("C", sqlstate), ("M", text), ("D", detail), ("H", hint))
    return b"".join(f"{code}{value}\0".encode("utf-8", ESCAPE) for code, value in fields if value) + b"\0"


def report_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their code letter; garbage gives what could be read."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            fields.setdefault(chr(part[0]), part[1:].decode("utf-8", "replace"))
    return fields


def values(body: bytes, at: int) -> Iterator[bytes | None]:
    """The values that are counted from `body[at]` on, as in DataRow and Bind; raises ValueError where it is cut."""
    if at + 2 > len(body):
        raise ValueError("values cut")
    count = int.from_bytes(body[at : at + 2], "big")
    at += 2
    for _ in range(count):
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if at + max(size, 0) > len(body):
            raise ValueError("values cut")
        yield None if size < 0 else body[at : at + size]
        at += max(size, 0)


def data_row(body: bytes) -> list[bytes | None]:
    """The values of a DataRow; raises ValueError where lengths don't fit."""
    return list(values(body, 0))


def cancel_request(pid: int, key: bytes) -> bytes:
    """A CancelRequest packet."""
    return struct.pack("!iii", 12 + len(key), codes.CANCEL_REQUEST, pid) + key


def startup(version: int, parameters: Iterable[tuple[str, str]]) -> bytes:
    """A StartupMessage packet; parameters in the given order, `user` among them."""
    body = b"".join(f"{name}\0{value}\0".encode("utf-8", ESCAPE) for name, value in parameters) + b"\0"
    return struct.pack("!ii", len(body) + 8, version) + body


def cstrings(body: bytes) -> Iterator[bytes]:
    """The zero-terminated strings in `body`; what follows the last zero is left out."""
    at = 0
    while (end := body.find(b"\0", at)) >= 0:
        yield body[at:end]
        at = end + 1
