"""SCRAM takes and refuses the same, compiled and interpreted: what is cut and searched there is inline."""

import struct
from base64 import b64encode
from hmac import digest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.builds import BUILDS, Build
from pglido.protocol.octets import xor

SALT = b"sixteen bytes..."
KEY = b"k" * 32
BINDING = b"\x17" * 32
FIRST = b"n,,n=,r=abc"
# Bytes that mean something in these messages.
PIECES = [
    b",",
    b"=",
    b"n",
    b"y",
    b"p",
    b"m=x,",
    b"a=b",
    b"r=",
    b"c=biws",
    b"\0",
    b"\xff",
    b"x=1",
    b"tls-server-end-point",
]


def challenge(build: Build, binding: bytes | None) -> Any:
    """One exchange with a user whose keys are known."""
    auth = build.auth
    stored = auth.scram.digest(KEY)
    secret = auth.secrets.Verifier(4096, SALT, stored, KEY)
    terms = auth.scram_server.ScramTerms(auth.decoys.SecretPopulation(), 4096, lambda size: b"n" * size, bytes(32))
    return auth.scram_server.ScramServer("app", secret, binding, terms)


def said(challenge: Any, body: bytes) -> object:
    """What comes of a message, a refusal included."""
    try:
        return challenge.take(body)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "sqlstate", None)


def initial(first: bytes, mechanism: bytes = b"SCRAM-SHA-256", size: int | None = None) -> bytes:
    """A SASLInitialResponse."""
    return mechanism + b"\0" + struct.pack("!I", len(first) if size is None else size) + first


def final(answer: bytes, binding: bytes = b"biws") -> bytes:
    """The message with the proof, for the server's first one."""
    server_first = answer[9:]
    nonce = server_first.split(b",")[0]
    unproved = b"c=" + binding + b"," + nonce
    stored = BUILDS[0].auth.scram.digest(KEY)
    signature = digest(stored, b",".join((FIRST[3:], server_first, unproved)), "sha256")
    return unproved + b",p=" + b64encode(xor(KEY, signature))


def spoilt(whole: bytes) -> st.SearchStrategy[bytes]:
    """The same message cut, or with something put in somewhere."""
    place = st.integers(0, len(whole))
    put = st.builds(lambda at, piece: whole[:at] + piece + whole[at:], place, st.sampled_from(PIECES))
    return st.one_of(place.map(lambda at: whole[:at]), put, put.flatmap(lambda once: st.just(once + once[-3:])))


@given(st.one_of(spoilt(FIRST), spoilt(b"p=tls-server-end-point,,n=,r=abc"), st.binary(max_size=40)), st.booleans())
def test_first_messages(first: bytes, on_tls: bool) -> None:
    found = [
        [said(challenge(build, BINDING if on_tls else None), initial(first, mechanism))
         for mechanism in (b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS")]
        for build in BUILDS
    ]  # fmt: skip
    assert found[0] == found[-1]


@given(st.one_of(spoilt(initial(FIRST)), st.builds(initial, st.just(FIRST), size=st.integers(0, 2**32 - 1))))
def test_initial_responses(body: bytes) -> None:
    found = [said(challenge(build, None), body) for build in BUILDS]
    assert found[0] == found[-1]


@given(st.data())
def test_last_messages(data: st.DataObject) -> None:
    exchanges = [challenge(build, None) for build in BUILDS]
    answers = [exchange.take(initial(FIRST)) for exchange in exchanges]
    assert answers[0] == answers[-1]
    body = data.draw(spoilt(final(answers[0])))
    found = [said(exchange, body) for exchange in exchanges]
    assert found[0] == found[-1]


@pytest.mark.parametrize("build", BUILDS, ids=repr)
def test_a_proof_is_taken_and_its_keys_are_kept(build: Build) -> None:
    exchange = challenge(build, None)
    answer = exchange.take(initial(FIRST))
    assert said(exchange, final(answer))[:1] == b"R"
    keys = exchange.credentials
    assert (keys.iterations, keys.salt, keys.client_key, keys.server_key) == (4096, SALT, KEY, KEY)


@pytest.mark.parametrize("build", BUILDS, ids=repr)
def test_a_proof_of_another_key_is_refused(build: Build) -> None:
    exchange = challenge(build, None)
    body = bytearray(final(exchange.take(initial(FIRST))))
    body[-5] ^= 1
    with pytest.raises(build.auth.errors.AuthError, match="wrong password"):
        exchange.take(bytes(body))
