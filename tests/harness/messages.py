"""Build the messages of a PostgreSQL client, byte by byte and on purpose apart from pglido's own builders."""

import struct
from collections.abc import Iterable, Sequence

PROTOCOL_3_0 = 0x00030000
PROTOCOL_3_2 = 0x00030002

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)
SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
COPY_DONE = b"c\0\0\0\4"

Value = str | bytes | None


def message(kind: str, body: bytes = b"") -> bytes:
    """One message: type byte, length that counts itself, body."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def text(value: str | bytes) -> bytes:
    """A zero-terminated string."""
    return (value.encode() if isinstance(value, str) else value) + b"\0"


def startup(parameters: Iterable[tuple[str, str | bytes]], version: int = PROTOCOL_3_0) -> bytes:
    """A StartupMessage with the parameters in the given order."""
    body = b"".join(text(name) + text(value) for name, value in parameters) + b"\0"
    return struct.pack("!ii", len(body) + 8, version) + body


def cancel_request(pid: int, key: bytes) -> bytes:
    """A CancelRequest; keys of 3.2 are longer than 4 bytes."""
    return struct.pack("!iii", 12 + len(key), 80877102, pid) + key


def query(sql: str | bytes) -> bytes:
    """A simple Query."""
    return message("Q", text(sql))


def parse(name: str, sql: str | bytes, *types: int) -> bytes:
    """A Parse; `types` are the OIDs of the parameters."""
    return message("P", text(name) + text(sql) + struct.pack(f"!h{len(types)}I", len(types), *types))


def bind(
    portal: str,
    statement: str,
    *values: Value,
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """A Bind of `values`, None being NULL; `formats` and `results` are format codes as on the wire."""
    body = text(portal) + text(statement)
    body += struct.pack(f"!h{len(formats)}h", len(formats), *formats)
    body += struct.pack("!h", len(values))
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message("B", body + struct.pack(f"!h{len(results)}h", len(results), *results))


def describe_statement(name: str = "") -> bytes:
    """A Describe of a prepared statement."""
    return message("D", b"S" + text(name))


def describe_portal(name: str = "") -> bytes:
    """A Describe of a portal."""
    return message("D", b"P" + text(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    """An Execute; a limit of 0 means all rows."""
    return message("E", text(portal) + struct.pack("!i", limit))


def close_statement(name: str = "") -> bytes:
    """A Close of a prepared statement."""
    return message("C", b"S" + text(name))


def close_portal(name: str = "") -> bytes:
    """A Close of a portal."""
    return message("C", b"P" + text(name))


def copy_data(data: bytes) -> bytes:
    """A CopyData."""
    return message("d", data)


def copy_fail(reason: str) -> bytes:
    """A CopyFail."""
    return message("f", text(reason))


def function_call(oid: int, *values: Value, binary: bool = False) -> bytes:
    """A FunctionCall with all arguments and the result in one format."""
    code = 1 if binary else 0
    body = struct.pack("!Ihhh", oid, 1, code, len(values))
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message("F", body + struct.pack("!h", code))


def password(secret: str | bytes) -> bytes:
    """A PasswordMessage."""
    return message("p", text(secret))


def sasl_initial(mechanism: str, first: str) -> bytes:
    """A SASLInitialResponse."""
    return message("p", text(mechanism) + struct.pack("!i", len(first.encode())) + first.encode())
