"""What the Parse and Close messages under way have promised, to be taken back when the server skips them."""

from .state import NO_BUDGET, ClientState
from .statements import Statement

# So many that were taken are let go at once: one by one costs more than making them.
MANY = 16
# Bytes of one in memory, besides the texts that it keeps.
BARE = 160


class Promise:
    """What one of them promised: the client's `name` for the `statement` (None: pglido's own doing).

    With neither it is of one that isn't followed. If it is `unnamed`, it is about the unnamed statement, which was
    `mine` for the client, with this number and these flags, and `its` (a number) for the server before. It keeps `size`
    bytes. Made by `Promises`.
    """

    __slots__ = ("flags", "its", "mine", "name", "number", "size", "statement", "unnamed")

    name: bytes | None
    statement: Statement | None
    unnamed: bool
    mine: bytes | None
    number: int
    flags: int
    its: int
    size: int


class Promises:
    """A queue of them, one for each owed answer to a Parse or Close; the first `_past` in `_all` were taken.

    They keep `size` bytes, which count in the `budget`.
    """

    __slots__ = ("_all", "_past", "budget", "size")

    def __init__(self) -> None:
        self._all: list[Promise | None] = []
        self._past = 0
        self.budget = NO_BUDGET
        self.size = 0

    def add(self, name: bytes | None, statement: Statement | None, closes: bool) -> None:
        """Promise that the client's `name` will stand for `statement`, or (`closes`) not any more."""
        promise: Promise = Promise.__new__(Promise)
        promise.name = name
        promise.statement = statement
        promise.unnamed = False
        promise.mine = None
        promise.number = promise.flags = promise.its = 0
        promise.size = BARE
        if closes and name is not None and statement is not None:
            promise.size += len(statement.rest)
        self._all.append(promise)
        self.keep(promise.size)

    def add_unnamed(self, client: ClientState, its: int) -> None:
        """Promise that the unnamed statement will be another than the client's is now, and the server's."""
        promise: Promise = Promise.__new__(Promise)
        promise.name = promise.statement = None
        promise.unnamed = True
        promise.mine = client.unnamed
        promise.number = client.unnamed_id
        promise.flags = client.unnamed_flags
        promise.its = its
        promise.size = BARE + (0 if client.unnamed is None else len(client.unnamed))
        self._all.append(promise)
        self.keep(promise.size)

    def follow(self, promise: Promise, was: Promise | None, its: int) -> None:
        """What came before a promise about the unnamed statement is undone: what it was then (None: there was none)."""
        self.keep(-promise.size)
        promise.mine = None if was is None else was.mine
        promise.number = 0 if was is None else was.number
        promise.flags = 0 if was is None else was.flags
        promise.its = its
        promise.size = BARE + (0 if promise.mine is None else len(promise.mine))
        self.keep(promise.size)

    def keep(self, size: int) -> None:
        """So many bytes more are kept; fewer, if it is below zero."""
        self.size += size
        self.budget.used += size

    def take(self) -> Promise:
        """Take the first one off; there must be one."""
        promise = self._all[self._past]
        self._all[self._past] = None
        self._past += 1
        if self._past >= MANY and 2 * self._past >= len(self._all):
            del self._all[: self._past]
            self._past = 0
        assert promise is not None
        self.keep(-promise.size)
        return promise

    def count(self) -> int:
        """How many were not taken."""
        return len(self._all) - self._past

    def left(self) -> list[Promise]:
        """All that were not taken, in order."""
        return [promise for promise in self._all[self._past :] if promise is not None]

    def drop(self) -> None:
        """The server is gone, and will answer nothing any more."""
        self._all = []
        self._past = 0
        self.keep(-self.size)
