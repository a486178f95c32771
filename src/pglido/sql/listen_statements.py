"""The few statements that a client of a listen-only database may say, read as PostgreSQL's lexer reads them.

PostgreSQL manual, "Lexical Structure" and LISTEN; scansup.c for how names are folded and cut.
"""

import re
from enum import Enum
from typing import NamedTuple

from ..protocol.errors import PgError
from .charclass import LONGEST_NAME
from .lexer import cut

_BLANK = re.compile(rb"(?:[ \t\n\r\f\v]+|--[^\n\r]*)+")
_WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*")
_QUOTED = re.compile(rb'"((?:[^"]|"")*)"')
_STRING = re.compile(rb"'((?:[^'\\]|'')*)'")
_NUMBER = re.compile(rb"[+-]?[0-9]+(?:\.[0-9]+)?")
_COMMENT = re.compile(rb"/\*|\*/")


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


class _Token(NamedTuple):
    kind: str  # "word", "quoted", "string", "number", or the symbol itself
    text: bytes


def not_served() -> ListenStatementError:
    """What is said of all other statements."""
    return ListenStatementError("0A000", "this database is for LISTEN only")


def understand(sql: bytes) -> ListenStatement:
    """The one statement in `sql`, which is UTF-8. Raises ListenStatementError."""
    words = _tokens(sql)
    while words and words[-1].kind == ";":
        words.pop()
    if not words:
        return ListenStatement(ListenVerb.EMPTY)
    first = words[0].text.lower() if words[0].kind == "word" else b""
    rest = words[1:]
    if first == b"listen" and len(rest) == 1:
        return _channel(ListenVerb.LISTEN, rest[0])
    if first == b"unlisten" and len(rest) == 1:
        return (
            ListenStatement(ListenVerb.UNLISTEN_ALL) if rest[0].kind == "*" else _channel(ListenVerb.UNLISTEN, rest[0])
        )
    if first == b"select" and rest == [_Token("number", b"1")]:
        return ListenStatement(ListenVerb.SELECT_1)
    if first == b"show" and len(rest) == 1 and rest[0].kind in ("word", "quoted"):
        return ListenStatement(ListenVerb.SHOW, rest[0].text.lower())
    if first == b"set":
        return _setting(rest)
    raise not_served()


def _tokens(sql: bytes) -> list[_Token]:
    """The words of a statement without blanks and comments; other characters of SQL are not served."""
    found: list[_Token] = []
    at = 0
    while at < len(sql):
        if blank := _BLANK.match(sql, at):
            at = blank.end()
        elif sql.startswith(b"/*", at):
            at = _after_comment(sql, at)
        elif word := _WORD.match(sql, at):
            found.append(_Token("word", word[0]))
            at = word.end()
        elif quoted := _QUOTED.match(sql, at):
            if not quoted[1]:
                raise ListenStatementError("42601", 'zero-length delimited identifier at or near """"')
            found.append(_Token("quoted", quoted[1].replace(b'""', b'"')))
            at = quoted.end()
        elif string := _STRING.match(sql, at):
            found.append(_Token("string", string[1].replace(b"''", b"'")))
            at = string.end()
        elif number := _NUMBER.match(sql, at):
            found.append(_Token("number", number[0]))
            at = number.end()
        elif sql[at : at + 1] in (b";", b"*", b"=", b","):
            found.append(_Token(chr(sql[at]), sql[at : at + 1]))
            at += 1
        elif sql[at : at + 1] == b'"':
            raise ListenStatementError("42601", "unterminated quoted identifier")
        elif sql[at : at + 1] == b"'":
            raise ListenStatementError("42601", "unterminated quoted string")
        else:
            raise not_served()
    return found


def _after_comment(sql: bytes, at: int) -> int:
    depth = 0
    for mark in _COMMENT.finditer(sql, at):
        depth += 1 if mark[0] == b"/*" else -1
        if not depth:
            return mark.end()
    raise ListenStatementError("42601", "unterminated /* comment")


def _channel(verb: ListenVerb, token: _Token) -> ListenStatement:
    if token.kind not in ("word", "quoted"):
        raise not_served()
    # bytes.lower() folds ASCII only, as PostgreSQL does where characters have several bytes.
    name = token.text.lower() if token.kind == "word" else token.text
    return ListenStatement(verb, cut(name), cut=name if len(name) > LONGEST_NAME else b"")


def _setting(words: list[_Token]) -> ListenStatement:
    """SET [SESSION] name {TO | =} value [, ...]."""
    if words and words[0].kind == "word" and words[0].text.lower() == b"session":
        words = words[1:]
    if len(words) < 3 or words[0].kind not in ("word", "quoted"):
        raise not_served()
    to, values = words[1], words[2:]
    if to.kind != "=" and (to.kind != "word" or to.text.lower() != b"to"):
        raise not_served()
    for number, token in enumerate(values):
        if (token.kind == ",") != (number % 2 == 1) or token.kind in (";", "*", "="):
            raise not_served()
    if len(values) % 2 == 0:
        raise not_served()
    if len(values) == 1 and values[0].kind == "word" and values[0].text.lower() == b"default":
        raise not_served()
    value = b", ".join(token.text for token in values[::2])
    return ListenStatement(ListenVerb.SET, words[0].text.lower(), value.decode())
