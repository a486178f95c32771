"""Prepare a password for SCRAM (SASLprep, RFC 4013), with PostgreSQL's answers where the RFC has none."""

import stringprep
import unicodedata
from collections.abc import Callable

# RFC 4013, 2.3: what the prepared text must not hold, and (2.5) what Unicode 3.2 had not assigned.
_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(password: str) -> bytes:
    """The bytes of `password` that go into the key derivation.

    As in PostgreSQL's pg_saslprep and its callers: ASCII is taken as it is, control characters included, and
    a password that SASLprep refuses, or that is not UTF-8 (lone surrogates, as `surrogateescape` makes them),
    is taken as its raw bytes.
    """
    if password.isascii():
        return password.encode("ascii")
    raw = password.encode("utf-8", "surrogateescape")
    mapped = "".join(_map(char) for char in password)
    prepared = unicodedata.normalize("NFKC", _ordered(mapped))
    if not prepared or _is_prohibited(prepared) or _breaks_bidi(prepared):
        return raw
    return prepared.encode("utf-8")


def _map(char: str) -> str:
    # RFC 4013, 2.1. U+200B is in both tables; PostgreSQL asks for the spaces first.
    if stringprep.in_table_c12(char):
        return " "
    return "" if stringprep.in_table_b1(char) else char


def _ordered(text: str) -> str:
    """The text taken apart, its marks in order: `normalize` takes time in the square of how many stand together."""
    apart = "".join([unicodedata.normalize("NFKD", char) for char in text])
    ordered: list[str] = []
    marks: list[str] = []
    for char in apart:
        if unicodedata.combining(char):
            marks.append(char)
        else:
            ordered += sorted(marks, key=unicodedata.combining)
            ordered.append(char)
            marks = []
    return "".join(ordered + sorted(marks, key=unicodedata.combining))


def _is_prohibited(text: str) -> bool:
    return any(refuses(char) for char in set(text) for refuses in _PROHIBITED)


def _breaks_bidi(text: str) -> bool:
    # RFC 3454, 6: right-to-left text has no left-to-right character in it, and starts and ends right-to-left.
    if not any(stringprep.in_table_d1(char) for char in text):
        return False
    if any(stringprep.in_table_d2(char) for char in text):
        return True
    return not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
