"""Tell from the text of a query, without parsing it, what of a session it may touch.

Rules: a flag too many costs a question to the server, a flag too few shows one client the state of another; what can't
be told is ANYTHING. Quotes and comments are those of PostgreSQL's lexer (chapter "Lexical Structure", scan.l). It reads
the whole text before anything of it runs, so that nothing needs to be seen in a text that it refuses.

`scan` is asked of every query and makes no Python objects; `analysis.look` reads closely what `scan` found.
"""

from . import clauses, lexer
from .charclass import (
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
from .keywords import (
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
    KEEPS,
    KEYWORDS,
    LEAD,
    LISTENS,
    LOADS,
    LOCKS,
    NAMES,
    NOTIFIES,
    PREPARE,
    PREPARES,
    SEEDS,
    SEQUENCES,
    SET,
    SETS,
    SETTINGS,
    SHOWS,
    SIGNALS,
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
    "KEEPS",
    "LISTENS",
    "LOADS",
    "LOCKS",
    "NOTIFIES",
    "PREPARES",
    "SEEDS",
    "SEQUENCES",
    "SETS",
    "SHOWS",
    "SIGNALS",
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


# A row of the table that is searched: size of the word, flags (three bytes each), what else it means, the next row of
# the same slot, may it be quoted, and the word. Rows are numbered from 1; SLOTS has the first by a hash of the word.
ROW = 48
ANY = 1
FIRST = 4
KIND = 7
NEXT = 8
QUOTED = 9
WORD = 10

_slots = bytearray(1024)
_rows = bytearray(ROW)
for _quoted_too, _words in ((0, KEYWORDS), (1, NAMES)):
    for _text, (_any, _first, _kind) in _words.items():
        _word = _text.encode()
        _at = _slot(_word[0], _word[len(_word) - 1], len(_word))
        _head = bytes((len(_word), *_any.to_bytes(3, "big"), *_first.to_bytes(3, "big")))
        _head += bytes((_kind, _slots[_at], _quoted_too))
        _slots[_at] = len(_rows) // ROW
        _rows += (_head + _word).ljust(ROW, b"\0")
SLOTS = bytes(_slots)
ROWS = bytes(_rows)


def scan(text: bytes, start: int, stop: int, odd: bool, touchy: frozenset[bytes] | None) -> int:
    """Flags of the query `text[start:stop]`, which a zero may end before.

    `odd`: bytes may not be what they seem (see `SessionParameters`). `touchy` are names of functions that may do
    anything when they are called.
    """
    READER.begin_with(text, start, stop, touchy)
    if odd and _odd(text, start, stop):
        READER.flags = _UNREADABLE
    return READER.read()


class Reader:
    """A query, and what has been seen of it so far. There is one, for one query is read at a time.

    `depth` is that of parentheses, `body` that of BEGIN ATOMIC and of each CASE in it. `defining` is 1 in a CREATE,
    ALTER or DROP, 2 in one of something that is called. `begin`: the next word outside of parentheses may begin a
    statement; `full`: the statement has begun; `parted`: a statement came before. `configured`, `settings`: something
    was called, or named, that changes settings. Up to `checked` the arguments of set_config were looked at.
    """

    __slots__ = (
        "begin",
        "body",
        "checked",
        "configured",
        "defining",
        "depth",
        "flags",
        "full",
        "maybe",
        "parted",
        "settings",
        "start",
        "stop",
        "text",
        "touchy",
    )

    def begin_with(self, text: bytes, start: int, stop: int, touchy: frozenset[bytes] | None) -> None:
        """Nothing has been seen yet."""
        self.text = text
        self.start = start
        self.stop = stop
        self.touchy = touchy
        self.maybe = _filter(touchy) if touchy else SLOTS
        self.flags = 0
        self.depth = 0
        self.body = 0
        self.defining = 0
        self.begin = True
        self.full = False
        self.parted = False
        self.configured = False
        self.settings = False
        self.checked = start

    def read(self) -> int:
        """Read it to its end; returns its flags."""
        text = self.text
        classes = CLASSES
        stop = self.stop
        at = self.start
        while at < stop:
            kind = classes[text[at]]
            if kind == NAME:
                first = at
                at += 1
                while at < stop and classes[text[at]] >= DOLLAR:
                    at += 1
                if at == first + 1 and at < stop and (text[at] == QUOTE or text[at] == AMPERSAND):
                    at = self._prefixed(first, at)
                else:
                    self._word(text, first, at, at, False)
            elif kind in (PLAIN, DIGIT):
                at += 1
            elif kind == IDENT:
                at = self._identifier(at)
            elif kind == SEMICOLON:
                self._part()
                at += 1
            elif kind == OPEN:
                self._open()
                at += 1
            elif kind == CLOSE:
                self.depth -= self.depth > 0
                at += 1
            elif kind == END:
                break
            else:
                at = lexer.skip(text, at, stop)
            if at < 0:
                return self.flags | _UNREADABLE
        if self.settings and self.flags & _WRITES:
            self.flags |= _SETS
        named = self.configured or self.settings
        return self.flags | _named(text, self.start, stop) if named else self.flags

    def _prefixed(self, first: int, end: int) -> int:
        """A letter that may be the prefix of a constant, or of an identifier with escapes."""
        text = self.text
        at = lexer.skip(text, first, self.stop)
        if at <= end:
            if at == end:
                self._word(text, first, end, end, False)
        elif text[at - 1] != QUOTE:
            if _has(text, first, at, BACKSLASH):
                return -1
            self._word(text, first + 3, at - 1, at, True)
        return at

    def _identifier(self, first: int) -> int:
        """A quoted identifier; returns where it ends, -1 if it doesn't."""
        at = lexer.quoted(self.text, first + 1, self.stop)
        if at >= 0:
            self._word(self.text, first + 1, at - 1, at, True)
        return at

    def _part(self) -> None:
        """A semicolon: in a body it parts the statements of a function, else those of the query."""
        if self.depth:
            return
        self.begin = True
        if self.body == 0:
            self.parted = self.parted or self.full
            self.full = False
            self.defining = 0

    def _open(self) -> None:
        """A parenthesis, maybe the first of a statement."""
        if self.begin and self.depth == 0:
            self.full = True
            if self.parted:
                self.flags |= _TAILS
        self.depth += 1

    def _word(self, text: bytes, first: int, end: int, at: int, quoted: bool) -> None:
        """The word or name `text[first:end]`, behind which it goes on at `at`."""
        slots = SLOTS
        rows = ROWS
        slot = _slot(text[first], text[end - 1], end - first)
        row = _row(text, first, end, slots[slot], rows) if slots[slot] else 0
        if quoted and row and not rows[row + QUOTED]:
            row = 0
        if row:
            self.flags |= rows[row + ANY] << 16 | rows[row + ANY + 1] << 8 | rows[row + ANY + 2]
        if end - first > 8 and text[first + 7] == UNDERSCORE and lexer.spells(text, first, first + 8, b"pg_temp_"):
            self.flags |= _TEMP
        if (
            self.touchy is not None
            and (self.maybe[slot] or end - first > LONGEST_NAME or (quoted and _has(text, first, end, DOUBLE)))
            and _calls(text, self.start, first, end, at, self.stop, self.touchy)
        ):
            self.flags |= _CALLED
        if self.begin and self.depth == 0 and not quoted:
            self._first(row, at)
        if row and rows[row + KIND]:
            self._special(rows[row + KIND], first, at)

    def _first(self, row: int, at: int) -> None:
        """The first word of a statement, or the next one behind words that don't tell which it is."""
        rows = ROWS
        special = rows[row + KIND] if row else 0
        if self.parted:
            self.flags |= _TAILS
        if row:
            told = rows[row + FIRST] << 16 | rows[row + FIRST + 1] << 8 | rows[row + FIRST + 2]
            if special == SET:
                told = clauses.after_set(self.text, at, self.stop)
                self.configured = self.configured or not told
            elif special == PREPARE and not clauses.prepares(self.text, at, self.stop):
                told = 0
            if told != _ENTERS or not (self.parted or self.full):
                self.flags |= told
        self.begin = special == LEAD
        self.full = True
        if self.body == 0:
            self.defining = special == DEFINE

    def _special(self, special: int, first: int, at: int) -> None:
        """A word that means something wherever it stands."""
        if special == DEFINED:
            if self.defining:
                self.defining = 2
                self.flags |= _DEFINES
        elif special == CONFIG:
            self.configured = True
            if not self.flags & _SETS:
                # The arguments of one within another would be looked at again and again.
                self.checked = clauses.locally(self.text, at, self.stop) if first >= self.checked else -1
                if self.checked < 0:
                    self.flags |= _SETS
        elif special == SETTINGS:
            self.settings = True
        elif special in (BODY, CASE, CEASE) and (self.body or (self.defining == 2 and self.depth == 0)):
            self.body = clauses.nested(self.text, self.start, first, at, self.stop, special, self.body)


READER = Reader()


def _named(text: bytes, start: int, stop: int) -> int:
    """Flags of what else than settings is changed by the name of one, where it may stand anywhere in a text."""
    flags = 0
    if lexer.mentions(text, start, stop, b"standard_conforming_strings"):
        flags |= _ANYTHING
    if lexer.mentions(text, start, stop, b"seed"):
        flags |= _SEEDS
    if lexer.mentions(text, start, stop, b"pg_temp"):
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
    return row > 0 and ROWS[row + QUOTED] > 0 and ROWS[row + ANY + 2] & _SETS > 0


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
    at = lexer.blank(text, after, stop)
    if at == stop or CLASSES[text[at]] != OPEN:
        at = first - (after - end)
        if at <= start or text[at - 1] != 0x2E:
            return False
    name = text[first:end]
    return lexer.cut(name.replace(b'""', b'"') if quoted else name.lower()) in touchy


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
