"""Passwords are prepared as RFC 4013 says, and as PostgreSQL does where that refuses."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp.utils import ScramException
from scramp.utils import saslprep as scramps

from pglido.auth.saslprep import _ordered, saslprep


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        # RFC 4013, 3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # PostgreSQL's own tests and habits.
        ("\u0007", "\u0007"),
        ("", ""),
        ("a\u00a0b", "a b"),
        ("a\u200bb", "a b"),
        ("\u0627x1", "\u0627x1"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u0627é1", "\u0627é1"),
        ("\u00ad", "\u00ad"),
        ("ä\u0007", "ä\u0007"),
        ("🏊", "🏊"),
    ],
)
def test_known_passwords(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared.encode()


def test_what_is_not_utf8_stays_as_it_is() -> None:
    assert saslprep(b"\xff\xc3".decode("utf-8", "surrogateescape")) == b"\xff\xc3"


@given(st.text())
def test_what_scramp_can_prepare_comes_out_the_same(password: str) -> None:
    if "\u200b" in password:  # in both tables of RFC 3454; PostgreSQL makes it a space
        return
    try:
        expected = scramps(password)
    except ScramException:
        expected = password
    if not expected and password:
        expected = password
    assert saslprep(password) == expected.encode()


@pytest.mark.usefixtures("patience")
def test_many_marks_together_are_put_in_order_in_little_time() -> None:
    """Sixty passwords of the greatest length; by itself `normalize` takes more than a second for each of these."""
    marks = "\N{COMBINING ACUTE ACCENT}" * 16000 + "\N{COMBINING GRAVE ACCENT BELOW}" * 16000
    for number in range(60):
        saslprep(f"{number}a{marks}")


CHARACTERS = "ae\u0300\u0301\u0316\u0327\u0345\u1100\u1161\u11a8\uac00\u00e1\u1ea5\u212b\ufb01"


@given(st.text(st.sampled_from(CHARACTERS), max_size=12))
def test_text_is_normalized_as_python_does(text: str) -> None:
    """Its marks are put in order before, which changes nothing."""
    assert unicodedata.normalize("NFKC", _ordered(text)) == unicodedata.normalize("NFKC", text)
