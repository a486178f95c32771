"""Prepared statements shared by all clients of a worker: equal text and types are one statement.

A statement's name on the servers is made of its content, so that any worker, and any later process, that is
given a server connection knows what is prepared there.
"""

import hashlib
import re
import weakref

from ..wire.look import look

Dialect = tuple[tuple[str, str], ...]

# So long that no application's own name meets it by chance.
PREFIX = b"_pglido_"


# Bytes in a statement's name: the prefix, and a digest of 12 bytes in hex.
NAME_SIZE = len(PREFIX) + 24


class Statement:
    """One prepared statement: `rest` is what follows the name in a Parse, `name` its name on servers.

    `dialect` has the settings that decide what the text means: '1 May 2024'::timestamptz is read when it is parsed.
    """

    __slots__ = ("__weakref__", "dialect", "name", "rest")

    def __init__(self, rest: bytes, dialect: Dialect) -> None:
        self.rest = rest
        self.dialect = dialect
        digest = hashlib.blake2b(repr((_generation, dialect)).encode() + b"\0" + rest, digest_size=12)
        self.name = PREFIX + digest.hexdigest().encode()

    def __repr__(self) -> str:
        return f"<Statement {self.name.decode()} {self.rest[:40]!r}>"


# Counts how often all that was known has become doubtful.
_generation = 0
_known: "weakref.WeakValueDictionary[tuple[bytes, Dialect], Statement]" = weakref.WeakValueDictionary()


def intern(rest: bytes, dialect: Dialect) -> Statement:
    """The one statement of this text, these types and this dialect; lives as long as a client or a server holds it."""
    statement = _known.get((rest, dialect))
    if statement is None:
        statement = _known[rest, dialect] = Statement(rest, dialect)
    return statement


def find(rest: bytes, dialect: Dialect) -> Statement | None:
    """The statement of this text, these types and this dialect, if there is one already."""
    return _known.get((rest, dialect))


def generation() -> int:
    """Another whenever all that was known has become doubtful."""
    return _generation


def renew() -> None:
    """What statements are made of has changed: each next Parse is a true one.

    Clients that still use a statement by its name get what PostgreSQL says of it, as they would alone; a client that
    prepares the text again gets a new statement.
    """
    global _generation
    _generation += 1
    _known.clear()


def stale(body: bytes) -> bool:
    """Does this ErrorResponse say that a prepared statement does not fit the catalogs any more?"""
    return b"\0RRevalidateCachedQuery\0" in body or b"\0Mcache lookup failed for " in body


def alive() -> list[Statement]:
    """All statements that a client or a server holds."""
    return list(_known.values())


def count() -> int:
    """How many different statements are alive."""
    return len(_known)


_PURGE = re.compile(rb"\s*(?:deallocate|discard)\s+(?:prepare\s+)?all\b", re.IGNORECASE)


def purges(rest: bytes) -> bool:
    """Will executing this statement deallocate all prepared statements of the session?"""
    return _PURGE.match(rest) is not None


def prepare_of(name: str, said: str) -> str | None:
    """The PREPARE of `name` alone, from the text in which it came; None where that can't be told."""
    if not said.isascii():
        return None
    statements = look(said.encode()).statements
    if len(statements) == 1:
        return said
    found = []
    for statement in statements:
        if look(statement).prepares == (name.encode(),):
            found.append(statement.decode())
    return found[0] if len(found) == 1 else None


# A text larger than this is not worth keeping for the next client's sake.
LARGE = 16384


class Good:
    """Statements that a server of one pool has taken: a Parse of one of them will not fail for its text.

    Held in two generations of at most `size` each, so that what is not used is forgotten.
    """

    __slots__ = ("_new", "_old", "size")

    def __init__(self, size: int = 5000) -> None:
        self.size = size
        self._new: dict[Statement, None] = {}
        self._old: dict[Statement, None] = {}

    def add(self, statement: Statement) -> None:
        """A server answered ParseComplete."""
        if statement in self._new or len(statement.rest) > LARGE:
            return
        if len(self._new) >= self.size:
            self._old, self._new = self._new, {}
        self._new[statement] = None

    def __contains__(self, statement: object) -> bool:
        return statement in self._new or statement in self._old
