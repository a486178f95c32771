"""One client's side of the relay: a verdict for each message it sends.

A message that can go through as it is leaves as a run of the receive buffer. Parse, Bind, Describe and Close of
prepared statements are looked at whole (a large Bind: its names only), for statements are shared by all clients and
must be on whichever server this client has now; see `entries` for how the order of replies is kept.

A client without a server says ATTACH with the first message that needs one; a small message is first awaited
whole, so that a slow sender holds no server.
"""

from ..wire import messages
from ..wire.codes import (
    BIND,
    CLOSE,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    FAILED_TRANSACTION,
    FLUSH,
    FUNCTION_CALL,
    IDLE,
    PARSE,
    QUERY,
    SYNC,
    TERMINATE,
)
from . import statements as _statements
from .entries import (
    BINDING,
    CALLING,
    CLOSING,
    COPY_END,
    DESCRIBING,
    EXECUTING,
    FAKE,
    MAX_OWED,
    PARSING,
    QUERYING,
    SWALLOW,
    SYNCING,
)
from .outbox import Outbox
from .prepared import NOTHING
from .server import Server
from .settings import Settings
from .state import Budget, ClientState, Rules
from .verdicts import ATTACH, CLOSE_IT, GO_ON, GOODBYE, WAIT

# A message up to this size is awaited whole before a server is asked for: more than most queries have.
SMALL = 16384
# Bind and Describe: how much is awaited of a message too large to hold, for the names in front.
NAMES_FIRST = 1024
# PostgreSQL tells names of statements apart by this many bytes (NAMEDATALEN - 1).
NAME_LIMIT = 63
# The server takes no longer message of these kinds (PQ_SMALL_MESSAGE_LIMIT in PostgreSQL).
SHORT_LIMIT = 10000

# What kinds of messages there are: 0 unknown, 1 may be long, 2 short.
_SIZES = bytearray(256)
for _kind in "QPBFdf":
    _SIZES[ord(_kind)] = 1
for _kind in "SHXcDCE":
    _SIZES[ord(_kind)] = 2
SIZES = bytes(_SIZES)


def _begins_with_d(src: bytes, at: int, stop: int) -> bool:
    """May this query be a DEALLOCATE or DISCARD? Asked of each Parse, and so without a regular expression."""
    while at < stop and (src[at] == 0x20 or 9 <= src[at] <= 13):
        at += 1
    return at < stop and (src[at] | 0x20) == 0x64


class Client(ClientState):
    """The session of one client."""

    __slots__ = ("_dropping", "_goal", "_held", "_reserved", "budget", "fault", "server", "verdict")

    def __init__(self, home: Settings, rules: Rules, budget: Budget) -> None:
        super().__init__(home, rules)
        self.budget = budget
        self.server: Server | None = None
        self.verdict = GO_ON
        self.fault: tuple[str, str] | None = None
        self._held: bytearray | None = None
        self._goal = 0
        self._reserved = 0
        self._dropping = False

    def take(self, buf: bytes, pos: int, end: int, to_server: Outbox, to_client: Outbox) -> int:
        """Take `buf[pos:end]` from the client; returns where it stopped, `verdict` says why.

        After ATTACH call again with what is left once `server` is set; nothing of the message was lost.
        """
        self.verdict = GO_ON
        while self.verdict == GO_ON:
            if self.need:
                if pos == end:
                    break
                step = min(self.need, end - pos)
                if not self._dropping:
                    to_server.run(buf, pos, pos + step)
                self.need -= step
                pos += step
            elif self._held is not None:
                step = min(self._goal - len(self._held), end - pos)
                self._held += buf[pos : pos + step]
                pos += step
                if len(self._held) < self._goal:
                    break
                whole = bytes(self._held)
                if self._message(whole, 0, len(whole), to_server, to_client, buf):
                    self._release()
            elif end - pos < 5:
                if pos < end:
                    self._held = bytearray(buf[pos:end])
                    self._goal = 5
                    pos = end
                break
            else:
                step = self._message(buf, pos, end - pos, to_server, to_client, buf)
                if not step and self.verdict == GO_ON:
                    self._held = bytearray(buf[pos:end])
                    step = end - pos
                pos += step
        if self.server is not None and self.server.replies.count:
            self.server.settle(buf, to_client)
        return pos

    def link(self, server: Server) -> None:
        """This client is served by `server` from now on."""
        self.server = server
        server.client = self

    def unlink(self) -> None:
        """The server goes back to the pool."""
        if self.server is not None:
            self.server.client = None
            self.server = None

    def half_sent(self) -> bool:
        """Is a message of which the beginning is with the server still incomplete?"""
        return self.need > 0

    def waits_for_more(self) -> bool:
        """Is a message incomplete, held or half sent?"""
        return self.need > 0 or (self._held is not None and len(self._held) < self._goal)

    def _release(self) -> None:
        self._held = None
        self.budget.used -= self._reserved
        self._reserved = 0

    def drop(self) -> None:
        """The client is gone: give back what it held."""
        self._release()

    def _close(self, sqlstate: str, text: str) -> int:
        self.verdict = CLOSE_IT
        self.fault = (sqlstate, text)
        return 0

    def _whole(self, total: int) -> int:
        """The message must be held till `total` bytes are there."""
        self._goal = total
        if total > SMALL and not self._reserved:
            if self.budget.used + total > self.budget.limit:
                return self._close("53200", "too many bytes of incomplete messages are held (max_held_bytes)")
            self._reserved = total
            self.budget.used += total
        return 0

    def _message(self, src: bytes, at: int, have: int, to_server: Outbox, to_client: Outbox, buf: bytes) -> int:
        """One message that starts at `src[at]`; returns how many bytes of it were used, 0 if more are needed."""
        kind = src[at]
        # Widened step by step: four bytes shifted at once would overflow where they are C ints.
        size = src[at + 1]
        size = size << 8 | src[at + 2]
        size = size << 8 | src[at + 3]
        size = size << 8 | src[at + 4]
        if SIZES[kind] == 0:
            return self._close("08P01", f"invalid frontend message type {kind}")
        if size < 4 or size > self.rules.max_packet or (SIZES[kind] == 2 and size > SHORT_LIMIT):
            return self._close("08P01", "invalid message length")
        total = size + 1
        if have > total:
            have = total
        server = self.server
        if server is not None and server.replies.count >= MAX_OWED:
            return self._close("54000", "too many messages sent without waiting for a reply")
        if server is None:
            return self._detached(kind, src, at, have, total, to_client, buf)
        if not server.replies.count and not server.skipping:
            server.purge_query = False
            server.prepared.batch_begins()
            if server.prepared.borrowed:
                server.open = True
                to_server.put(buf, server.prepared.give_back())
            if server.settings is not self.settings and server.status == IDLE:
                to_server.put(buf, server.adopt(self.settings))
        if server.purge_query and server.replies.count:
            # A DEALLOCATE or DISCARD is under way: what names and settings mean is known when it is answered.
            self.verdict = WAIT
            return 0
        if kind == TERMINATE:
            self.verdict = GOODBYE
            return have
        if server.skipping and kind != SYNC:
            # The server discards everything up to the next Sync, so that it needn't be sent.
            return self._pass(src, at, have, total, None, buf)
        if server.copying and kind not in (COPY_DATA, COPY_DONE, COPY_FAIL, SYNC, FLUSH):
            # Out of place: PostgreSQL ends the COPY with an error.
            server.copying = False
        if kind == QUERY:
            if have < total <= SMALL and (have == 5 or (src[at + 5] | 0x20) == 0x64):
                # It may be a DEALLOCATE or DISCARD, which changes what comes after it.
                return self._whole(total)
            self.unnamed = server.prepared.unnamed = None
            if have > 5 and (src[at + 5] | 0x20) == 0x64 and _statements.purges(src[at + 5 : at + have]):
                server.purge_query = True
            server.owe(QUERYING)
        elif kind == EXECUTE:
            server.prepared.executed()
            server.owe(EXECUTING)
        elif kind == SYNC:
            server.skipping = False
            if not server.copying:
                server.owe(SYNCING)
        elif kind == FUNCTION_CALL:
            server.owe(CALLING)
        elif kind in (COPY_DONE, COPY_FAIL):
            server.copying = False
            if server.replies.count:
                server.owe(COPY_END)
        elif kind in (PARSE, BIND, DESCRIBE, CLOSE):
            if not self.rules.rewrite:
                return self._plain(kind, src, at, have, total, to_server, buf)
            return self._prepared(kind, src, at, have, total, to_server, buf)
        return self._pass(src, at, have, total, to_server, buf)

    def _detached(self, kind: int, src: bytes, at: int, have: int, total: int, to_client: Outbox, buf: bytes) -> int:
        """A message while no server is attached."""
        if kind in (FLUSH, COPY_DATA, COPY_DONE, COPY_FAIL):
            # PostgreSQL ignores them outside of a COPY.
            return self._pass(b"", 0, have, total, None, b"")
        if have < total and total <= SMALL:
            return self._whole(total)
        if kind == SYNC and total == 5:
            to_client.put(buf, messages.READY_IDLE)
            return have
        if kind == TERMINATE:
            self.verdict = GOODBYE
            return have
        if kind in (PARSE, CLOSE) and self.rules.rewrite and have == total:
            answer = self._answer_alone(kind, src, at, at + have)
            if answer is not None:
                to_client.put(buf, answer)
                return have
        self.verdict = ATTACH
        return 0

    def _answer_alone(self, kind: int, src: bytes, at: int, stop: int) -> bytes | None:
        """The answer to a Parse or Close that needs no server, or None.

        Clients that prepare with a round trip of its own, and block meanwhile, must not wait for the server of
        another client that they themselves block.
        """
        first = at + 6 if kind == CLOSE else at + 5
        end = first
        while end < stop and src[end]:
            end += 1
        if end >= stop or end == first:
            return None
        name = src[first : min(end, first + NAME_LIMIT)]
        if kind == CLOSE and src[at + 5] == 0x53 and self.statements is not None and name in self.statements:
            del self.statements[name]
            return messages.CLOSE_COMPLETE
        if kind == PARSE and (self.statements is None or name not in self.statements):
            statement = _statements.find(src[end + 1 : stop], self.settings.dialect)
            if statement is not None and statement in self.rules.good:
                self.put_statement(name, statement)
                self.rules.counts.client_parses += 1
                return messages.PARSE_COMPLETE
        return None

    def _pass(self, src: bytes, at: int, have: int, total: int, out: Outbox | None, buf: bytes) -> int:
        """The message goes through as it is, or (without `out`) nowhere."""
        if out is not None:
            if src is buf:
                out.run(buf, at, at + have)
            else:
                out.put(buf, src[at : at + have])
        self._dropping = out is None
        self.need = total - have
        return have

    # Prepared statements.

    def _plain(self, kind: int, src: bytes, at: int, have: int, total: int, out: Outbox, buf: bytes) -> int:
        """Prepared statements are not followed: only the replies are counted."""
        server = self.server
        assert server is not None
        server.open = True
        if kind == PARSE:
            server.prepared.owe(PARSING, NOTHING)
        elif kind == CLOSE:
            server.prepared.owe(CLOSING, NOTHING)
        else:
            server.replies.push(BINDING if kind == BIND else DESCRIBING)
        return self._pass(src, at, have, total, out, buf)

    def _prepared(self, kind: int, src: bytes, at: int, have: int, total: int, out: Outbox, buf: bytes) -> int:
        """Parse, Bind, Describe and Close of statements: under the name that all clients share."""
        server = self.server
        assert server is not None
        if have < total and (kind != BIND or total <= SMALL):
            return self._whole(total)
        stop = at + have
        first = at + 5
        if kind in (DESCRIBE, CLOSE):
            if first >= stop or src[first] != 0x53:  # not S: a portal
                return self._plain(kind, src, at, have, total, out, buf)
            first += 1
        elif kind == BIND:
            while first < stop and src[first]:
                first += 1
            first += 1
        end = first
        while end < stop and src[end]:
            end += 1
        if end >= stop:
            if have < total and have < SMALL:
                self._goal = min(total, max(NAMES_FIRST, 2 * have))
                return 0
            # No zero where the name should end, or none in sight: PostgreSQL has the words for that.
            return self._plain(kind, src, at, have, total, out, buf)
        name = src[first : min(end, first + NAME_LIMIT)]
        if name and server.prepared.undecided(name, None):
            self.verdict = WAIT
            return 0
        if kind == PARSE:
            return self._parse(name, src, at, end + 1, stop, out, buf)
        if kind == CLOSE:
            return self._close_statement(name, src, at, have, out, buf)
        return self._use(kind, name, src, at, first, end, have, total, out, buf)

    def _parse(self, name: bytes, src: bytes, at: int, rest_at: int, stop: int, out: Outbox, buf: bytes) -> int:
        server = self.server
        assert server is not None
        prepared = server.prepared
        rest = src[rest_at:stop]
        have = stop - at
        statement = _statements.intern(rest, self.settings.dialect) if name else None
        if statement is not None and prepared.undecided(name, statement):
            self.verdict = WAIT
            return 0
        self.rules.counts.client_parses += 1
        server.open = True
        if _begins_with_d(src, rest_at, stop) and _statements.purges(rest):
            prepared.purge_next = True
        if statement is None:
            prepared.name_unnamed(self, rest)
            return self._pass(src, at, have, have, out, buf)
        if self.statements is not None and name in self.statements and prepared.stays(self.statements[name]):
            out.put(buf, prepared.collide(name))
            prepared.owe(PARSING, NOTHING)
            return self._pass(src, at, have, have, out, buf)
        self.put_statement(name, statement)
        # In a failed transaction PostgreSQL refuses to parse, but not what ends it: then it must say so itself.
        sure = server.status != FAILED_TRANSACTION and not server.replies.turns
        if sure and prepared.stays(statement) and prepared.has(statement, self.rules.max_statements):
            prepared.owe(PARSING | FAKE, (name, statement))
        else:
            self.rules.counts.server_parses += 1
            out.put(buf, prepared.learn(name, statement, self.rules.max_statements, PARSING))
        return have

    def _close_statement(self, name: bytes, src: bytes, at: int, have: int, out: Outbox, buf: bytes) -> int:
        server = self.server
        assert server is not None
        server.open = True
        if name and self.statements is not None and name in self.statements:
            server.prepared.owe(CLOSING | FAKE, (name, self.statements.pop(name)))
            return have
        if name:
            server.prepared.owe(CLOSING, NOTHING)
        else:
            server.prepared.name_unnamed(self, None)
        return self._pass(src, at, have, have, out, buf)

    def _use(
        self,
        kind: int,
        name: bytes,
        src: bytes,
        at: int,
        first: int,
        end: int,
        have: int,
        total: int,
        out: Outbox,
        buf: bytes,
    ) -> int:
        """Bind or Describe of the statement whose name is at `src[first:end]`: see that the server has it."""
        server = self.server
        assert server is not None
        prepared = server.prepared
        if not name:
            if prepared.unnamed is not self.unnamed:
                out.put(buf, prepared.renew_unnamed(self.unnamed))
            return self._plain(kind, src, at, have, total, out, buf)
        statement = None if self.statements is None else self.statements.get(name)
        if statement is None:
            # Unknown here, so unknown there: PostgreSQL itself says 26000.
            return self._plain(kind, src, at, have, total, out, buf)
        if kind == BIND:
            self.rules.counts.binds += 1
        if not prepared.has(statement, self.rules.max_statements):
            self.rules.counts.server_parses += 1
            out.put(buf, prepared.learn(None, statement, self.rules.max_statements, PARSING | SWALLOW))
        server.owe(BINDING if kind == BIND else DESCRIBING)
        size = total - 1 + len(statement.name) - (end - first)
        out.put(buf, bytes((kind,)) + size.to_bytes(4, "big") + src[at + 5 : first] + statement.name)
        if src is buf:
            out.run(buf, end, at + have)
        else:
            out.put(buf, src[end : at + have])
        self._dropping = False
        self.need = total - have
        return have
