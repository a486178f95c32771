"""What is prepared on one server connection, and what the messages under way will make of it.

Rules:
1. What a message will change is written down when it is sent, with what it replaces (see `undo_log`); when the server
   skips it (an error, up to the next Sync), that is taken back.
2. Shared statements have names of their own (see `session.state.statement_cache`). The unnamed statement is the
   client's; after another client was here it is parsed again when it is needed.
3. Close works in a failed transaction, Parse doesn't.
4. What clients were told of a statement holds on every server: one that hasn't got it parses it with those types of
   parameters, and is asked what it is now before it is used (`check`). What has become another is not used there.
"""

from collections import deque
from collections.abc import Iterable

from ...protocol import messages
from ...sql.effects import PREFIX
from ..state import statement_cache as _statement_cache
from ..state.shared import ClientState, StatementsView
from ..state.statement_cache import Description, Statement
from ..transitions import ILLEGAL, SHIFT
from .deallocation import BLOCK_OVER, BOUND, DEALLOCATION
from .reply_kinds import CLOSING, DESCRIBING, INTERNAL, KIND, PARSING, QUERYING, STATEMENT, SYNCING
from .reply_queue import ReplyQueue
from .undo_log import Undo, UndoLog, UndoSpan

# Of the last Parse of an unnamed statement, of any client; and what stands for that of no client.
_parses = 0
NOBODYS = -1
# Bytes that are kept of an owed Describe.
DESCRIBE = 160
# Bytes of a portal that drops a statement, besides that one's name; and of how many such portals no account is kept.
DOOM = 320
FEW_DOOMS = 64
# Bytes of statements on one server: above this the least recently used are closed, however few there are. From half of
# it on it is kept in which order they were used.
KNOWN = 16 << 20

DEALLOCATIONS = DEALLOCATION.array
# The same, a C array where it is compiled.
_next = DEALLOCATIONS


class Drop:
    """SQL drops what goes by this `name`; with the client that was `statement`, None where there is nothing of it."""

    __slots__ = ("name", "statement")

    def __init__(self, name: bytes, statement: Statement | None) -> None:
        self.name = name
        self.statement = statement


class ServerStatements:
    """The prepared statements of one server connection.

    `replies`: the queue of what that server owes.
    `known`: the shared ones, the least recently used first, with the beginning of the last Bind.
    `size`: bytes of their texts.
    `unnamed`: the number of the Parse that made the unnamed statement, whose text the client's state has; 0: none.
    `shadowed`: names of the client's own that were made on the server so that SQL finds them, each with the number of
        `purges_seen` when it was made: another purge takes it away, and where it is None one may have. They are given
        back before another turn, but for those of a client whose statements are all shown here (`view`).
    `exposing`: those of them whose Parse is not answered.
    `dropping`: the names that SQL under way drops, with what they stood for.
    `dooms`: those that portals of this transaction drop when they are executed, by portal.
    `deallocation`: whether all are dropped, a state of `server.deallocation`.
    `turn_lost`: a Query was skipped.
    `bound`: the last portal of a statement of which nobody was told what it is, until something else than a Describe
        of it follows.
    `describing`: the statements of owed Describes, with the client's name where it has just parsed or described it.
    `awaited`: the statement whose Describe must be answered before it is used.
    `mismatch`: the one of which that answer said that it is another.
    `unchecked`: of the known, those that may not be what clients were told: nobody has asked, or they have become
        other ones.
    `stale`: of the known, those that may have been read before a temporary object came to stand in front of others.
    """

    __slots__ = (
        "_dropping",
        "_drops",
        "_shared",
        "awaited",
        "bound",
        "deallocation",
        "describing",
        "dooms",
        "dropping",
        "exposing",
        "known",
        "mismatch",
        "purges_seen",
        "replies",
        "shadowed",
        "size",
        "stale",
        "turn_lost",
        "unchecked",
        "undo_log",
        "unnamed",
        "view",
    )

    def __init__(self, replies: ReplyQueue) -> None:
        self.replies = replies
        self.undo_log = UndoLog()
        self.known: dict[Statement, bytes] = {}
        # The same by the names that they have on servers: kept from when it is first asked.
        self._shared: dict[bytes, Statement] | None = None
        self.size = 0
        self.unnamed = 0
        self.shadowed: dict[bytes, tuple[Statement | None, int] | None] = {}
        self.exposing: deque[tuple[bytes, int]] = deque()
        self.purges_seen = 0
        self.view: StatementsView | None = None
        self.dropping: deque[Drop] | None = None
        # The last of these by name, and those since all was deallocated last.
        self._drops: dict[bytes, Drop] = {}
        self._dropping: list[Drop] = []
        self.bound: tuple[bytes, Statement] | None = None
        self.dooms: dict[bytes, bytes] = {}
        self.deallocation = 0
        self.turn_lost = False
        self.describing: deque[tuple[Statement, bytes | None]] = deque()
        self.awaited: Statement | None = None
        self.mismatch: Statement | None = None
        self.unchecked: set[Statement] = set()
        self.stale: set[Statement] = set()

    # Asking.

    def expect(self, entry: int, name: bytes | None, statement: Statement | None) -> None:
        """A Parse or Close was sent, which will change this (see `Undo`)."""
        self.replies.push(entry)
        self.undo_log.add(name, statement, entry & KIND == CLOSING, self.replies.next() - 1)

    def expect_unnamed(self, entry: int, client: ClientState) -> None:
        """A Parse or Close of the unnamed statement was sent, which was the client's, and the server's, till now."""
        self.replies.push(entry)
        replies = self.replies
        self.undo_log.add_unnamed(client, self.unnamed, replies.next() - 1, replies.queries + replies.queried)

    def name_unnamed(self, client: ClientState, rest: bytes | None, flags: int) -> None:
        """The client parses (or closes: None) the unnamed statement itself; `flags` as of `sql.scanner`."""
        global _parses
        self.expect_unnamed(CLOSING if rest is None else PARSING, client)
        if rest is None:
            self.unnamed = 0
        else:
            _parses += 1
            self.unnamed = _parses
        client.put_unnamed(rest, self.unnamed, flags)

    def renew_unnamed(self, client: ClientState) -> bytes:
        """The message that makes the unnamed statement what this client last made it (maybe there is none)."""
        rest = client.unnamed
        self.expect_unnamed((CLOSING if rest is None else PARSING) | INTERNAL, client)
        self.unnamed = client.unnamed_id
        return messages.close_statement(b"") if rest is None else messages.parse(b"", rest)

    def close_unnamed(self, client: ClientState) -> bytes:
        """The message that ends the unnamed statement, in front of one that is refused as its Parse."""
        self.expect_unnamed(CLOSING | INTERNAL, client)
        return messages.close_statement(b"")

    def unnamed_undecided(self) -> bool:
        """Does it depend on an answer to come what the unnamed statement is?

        It does when a Parse or Close of it is owed from before a Sync, and none from behind it (see `undecided`).
        """
        last = self.undo_log.back
        return last is not None and self.replies.turns_behind(last.at)

    def unnamed_known_at(self) -> int:
        """How many replies must have come for that."""
        last = self.undo_log.back
        return 0 if last is None else last.at + 1

    def has(self, statement: Statement, limit: int) -> bool:
        """Is `statement` prepared here, as clients were told? Then it counts as used last (at `limit` that decides)."""
        if statement not in self.known or (statement in self.unchecked and statement.described is not None):
            return False
        if len(self.known) >= limit or 2 * self.size > KNOWN:
            self.known[statement] = self.known.pop(statement)
        return True

    def bound_to(self, portal: bytes, statement: Statement) -> None:
        """The client bound `statement`, of which nobody was told what it is, to `portal`."""
        self.bound = (portal, statement) if statement.lasts else None

    def describe_portal(self, portal: bytes) -> bytes:
        """The client describes a portal: the message, if one is needed, that asks what its statement is.

        Of the portal itself the server says more: of what type a column is planned to be (its modifier).
        """
        bound, self.bound = self.bound, None
        if bound is None or bound[0] != portal or bound[1] not in self.known:
            return b""
        return self.check(bound[1], None)

    def bind_head(self, statement: Statement, size: int) -> bytes:
        """The beginning of a Bind of `statement` to the unnamed portal, up to its name; `size` as the message says it.

        Kept for the next of the same size: making it anew is a third of what a Bind costs.
        """
        head = self.known[statement]
        if len(head) < 5 or (head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4]) != size:
            head = b"B" + size.to_bytes(4, "big") + b"\0" + statement.name
            self.known[statement] = head
        return head

    def learn(self, name: bytes | None, statement: Statement, limit: int, entry: int, fresh: bool) -> bytes:
        """The messages that prepare `statement` here anew, after closing what has been used least.

        `fresh`: from its text alone, whatever clients were told of it.
        """
        sent = self.unlearn(statement)
        size = len(statement.rest)
        while self.known and (len(self.known) >= limit > 0 or self.size + size > KNOWN):
            sent += self.unlearn(next(iter(self.known)))
        self._has(statement)
        self.expect(entry, name, statement)
        sent += messages.parse(statement.name, statement.rest if fresh else statement.typed())
        if statement.described is None:
            self.unchecked.add(statement)
            return sent
        return sent + self.check(statement, name)

    def _has(self, statement: Statement) -> None:
        """The server has this one from now on."""
        if statement not in self.known:
            self.size += len(statement.rest)
            if self._shared is not None:
                self._shared[statement.name] = statement
        self.known[statement] = b""

    def _lacks(self, statement: Statement) -> None:
        """The server does not have it any more, if it had."""
        if self.known.pop(statement, None) is not None:
            self.stale.discard(statement)
            self.size -= len(statement.rest)
            if self._shared is not None:
                del self._shared[statement.name]

    def check(self, statement: Statement, name: bytes | None) -> bytes:
        """The message that asks whether this server's `statement` is what clients were told; its answer ends here."""
        self.replies.push(DESCRIBING | STATEMENT | INTERNAL)
        self.describes(statement, name)
        return messages.describe_statement(statement.name)

    def describes(self, statement: Statement, name: bytes | None) -> None:
        """A Describe of `statement` was sent, which is the client's `name` if it has just parsed or described it."""
        self.describing.append((statement, name))
        self.undo_log.keep(DESCRIBE)

    def _told(self) -> tuple[Statement, bytes | None]:
        """Which Describe is answered, or skipped."""
        self.undo_log.keep(-DESCRIBE)
        return self.describing.popleft()

    def unlearn(self, statement: Statement) -> bytes:
        """The message, if one is needed, after which `statement` is not prepared here."""
        self.unchecked.discard(statement)
        if statement not in self.known:
            return b""
        self._lacks(statement)
        self.expect(CLOSING | INTERNAL, None, statement)
        return messages.close_statement(statement.name)

    def plans_are_stale(self) -> None:
        """All statements are read again when they are used next."""
        self.stale = set(self.known)
        self.view = None

    def forget(self) -> bytes:
        """The messages, if any are needed, after which no shared statement is prepared here, in a turn of their own."""
        sent = [self.unlearn(statement) for statement in list(self.known)]
        return b"".join(sent) + self.end_turn() if sent else b""

    def collide(self, name: bytes) -> bytes:
        """Messages after which a Parse of `name` fails as it would where the client had this server for itself."""
        if self.view is not None:
            self.view.put(name)
        return self._borrow(name, None, messages.EMPTY_STATEMENT)

    def probe(self, name: bytes, statement: Statement) -> bytes:
        """Messages that parse it by the client's own name: that fails, as it should, if SQL has prepared it already."""
        sent = self.evict(name)
        if name in self.shadowed:
            self.expect(CLOSING | INTERNAL, name, None)
            sent += messages.close_statement(name)
        self.expect(PARSING | INTERNAL, name, None)
        self.shadowed[name] = statement, self.purges_seen
        return sent + messages.parse(name, statement.rest)

    def expose_to_sql(self, name: bytes, statement: Statement, in_batch: bool) -> bytes:
        """Messages after which `statement` goes by the client's own name, for SQL that executes it."""
        return self._up_to_sync(self._borrow(name, statement, statement.rest), in_batch)

    def expose_name_to_sql(self, name: bytes, in_batch: bool) -> bytes:
        """Messages after which there is something of this name, for SQL to which it matters no more than that."""
        return self._up_to_sync(self.collide(name), in_batch)

    def is_exposed(self, name: bytes, statement: Statement) -> bool:
        """Is it sure that `statement` goes by that name already?"""
        return not self.replies.turns and self.goes_by(name, statement)

    def goes_by(self, name: bytes, statement: Statement) -> bool:
        """Does `statement` go by that name, if all goes well that was sent?"""
        return self.shadowed.get(name) == (statement, self.purges_seen)

    def _borrow(self, name: bytes, statement: Statement | None, rest: bytes) -> bytes:
        sent = self.evict(name)
        self.expect(CLOSING | INTERNAL, None, None)
        self.expect(PARSING | INTERNAL, None, None)
        self.exposing.append((name, self.replies.next() - 1))
        self.shadowed[name] = statement, self.purges_seen
        return sent + messages.close_statement(name) + messages.parse(name, rest)

    def evict(self, name: bytes) -> bytes:
        """The message, if one is needed, after which no shared statement has this name, by which a client speaks."""
        if not name.startswith(PREFIX):
            return b""
        if self._shared is None:
            self._shared = {statement.name: statement for statement in self.known}
        statement = self._shared.get(name)
        return b"" if statement is None else self.unlearn(statement)

    def only_of(self, client: ClientState, in_batch: bool) -> bytes:
        """Messages after which there are just the client's statements, by its own names, for SQL that shows them.

        Nothing is said again of those that are there already.
        """
        statements = client.statements or {}
        if not self._shows(client):
            client.view = self.view = StatementsView(statements)
        view = self.view
        assert view is not None
        sent = [self.unlearn(statement) for statement in list(self.known)]
        changed, view.changed = view.changed, {}
        for name in changed:
            statement = statements.get(name)
            if statement is not None and not self.goes_by(name, statement):
                sent.append(self._borrow(name, statement, statement.rest))
        return self._up_to_sync(b"".join(sent), in_batch) if sent else b""

    def _shows(self, client: ClientState) -> bool:
        """Are the client's statements here by its own names, but for those that its view says?"""
        return self.view is not None and self.view is client.view

    def _up_to_sync(self, sent: bytes, in_batch: bool) -> bytes:
        """With a Sync of its own, where no batch goes on behind it."""
        return sent if in_batch else sent + self.end_turn()

    def end_turn(self) -> bytes:
        """A Sync of pglido's own."""
        self.replies.push(SYNCING | INTERNAL)
        return messages.SYNC

    def drops(self, name: bytes, statement: Statement | None) -> None:
        """SQL is sent that drops what goes by this name; with the client that was `statement`."""
        if name in self.shadowed:
            self.shadowed[name] = None
        if self.dropping is None:
            self.dropping = deque()
            self._drops = {}
        drop = self._drops[name] = Drop(name, statement)
        self.dropping.append(drop)
        self._dropping.append(drop)

    def texts_to_undo(self) -> list[bytes]:
        """What named statements said that an error, or the end of a turn, can bring back."""
        found = [undo.statement for undo in self.undo_log.left()]
        found += [drop.statement for drop in self.dropping or ()]
        return [statement.rest for statement in found if statement is not None]

    def _undrop(self, name: bytes) -> None:
        """What SQL was to drop last by this name was never there."""
        if name in self._drops:
            self._drops[name].statement = None

    def dropped(self) -> None:
        """The server says that the next of those is dropped."""
        if self.dropping:
            self.shadowed.pop(self.dropping.popleft().name, None)

    def not_dropped(self, client: ClientState | None) -> None:
        """The turn is over: what was not dropped till now is still there."""
        dropping, self.dropping = self.dropping, None
        self._drops = {}
        self._dropping = []
        for drop in dropping or ():
            if client is not None and drop.statement is not None and drop.name not in (client.statements or {}):
                client.put_statement(drop.name, drop.statement)

    def give_back(self, client: ClientState) -> bytes:
        """The messages that close what `collide` and `expose_to_sql` left behind; of what the client is shown, what is
        gone.
        """
        names: Iterable[bytes]
        if self._shows(client):
            assert self.view is not None
            names = [name for name in self.view.gone if name in self.shadowed]
            self.view.gone = {}
            for name in names:
                del self.shadowed[name]
        else:
            names, self.shadowed = self.shadowed, {}
            self.view = None
        sent = b"".join([self._close_lent(name) for name in names])
        return self._up_to_sync(sent, False) if sent else b""

    def _close_lent(self, name: bytes) -> bytes:
        self.expect(CLOSING | INTERNAL, None, None)
        return messages.close_statement(name)

    def _exposed(self, undo: Undo) -> bytes | None:
        """A Parse was answered, or skipped: the name that it was to expose to SQL, if it was to."""
        if not self.exposing or self.exposing[0][1] != undo.at:
            return None
        return self.exposing.popleft()[0]

    def _not_lent(self, undone: list[tuple[int, Undo]]) -> None:
        """What was to be lent by these, which the server has skipped, is not; what it refused is lent last again."""
        lost = []
        for _, undo in undone:
            name = self._exposed(undo)
            if name is not None:
                lost.append(name)
        for name in lost[1:] + lost[:1]:
            self.shadowed[name] = None
            if self.view is not None:
                self.view.put(name)

    def doom(self, portal: bytes, name: bytes) -> None:
        """When `portal` is executed, it drops what goes by this name."""
        before = self.dooms.get(portal)
        self.undo_log.keep(DOOM + len(name) if before is None else len(name) - len(before))
        self.dooms[portal] = name

    def executed(self, portal: bytes, client: ClientState) -> bool:
        """`portal` is executed: is it a DEALLOCATE? Then its answer tells what is there."""
        name = self.dooms.get(portal)
        if name is not None:
            self.drops(name, client.take_statement(name))
        return name is not None

    def block_is_over(self) -> None:
        """No transaction is open, and so no portal."""
        if self.deallocation & BOUND:
            self.on_deallocation(BLOCK_OVER)
        if self.dooms:
            self.undo_log.keep(-DOOM * len(self.dooms) - sum([len(name) for name in self.dooms.values()]))
            self.dooms = {}

    def on_deallocation(self, event: int) -> None:
        """Bring `deallocation` to its next state."""
        after = _next[self.deallocation << SHIFT | event]
        if after == ILLEGAL:
            self._no_such_event(event)
        else:
            self.deallocation = after

    def _no_such_event(self, event: int) -> None:
        raise DEALLOCATION.illegal(self.deallocation, event)

    def undecided(self, name: bytes, statement: Statement | None) -> bool:
        """Does it depend on an answer to come what the client's `name` stands for, or whether `statement` is here?

        It does when a Parse or Close of that name is owed from before a Sync. Within one batch it does not: if the
        earlier message fails, the later one is not even read.
        """
        return self.replies.turns > 0 and (name in self.shadowed or self.pending(name, statement))

    def pending(self, name: bytes, statement: Statement | None) -> bool:
        """Is a Parse or Close of that name, or statement, owed from before a Sync?"""
        if not self.replies.turns:
            return False
        return self._pending(name) or (statement is not None and self._pending(statement))

    def _pending(self, what: object) -> bool:
        span: UndoSpan | None = self.undo_log.spans.get(what)
        return span is not None and self.replies.turns_behind(span.first)

    def known_at(self, name: bytes, statement: Statement | None) -> int:
        """How many replies must have come so that neither is undecided any more."""
        if name in self.shadowed:
            return self.replies.last_turn + 1
        return max(self._known_at(name), 0 if statement is None else self._known_at(statement))

    def _known_at(self, what: object) -> int:
        span: UndoSpan | None = self.undo_log.spans.get(what)
        return 0 if span is None else span.last + 1

    def keep(self, there: dict[str, str | None]) -> None:
        """The server has prepared statements of these names: code may have deallocated the others."""
        for statement in list(self.known):
            if statement.name.decode() not in there:
                self._lacks(statement)
                self.unchecked.discard(statement)
        for name in self.shadowed:
            if name.decode("utf-8", messages.ESCAPE) not in there:
                self.shadowed[name] = None
                if self.view is not None:
                    self.view.put(name)

    def drop(self) -> None:
        """The server is gone."""
        self.describing.clear()
        self.exposing.clear()
        self.dooms = {}
        self.undo_log.drop()

    # Answers.

    def answered(self, entry: int) -> Statement | None:
        """A Parse or Close was answered; returns the statement that a server has taken with it, if one has."""
        undo = self.undo_log.take()
        if entry & KIND == PARSING:
            if self.exposing:
                self._exposed(undo)
            return undo.statement
        if undo.name is not None and not self.replies.count and self.shadowed.get(undo.name) is None:
            # Nothing that was sent since has made it anew.
            self.shadowed.pop(undo.name, None)
        return None

    def described(self, entry: int, told: Description, client: ClientState | None) -> None:
        """What a statement is, by the answer to a Describe.

        If it is not what it was, whoever has it by its former description does not use it here any more; the client
        that has just parsed it goes on with what it is now.
        """
        statement, name = self._told()
        self.unchecked.discard(statement)
        if statement.described is None or statement.described == told:
            statement.tell(told if statement.lasts else None)
        else:
            if _statement_cache.find(statement.rest, statement.dialect) is statement:
                _statement_cache.renew()
            if statement in self.known:
                self.unchecked.add(statement)
            if statement is self.awaited:
                self.mismatch = statement
            elif client is not None and name is not None and (client.statements or {}).get(name) is statement:
                now = _statement_cache.intern(statement.rest, statement.dialect)
                now.tell(told)
                client.put_statement(name, now)
        if entry & INTERNAL and statement is self.awaited:
            self.awaited = None

    def skipped(self, client: ClientState | None) -> bool:
        """An error: the server skips to the next Sync. Entries up to there are taken off, and what they promised.

        Returns whether that Sync is still to come.
        """
        replies = self.replies
        failed = 0
        undone = []
        while replies.count:
            entry = replies.head
            if not entry or entry & KIND == SYNCING:
                break
            replies.pop()
            failed = failed or entry
            self.turn_lost = self.turn_lost or (entry == QUERYING and failed == PARSING | INTERNAL)
            if entry & STATEMENT and self._told()[0] is self.awaited and entry & INTERNAL:
                self.awaited = None
            if entry & KIND in (PARSING, CLOSING):
                undone.append((entry, self.undo_log.take()))
        for entry, undo in reversed(undone):
            self._undo(entry, undo, client)
        if self.exposing:
            self._not_lent(undone)
        if failed & KIND == PARSING and undone[0][1].unnamed:
            # This one was read, and has dropped the unnamed statement before it failed.
            self._unnamed_was(undone[0][1] if failed & INTERNAL else None, 0, client)
        return not replies.count

    def _unnamed_was(self, was: Undo | None, server_was: int, client: ClientState | None) -> None:
        """The unnamed statement is again what it `was` for the client (None: there was none), and `server_was` for the
        server.

        Or that is what it was before a later turn makes it another.

        A Query of the client's has ended it, whatever it was.
        """
        undo = self.undo_log.front
        if undo is not None:
            if undo.behind <= self.replies.queried:
                self.undo_log.follow(undo, was, server_was)
        elif not self.replies.queries:
            self.unnamed = server_was
            if client is not None and was is not None:
                client.put_unnamed(was.client_was, was.number, was.flags)
            elif client is not None:
                client.put_unnamed(None, 0, 0)

    def _undo(self, entry: int, undo: Undo, client: ClientState | None) -> None:
        """An entry's message was not executed."""
        name, promised = undo.name, undo.statement
        if undo.unnamed:
            self._unnamed_was(undo, undo.server_was, client)
        elif promised is None:
            if name is not None and entry & KIND == PARSING:
                # SQL has this name, or nobody.
                self.shadowed.pop(name, None)
            elif name is not None:
                self.shadowed[name] = None
        elif entry & KIND == PARSING:
            self._lacks(promised)
            self.unchecked.discard(promised)
            if client is not None and name is not None and client.statements is not None:
                if entry & INTERNAL:
                    client.expect_parse(name)
                elif client.take_statement(name) is None:
                    self._undrop(name)
        elif entry & INTERNAL:
            self._has(promised)
            # It may have been another already.
            self.unchecked.add(promised)
        elif client is not None and name is not None:
            client.put_statement(name, promised)

    def purged(self, client: ClientState | None) -> None:
        """All prepared statements are gone; what would need one waits for this answer."""
        # Names that were lent are closed in the end, whether or not they are there.
        self.purges_seen += 1
        self.view = None
        self.known.clear()
        self._shared = None
        self.size = 0
        self.unchecked.clear()
        self.stale.clear()
        for drop in self._dropping:
            drop.statement = None
        self._dropping = []
        if client is not None:
            client.take_statements()

