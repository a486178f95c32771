"""Logging in to a server: by each method it may ask for, and against servers that lie."""

import hashlib
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth import log_in_to_server, scram
from pglido.auth.errors import AuthError
from pglido.auth.log_in_to_server import Dialogue, answer
from pglido.auth.scram import Keys
from pglido.auth.secrets import Credentials, Md5, Plain, Unset, md5_response, md5_secret
from pglido.config.enums import AuthType
from pglido.protocol import codes

from .dialogue import BINDING, body, counting, ended, make_verifier, request, start

VERIFIER = make_verifier("secret")
DERIVED = scram.derive(b"secret", VERIFIER.salt, VERIFIER.iterations)
KEYS = Keys(VERIFIER.iterations, VERIFIER.salt, DERIVED.client_key, DERIVED.server_key)
BOTH = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
ONE = b"SCRAM-SHA-256\0\0"
OK = (codes.AUTH_OK, b"")


def log_in(credentials: Credentials, binding: bytes | None = None) -> Dialogue:
    dialogue = answer("joe", credentials, binding=binding, rng=counting())
    assert next(dialogue) is None
    return dialogue


def is_done(dialogue: Dialogue) -> bool:
    with pytest.raises(StopIteration):
        dialogue.send(OK)
    return True


# The simple methods


def kind(secret: object) -> str:
    """The name of a parameter's type: the same in each process."""
    return type(secret).__name__


@pytest.mark.parametrize(
    "credentials", [Unset(), Plain("x"), Md5("md5" + "0" * 32), VERIFIER, KEYS], ids=kind
)
def test_a_server_that_trusts_asks_nothing(credentials: Credentials) -> None:
    assert is_done(log_in(credentials))


def test_a_password_goes_in_clear_when_asked_for() -> None:
    dialogue = log_in(Plain("pässword"))
    assert dialogue.send((codes.AUTH_CLEARTEXT, b"")) == b"p\0\0\0\x0e" + "pässword".encode() + b"\0"
    assert is_done(dialogue)


@pytest.mark.parametrize("credentials", [Plain("secret"), md5_secret("secret", "joe")], ids=kind)
def test_an_md5_challenge_is_answered(credentials: Credentials) -> None:
    dialogue = log_in(credentials)
    reply = dialogue.send((codes.AUTH_MD5, b"salt"))
    assert reply is not None
    assert body(reply) == md5_response(md5_secret("secret", "joe"), b"salt") + b"\0"
    assert is_done(dialogue)


def test_the_md5_secret_and_response_are_postgresqls() -> None:
    secret = md5_secret("secret", "joe")
    assert secret.text == "md5" + hashlib.md5(b"secretjoe").hexdigest()
    expected = hashlib.md5(secret.text[3:].encode() + b"salt").hexdigest()
    assert md5_response(secret, b"salt") == b"md5" + expected.encode()


# SCRAM, with our own other side, which scramp's client has checked


def meet(credentials: Credentials, secret: Any, ours: bytes | None, theirs: bytes | None) -> str:
    """Log in to `verify` as the server; gives the mechanism that was chosen."""
    exchange = start(AuthType.SCRAM_SHA_256, "joe", secret, binding=theirs)
    dialogue = log_in(credentials, ours)
    first = dialogue.send(request(next(exchange)))
    assert first is not None
    final = dialogue.send(request(exchange.send(body(first))))
    assert final is not None
    proof = ended(exchange, body(final))
    assert dialogue.send(request(proof.last)) is None
    assert is_done(dialogue)
    return body(first).partition(b"\0")[0].decode()


@pytest.mark.parametrize("credentials", [Plain("secret"), KEYS], ids=kind)
def test_scram_with_and_without_binding(credentials: Credentials) -> None:
    assert meet(credentials, VERIFIER, None, None) == "SCRAM-SHA-256"
    assert meet(credentials, VERIFIER, BINDING, BINDING) == "SCRAM-SHA-256-PLUS"
    assert meet(credentials, VERIFIER, BINDING, None) == "SCRAM-SHA-256"
    assert meet(credentials, VERIFIER, None, BINDING) == "SCRAM-SHA-256"


def test_passwords_are_prepared() -> None:
    meet(Plain("\u2168\u00a0x"), make_verifier("IX x"), None, None)


def test_a_relayed_connection_is_not_let_in() -> None:
    with pytest.raises(AuthError, match="another certificate"):
        meet(Plain("secret"), VERIFIER, BINDING, b"\x18" * 32)


def test_a_stripped_offer_is_noticed_by_the_server() -> None:
    exchange = start(AuthType.SCRAM_SHA_256, "joe", VERIFIER, binding=BINDING)
    next(exchange)
    first = log_in(Plain("secret"), BINDING).send((codes.AUTH_SASL, ONE))
    assert first is not None
    with pytest.raises(AuthError, match="told that we do not"):
        exchange.send(body(first))


def test_keys_of_another_verifier_are_not_sent() -> None:
    with pytest.raises(AuthError, match=r"another SCRAM verifier.*use auth_query"):
        meet(KEYS, make_verifier("secret", salt=b"another salt ..."), None, None)
    with pytest.raises(AuthError, match="another SCRAM verifier"):
        meet(KEYS, make_verifier("secret", 5000), None, None)


def test_a_derivation_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    real = scram.derive
    monkeypatch.setattr(log_in_to_server, "_DERIVATIONS", scram.Derivations(10))
    monkeypatch.setattr(scram, "derive", lambda *key: done.append(key) or real(*key))
    for _ in range(3):
        meet(Plain("secret"), VERIFIER, None, None)
    assert len(done) == 1


def test_which_answers_take_a_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_in_to_server, "_DERIVATIONS", scram.Derivations(10))
    salt = b64encode(VERIFIER.salt)
    first = b"r=abc,s=%b,i=%d" % (salt, VERIFIER.iterations)
    step, password = codes.AUTH_SASL_CONTINUE, Plain("secret")
    assert log_in_to_server.derives(password, step, first)
    assert not log_in_to_server.derives(password, codes.AUTH_SASL, first)
    assert not log_in_to_server.derives(KEYS, step, first)
    # What will be refused takes none.
    assert not log_in_to_server.derives(password, step, b"r=abc,s=%b,i=%d" % (salt, scram.MAX_ITERATIONS + 1))
    assert not log_in_to_server.derives(password, step, b"r=abc,s=%b,i=4096" % b"no base64!")
    assert not log_in_to_server.derives(password, step, b"r=abc")
    meet(password, VERIFIER, None, None)
    assert not log_in_to_server.derives(password, step, first)


# What is missing


@pytest.mark.parametrize(
    ("credentials", "challenge", "text"),
    [
        (Unset(), (codes.AUTH_CLEARTEXT, b""), "cannot do cleartext .* there is no password: set one"),
        (md5_secret("x", "joe"), (codes.AUTH_CLEARTEXT, b""), "there is only an MD5 secret"),
        (KEYS, (codes.AUTH_CLEARTEXT, b""), "there is only the SCRAM keys"),
        (Unset(), (codes.AUTH_MD5, b"salt"), "cannot do MD5"),
        (VERIFIER, (codes.AUTH_MD5, b"salt"), "cannot do MD5 .* there is only a SCRAM verifier"),
        (Unset(), (codes.AUTH_SASL, ONE), "cannot do SCRAM"),
        (VERIFIER, (codes.AUTH_SASL, ONE), "no client has proved itself by it"),
        (md5_secret("x", "joe"), (codes.AUTH_SASL, ONE), "there is only an MD5 secret"),
    ],
)
def test_missing_credentials_are_explained(
    credentials: Credentials, challenge: tuple[int, bytes], text: str
) -> None:
    with pytest.raises(AuthError, match=text) as error:
        log_in(credentials).send(challenge)
    assert error.value.text == "server login failed: wrong password type"


@pytest.mark.parametrize(("code", "name"), [(7, "GSSAPI"), (9, "SSPI"), (2, "Kerberos V5")])
def test_unsupported_methods_are_named(code: int, name: str) -> None:
    with pytest.raises(AuthError, match=f"asks for {name}") as error:
        log_in(Plain("x")).send((code, b""))
    assert error.value.text == "server login failed: unknown authentication method"


# Servers that lie


def test_unknown_mechanisms_are_refused() -> None:
    with pytest.raises(AuthError, match="OAUTHBEARER"):
        log_in(Plain("x")).send((codes.AUTH_SASL, b"OAUTHBEARER\0\0"))


@pytest.mark.parametrize("data", [b"", b"\0", b"SCRAM-SHA-256", b"SCRAM-SHA-256\0", b"a" * 5000 + b"\0\0"])
def test_an_unreadable_list_of_mechanisms_is_refused(data: bytes) -> None:
    with pytest.raises(AuthError, match="unreadable list"):
        log_in(Plain("x")).send((codes.AUTH_SASL, data))


@pytest.mark.parametrize("salt", [b"", b"123", b"12345"])
def test_an_md5_salt_of_another_size_is_refused(salt: bytes) -> None:
    with pytest.raises(AuthError, match="4 bytes"):
        log_in(Plain("x")).send((codes.AUTH_MD5, salt))


@pytest.mark.parametrize("code", [codes.AUTH_CLEARTEXT, codes.AUTH_MD5])
def test_a_second_challenge_after_the_password_is_refused(code: int) -> None:
    dialogue = log_in(Plain("x"))
    dialogue.send((code, b"salt"))
    with pytest.raises(AuthError, match="after the password was sent"):
        dialogue.send((codes.AUTH_CLEARTEXT, b""))


@pytest.mark.parametrize("code", [-1, 1, 4, 11, 12, 99, 2**31 - 1])
def test_a_code_out_of_place_is_refused(code: int) -> None:
    with pytest.raises(AuthError, match="where a method was expected"):
        log_in(Plain("x")).send((code, b""))


def at_first() -> tuple[Dialogue, bytes]:
    """A SCRAM login whose client-first-message is out; and its nonce."""
    dialogue = log_in(Plain("secret"))
    first = dialogue.send((codes.AUTH_SASL, ONE))
    assert first is not None
    return dialogue, body(first).partition(b"r=")[2]


def at_final() -> tuple[Dialogue, bytes]:
    """A SCRAM login whose client-final-message is out; and the right signature."""
    dialogue, nonce = at_first()
    server_first = b"r=%bx,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096" % nonce
    final = dialogue.send((codes.AUTH_SASL_CONTINUE, server_first))
    assert final is not None
    unproved = body(final).partition(b",p=")[0]
    message = b"n=,r=%b,%b,%b" % (nonce, server_first, unproved)
    return dialogue, scram.sign(VERIFIER.server_key, message)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"r=%s,s=c2FsdA==,i=4096", "not ours continued"),
        (b"r=other,s=c2FsdA==,i=4096", "not ours continued"),
        (b"r=%s" + b"x" * 100_000 + b",s=c2FsdA==,i=4096", "a SCRAM message of 100"),
        (b"r=%sx,s=" + b"AAAA" * 10_000 + b",i=4096", "a SCRAM message of 400"),
        (b"r=%sx,s=c2FsdA,i=4096", "not Base64"),
        (b"r=%sx,s=====,i=4096", "not Base64"),
        (b"r=%sx,s=,i=4096", "unreadable"),
        (b"r=%sx,s=c2FsdA==,i=0", "0 SCRAM iterations"),
        (b"r=%sx,s=c2FsdA==,i=-1", "unreadable"),
        (b"r=%sx,s=c2FsdA==,i=1000001", "1000001 SCRAM iterations"),
        (b"r=%sx,s=c2FsdA==,i=2147483648", "2147483648 SCRAM iterations"),
        (b"r=%sx,s=c2FsdA==,i=" + b"9" * 400, "unreadable"),
        (b"r=%sx,s=c2FsdA==,i=\xd9\xa4", "unreadable"),
        (b"r=%sx,s=c2FsdA==,i=4096,x=y", "unreadable"),
        (b"r=%sx,s=c2FsdA==,i=4096\0", "unreadable"),
        (b"r=%s\0,s=c2FsdA==,i=4096", "unreadable"),
        (b"", "unreadable"),
    ],
)
def test_a_hostile_first_message_is_refused(data: bytes, text: str) -> None:
    dialogue, nonce = at_first()
    with pytest.raises(AuthError, match=text) as error:
        dialogue.send((codes.AUTH_SASL_CONTINUE, data.replace(b"%s", nonce)))
    assert error.value.text == "server login failed: protocol error"


@pytest.mark.parametrize(
    "code", [codes.AUTH_OK, codes.AUTH_SASL, codes.AUTH_SASL_FINAL, codes.AUTH_CLEARTEXT]
)
def test_a_server_must_not_leave_scram_in_the_middle(code: int) -> None:
    dialogue, _ = at_first()
    with pytest.raises(AuthError, match="in the middle of SCRAM"):
        dialogue.send((code, b""))
    dialogue, _ = at_final()
    with pytest.raises(AuthError, match="in the middle of SCRAM"):
        dialogue.send((codes.AUTH_OK, b""))


def test_the_right_signature_is_believed() -> None:
    dialogue, signature = at_final()
    assert dialogue.send((codes.AUTH_SASL_FINAL, b"v=" + b64encode(signature))) is None
    assert is_done(dialogue)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"v=" + b"A" * 43 + b"=", "signature is wrong"),
        (b"v=AAAA", "signature is wrong"),
        (b"v=A", "signature is wrong"),
        (b"v=", "unreadable"),
        (b"e=invalid-proof", "refused the SCRAM exchange: b'invalid-proof'"),
        (b"", "unreadable"),
        (b"x=y", "unreadable"),
        (b"v=" + b"A" * 5000, "a SCRAM message of 5002"),
    ],
)
def test_a_server_that_can_not_sign_is_not_believed(data: bytes, text: str) -> None:
    dialogue, _ = at_final()
    with pytest.raises(AuthError, match=text):
        dialogue.send((codes.AUTH_SASL_FINAL, data))


def test_nothing_but_ok_may_follow_the_signature() -> None:
    dialogue, signature = at_final()
    dialogue.send((codes.AUTH_SASL_FINAL, b"v=" + b64encode(signature)))
    with pytest.raises(AuthError, match="after SCRAM was complete"):
        dialogue.send((codes.AUTH_CLEARTEXT, b""))


CODES = st.one_of(st.integers(0, 12), st.integers(-(2**31), 2**31 - 1))
DATA = st.one_of(
    st.binary(max_size=60),
    st.just(BOTH),
    st.from_regex(scram.SERVER_FIRST, fullmatch=True),
    st.from_regex(scram.SERVER_FINAL, fullmatch=True),
)


@given(
    credentials=st.sampled_from([Unset(), Plain("secret"), md5_secret("secret", "joe"), VERIFIER, KEYS]),
    binding=st.sampled_from([None, BINDING]),
    challenges=st.lists(st.tuples(CODES, DATA), max_size=4),
)
def test_any_challenges_are_answered_or_refused(
    credentials: Credentials, binding: bytes | None, challenges: list[tuple[int, bytes]]
) -> None:
    dialogue = log_in(credentials, binding)
    for challenge in challenges:
        try:
            reply = dialogue.send(challenge)
        except (AuthError, StopIteration):
            return
        if reply is not None:
            assert struct.unpack_from("!ci", reply) == (b"p", len(reply) - 1)


@given(nonce_tail=st.binary(max_size=20), salt=st.binary(max_size=20), iterations=st.integers(-10, 2**40))
def test_any_server_first_message_is_answered_or_refused(
    nonce_tail: bytes, salt: bytes, iterations: int
) -> None:
    dialogue, nonce = at_first()
    if 5000 < iterations <= scram.MAX_ITERATIONS:
        iterations %= 5000
    message = b"r=%b%b,s=%b,i=%d" % (nonce, nonce_tail, b64encode(salt), iterations)
    try:
        reply = dialogue.send((codes.AUTH_SASL_CONTINUE, message))
    except AuthError:
        return
    assert reply is not None
    assert 1 <= iterations <= 5000
