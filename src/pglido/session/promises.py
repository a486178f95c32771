"""What the Parse and Close messages under way have promised, to be taken back when the server skips them."""

from .statements import Statement

# So many that were taken are let go at once: one by one costs more than making them.
MANY = 16


class Promise:
    """What one of them promised: the client's `name` for the `statement` (None: pglido's own doing).

    With neither it is of one that isn't followed. If it is `unnamed`, it is about the unnamed statement, which was
    `mine` for the client and `its` for the server before. Made by `Promises`.
    """

    __slots__ = ("its", "mine", "name", "statement", "unnamed")

    name: bytes | None
    statement: Statement | None
    unnamed: bool
    mine: bytes | None
    its: bytes | None


class Promises:
    """A queue of them, one for each owed answer to a Parse or Close; the first `_past` in `_all` were taken."""

    __slots__ = ("_all", "_past")

    def __init__(self) -> None:
        self._all: list[Promise | None] = []
        self._past = 0

    def add(self, name: bytes | None, statement: Statement | None) -> None:
        """Promise that the client's `name` will stand for `statement`, or not any more."""
        promise: Promise = Promise.__new__(Promise)
        promise.name = name
        promise.statement = statement
        promise.unnamed = False
        promise.mine = promise.its = None
        self._all.append(promise)

    def add_unnamed(self, mine: bytes | None, its: bytes | None) -> None:
        """Promise that the unnamed statement will be another than these."""
        promise: Promise = Promise.__new__(Promise)
        promise.name = promise.statement = None
        promise.unnamed = True
        promise.mine = mine
        promise.its = its
        self._all.append(promise)

    def take(self) -> Promise:
        """Take the first one off; there must be one."""
        promise = self._all[self._past]
        self._all[self._past] = None
        self._past += 1
        if self._past >= MANY and 2 * self._past >= len(self._all):
            del self._all[: self._past]
            self._past = 0
        assert promise is not None
        return promise

    def left(self) -> list[Promise]:
        """All that were not taken, in order."""
        return [promise for promise in self._all[self._past :] if promise is not None]
