"""Prepared statements shared by all clients of a worker: equal text, types and dialect are one statement.

A statement's name on the servers is a digest of text, types, dialect, and a number of this process.
"""

import hashlib
import re
import weakref

from ...cache import Cache
from ...sql.analysis import look
from ...sql.effects import PREFIX
from .budget import MemoryBudget
from .epoch_counter import EpochCounter, LocalEpoch

Dialect = tuple[tuple[str, str], ...]

# Stands for a statement that has become another: there is none of that name, so that PostgreSQL refuses it.
MISMATCH = b"_pglido-misfit"
# The same for one that can't be kept for its client; behind it stands why.
NO_ROOM = b"_pglido-no-room-"
# Why no more is kept for a client: the text of the error, and what to do.
Lack = tuple[str, str]
FEWER = "Close prepared statements that are not needed any more, or say values as parameters"
OF_ITS_OWN = "more than max_client_held_bytes would be kept for this client", f"{FEWER}; or raise that limit."
OF_ALL = "more than max_held_bytes would be kept for all clients", f"{FEWER}; or raise that limit."
OF_MEMORY = "the pooler uses more memory than max_memory", "Try again later, or raise that limit."
LACKS = {NO_ROOM + b"own": OF_ITS_OWN, NO_ROOM + b"all": OF_ALL, NO_ROOM + b"memory": OF_MEMORY}
_LACK = re.compile(b"|".join(LACKS))

# A statement's name: the prefix, and a digest of 12 bytes in hex; and its bytes.
SHARED = re.compile(PREFIX + b"[0-9a-f]{24}")
NAME_SIZE = len(PREFIX) + 24

# More than this, of what SQL has prepared, is not prepared anew on every server: its client is pinned for it.
MANY_PREPARED = 64
LONG_PREPARED = 32768

# Statements of which PostgreSQL says anew each time what they are.
_PASSING = re.compile(rb"\s*(?:fetch|execute|call)\b", re.IGNORECASE)

# What clients were told of a statement: the types of its parameters as on the wire, and a digest of its columns. Each
# parameter is in the text, but a short text may have many columns, with long names.
Description = tuple[bytes, bytes]
DIGEST = 16


# Bytes of a statement besides its text and its description.
_BARE = 400


class Statement:
    """One prepared statement: `rest` is what follows the name in a Parse, `name` its name on servers.

    `dialect` has what else decides what the text means, settings above all: '1 May 2024'::timestamptz is read when it
    is parsed. `described` is what clients were told that it is (None: nothing yet); it is that on every server. Unless
    it `lasts` not: the columns of a FETCH are those of its cursor, whatever that is when it is executed. `holders` is
    how many names of clients stand for it, and where there are any it counts in `budget`.
    """

    __slots__ = ("__weakref__", "budget", "described", "dialect", "holders", "lasts", "name", "rest")

    def __init__(self, rest: bytes, dialect: Dialect) -> None:
        self.rest = rest
        self.dialect = dialect
        self.described: Description | None = None
        self.lasts = _PASSING.match(rest) is None
        digest = hashlib.blake2b(repr((_generation, dialect)).encode() + b"\0" + rest, digest_size=12)
        self.name = PREFIX + digest.hexdigest().encode()
        self.holders = 0
        self.budget: MemoryBudget | None = None

    def hold(self, budget: MemoryBudget) -> None:
        """One more of a client's names stands for it: it counts once in the budget that all of them have."""
        self.holders += 1
        if self.holders == 1:
            self.budget = budget
            budget.shared += self.size()

    def let_go(self) -> None:
        """One of a client's names stands for it no more."""
        self.holders -= 1
        if self.holders == 0 and self.budget is not None:
            self.budget.shared -= self.size()
            self.budget = None

    def size(self) -> int:
        """Bytes of it in memory, about."""
        told = self.described
        return _BARE + len(self.rest) + (0 if told is None else len(told[0]) + len(told[1]))

    def tell(self, told: Description | None) -> None:
        """From now on clients have been told that it is this."""
        before = self.size()
        self.described = told
        if self.budget is not None:
            self.budget.shared += self.size() - before

    def typed(self) -> bytes:
        """`rest` with the types of parameters that clients were told: those are not open any more."""
        if self.described is None:
            return self.rest
        types = self.described[0]
        return self.rest[: self.rest.index(0) + 1] + (len(types) // 4).to_bytes(2, "big") + types

    def __repr__(self) -> str:
        return f"<Statement {self.name.decode()} {self.rest[:40]!r}>"


_doubts: EpochCounter = LocalEpoch()
# What was counted when `_known` was emptied the last time, and how often that was.
_counted = 0
_generation = 0
_known: "weakref.WeakValueDictionary[tuple[bytes, Dialect], Statement]" = weakref.WeakValueDictionary()
_alive: "weakref.WeakSet[Statement]" = weakref.WeakSet()


def intern(rest: bytes, dialect: Dialect) -> Statement:
    """The one statement of this text, these types and this dialect; lives as long as a client or a server holds it."""
    statement = find(rest, dialect)
    if statement is None:
        statement = _known[rest, dialect] = Statement(rest, dialect)
        _alive.add(statement)
    return statement


def find(rest: bytes, dialect: Dialect) -> Statement | None:
    """The statement of this text, these types and this dialect, if there is one already."""
    global _counted, _generation
    doubts = _doubts.count()
    if doubts != _counted:
        _known.clear()
        _counted = doubts
        _generation += 1
    return _known.get((rest, dialect))


def share(doubts: EpochCounter) -> None:
    """From now on doubts are those of all workers."""
    global _doubts, _counted
    _doubts = doubts
    _counted = doubts.count()


def renew() -> None:
    """What statements are made of has changed, for all workers.

    Clients that still use a statement by its name get what PostgreSQL says of it, as they would alone; for a client
    that prepares the text again it is a new statement, with a name of its own on servers.
    """
    _doubts.add()


def digest(columns: bytes) -> bytes:
    """What stands for these columns, where it only matters whether they are the same."""
    return hashlib.blake2b(columns, digest_size=DIGEST).digest()


def lack_in(body: bytes) -> Lack:
    """Why a statement was not kept, by the ErrorResponse of what stands in its place."""
    found = _LACK.search(body)
    return LACKS[found[0]] if found else OF_ITS_OWN


def stale(body: bytes) -> bool:
    """Does this ErrorResponse say that a prepared statement does not fit the catalogs any more?"""
    return b"\0RRevalidateCachedQuery\0" in body or b"\0Mcache lookup failed for " in body


def alive() -> list[Statement]:
    """All statements that a client or a server holds."""
    return list(_alive)


def count() -> int:
    """How many different statements are alive."""
    return len(_alive)


def prepares_in(said: str) -> dict[str, str | None]:
    """The PREPAREs in a text, by the name that they prepare; None where there are several of that name.

    A text with one statement is that of all names, "" for them.
    """
    if not said.isascii():
        return {}
    statements = look(said.encode()).statements
    if len(statements) == 1:
        return {"": said}
    found: dict[str, str | None] = {}
    for statement in statements:
        names = look(statement).prepares
        if len(names) == 1:
            name = names[0].decode()
            found[name] = None if name in found else statement.decode()
    return found


# A text larger than this is not worth keeping for the next client's sake.
LARGE = 16384
# Statements that are kept as good ones, of each pool, and the bytes of all.
GOOD = 10_000
GOOD_BYTES = 8 << 20


class AcceptedStatements:
    """Statements that a server of one pool has taken: a Parse of one of them will not fail for its text."""

    __slots__ = ("_taken",)

    def __init__(self, most: int = GOOD) -> None:
        self._taken = Cache(GOOD_BYTES, most)

    def add(self, statement: Statement) -> None:
        """A server answered ParseComplete."""
        if len(statement.rest) <= LARGE and statement not in self:
            # Once more for what it may be described as.
            self._taken.put(statement, True, statement.size() + len(statement.rest))

    def __contains__(self, statement: object) -> bool:
        return self._taken.get(statement) is not None

    def clear(self) -> None:
        """Forget them."""
        self._taken.clear()


def replayable(prepared: dict[str, str]) -> dict[str, str] | None:
    """The texts by which SQL-level prepared statements can be made on another server, or None.

    A name beyond ASCII is known as the database has it: in the client's encoding it may be another one.
    """
    came = set(prepared.values())
    if len(prepared) > MANY_PREPARED or sum(map(len, came)) > LONG_PREPARED or not "".join(prepared).isascii():
        return None
    found = {said: prepares_in(said) for said in came}
    texts = {}
    for name, said in prepared.items():
        text = found[said].get("") or found[said].get(name)
        if text is None:
            return None
        texts[name] = text
    return texts if sum(map(len, texts.values())) <= LONG_PREPARED else None
