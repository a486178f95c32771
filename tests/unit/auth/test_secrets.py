"""Stored secrets are told apart by their text, and never show themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth.scram import Keys
from pglido.auth.secrets import Md5, Plain, Unset, Verifier, md5_secret, parse, raw

KEY = "A" * 43 + "="
VERIFIER = f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY}"


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_is_unset(text: str | None) -> None:
    assert parse(text) == Unset()


def test_an_md5_hash_is_known() -> None:
    assert parse("md5" + "0123456789abcdef" * 2) == Md5("md5" + "0123456789abcdef" * 2)


def test_a_verifier_is_known() -> None:
    assert parse(VERIFIER) == Verifier(4096, b"salt", bytes(32), bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "md5",
        "md5" + "0" * 31,
        "md5" + "0" * 33,
        "md5" + "A" * 32,
        "SCRAM-SHA-256",
        f"SCRAM-SHA-1$4096:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$0:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$2147483648:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$-1:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA=${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:ä${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:AAAA",
        VERIFIER + "\n",
        VERIFIER + ":",
    ],
)
def test_all_else_is_a_password_in_clear(text: str) -> None:
    assert parse(text) == Plain(text)


@given(
    st.integers(1, 2**31 - 1),
    st.binary(min_size=1, max_size=40),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_a_verifier_survives_its_text(iterations: int, salt: bytes, stored: bytes, server: bytes) -> None:
    verifier = Verifier(iterations, salt, stored, server)
    assert parse(verifier.encoded()) == verifier


@given(st.text())
def test_any_text_is_some_secret(text: str) -> None:
    assert isinstance(parse(text), Unset | Plain | Md5 | Verifier)


def test_no_secret_is_seen_in_a_repr() -> None:
    for secret in (Plain("tiger"), Md5("tiger"), Verifier(1, b"tiger", b"tiger", b"tiger")):
        assert "tiger" not in repr(secret)
    assert "tiger" not in repr(Keys(1, b"tiger", b"tiger", b"tiger"))


def test_md5_is_of_password_and_name_and_takes_bytes_that_are_no_text() -> None:
    assert md5_secret("a", "bc") == md5_secret("ab", "c")
    assert raw(b"\xff".decode("utf-8", "surrogateescape")) == b"\xff"
    assert parse(md5_secret("\udcff", "joe").text) == md5_secret("\udcff", "joe")
