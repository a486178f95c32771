"""Log in to PostgreSQL: all that is said from the connected socket to ReadyForQuery, by generators without a socket.

Who has the socket takes each step that they yield: sends, receives, starts TLS, or makes a call that takes long, and
sends the reply into the generator. Chapter "Message Flow" of PostgreSQL's manual; libpq's fe-connect.c for sslmode.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar

from ..config.enums import SslMode
from ..protocol import codes, messages
from ..protocol.errors import PgError, ProtocolViolation
from . import scram
from .errors import LoginRefused
from .log_in_to_server import Dialogue, answer, derives
from .secrets import Credentials

# A login's messages are small; what is larger is no PostgreSQL.
LOGIN_LIMIT = 1 << 20
# Characters that are kept of what a server says.
LONGEST_TEXT = 1000

Result = TypeVar("Result")


class Send(NamedTuple):
    """Send these bytes; no reply."""

    data: bytes


class Receive(NamedTuple):
    """The reply is exactly so many bytes; fewer where the server closes before."""

    size: int


class StartTls(NamedTuple):
    """Make it a TLS connection from here on; no reply. Nothing may have come that is not of TLS."""


class Derive(NamedTuple):
    """The reply is what this call returns. It takes long: about a millisecond for each thousand iterations."""

    call: Callable[[], bytes | None]


Step = Send | Receive | StartTls | Derive
Talk = Generator[Step, Any, Result]


class ServerGone(PgError):
    """The server closed the connection."""

    def __init__(self) -> None:
        super().__init__("08006", "closed the connection")


class NoTls(PgError):
    """The server offers no TLS, which was required."""

    def __init__(self) -> None:
        super().__init__("28000", "does not support SSL, but SSL was required")


class NoPostgres(PgError):
    """What answers is no PostgreSQL."""

    def __init__(self) -> None:
        super().__init__("08001", "answered garbage to the SSL request")


class Tls(IntEnum):
    """Whether one attempt to log in asks for TLS, and whether it goes on without."""

    OFF = 0
    WANTED = 1
    NEEDED = 2


_ATTEMPTS = {
    SslMode.DISABLE: (Tls.OFF,),
    SslMode.ALLOW: (Tls.OFF, Tls.WANTED),
    SslMode.PREFER: (Tls.WANTED, Tls.OFF),
}


def attempts(mode: SslMode, *, unix: bool) -> tuple[Tls, ...]:
    """The attempts that a mode makes at one address, in order. The second follows where the server refuses a login
    without TLS, or where TLS itself fails. A Unix socket has no TLS.
    """
    return (Tls.OFF,) if unix else _ATTEMPTS.get(mode, (Tls.NEEDED,))


@dataclass(slots=True)
class ServerReport:
    """What a server has told of the session that it began; `key` is what cancels it, with `pid`."""

    parameters: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    key: bytes = b""


def offers_tls() -> Talk[bool]:
    """Ask whether there is TLS. Raises ServerGone or NoPostgres."""
    yield Send(messages.SSL_REQUEST)
    reply = yield from _exactly(1)
    if reply not in (b"S", b"N"):
        raise NoPostgres
    return reply == b"S"


def secured(tls: Tls) -> Talk[bool]:
    """Begin TLS where it is wanted and offered; returns whether it is on. Raises ServerGone, NoPostgres or NoTls."""
    if tls is Tls.OFF:
        return False
    if (yield from offers_tls()):
        yield StartTls()
        return True
    if tls is Tls.NEEDED:
        raise NoTls
    return False


def log_in(
    parameters: Mapping[str, str], credentials: Credentials, *, binding: bytes | None, rng: scram.Random
) -> Talk[ServerReport]:
    """From the StartupMessage to ReadyForQuery; `user` is among the parameters.

    `binding` is the tls-server-end-point hash of the server's certificate where TLS is in use. Raises LoginRefused for
    a server's error, AuthError for a proof that can't be given, ServerGone, and ProtocolViolation or ValueError for
    messages that a login does not have.
    """
    yield Send(messages.startup(codes.PROTOCOL_3_2, parameters.items()))
    proof = answer(parameters["user"], credentials, binding=binding, rng=rng)
    next(proof)
    report = ServerReport()
    authenticated = False
    while True:
        kind, body = yield from _message()
        if kind == codes.AUTHENTICATION and not authenticated:
            if len(body) < 4:
                raise ProtocolViolation("authentication request")
            code, data = int.from_bytes(body[:4], "big"), body[4:]
            call = partial(_proved, proof, code, data)
            reply = (yield Derive(call)) if derives(credentials, code, data) else call()
            authenticated = body == b"\0\0\0\0"
            if reply:
                yield Send(reply)
        elif kind == codes.ERROR_RESPONSE:
            raise _refusal(body)
        elif kind == codes.NOTICE_RESPONSE or kind == codes.NEGOTIATE_PROTOCOL_VERSION:
            continue
        elif not authenticated:
            raise ProtocolViolation(f"type {kind:#04x} before authentication")
        elif _learned(report, kind, body):
            return report


def _exactly(count: int) -> Talk[bytes]:
    data: bytes = yield Receive(count)
    if len(data) < count:
        raise ServerGone
    return data


def _message() -> Talk[tuple[int, bytes]]:
    """The next message; a postmaster that can't fork sends its error as protocol 2.0 has it (libpq takes it, too)."""
    head = yield from _exactly(5)
    size = int.from_bytes(head[1:], "big")
    if head[0] == codes.ERROR_RESPONSE and size > LOGIN_LIMIT:
        text = head[1:]
        while len(text) < LONGEST_TEXT and not text.endswith(b"\0") and (more := (yield Receive(1))):
            text += more
        raise LoginRefused("53000", text.rstrip(b"\n\0").decode("utf-8", "replace"))
    if not 4 <= size <= LOGIN_LIMIT:
        raise ProtocolViolation(f"invalid message length {size}")
    return head[0], (yield from _exactly(size - 4))


def _proved(proof: Dialogue, code: int, data: bytes) -> bytes | None:
    """What is said to an authentication request. Raises AuthError."""
    try:
        return proof.send((code, data))
    except StopIteration:
        return None


def _refusal(body: bytes) -> LoginRefused:
    """What an ErrorResponse says."""
    fields = messages.report_fields(body)
    sqlstate = fields.get("C", "")
    known = len(sqlstate) == 5 and sqlstate.isascii() and sqlstate.isalnum()
    text = fields.get("M", "no message")[:LONGEST_TEXT]
    return LoginRefused(sqlstate if known else "08006", text, fields.get("S", "ERROR")[:LONGEST_TEXT])


def _learned(report: ServerReport, kind: int, body: bytes) -> bool:
    """One message between AuthenticationOk and ReadyForQuery; True at the end."""
    if kind == codes.PARAMETER_STATUS:
        words = body.split(b"\0")
        if len(words) != 3:
            raise ProtocolViolation("ParameterStatus")
        report.parameters[words[0].decode()] = words[1].decode("utf-8", messages.ESCAPE)
    elif kind == codes.BACKEND_KEY_DATA:
        if not 8 <= len(body) <= 260:
            raise ProtocolViolation("BackendKeyData")
        report.pid = int.from_bytes(body[:4], "big", signed=True)
        report.key = body[4:]
    elif kind == codes.READY_FOR_QUERY:
        if body != b"I":
            raise ProtocolViolation("ReadyForQuery of a transaction")
        return True
    else:
        raise ProtocolViolation(f"type {kind:#04x}")
    return False
