"""A client's last batch, kept while it could be said again: after DDL its statement may not fit the catalogs any more.

PostgreSQL then refuses the Bind ("cached plan must not change result type", which a client alone would see too). As
nothing was done yet, and the client is told the columns anew (it sent a Describe), the batch can be said again with
the statement prepared anew, and the client notices nothing. Within a transaction block the error has ended that. Nor
is it said again where the client relies on what it was told before: on types of parameters, or on how many columns
there are.
"""

from ...protocol import messages
from ...protocol.codes import DESCRIBE, EXECUTE, SYNC
from ..state.shared import ClientState
from ..state.statement_cache import Statement, intern
from .reply_kinds import BINDING, DESCRIBING, EXECUTING, INTERNAL, PARSING, SYNCING
from .statements import ServerStatements

# A longer Bind is not kept: in bytes.
LONGEST = 4096

# Describe and Execute (all rows) of the unnamed portal, and Sync: what follows the Bind, and its sizes.
AFTER_BIND = messages.message(DESCRIBE, b"P\0") + messages.message(EXECUTE, b"\0\0\0\0\0") + messages.SYNC
DESCRIBE_SIZE = 7
EXECUTE_SIZE = 10
P = ord("P")

# How far the batch has come.
NONE, BOUND, DESCRIBED, EXECUTED, SYNCED = range(5)
AWAITED = bytes([BINDING, DESCRIBING, EXECUTING, SYNCING])


class Replay:
    """One batch: the Bind as it was sent, in two parts, and the `statement` it is of.

    `due`: to be said again when the server is ready for it.
    """

    __slots__ = ("_head", "_statement", "_tail", "due", "step")

    def __init__(self) -> None:
        self.step = NONE
        self.due = False
        self._head = b""
        self._tail = b""
        self._statement: Statement | None = None

    def begin(self, head: bytes, tail: bytes, statement: Statement) -> None:
        """A batch begins, outside of a transaction, with a Bind of a shared statement; `tail` begins with its zero."""
        self._head = head
        self._tail = tail
        self._statement = statement
        self.step = BOUND

    def goes_on(self, kind: int, src: bytes, at: int, total: int) -> None:
        """The client's next message."""
        if self.step == BOUND and kind == DESCRIBE and total == DESCRIBE_SIZE and src[at + 5] == P:
            self.step = DESCRIBED
        elif self.step == DESCRIBED and kind == EXECUTE and total == EXECUTE_SIZE:
            rows = src[at + 6] | src[at + 7] | src[at + 8] | src[at + 9]
            self.step = NONE if rows else EXECUTED
        elif self.step == EXECUTED and kind == SYNC:
            self.step = SYNCED
        else:
            self.step = NONE

    def refused(self, prepared: ServerStatements) -> bool:
        """The server's catalogs have changed; returns whether the batch will be said again, and the error ends here."""
        replies = prepared.replies
        self.due = self.step == SYNCED and replies.own == 1 and _own(replies.entries()) == AWAITED and self._holds()
        self.step = NONE
        return self.due

    def _holds(self) -> bool:
        """Does the Bind mean the same, whatever the types of the statement are now?"""
        bind, statement = self._tail, self._statement
        if statement is None:
            return False
        count = int.from_bytes(bind[1:3], "big")
        at = 3 + 2 * count
        binary = bind[3:at].count(1) > 0
        try:
            values = [len(value or b"") for value in messages.values(bind, at)]
        except ValueError:
            return False
        at += 2 + 4 * len(values) + sum(values)
        if int.from_bytes(bind[at : at + 2], "big") > 1:
            return False
        return not values or not binary or _declared(statement.rest) >= len(values)

    def again(self, prepared: ServerStatements, client: ClientState | None) -> bytes:
        """The server is ready: the messages of the batch, its statement prepared anew."""
        self.due = False
        old = self._statement
        if client is None or old is None:
            return b""
        new = intern(old.rest, old.dialect)
        for name in list(client.own_names().get(old.name, ())):
            client.put_statement(name, new)
        sent = prepared.learn(None, new, client.rules.max_statements, PARSING | INTERNAL, True)
        if new.described is None and new.lasts:
            # The client is told the columns by what follows.
            sent += prepared.check(new, None)
        for entry in AWAITED:
            prepared.replies.push(entry)
        return sent + self._head.replace(old.name, new.name) + self._tail + AFTER_BIND


def _own(entries: bytes) -> bytes:
    """Those of the client's own."""
    return bytes([entry for entry in entries if not entry & INTERNAL])


def _declared(rest: bytes) -> int:
    """Of how many parameters the Parse itself said the type, from the first one on."""
    at = rest.index(0) + 1
    count = int.from_bytes(rest[at : at + 2], "big")
    at += 2
    for number in range(count):
        if rest[at : at + 4] == b"\0\0\0\0":
            return number
        at += 4
    return count
