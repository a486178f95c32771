"""The tokens of a query, its statements, and what its names and constants spell."""

import re

from . import clauses, lexer, scanner
from .charclass import CLASSES, DOUBLE, NAME, QUOTE
from .keywords import BODY, CASE, CEASE, DEFINE, DEFINED

Token = tuple[str, int, int]  # what it is (see `tokenize`), where it begins and ends


def tokenize(text: bytes) -> list[Token]:
    """The tokens of a text, without comments: a word is "w", all else is named by its first character.

    A constant with escapes is "e", U&'' is "u" and U&"" is "U"; what doesn't end is "!".
    """
    tokens = []
    stop = len(text)
    at = lexer.blank(text, 0, stop)
    while at < stop:
        end = lexer.skip(text, at, stop)
        if end < 0:
            tokens.append(("!", at, stop))
            break
        kind = chr(text[at])
        if CLASSES[text[at]] == NAME:
            kind = "w"
            if text[end - 1] == QUOTE:
                kind = "e" if text[at + 1] == QUOTE else "u"
            elif text[end - 1] == DOUBLE:
                kind = "U"
        elif kind == "$" and end == at + 1:
            kind = "."  # a parameter
        tokens.append((kind, at, end))
        at = lexer.blank(text, end, stop)
    return tokens


def split(text: bytes, tokens: list[Token]) -> list[list[Token]]:
    """The statements among the tokens, none of them empty."""
    statement: list[Token] = []
    statements = [statement]
    depth = body = defining = 0
    for token in tokens:
        kind, first, end = token
        if kind == ";" and depth == 0 and body == 0:
            statement = []
            statements.append(statement)
            continue
        special = special_of(text, token) if defining or not statement else 0
        if not statement:
            defining = 1 if special == DEFINE else 0
        statement.append(token)
        if kind == "(":
            depth += 1
        elif kind == ")":
            depth = max(0, depth - 1)
        elif special == DEFINED and defining:
            defining = 2
        elif special in (BODY, CASE, CEASE) and (body or (defining == 2 and depth == 0)):
            body = clauses.nested(text, 0, first, end, len(text), special, body)
    return [one for one in statements if one]


def special_of(text: bytes, token: Token) -> int:
    """What a token means beyond its flags, as a word or as a quoted name."""
    kind, first, end = token
    if kind == "w":
        return scanner.meaning(text, first, end, False)
    if kind in '"U':
        name = name_of(text, token)
        return scanner.meaning(name, 0, len(name), True)
    return 0


def sets_alone(text: bytes, token: Token) -> bool:
    """Is this a function, other than set_config, that changes settings?"""
    name = name_of(text, token)
    return scanner.sets(name, 0, len(name))


def name_of(text: bytes, token: Token, escape: bytes = b"\\") -> bytes:
    """The name that an identifier means: what it spells, as long as PostgreSQL reads it."""
    return lexer.cut(spelled(text, token, escape))


def spelled(text: bytes, token: Token, escape: bytes = b"\\") -> bytes:
    """What an identifier spells; only ASCII is folded, as PostgreSQL does where characters have several bytes."""
    kind, first, end = token
    if kind == "w":
        return text[first:end].lower()
    if kind == '"':
        return text[first + 1 : end - 1].replace(b'""', b'"')
    return _unescaped(text[first + 3 : end - 1].replace(b'""', b'"'), escape)


def identifier(name: bytes) -> bytes:
    """How `name` is written so that it means just this."""
    return b'"' + name.replace(b'"', b'""') + b'"'


def escape_of(text: bytes, tokens: list[Token], at: int) -> bytes:
    """The character that UESCAPE behind a token says, else a backslash."""
    if at + 2 < len(tokens) and tokens[at + 2][0] == "'":
        _, first, end = tokens[at + 1]
        if lexer.spells(text, first, end, b"uescape"):
            return text[tokens[at + 2][1] + 1 : tokens[at + 2][2] - 1]
    return b"\\"


def value_of(text: bytes, token: Token, escape: bytes = b"\\") -> bytes:
    """The value of a string constant, with those joined to it; in UTF-8 where it has escapes for characters."""
    kind, first, end = token
    if kind == "$":
        size = text.index(b"$", first + 1) + 1 - first
        return text[first + size : end - size]
    pieces = []
    at = text.index(b"'", first) + 1
    while True:
        after = lexer.piece(text, at, end, kind == "e")
        pieces.append(text[at : after - 1])
        if after >= end:
            break
        at = lexer.continued(text, after, end)
    if kind == "e":
        return _ESCAPE.sub(_meant, b"".join(pieces))
    value = b"".join(pieces).replace(b"''", b"'")
    return _unescaped(value, escape) if kind == "u" else value


_ESCAPE = re.compile(rb"''|\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _meant(found: re.Match[bytes]) -> bytes:
    octal, byte, short, long, letter = found.groups()
    if octal:
        return bytes((int(octal, 8) & 255,))
    if byte:
        return bytes((int(byte, 16),))
    if short or long:
        return _character(int(short or long, 16))
    return _LETTERS.get(letter, letter) if letter else b"'"


def _character(point: int) -> bytes:
    return chr(point).encode("utf-8", "replace") if point < 0x110000 else b"?"


def _unescaped(value: bytes, escape: bytes) -> bytes:
    """What U&'' means by this value."""
    mark = re.escape(escape)
    pattern = rb"%s(?:([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|(%s))" % (mark, mark)
    return re.sub(pattern, lambda found: found[3] or _character(int(found[1] or found[2], 16)), value)
