"""One client's side of the relay: a verdict for each message it sends.

A message that can go through as it is leaves as a run of the receive buffer. What is said of prepared statements is
rewritten (`extended`); what may touch the session is inspected (`inspection`).

A client without a server says ATTACH with the first message that needs one; a small message is first awaited
whole, so that a slow sender holds no server.
"""

from ...protocol import messages, octets
from ...protocol.codes import (
    CLOSE,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    EXECUTE,
    FAILED_TRANSACTION,
    FLUSH,
    FUNCTION_CALL,
    IDLE,
    IN_TRANSACTION,
    PARSE,
    QUERY,
    SYNC,
    TERMINATE,
)
from ...sql import effects as _effects
from ...sql import signal_targets as _signal_targets
from ...sql.charclass import LONGEST_NAME
from ...sql.scanner import LISTENS, PREPARES, SIGNALS
from ..outbox import Outbox
from ..server.batch import COPYING, OPEN, SKIPPING
from ..server.deallocation import ANSWERED, BOUND, EXECUTES, SENDS, SENT
from ..server.reader import Server
from ..server.reply_kinds import CALLING, COPY_END, EXECUTING, MAX_OWED, QUERYING, SYNCING
from ..state.budget import MemoryBudget
from ..state.parameters import SessionParameters
from ..state.question import WAITS
from ..state.shared import PoolRules
from ..verdicts import ATTACH, GO_ON, GOODBYE, PAUSE
from . import deferred_begin as _deferred_begin
from .extended import ExtendedQuery
from .inspection import SHARE, TOO_LARGE
from .partial import LONGEST_HELD, SMALL

# The server takes no longer message of these kinds (PQ_SMALL_MESSAGE_LIMIT in PostgreSQL).
SHORT_LIMIT = 10000

# How much is awaited of a function call, for the function in front.
CALLED_FIRST = 9

# What is known of each kind of message (0: there is none), as bits.
KNOWN = 1
SHORT = 2
# Parse, Bind, Describe, Close.
OF_STATEMENTS = 4
_BITS = {"QFdf": KNOWN, "PB": KNOWN | OF_STATEMENTS, "DC": SHORT | OF_STATEMENTS, "SHXcE": SHORT}
_KINDS = bytearray(256)
for _kind, _bits in _BITS.items():
    for _letter in _kind:
        _KINDS[ord(_letter)] = _bits
KINDS = bytes(_KINDS)
# The same, a C array where it is compiled.
_kinds = KINDS


class Client(ExtendedQuery):
    """The session of one client; `begun` is the BEGIN that was answered, but no server has seen yet.

    `latest` is the type of the message that was looked at last.
    """

    __slots__ = ("begun", "latest")

    def __init__(self, home: SessionParameters, rules: PoolRules, budget: MemoryBudget) -> None:
        self.begin(home, rules, budget)
        self.begin_inspection()
        self.begin_holding()
        self.begun = b""
        self.latest = 0

    def take(self, buf: bytes, pos: int, end: int, to_server: Outbox, to_client: Outbox) -> int:
        """Take `buf[pos:end]` from the client; returns where it stopped, `verdict` says why.

        After ATTACH call again with what is left once `server` is set; nothing of the message was lost. After PAUSE
        call again when others have had their turn.
        """
        self.verdict = GO_ON
        self.until = 0
        self.spent = 0
        while self.verdict == GO_ON:
            if self.spent > SHARE and pos < end:
                self.verdict = PAUSE
            elif self.passing:
                if pos == end:
                    break
                step = min(self.passing, end - pos)
                if not self.dropping:
                    to_server.run(buf, pos, pos + step)
                self.passing -= step
                pos += step
            elif self.buffered is not None:
                step = min(self.wanted - len(self.buffered), end - pos)
                self.buffered += buf[pos : pos + step]
                pos += step
                if len(self.buffered) < self.wanted:
                    break
                whole = bytes(self.buffered)
                if self._message(whole, 0, len(whole), to_server, to_client, buf):
                    self.release()
            elif end - pos < 5:
                if pos < end:
                    self.buffered = bytearray(buf[pos:end])
                    self.wanted = 5
                    pos = end
                break
            else:
                step = self._message(buf, pos, end - pos, to_server, to_client, buf)
                if not step and self.verdict == GO_ON:
                    self.buffered = bytearray(buf[pos:end])
                    step = end - pos
                pos += step
        return pos

    def link(self, server: Server) -> None:
        """This client is served by `server` from now on."""
        self.server = server
        server.client = self
        server.prepared.undo_log.budget = self.budget

    def unlink(self) -> None:
        """The server goes back to the pool."""
        if self.server is not None:
            self.server.client = None
            self.server = None

    def _message(self, src: bytes, at: int, have: int, to_server: Outbox, to_client: Outbox, buf: bytes) -> int:
        """One message that starts at `src[at]`; returns how many bytes of it were used, 0 if more are needed."""
        kind = self.latest = src[at]
        size = octets.length(src, at + 1)
        self.spent += 1
        known = _kinds[kind]
        if known == 0:
            return self.refuse("08P01", f"invalid frontend message type {kind}")
        if size < 4 or size > self.rules.max_packet or (known & SHORT and size > SHORT_LIMIT):
            return self.refuse("08P01", "invalid message length")
        total = size + 1
        if have > total:
            have = total
        server = self.server
        if server is not None and server.replies.count >= MAX_OWED:
            return self.refuse("54000", "too many messages sent without waiting for a reply")
        if server is None:
            return self._detached(kind, src, at, have, total, to_client, buf)
        if self._comes_early(server, kind, to_server, buf):
            return 0
        if kind == TERMINATE:
            if server.batch & OPEN and server.replies.head and not server.batch & COPYING:
                # It may have asked for these answers by a Flush.
                to_server.put(buf, messages.FLUSH)
            self.verdict = GOODBYE
            return have
        if server.batch == SKIPPING and kind != SYNC:
            # The server discards everything up to the next Sync, so that it needn't be sent.
            return self.pass_on(src, at, have, total, None, buf)
        if known == SHORT | OF_STATEMENTS and self.owes_much() and self.await_answers(server, to_server, buf):
            # They cost more to remember than to say, and are not refused as a Parse is.
            return 0
        if server.retry.step:
            server.retry.goes_on(kind, src, at, total if have == total else 0)
        if kind == QUERY:
            return self._query(server, src, at, have, total, to_server, buf)
        if known & OF_STATEMENTS:
            # PostgreSQL ends a COPY with an error for these. Of a Close too that must come from there.
            breaks = kind == CLOSE and server.batch & COPYING != 0
            if breaks or not (self.rules.rewrite or self.rules.inspected):
                return self.plain(kind, src, at, have, total, to_server, buf)
            return self.rewrite(kind, src, at, have, total, to_server, buf)
        if kind == EXECUTE:
            if have < total and server.prepared.dooms:
                return self.await_whole(total)
            self._execute(server, src, at + 5, at + have)
        elif kind == SYNC:
            server.prepared.bound = None
            if server.decides():
                server.prepared.on_deallocation(SENDS)
            if not server.batch & COPYING:
                server.expect(SYNCING)
        elif kind == FUNCTION_CALL:
            if have < total and have < CALLED_FIRST:
                self.wanted = min(total, CALLED_FIRST)
                return 0
            self.inspect_call(src[at + 5 : at + have])
            server.expect(CALLING)
        elif kind in (COPY_DONE, COPY_FAIL):
            if server.batch & COPYING:
                server.on_batch(COPY_END)
            elif server.replies.count:
                server.expect(COPY_END)
        return self.pass_on(src, at, have, total, to_server, buf)

    def _execute(self, server: Server, src: bytes, first: int, stop: int) -> None:
        """An Execute, whose body is `src[first:stop]`: where it may take statements away, its answer is awaited."""
        prepared = server.prepared
        prepared.bound = None
        if prepared.dooms:
            end = first
            while end < stop and src[end]:
                end += 1
            if prepared.executed(src[first : min(end, first + LONGEST_NAME)], self):
                prepared.on_deallocation(SENDS)
        if prepared.deallocation & BOUND:
            prepared.on_deallocation(EXECUTES)
        server.expect(EXECUTING)

    def _comes_early(self, server: Server, kind: int, out: Outbox, buf: bytes) -> bool:
        """Must an answer come before this message is sent (WAIT)? If not, the server has what it needs before it."""
        if (
            server.replies.turns
            and self.listens()
            and kind not in (FLUSH, COPY_DATA, COPY_DONE, COPY_FAIL)
            and server.ending()
        ):
            # The client hears what was sent to it where each transaction ends.
            return self.wait(server.replies.last_own + 1)
        if not server.replies.count and server.batch != SKIPPING:
            self._first(server, out, buf)
        # A DEALLOCATE or DISCARD is under way, or a first temporary table: what names, settings and plans mean is known
        # when it is answered. What is to be said again comes first, too. But a COPY waits for the client: it is not
        # over before it has its data, and another Sync.
        if server.batch & COPYING:
            return False
        if server.state.asking & WAITS or server.retry.due:
            return self.wait(server.replies.last_turn + 1)
        if not server.prepared.deallocation & SENT or kind == FLUSH or (kind == SYNC and server.batch & OPEN):
            return False
        return self.await_answers(server, out, buf)

    def _query(self, server: Server, src: bytes, at: int, have: int, total: int, out: Outbox, buf: bytes) -> int:
        """A Query, or its beginning."""
        if have < total and self._must_be_whole(src, at, have, total):
            return self.await_whole(total)
        # Out of place it ends a COPY, and nothing else comes of it.
        if not server.batch & COPYING:
            if server.batch & OPEN and self.await_answers(server, out, buf):
                # In the middle of a batch, where it may be skipped, and whatever it needs with it.
                return 0
            flags = self._flags(src, at + 5, at + have) if self.rules.inspected and have == total else 0
            lack = self.lack_for(src[at + 5 : at + have], flags) if flags & (PREPARES | LISTENS) else None
            if lack is not None:
                return self.refuse_query(lack, have, out, buf)
            if self._waits(flags, src, at, have, total, out, buf):
                return 0
        server.prepared.unnamed = 0
        if self.unnamed is not None:
            self.put_unnamed(None, 0, 0)
        server.prepared.bound = None
        if have > 5 and (src[at + 5] | 0x20) == 0x64 and _effects.purges(src[at + 5 : at + have]):
            server.prepared.on_deallocation(SENDS)
        if server.decides():
            server.prepared.on_deallocation(SENDS)
        server.expect(QUERYING)
        if self.processes is not None:
            text = src[at + 5 : at + have]
            out.put(buf, src[at : at + 5] + _signal_targets.put_constants(text, self.processes_of_targets()))
            return self.pass_on(src, at, have, total, None, buf)
        return self.pass_on(src, at, have, total, out, buf)

    def _waits(self, flags: int, src: bytes, at: int, have: int, total: int, out: Outbox, buf: bytes) -> bool:
        """What this query with these flags, if it is whole, may do to the session is noted; must it wait?"""
        if self.rules.keep:
            kept = self.inspect_kept(src, at + 5, at + have)
            if kept & SIGNALS and have == total and self.aims_at(src[at + 5 : at + have], b""):
                return True
        if not self.rules.inspected:
            return False
        if have < total:
            self.inspect_unknown(TOO_LARGE, src[at + 5 : at + have])
            return False
        return self.inspect(flags, src, at + 5, at + have, out, buf)

    def _must_be_whole(self, src: bytes, at: int, have: int, total: int) -> bool:
        """Must this query be seen to its end before it is sent, as it may change what comes after it?"""
        if total <= SMALL:
            return self.rules.inspected != 0 or self.rules.keep or have == 5 or (src[at + 5] | 0x20) == 0x64
        return self.rules.inspected != 0 and total <= LONGEST_HELD and self.has_room(total)

    def _first(self, server: Server, out: Outbox, buf: bytes) -> None:
        """The server owes nothing: what it must be sent before the client's next message."""
        state = server.state
        server.flushed = False
        if server.prepared.deallocation & SENT:
            server.prepared.on_deallocation(ANSWERED)
        if server.prepared.dropping is not None:
            server.prepared.not_dropped(self)
        if not server.batch & OPEN and server.status == IDLE:
            server.prepared.block_is_over()
            if server.prepared.shadowed:
                out.put(buf, server.prepared.give_back(self))
        if state.settings is not self.settings and server.status == IDLE:
            out.put(buf, server.own(state.adopt(self.settings)))
        if (
            server.notification_sender.named
            and server.notification_sender.named != self.process
            and server.status == IDLE
            and not server.batch & OPEN
        ):
            # What others have done here does not make this client's notifications theirs.
            out.put(buf, server.notification_sender.alone(self.process if self.notifies else 0))
        if self.settled is not None and not state.had_temp and server.status == IDLE and not server.unsynced():
            out.put(buf, self.first_temp(server))
        if state.pins:
            state.reconsider()
        if state.stale_plans and server.status != FAILED_TRANSACTION and not server.batch & OPEN:
            out.put(buf, server.own(state.forget_plans()))
            server.prepared.plans_are_stale()
        if state.needs_mark and server.status == IN_TRANSACTION and not server.batch & OPEN:
            out.put(buf, server.own(state.mark_again()))
        if self.begun:
            out.put(buf, server.begin(self.begun))
            self.begun = b""

    def _detached(self, kind: int, src: bytes, at: int, have: int, total: int, to_client: Outbox, buf: bytes) -> int:
        """A message while no server is attached."""
        if kind in (FLUSH, COPY_DATA, COPY_DONE, COPY_FAIL):
            # PostgreSQL ignores them outside of a COPY.
            return self.pass_on(b"", 0, have, total, None, b"")
        if have < total and total <= SMALL:
            return self.await_whole(total)
        if kind == SYNC and total == 5:
            to_client.put(buf, _deferred_begin.READY_BEGUN if self.begun else messages.READY_IDLE)
            return have
        if kind == QUERY and self.rules.defer and total <= _deferred_begin.LONGEST:
            answer = _deferred_begin.answer(src[at + 5 : at + have], len(self.begun) > 0)
            if answer is not None:
                self.begun = b"" if self.begun else src[at : at + have]
                to_client.put(buf, answer)
                return have
        if kind == TERMINATE:
            self.verdict = GOODBYE
            return have
        if kind in (PARSE, CLOSE) and self.rules.rewrite and have == total:
            answer = self.answer_alone(kind, src, at, at + have)
            if answer is not None:
                to_client.put(buf, answer)
                return have
        self.verdict = ATTACH
        return 0

