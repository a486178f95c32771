"""Tell from the text of a query, without parsing it, what of a session it may touch.

Rules: a flag too many costs a question to the server, a flag too few shows one client the state of another; what can't
be told is ANYTHING. Quotes and comments are those of PostgreSQL's lexer (chapter "Lexical Structure", scan.l). It reads
the whole text before anything of it runs, so that nothing needs to be seen in a text that it refuses.

`scan` is asked of every query and makes no Python objects; `look.look` reads closely what `scan` found.
"""

from . import lexis, phrases
from .letters import (
    AMPERSAND,
    BACKSLASH,
    CLASSES,
    CLOSE,
    DIGIT,
    DOLLAR,
    DOUBLE,
    END,
    IDENT,
    LONGEST_NAME,
    LOWER,
    NAME,
    OPEN,
    PLAIN,
    QUOTE,
    SEMICOLON,
    UNDERSCORE,
)
from .watched import (
    ANYTHING,
    BODY,
    CALLED,
    CASE,
    CEASE,
    CONFIG,
    CREATES,
    DEFINE,
    DEFINED,
    DEFINES,
    ENDS,
    ENTERS,
    HOLD,
    KEYWORDS,
    LEAD,
    LISTENS,
    LOADS,
    LOCKS,
    NAMES,
    PREPARE,
    PREPARES,
    SEEDS,
    SEQUENCES,
    SET,
    SETS,
    SETTINGS,
    TAILS,
    TEMP,
    UNREADABLE,
    WRITES,
)

__all__ = [
    "ANYTHING",
    "CREATES",
    "DEFINES",
    "ENDS",
    "ENTERS",
    "HOLD",
    "LISTENS",
    "LOADS",
    "LOCKS",
    "PREPARES",
    "SEEDS",
    "SEQUENCES",
    "SETS",
    "TAILS",
    "TEMP",
    "WRITES",
    "scan",
]

# The same where they are C ints.
_SETS, _TEMP, _SEEDS, _WRITES, _DEFINES, _TAILS, _ENTERS = SETS, TEMP, SEEDS, WRITES, DEFINES, TAILS, ENTERS
_ANYTHING, _UNREADABLE, _CALLED = ANYTHING, UNREADABLE, CALLED


def _slot(first: int, last: int, size: int) -> int:
    """The slot of a word in tables for searching, whatever its case."""
    return ((first & 31) << 5 ^ (last & 31) ^ size << 3) & 1023


# A row of the table that is searched: size of the word, flags (two bytes each), what else it means, the next row of the
# same slot, may it be quoted, and the word. Rows are numbered from 1; SLOTS has the first one by a hash of the word.
ROW = 48
ANY = 1
FIRST = 3
KIND = 5
NEXT = 6
QUOTED = 7
WORD = 8

_slots = bytearray(1024)
_rows = bytearray(ROW)
for _quoted_too, _words in ((0, KEYWORDS), (1, NAMES)):
    for _text, (_any, _first, _kind) in _words.items():
        _word = _text.encode()
        _at = _slot(_word[0], _word[len(_word) - 1], len(_word))
        _head = bytes((len(_word), _any >> 8, _any & 255, _first >> 8, _first & 255, _kind, _slots[_at], _quoted_too))
        _slots[_at] = len(_rows) // ROW
        _rows += (_head + _word).ljust(ROW, b"\0")
SLOTS = bytes(_slots)
ROWS = bytes(_rows)


def scan(text: bytes, start: int, stop: int, odd: bool, touchy: frozenset[bytes] | None) -> int:
    """Flags of the query `text[start:stop]`, which a zero may end before.

    `odd`: bytes may not be what they seem (see `Settings`). `touchy` are names of functions that may do anything when
    they are called.
    """
    classes = CLASSES
    slots = SLOTS
    rows = ROWS
    maybe = _filter(touchy) if touchy else SLOTS
    flags = _UNREADABLE if odd and _odd(text, start, stop) else 0
    depth = 0  # of parentheses
    body = 0  # of BEGIN ATOMIC, and of each CASE in it
    defining = 0  # 1: the statement is CREATE, ALTER or DROP; 2: of something that is called
    begin = True  # the next word outside of parentheses may begin a statement
    full = False  # the statement has begun
    parted = False  # a statement came before
    configured = False
    settings = False
    checked = start  # up to here the arguments of set_config were looked at
    at = start
    while at < stop:
        kind = classes[text[at]]
        if kind in (PLAIN, DIGIT):
            at += 1
            continue
        first = at
        quoted = kind == IDENT
        if kind == NAME:
            at += 1
            while at < stop and classes[text[at]] >= DOLLAR:
                at += 1
            end = at
            if at == first + 1 and at < stop and (text[at] == QUOTE or text[at] == AMPERSAND):
                # It may be the prefix of a constant, or of an identifier with escapes.
                at = lexis.skip(text, first, stop)
                if at < 0:
                    return flags | _UNREADABLE
                if at > end:
                    if text[at - 1] == QUOTE:
                        continue
                    if _has(text, first, at, BACKSLASH):
                        return flags | _UNREADABLE
                    quoted = True
                    first += 3
                    end = at - 1
        elif quoted:
            at = lexis.quoted(text, at + 1, stop)
            if at < 0:
                return flags | _UNREADABLE
            first += 1
            end = at - 1
        elif kind == SEMICOLON:
            at += 1
            if depth == 0:
                begin = True
                if body == 0:
                    parted = parted or full
                    full = False
                    defining = 0
            continue
        elif kind == OPEN:
            at += 1
            if begin and depth == 0:
                full = True
                if parted:
                    flags |= _TAILS
            depth += 1
            continue
        elif kind == CLOSE:
            at += 1
            if depth > 0:
                depth -= 1
            continue
        elif kind == END:
            break
        else:
            at = lexis.skip(text, at, stop)
            if at < 0:
                return flags | _UNREADABLE
            continue

        slot = _slot(text[first], text[end - 1], end - first)
        row = _row(text, first, end, slots[slot], rows) if slots[slot] else 0
        if quoted and row and not rows[row + QUOTED]:
            row = 0
        special = 0
        if row:
            flags |= rows[row + ANY] << 8 | rows[row + ANY + 1]
            special = rows[row + KIND]
        if end - first > 8 and text[first + 7] == UNDERSCORE and lexis.spells(text, first, first + 8, b"pg_temp_"):
            flags |= _TEMP
        if (
            touchy is not None
            and (maybe[slot] or end - first > LONGEST_NAME or (quoted and _has(text, first, end, DOUBLE)))
            and _calls(text, start, first, end, at, stop, touchy)
        ):
            flags |= _CALLED
        if begin and depth == 0 and not quoted:
            if parted:
                flags |= _TAILS
            if row:
                told = rows[row + FIRST] << 8 | rows[row + FIRST + 1]
                if special == SET:
                    told = phrases.after_set(text, at, stop)
                    configured = configured or not told
                elif special == PREPARE and not phrases.prepares(text, at, stop):
                    told = 0
                if told != _ENTERS or not (parted or full):
                    flags |= told
            begin = special == LEAD
            full = True
            if body == 0:
                defining = special == DEFINE
        if special == 0:
            continue
        if special == DEFINED:
            if defining:
                defining = 2
                flags |= _DEFINES
        elif special == CONFIG:
            configured = True
            if not flags & _SETS:
                # The arguments of one within another would be looked at again and again.
                checked = phrases.locally(text, at, stop) if first >= checked else -1
                if checked < 0:
                    flags |= _SETS
        elif special == SETTINGS:
            settings = True
        elif special in (BODY, CASE, CEASE) and (body or (defining == 2 and depth == 0)):
            body = phrases.nested(text, start, first, at, stop, special, body)

    if settings and flags & _WRITES:
        flags |= _SETS
    return flags | _named(text, start, stop) if configured or settings else flags


def _named(text: bytes, start: int, stop: int) -> int:
    """Flags of what else than settings is changed by the name of one, where it may stand anywhere in a text."""
    flags = 0
    if lexis.mentions(text, start, stop, b"standard_conforming_strings"):
        flags |= _ANYTHING
    if lexis.mentions(text, start, stop, b"seed"):
        flags |= _SEEDS
    if lexis.mentions(text, start, stop, b"pg_temp"):
        flags |= _TEMP
    return flags


def _odd(text: bytes, start: int, stop: int) -> bool:
    """Is there a byte that may not be what it looks like?"""
    at = start
    while at < stop and text[at] < 0x80 and text[at] != BACKSLASH:
        at += 1
    return at < stop


def _has(text: bytes, at: int, stop: int, letter: int) -> bool:
    while at < stop and text[at] != letter:
        at += 1
    return at < stop


def _row(text: bytes, first: int, end: int, row: int, rows: bytes) -> int:
    """Where the row of this word begins in `rows`, 0 if it isn't watched for; `row` is the first one of its slot."""
    size = end - first
    while row:
        row *= ROW
        if rows[row] == size:
            at = 0
            while at < size and LOWER[text[first + at]] == rows[row + WORD + at]:
                at += 1
            if at == size:
                return row
        row = rows[row + NEXT]
    return 0


def meaning(text: bytes, first: int, end: int, quoted: bool) -> int:
    """What else than its flags this word means, or this name if it is `quoted`."""
    row = _watched(text, first, end)
    return ROWS[row + KIND] if row and (not quoted or ROWS[row + QUOTED]) else 0


def sets(text: bytes, first: int, end: int) -> bool:
    """Is this the name of a function, other than set_config, that changes settings?"""
    row = _watched(text, first, end)
    return row > 0 and ROWS[row + QUOTED] > 0 and ROWS[row + ANY + 1] & _SETS > 0


def _watched(text: bytes, first: int, end: int) -> int:
    if first == end:
        return 0
    return _row(text, first, end, SLOTS[_slot(text[first], text[end - 1], end - first)], ROWS)


# Functions that may do anything.


def _calls(text: bytes, start: int, first: int, end: int, after: int, stop: int, touchy: frozenset[bytes]) -> bool:
    """Is `text[first:end]` one of these functions, and is it called, maybe as an attribute of a row?

    What follows begins at `after`: behind `end` where it is quoted.
    """
    quoted = after != end
    at = lexis.blank(text, after, stop)
    if at == stop or CLASSES[text[at]] != OPEN:
        at = first - (after - end)
        if at <= start or text[at - 1] != 0x2E:
            return False
    name = text[first:end]
    return lexis.cut(name.replace(b'""', b'"') if quoted else name.lower()) in touchy


# The filters of the sets of names that were given lately; there is one set in use for each database.
_filters: dict[frozenset[bytes], bytes] = {}
FILTERS = 256


def _filter(touchy: frozenset[bytes]) -> bytes:
    """A table of slots with a mark at each of these names, so that most words need not be looked up."""
    found = _filters.get(touchy)
    if found is None:
        if len(_filters) >= FILTERS:
            _filters.clear()
        table = bytearray(1024)
        for name in touchy:
            if name:
                table[_slot(name[0], name[len(name) - 1], len(name))] = 1
        found = _filters[touchy] = bytes(table)
    return found
