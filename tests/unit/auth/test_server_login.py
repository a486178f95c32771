"""The whole conversation of a login to a server: each answer it may give, cut anywhere, and each mode of TLS."""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from harness.fake import AUTHENTICATION_OK, READY, error, key_data, parameter
from harness.messages import message
from pglido.auth.errors import AuthError, LoginRefused, OtherVerifier
from pglido.auth.scram import Keys
from pglido.auth.secrets import Credentials, Md5, Plain, Unset, md5_secret
from pglido.auth.server_login import (
    LOGIN_LIMIT,
    LONGEST_TEXT,
    Derive,
    NoPostgres,
    NoTls,
    Receive,
    Send,
    ServerGone,
    ServerReport,
    StartTls,
    Talk,
    Tls,
    attempts,
    log_in,
    offers_tls,
    secured,
)
from pglido.config.enums import AuthType, SslMode
from pglido.protocol import messages
from pglido.protocol.errors import ProtocolViolation

from .dialogue import BINDING, counting, make_verifier, start

NOTHING = Unset()
PARAMETERS = {"user": "joe", "database": "app", "TimeZone": "UTC"}
STARTUP = messages.startup(0x00030002, PARAMETERS.items())
REPORTED = parameter("server_version", "18.1") + parameter("TimeZone", "UTC") + key_data(-7, b"k" * 32) + READY
REPORT = ServerReport({"server_version": "18.1", "TimeZone": "UTC"}, -7, b"k" * 32)
NOTICE = message("N", b"SNOTICE\0Mhello\0\0")
NEGOTIATED = message("v", b"\0\3\0\0\0\0\0\0")
# A postmaster that can't fork says so by protocol 2.0.
OLD = b"Ecould not fork new process for connection\n\0"


class Server:
    """What a server says, bytes that it has prepared or that `answer` makes of what it hears; then it closes."""

    def __init__(self, said: bytes = b"", answer: Callable[[bytes], bytes] = lambda heard: b"") -> None:
        self.left = said
        self.answer = answer
        self.heard: list[bytes] = []
        self.derived = 0
        self.tls = 0

    def meet(self, talk: Talk[Any]) -> Any:
        """The end of a conversation: what it returns, or raises."""
        reply: bytes | None = None
        while True:
            try:
                step = talk.send(reply)
            except StopIteration as end:
                return end.value
            reply = None
            match step:
                case Send(data):
                    self.heard.append(data)
                    self.left += self.answer(data)
                case Receive(size):
                    reply, self.left = self.left[:size], self.left[size:]
                case StartTls():
                    assert not self.left
                    self.tls += 1
                case Derive(call):
                    self.derived += 1
                    reply = call()


def login(credentials: Credentials = NOTHING, binding: bytes | None = None) -> Talk[ServerReport]:
    return log_in(PARAMETERS, credentials, binding=binding, rng=counting())


def asking(first: bytes, *, then: bytes = AUTHENTICATION_OK + REPORTED) -> Callable[[bytes], bytes]:
    """A server that asks for a proof, and takes any."""
    said = iter([first, then])
    return lambda heard: next(said)


def scram(password: str, binding: bytes | None = None, iterations: int = 4096) -> Callable[[bytes], bytes]:
    """A server that asks for SCRAM, and judges."""
    exchange = start(AuthType.SCRAM_SHA_256, "joe", make_verifier(password, iterations), binding=binding)

    def answers() -> Generator[bytes, bytes, None]:
        yield b""
        heard = yield next(exchange)
        try:
            while True:
                heard = yield exchange.send(heard[5:])
        except StopIteration as end:
            yield end.value.last + AUTHENTICATION_OK + REPORTED
        except AuthError as refused:
            yield error("FATAL", refused.sqlstate, refused.text)

    said = answers()
    next(said)
    return said.send


# Proofs.


def test_a_server_that_trusts_is_heard_to_the_end() -> None:
    server = Server(NEGOTIATED + NOTICE + AUTHENTICATION_OK + NOTICE + REPORTED + b"left")
    assert server.meet(login()) == REPORT
    assert server.heard == [STARTUP]
    assert server.left == b"left"


@pytest.mark.parametrize(
    ("asked", "credentials", "reply"),
    [
        (b"\0\0\0\3", Plain("secret"), b"secret\0"),
        (b"\0\0\0\5salt", Plain("secret"), None),
        (b"\0\0\0\5salt", md5_secret("secret", "joe"), None),
    ],
    ids=["password", "md5 of a password", "md5 of a secret"],
)
def test_a_password_is_shown_as_the_server_asks(asked: bytes, credentials: Credentials, reply: bytes | None) -> None:
    server = Server(answer=asking(message("R", asked)))
    assert server.meet(login(credentials)) == REPORT
    kind, said = server.heard[1][:1], server.heard[1][5:]
    assert kind == b"p"
    assert said == reply if reply else said.startswith(b"md5")
    assert not server.derived


def test_scram_derives_its_key_apart_and_once() -> None:
    for times in (1, 0):
        server = Server(answer=scram("known to nobody else", iterations=4097))
        assert server.meet(login(Plain("known to nobody else"))) == REPORT
        assert server.derived == times


def test_scram_plus_where_there_is_tls() -> None:
    server = Server(answer=scram("secret", BINDING))
    assert server.meet(login(Plain("secret"), BINDING)) == REPORT
    assert server.heard[1][5:].startswith(b"SCRAM-SHA-256-PLUS\0")


def test_a_proof_that_does_not_hold_is_the_servers_refusal() -> None:
    with pytest.raises(LoginRefused) as refused:
        Server(answer=scram("secret")).meet(login(Plain("guess")))
    assert (refused.value.sqlstate, refused.value.severity) == ("28P01", "FATAL")


@pytest.mark.parametrize("credentials", [Unset(), Md5("md5" + "0" * 32), make_verifier("secret")], ids=["0", "1", "2"])
def test_a_proof_that_can_not_be_given(credentials: Credentials) -> None:
    with pytest.raises(AuthError, match="cannot do SCRAM"):
        Server(answer=scram("secret")).meet(login(credentials))


def test_keys_of_another_verifier_are_told_apart() -> None:
    keys = Keys(4096, b"another salt 123", bytes(32), bytes(32))
    with pytest.raises(OtherVerifier):
        Server(answer=scram("secret")).meet(login(keys))


# What servers say instead.


@pytest.mark.parametrize(
    ("said", "sqlstate", "text", "severity"),
    [
        (error("FATAL", "3D000", 'database "app" does not exist'), "3D000", 'database "app" does not exist', "FATAL"),
        (AUTHENTICATION_OK + error("FATAL", "53300", "too many"), "53300", "too many", "FATAL"),
        (message("E", b"\0"), "08006", "no message", "ERROR"),
        (message("E", b"SPANIC\0C1\0Mx\0\0"), "08006", "x", "PANIC"),
        (message("E", b"C\xff\xff\xff\xff\xff\0M" + b"x" * 5000 + b"\0\0"), "08006", "x" * LONGEST_TEXT, "ERROR"),
        (OLD, "53000", "could not fork new process for connection", "FATAL"),
        (b"E" + b"x" * 5000, "53000", "x" * LONGEST_TEXT, "FATAL"),
    ],
)
def test_an_error_is_the_servers_own(said: bytes, sqlstate: str, text: str, severity: str) -> None:
    with pytest.raises(LoginRefused) as refused:
        Server(said).meet(login())
    assert (refused.value.sqlstate, refused.value.text, refused.value.severity) == (sqlstate, text, severity)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"R\0\0\0\0", "invalid message length 0"),
        (b"R\0\0\0\3", "invalid message length 3"),
        (b"R" + (LOGIN_LIMIT + 1).to_bytes(4, "big"), f"invalid message length {LOGIN_LIMIT + 1}"),
        (b"R\xff\xff\xff\xff", "invalid message length 4294967295"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "invalid message length 1414811695"),
        (message("R", b"\0\0"), "authentication request"),
        (READY, "type 0x5a before authentication"),
        (parameter("a", "b"), "type 0x53 before authentication"),
        (AUTHENTICATION_OK + AUTHENTICATION_OK, "type 0x52"),
        (AUTHENTICATION_OK + message("S", b"TimeZone"), "ParameterStatus"),
        (AUTHENTICATION_OK + message("S", b"a\0b\0c\0"), "ParameterStatus"),
        (AUTHENTICATION_OK + message("K", b"\0\0\0\1abc"), "BackendKeyData"),
        (AUTHENTICATION_OK + message("K", bytes(261)), "BackendKeyData"),
        (AUTHENTICATION_OK + message("D", b"\0\0"), "type 0x44"),
        *[(AUTHENTICATION_OK + message("Z", one), "ReadyForQuery of a transaction") for one in (b"", b"T", b"E", b"?")],
    ],
)
def test_what_a_login_does_not_have(said: bytes, why: str) -> None:
    with pytest.raises(ProtocolViolation) as broken:
        Server(said).meet(login())
    assert broken.value.text == why


def test_a_name_of_a_parameter_that_is_no_text() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        Server(AUTHENTICATION_OK + message("S", b"\xff\0x\0")).meet(login())
    report = Server(AUTHENTICATION_OK + message("S", b"x\0\xff\0") + READY).meet(login())
    assert report.parameters == {"x": "\udcff"}


def test_proofs_end_with_authentication() -> None:
    for first in (b"\0\0\0\x63", b"\0\0\0\7", b"\0\0\0\5", b"\0\0\0\x0a\0", b"\0\0\0\x0aNO-SUCH\0\0", b"\0\0\0\x0b"):
        with pytest.raises(AuthError):
            Server(message("R", first)).meet(login(Plain("secret")))
    with pytest.raises(AuthError, match="after the password was sent"):
        Server(answer=asking(message("R", b"\0\0\0\3"), then=message("R", b"\0\0\0\3"))).meet(login(Plain("secret")))


@pytest.mark.parametrize(
    "said",
    [
        NEGOTIATED + NOTICE + AUTHENTICATION_OK + REPORTED,
        error("FATAL", "28000", "go away"),
        message("R", b"\0\0\0\3"),
    ],
    ids=["welcome", "error", "password"],
)
def test_a_server_that_closes_in_the_middle(said: bytes) -> None:
    for at in range(len(said)):
        with pytest.raises(ServerGone):
            Server(said[:at]).meet(login(Plain("secret")))


def test_an_old_error_that_is_cut_is_told_as_far_as_it_goes() -> None:
    for at in range(5, len(OLD)):
        with pytest.raises(LoginRefused) as refused:
            Server(OLD[:at]).meet(login())
        assert refused.value.text == OLD[1:at].decode().rstrip("\n\0")


# TLS.


@pytest.mark.parametrize(
    ("mode", "tries"),
    [
        (SslMode.DISABLE, (Tls.OFF,)),
        (SslMode.ALLOW, (Tls.OFF, Tls.WANTED)),
        (SslMode.PREFER, (Tls.WANTED, Tls.OFF)),
        (SslMode.REQUIRE, (Tls.NEEDED,)),
        (SslMode.VERIFY_CA, (Tls.NEEDED,)),
        (SslMode.VERIFY_FULL, (Tls.NEEDED,)),
    ],
)
def test_what_each_mode_tries(mode: SslMode, tries: tuple[Tls, ...]) -> None:
    assert attempts(mode, unix=False) == tries
    assert attempts(mode, unix=True) == (Tls.OFF,)


@pytest.mark.parametrize(
    ("tls", "reply", "on"),
    [(Tls.OFF, b"", False), (Tls.WANTED, b"S", True), (Tls.WANTED, b"N", False), (Tls.NEEDED, b"S", True)],
)
def test_tls_begins_where_it_is_wanted_and_offered(tls: Tls, reply: bytes, on: bool) -> None:
    server = Server(reply)
    assert server.meet(secured(tls)) is on
    assert server.tls == int(on)
    assert server.heard == ([] if tls is Tls.OFF else [b"\0\0\0\x08\x04\xd2\x16\x2f"])


@pytest.mark.parametrize(
    ("tls", "reply", "problem"),
    [
        (Tls.NEEDED, b"N", NoTls),
        (Tls.WANTED, b"", ServerGone),
        (Tls.NEEDED, b"", ServerGone),
        (Tls.WANTED, b"H", NoPostgres),
        (Tls.NEEDED, b"E", NoPostgres),
    ],
)
def test_tls_that_can_not_be_had(tls: Tls, reply: bytes, problem: type[Exception]) -> None:
    server = Server(reply)
    with pytest.raises(problem):
        server.meet(secured(tls))
    assert not server.tls


def test_whether_there_is_tls_can_be_asked_alone() -> None:
    assert Server(b"S").meet(offers_tls()) is True
    assert Server(b"N").meet(offers_tls()) is False
