"""The few statements that a client of a listen-only database may say.

PostgreSQL manual, "Lexical Structure" and LISTEN; scansup.c for how names are folded and cut.
"""

import re
from enum import Enum
from typing import NamedTuple

from ..protocol.errors import PgError
from . import lexer
from .tokens import Token, spelled, tokenize, value_of

LISTEN_ONLY = "this database is for LISTEN only"

_NUMBER = re.compile(rb"[+-]?[0-9]+(?:\.[0-9]+)?")


class ListenVerb(Enum):
    """What a statement asks for."""

    EMPTY = ""
    LISTEN = "LISTEN"
    UNLISTEN = "UNLISTEN"
    UNLISTEN_ALL = "UNLISTEN *"
    SELECT_1 = "SELECT 1"
    SET = "SET"
    SHOW = "SHOW"


class ListenStatement(NamedTuple):
    """`name` is the channel, or the parameter in lower case; `cut` is its full length's name where it was cut."""

    verb: ListenVerb
    name: bytes = b""
    value: str = ""
    cut: bytes = b""


class ListenStatementError(PgError):
    """A statement that is not taken; SQLSTATE and message are PostgreSQL's, or 0A000 for what is not served."""


def not_served() -> ListenStatementError:
    """What is said of all other statements."""
    return ListenStatementError("0A000", LISTEN_ONLY)


def understand(sql: bytes) -> ListenStatement:
    """The one statement in `sql`, which is UTF-8. Raises ListenStatementError."""
    tokens = _tokens(sql)
    if not tokens:
        return ListenStatement(ListenVerb.EMPTY)
    verb, rest = _word(sql, tokens[0]), tokens[1:]
    if verb == b"set":
        return _setting(sql, rest)
    if len(rest) != 1:
        raise not_served()
    if verb == b"listen":
        return _channel(ListenVerb.LISTEN, sql, rest[0])
    if verb == b"unlisten":
        return (
            ListenStatement(ListenVerb.UNLISTEN_ALL)
            if rest[0][0] == "*"
            else _channel(ListenVerb.UNLISTEN, sql, rest[0])
        )
    if verb == b"select" and rest[0][0] == "1":
        return ListenStatement(ListenVerb.SELECT_1)
    if verb == b"show":
        return ListenStatement(ListenVerb.SHOW, _name(sql, rest[0]).lower())
    raise not_served()


def _tokens(sql: bytes) -> list[Token]:
    """The tokens of a statement, without the semicolons at its end. Raises ListenStatementError for what has no end."""
    # What has no end takes this semicolon with it; a comment without end leaves no token.
    found = tokenize(sql + b"\n;")
    kind, first, end = found[-1] if found else ("", 0, 0)
    if kind == "!":
        what = {b'"': "quoted identifier", b"$": "dollar-quoted string"}.get(sql[first : first + 1], "quoted string")
        raise ListenStatementError("42601", f"unterminated {what}")
    if end <= len(sql):
        raise ListenStatementError("42601", "unterminated /* comment")
    while found and found[-1][0] == ";":
        found.pop()
    for kind, first, end in found:
        if kind == '"' and end - first == 2:
            raise ListenStatementError("42601", 'zero-length delimited identifier at or near """"')
    return found


def _word(sql: bytes, token: Token) -> bytes:
    """A word in lower case, empty for any other token."""
    kind, first, end = token
    return sql[first:end].lower() if kind == "w" else b""


def _name(sql: bytes, token: Token) -> bytes:
    """An identifier's whole name."""
    if token[0] not in 'w"':
        raise not_served()
    return spelled(sql, token)


def _channel(verb: ListenVerb, sql: bytes, token: Token) -> ListenStatement:
    whole = _name(sql, token)
    name = lexer.cut(whole)
    return ListenStatement(verb, name, cut=whole if name != whole else b"")


def _setting(sql: bytes, tokens: list[Token]) -> ListenStatement:
    """SET [SESSION] name {TO | =} value [, ...]."""
    if tokens and _word(sql, tokens[0]) == b"session":
        tokens = tokens[1:]
    if len(tokens) < 3 or (tokens[1][0] != "=" and _word(sql, tokens[1]) != b"to"):
        raise not_served()
    name = _name(sql, tokens[0]).lower()
    if len(tokens) == 3 and _word(sql, tokens[2]) == b"default":
        raise not_served()
    return ListenStatement(ListenVerb.SET, name, b", ".join(_values(sql, tokens[2:])).decode())


def _values(sql: bytes, tokens: list[Token]) -> list[bytes]:
    """The values of a list: words, names, strings and numbers."""
    values: list[bytes] = []
    at = 0
    while True:
        token = tokens[at] if at < len(tokens) else ("", 0, 0)
        kind, first, end = token
        if kind == "w":
            values.append(sql[first:end])
        elif kind == '"':
            values.append(spelled(sql, token))
        elif kind == "'":
            values.append(value_of(sql, token))
        elif kind and (number := _NUMBER.match(sql, first)):
            values.append(number[0])
            end = number.end()
        else:
            raise not_served()
        while at < len(tokens) and tokens[at][1] < end:
            at += 1
        if at == len(tokens):
            return values
        if tokens[at][0] != ",":
            raise not_served()
        at += 1
