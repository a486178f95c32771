"""Walk over the text of a query as PostgreSQL's lexer does: white space, comments, constants, identifiers, words.

All of it is given the text as it lies in a buffer, from where to where; nothing here makes Python objects, but `cut`.
"""

from .charclass import (
    AMPERSAND,
    BACKSLASH,
    CLASSES,
    DASH,
    DIGIT,
    DOLLAR,
    DOUBLE,
    IDENT,
    LONGEST_NAME,
    LOWER,
    MARK,
    NAME,
    QUOTE,
    SLASH,
    STAR,
)


def spells(text: bytes, first: int, end: int, word: bytes) -> bool:
    """Is `text[first:end]` this word, which is in lower case?"""
    size = len(word)
    if end - first != size:
        return False
    at = 0
    while at < size and LOWER[text[first + at]] == word[at]:
        at += 1
    return at == size


def mentions(text: bytes, start: int, stop: int, word: bytes) -> bool:
    """Does this word stand anywhere, be it in quotes?"""
    size = len(word)
    for at in range(start, stop - size + 1):
        if (
            LOWER[text[at]] == word[0]
            and spells(text, at, at + size, word)
            and (at == start or CLASSES[text[at - 1]] <= DOLLAR)
            and (at + size == stop or CLASSES[text[at + size]] <= DOLLAR)
        ):
            return True
    return False


# Where what begins at `at` ends; -1 if it doesn't.


def skip(text: bytes, at: int, stop: int) -> int:
    """The end of what begins here: a word, a constant, a comment, or a single character of anything else."""
    kind = CLASSES[text[at]]
    if kind == NAME:
        end = word_end(text, at, stop)
        if end == at + 1 and end < stop:
            letter = text[at] | 0x20
            if letter == 0x65 and text[end] == QUOTE:  # E'
                return _string(text, end + 1, stop, True)
            if letter == 0x75 and text[end] == AMPERSAND and end + 1 < stop:  # U&' or U&"
                if text[end + 1] == QUOTE:
                    return _string(text, end + 2, stop, False)
                if text[end + 1] == DOUBLE:
                    return quoted(text, end + 2, stop)
        return end
    if kind == MARK:
        return _string(text, at + 1, stop, False)
    if kind == IDENT:
        return quoted(text, at + 1, stop)
    if kind == DOLLAR:
        return _dollar(text, at, stop)
    if kind == DASH and at + 1 < stop and text[at + 1] == text[at]:
        return _line(text, at, stop)
    if kind == SLASH and at + 1 < stop and text[at + 1] == STAR:
        return _comment(text, at + 2, stop)
    return at + 1


def word_end(text: bytes, at: int, stop: int) -> int:
    while at < stop and CLASSES[text[at]] >= DOLLAR:
        at += 1
    return at


def _string(text: bytes, at: int, stop: int, escapes: bool) -> int:
    """The end of a constant whose quote was opened before `at`, with those joined to it."""
    while True:
        at = piece(text, at, stop, escapes)
        if at < 0:
            return -1
        after = continued(text, at, stop)
        if after < 0:
            return at
        at = after


def piece(text: bytes, at: int, stop: int, escapes: bool) -> int:
    """Behind the quote that closes this piece of a constant."""
    while at < stop:
        letter = text[at]
        at += 1
        if letter == QUOTE:
            if at == stop or text[at] != QUOTE:
                return at
            at += 1
        elif letter == BACKSLASH and escapes:
            at += 1
        elif letter == 0:
            return -1
    return -1


def continued(text: bytes, at: int, stop: int) -> int:
    """Behind the quote that opens another piece of the constant before `at`, -1 if there is none.

    Between the two are white space with a newline, and comments to the end of a line.
    """
    parted = False
    while at < stop:
        letter = text[at]
        if letter == QUOTE:
            return at + 1 if parted else -1
        if letter == 0x0A or letter == 0x0D:
            parted = True
            at += 1
        elif letter == 0x20 or 9 <= letter <= 13:
            at += 1
        elif letter == 0x2D and at + 1 < stop and text[at + 1] == letter:
            at = _line(text, at, stop)
        else:
            return -1
    return -1


def quoted(text: bytes, at: int, stop: int) -> int:
    """The end of an identifier whose quote was opened before `at`."""
    while at < stop and text[at]:
        at += 1
        if text[at - 1] == DOUBLE:
            if at == stop or text[at] != DOUBLE:
                return at
            at += 1
    return -1


def _dollar(text: bytes, at: int, stop: int) -> int:
    """The end of a constant in dollars; behind the dollar if it begins none: a parameter, or an error."""
    end = at + 1
    if end < stop and CLASSES[text[end]] == NAME:
        while end < stop and CLASSES[text[end]] >= DIGIT:
            end += 1
    if end >= stop or text[end] != text[at]:
        return at + 1
    end += 1
    size = end - at
    while end + size <= stop and text[end]:
        same = 0
        while same < size and text[end + same] == text[at + same]:
            same += 1
        if same == size:
            return end + size
        end += 1
    return -1


def _comment(text: bytes, at: int, stop: int) -> int:
    """The end of a comment that was opened before `at`; they nest."""
    depth = 1
    while at + 1 < stop and text[at]:
        letter = text[at]
        at += 1
        if letter == STAR and text[at] == 0x2F:
            depth -= 1
            at += 1
            if depth == 0:
                return at
        elif letter == 0x2F and text[at] == STAR:
            depth += 1
            at += 1
    return -1


def _line(text: bytes, at: int, stop: int) -> int:
    """The end of a comment that goes to the end of its line."""
    while at < stop and text[at] and text[at] != 0x0A and text[at] != 0x0D:
        at += 1
    return at


def blank(text: bytes, at: int, stop: int) -> int:
    """Where the next thing begins that is neither white space nor a comment."""
    while at < stop:
        letter = text[at]
        if letter == 0x20 or 9 <= letter <= 13:
            at += 1
            continue
        if letter != 0x2D and letter != 0x2F:
            return at
        end = skip(text, at, stop)
        if end == at + 1:
            return at
        at = end if end > 0 else stop
    return at


def cut(name: bytes) -> bytes:
    """A name as long as PostgreSQL reads it, not cut inside of a character of UTF-8."""
    if len(name) <= LONGEST_NAME:
        return name
    size = LONGEST_NAME
    while size > 0 and name[size] & 0xC0 == 0x80:
        size -= 1
    return name[:size]
