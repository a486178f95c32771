"""What a word that is watched for means by the words that follow it, or stand before it."""

from . import lexer
from .charclass import CLASSES, CLOSE, DOLLAR, DOUBLE, END, IDENT, LOWER, NAME, OPEN, QUOTE
from .keywords import BODY, CASE, CEASE, SEEDS, SETS


def after_set(text: bytes, at: int, stop: int) -> int:
    """Flags of a statement whose SET ends at `at`."""
    first = lexer.blank(text, at, stop)
    end = lexer.word_end(text, first, stop)
    local = lexer.spells(text, first, end, b"local")
    if local or lexer.spells(text, first, end, b"transaction") or lexer.spells(text, first, end, b"constraints"):
        at = lexer.blank(text, end, stop)
        # Each of these words may also be the name of a setting, or its beginning.
        if at == stop or CLASSES[text[at]] not in (NAME, IDENT):
            return SETS
        if lexer.spells(text, at, lexer.word_end(text, at, stop), b"to"):
            return SETS
        return SEEDS if local and _names_seed(text, at, stop) else 0
    if lexer.spells(text, first, end, b"session"):
        first = lexer.blank(text, end, stop)
    return SETS | SEEDS if _names_seed(text, first, stop) else SETS


def _names_seed(text: bytes, at: int, stop: int) -> bool:
    if at < stop and text[at] == DOUBLE:
        at += 1
    return lexer.spells(text, at, lexer.word_end(text, at, stop), b"seed")


def prepares(text: bytes, at: int, stop: int) -> bool:
    """Does the PREPARE that ends at `at` prepare a statement, and not a transaction?"""
    at = lexer.blank(text, at, stop)
    end = lexer.word_end(text, at, stop)
    if not lexer.spells(text, at, end, b"transaction"):
        return True
    # A statement may have this name. What follows a transaction's is a constant.
    at = lexer.blank(text, end, stop)
    return at == stop or LOWER[text[at]] not in (QUOTE, 0x24, 0x65, 0x75)  # ' $ e u


def nested(text: bytes, start: int, first: int, end: int, stop: int, special: int, body: int) -> int:
    """How deep the statement is in BEGIN ATOMIC, and in each CASE of it, behind the word `text[first:end]`.

    `body` is how deep it was before; `special` what the word means. It is asked where a BEGIN ATOMIC may be.
    """
    if special == BODY:
        return 1 if body == 0 and _atomic(text, end, stop) else body
    if body and special in (CASE, CEASE) and not _label(text, start, first):
        return body + 1 if special == CASE else body - 1
    return body


def _atomic(text: bytes, at: int, stop: int) -> bool:
    """Is the word that ends at `at` followed by ATOMIC?"""
    at = lexer.blank(text, at, stop)
    return lexer.spells(text, at, lexer.word_end(text, at, stop), b"atomic")


def _label(text: bytes, start: int, first: int) -> bool:
    """Is the word that begins at `first` a name, for it follows a dot or AS?"""
    at = first
    while at > start and (text[at - 1] == 0x20 or 9 <= text[at - 1] <= 13):
        at -= 1
    if at > start and text[at - 1] == 0x2E:
        return True
    if at - 2 < start or not lexer.spells(text, at - 2, at, b"as"):
        return False
    return at - 2 == start or CLASSES[text[at - 3]] < DOLLAR


def locally(text: bytes, at: int, stop: int) -> int:
    """The end of the arguments of the set_config that ends at `at`; -1 if the last of them isn't the word `true`."""
    at = lexer.blank(text, at, stop)
    if at == stop or CLASSES[text[at]] != OPEN:
        return -1
    depth = 0
    alone = False  # this argument is `true` so far
    fresh = False  # it is empty so far
    while at < stop:
        kind = CLASSES[text[at]]
        if kind == END:
            return -1
        end = lexer.skip(text, at, stop)
        if end < 0:
            return -1
        if kind == OPEN:
            depth += 1
            alone = fresh = False
        elif kind == CLOSE:
            depth -= 1
            if depth == 0:
                return end if alone else -1
            alone = fresh = False
        elif text[at] == 0x2C:  # ,
            alone = False
            fresh = depth == 1
        elif kind == NAME:
            alone = fresh and lexer.spells(text, at, end, b"true")
            fresh = False
        else:
            alone = fresh = False
        at = lexer.blank(text, end, stop)
    return -1
