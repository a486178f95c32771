"""What the Parse and Close messages under way have promised, to be taken back when the server skips them."""

from ..state.budget import NO_BUDGET
from ..state.shared import ClientState
from ..state.statement_cache import Statement

# So many that were taken are let go at once: one by one costs more than making them.
MANY = 16
# Bytes of one in memory, besides the texts that it keeps.
BARE = 160


class Undo:
    """What one of them promised: the client's `name` for the `statement` (None: pglido's own doing).

    With neither there is nothing to undo: it keeps the log in step with the replies.

    `unnamed`: it is about the unnamed statement, of which `client_was` was the client's before, with `number` and
        `flags`, and `server_was` the number of the server's.
    `behind`: how many Queries the client had sent before.
    `later`: the next one about the unnamed statement.
    `at`: the number of its entry among the replies.
    `size`: bytes that it keeps.
    """

    __slots__ = (
        "at",
        "behind",
        "client_was",
        "flags",
        "later",
        "name",
        "number",
        "server_was",
        "size",
        "statement",
        "unnamed",
    )

    name: bytes | None
    statement: Statement | None
    unnamed: bool
    client_was: bytes | None
    number: int
    flags: int
    server_was: int
    size: int
    at: int
    behind: int
    later: "Undo | None"


class UndoSpan:
    """Where among the replies the entries about one name or statement are: from `first` or behind it to `last`."""

    __slots__ = ("first", "last")

    def __init__(self, at: int) -> None:
        self.first = self.last = at


class UndoLog:
    """A queue of them, one for each owed answer to a Parse or Close; the first `_past` in `_all` were taken.

    `spans` has names and statements of those that are left, `front` and `back` are the first and the last that are
    unnamed. They keep `size` bytes, which count in the `budget`.
    """

    __slots__ = ("_all", "_past", "back", "budget", "front", "size", "spans")

    def __init__(self) -> None:
        self._all: list[Undo | None] = []
        self._past = 0
        self.spans: dict[object, UndoSpan] = {}
        self.front: Undo | None = None
        self.back: Undo | None = None
        self.budget = NO_BUDGET
        self.size = 0

    def add(self, name: bytes | None, statement: Statement | None, closes: bool, at: int) -> None:
        """Note that the client's `name` will stand for `statement`, or (`closes`) not any more."""
        undo: Undo = Undo.__new__(Undo)
        undo.name = name
        undo.statement = statement
        undo.unnamed = False
        undo.client_was = None
        undo.number = undo.flags = undo.server_was = 0
        undo.size = BARE
        if closes and name is not None and statement is not None:
            undo.size += len(statement.rest)
        undo.at = at
        undo.behind = 0
        undo.later = None
        self._all.append(undo)
        self.keep(undo.size)
        if name is not None:
            self._lengthen(name, at)
        if statement is not None:
            self._lengthen(statement, at)

    def add_unnamed(self, client: ClientState, server_was: int, at: int, behind: int) -> None:
        """Note that the unnamed statement will be another than the client's is now, and the server's."""
        undo: Undo = Undo.__new__(Undo)
        undo.name = undo.statement = None
        undo.unnamed = True
        undo.client_was = client.unnamed
        undo.number = client.unnamed_id
        undo.flags = client.unnamed_flags
        undo.server_was = server_was
        undo.size = BARE + (0 if client.unnamed is None else len(client.unnamed))
        undo.at = at
        undo.behind = behind
        undo.later = None
        self._all.append(undo)
        self.keep(undo.size)
        if self.back is None:
            self.front = undo
        else:
            self.back.later = undo
        self.back = undo

    def follow(self, undo: Undo, was: Undo | None, server_was: int) -> None:
        """What came before an entry about the unnamed statement is undone: what it was then (None: there was none)."""
        self.keep(-undo.size)
        undo.client_was = None if was is None else was.client_was
        undo.number = 0 if was is None else was.number
        undo.flags = 0 if was is None else was.flags
        undo.server_was = server_was
        undo.size = BARE + (0 if undo.client_was is None else len(undo.client_was))
        self.keep(undo.size)

    def keep(self, size: int) -> None:
        """So many bytes more are kept; fewer, if it is below zero."""
        self.size += size
        self.budget.used += size

    def take(self) -> Undo:
        """Take the first one off; there must be one."""
        undo = self._all[self._past]
        self._all[self._past] = None
        self._past += 1
        if self._past >= MANY and 2 * self._past >= len(self._all):
            del self._all[: self._past]
            self._past = 0
        assert undo is not None
        self.keep(-undo.size)
        if undo.unnamed:
            self.front, undo.later = undo.later, None
            if self.front is None:
                self.back = None
        if undo.name is not None:
            self._shorten(undo.name, undo.at)
        if undo.statement is not None:
            self._shorten(undo.statement, undo.at)
        return undo

    def _lengthen(self, what: object, at: int) -> None:
        span = self.spans.get(what)
        if span is None:
            self.spans[what] = UndoSpan(at)
        else:
            span.last = at

    def _shorten(self, what: object, at: int) -> None:
        span = self.spans[what]
        if span.last == at:
            del self.spans[what]
        else:
            span.first = at + 1

    def count(self) -> int:
        """How many were not taken."""
        return len(self._all) - self._past

    def left(self) -> list[Undo]:
        """All that were not taken, in order."""
        return [undo for undo in self._all[self._past :] if undo is not None]

    def drop(self) -> None:
        """The server is gone, and will answer nothing any more."""
        self._all = []
        self._past = 0
        self.spans = {}
        self.front = self.back = None
        self.keep(-self.size)
