"""One server connection's side of the relay: reads what PostgreSQL says, and keeps count of what it still owes.

Rules:
1. An answer takes its entry off `replies`. An error in the extended protocol takes off all entries up to the next Sync,
   and undoes what they had promised.
2. What the session learns from a message it learns when the message is whole; all else passes by uncopied.
"""

import re

from ...protocol import messages, octets
from ...protocol.codes import (
    COMMAND_COMPLETE,
    COPY_DATA,
    COPY_IN_RESPONSE,
    DATA_ROW,
    ERROR_RESPONSE,
    IDLE,
    IN_TRANSACTION,
    NO_DATA,
    NOTIFICATION_RESPONSE,
    PARAMETER_DESCRIPTION,
    PARAMETER_STATUS,
    READY_FOR_QUERY,
    ROW_DESCRIPTION,
)
from ...sql.effects import PREFIX
from ...sql.scanner import SETS, TEMP
from ..outbox import Outbox
from ..state import parameters as _parameters
from ..state import statement_cache as _statement_cache
from ..state.statement_cache import MISMATCH, NO_ROOM, SHARED
from .batch import COPY_BEGINS, COPY_OVER, RESTED, SKIPS, SYNC_IGNORED, UNASKED
from .flow import ServerFlow
from .reply_kinds import (
    ASKING,
    BINDING,
    CLOSING,
    DESCRIBING,
    EXECUTING,
    INTERNAL,
    KIND,
    PARSING,
    QUERYING,
    STATEMENT,
    SYNCING,
    TRYING,
)

# The entry that each backend message answers: 0 none, 255 a message that no server sends in a session.
_ANSWERS = bytearray(b"\xff" * 256)
for _kind in "ZSECNADdcTtGHWVn":
    _ANSWERS[ord(_kind)] = 0
_ANSWERS[ord("1")] = PARSING
_ANSWERS[ord("2")] = BINDING
_ANSWERS[ord("3")] = CLOSING
_ANSWERS[ord("T")] = _ANSWERS[ord("n")] = DESCRIBING
_ANSWERS[ord("C")] = _ANSWERS[ord("I")] = _ANSWERS[ord("s")] = EXECUTING
ANSWERS = bytes(_ANSWERS)
# The same, a C array where it is compiled.
_answers = ANSWERS

# Tags of commands that take back what was set or prepared, and the sizes of their CommandComplete.
RESET = b"RESET\0"
DEALLOCATE = b"DEALLOCATE\0"
# Also of CREATE TABLE ... AS.
SELECT = b"SELECT "
DISCARD_ALL = b"DISCARD ALL\0"
COMMITTED = b"COMMIT\0"
DEALLOCATE_ALL = b"DEALLOCATE ALL\0"
# The first two letters of the tags of ALTER, CREATE and DROP: after them a text may mean something else.
A, C, D, L, R, S, U = map(ord, "ACDLRSU")
# How much is awaited of a CommandComplete, for these letters.
TAG_FIRST = 7
RESET_SIZE = 4 + len(RESET)
DROP_SIZE = 4 + len(DEALLOCATE)
DISCARD_SIZE = 4 + len(DISCARD_ALL)
DEALLOCATE_SIZE = 4 + len(DEALLOCATE_ALL)

# Lengths are signed 32-bit on the wire (protocol chapter "Message Formats").
MAX_MESSAGE = 0x7FFFFFFF
# Only these kinds may be longer than SHORT; anything else is no PostgreSQL (VALID_LONG_MESSAGE_TYPE in libpq).
LONG_KINDS = b"TDdVENAt"
SHORT = 30000
# An error larger than this is passed on without being looked into.
LARGE_ERROR = 65536


# What PostgreSQL says of a prepared statement whose result would be another, by which drivers prepare it anew.
CHANGED = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0"
CHANGING = (b"ALTER ", b"CREATE ", b"DROP ")


def changes(first: int, second: int) -> bool:
    """Is it the tag of a command that changes the catalogs, as far as these letters tell?"""
    return (second == R and first in (C, D)) or (first == A and second == L)


class Server(ServerFlow):
    """The session on one server connection, as it is read."""

    __slots__ = ()

    # Reading.

    def take(self, buf: bytes, end: int, out: Outbox) -> int:
        """Take `buf[:end]` from the server; what the client shall see goes to `out`.

        `turns` then tells how many ReadyForQuery were the client's. Returns -1 when the server can't be trusted
        any more: `fault` says why, and the connection must be closed.
        """
        pos = 0
        self.turns = 0
        while pos < end:
            if self._need:
                step = min(self._need, end - pos)
                if not self._dropping:
                    out.run(buf, pos, pos + step)
                self._need -= step
                pos += step
                if not self._need:
                    self._passed()
            elif self._held is not None:
                step = min(self._wanted - len(self._held), end - pos)
                self._held += buf[pos : pos + step]
                pos += step
                if len(self._held) == self._wanted:
                    whole = bytes(self._held)
                    self._held = None
                    if not self._message(whole, 0, len(whole), out, buf):
                        self._hold(whole, self._wanted)
            elif end - pos < 5:
                self._hold(buf[pos:end], 5)
                pos = end
            else:
                kind = buf[pos]
                step = self._rows(buf, pos, end, out) if kind in (DATA_ROW, COPY_DATA) else 0
                if not step:
                    step = self._message(buf, pos, end - pos, out, buf)
                if not step:
                    self._hold(buf[pos:end], self._wanted)
                    step = end - pos
                pos += step
            if self.fault:
                return -1
        return 0

    def _hold(self, data: bytes, wanted: int) -> None:
        self._held = bytearray(data)
        self._wanted = wanted

    def _rows(self, buf: bytes, pos: int, end: int, out: Outbox) -> int:
        """Take the whole DataRow and CopyData messages with which `buf[pos:end]` begins: all go the same way.

        Returns how much that is.

        Looking at nothing but their lengths makes a result of 1000 rows cost the pooler a third.
        """
        at = pos
        head = self.replies.head
        if head == ASKING | INTERNAL:
            return 0
        while end - at >= 5 and (buf[at] == DATA_ROW or buf[at] == COPY_DATA):
            size = octets.length(buf, at + 1)
            if size < 4 or size >= end - at:
                break
            at += size + 1
        if at > pos and not self._drops(buf[pos], head):
            out.run(buf, pos, at)
        return at - pos

    def _drops(self, kind: int, head: int) -> bool:
        """Does a message of this kind end here, `head` being the entry that it belongs to?"""
        client = self.client
        if client is None or (not head and not client.rules.keep and self._at_rest()):
            return True
        if kind == NOTIFICATION_RESPONSE and client.rules.inspected:
            # Of these the client has a connection of its own.
            return True
        if not head & INTERNAL:
            return False
        return head & KIND >= SYNCING or head & KIND == _answers[kind] or kind == PARAMETER_DESCRIPTION

    def _message(self, src: bytes, at: int, have: int, out: Outbox, buf: bytes) -> int:
        """One message that starts at `src[at]`, of which `have` bytes or more are there.

        Returns how many bytes of it were used, or 0 when it must be whole first (`_wanted` bytes). `src` is the
        receive buffer `buf` itself or a value of its own.
        """
        kind = src[at]
        size = octets.length(src, at + 1)
        if size > SHORT and kind not in LONG_KINDS:
            self.fault = f"server sent garbage: message type {kind:#04x}, length {size}"
            return have
        if size < 4 or size > MAX_MESSAGE or _answers[kind] == 255:
            self.fault = f"server sent garbage: message type {kind:#04x}, length {size}"
            return have
        if kind == READY_FOR_QUERY and size != 5:
            self.fault = "server sent a ReadyForQuery of wrong size"
            return have
        total = size + 1
        head = self.replies.head
        drop = self._drops(kind, head)
        looked = kind in (READY_FOR_QUERY, PARAMETER_STATUS)
        if kind == ERROR_RESPONSE:
            looked = size <= LARGE_ERROR
        elif kind == COMMAND_COMPLETE:
            if have < total and have < TAG_FIRST:
                self._wanted = min(total, TAG_FIRST)
                return 0
            looked = size in (RESET_SIZE, DISCARD_SIZE, DEALLOCATE_SIZE)
            if total >= TAG_FIRST and self._tag_matters(size, src[at + 5], src[at + 6]):
                looked = True
        elif kind == DATA_ROW:
            looked = head == ASKING | INTERNAL
        elif kind == NOTIFICATION_RESPONSE:
            looked = not drop
        elif head & STATEMENT:
            looked = kind in (PARAMETER_DESCRIPTION, ROW_DESCRIPTION, NO_DATA)
        if looked:
            if have < total:
                self._wanted = total
                return 0
            if kind == READY_FOR_QUERY:
                drop = self._ready(src[at + 5], head, drop, out, buf)
            else:
                drop = self._look(kind, src[at + 5 : at + total], head, drop, out, buf)
        elif kind == COPY_IN_RESPONSE:
            self._copies(head)
        elif kind == ERROR_RESPONSE:
            self._failed(head)
        if have > total:
            have = total
        if not drop:
            if src is buf:
                out.run(buf, at, at + have)
            else:
                out.put(buf, src[at : at + have])
        self._kind = kind
        self._dropping = drop
        self._need = total - have
        if not self._need:
            self._passed()
        return have

    def _tag_matters(self, size: int, first: int, second: int) -> bool:
        """May it, by its size and first letters, be the tag of what changes more than rows?"""
        if size == DROP_SIZE and self.prepared.dropping is not None:
            return True
        if self.state.needs_mark and first in (C, R, U):
            return True
        if first == R and self.state.unverified & (SETS | TEMP):
            return True
        if first == C and self.redefining:
            return True
        return changes(first, second) or (first in (C, S) and self.state.makes_temp())

    def _copies(self, head: int) -> None:
        """The server asks for COPY data."""
        if head & KIND in (EXECUTING, QUERYING):
            ended = self.replies.copy_begins()
            if head & KIND == EXECUTING and (not ended or self.replies.turns == 0):
                # A Sync sent early is ignored, so that another one must come.
                self.on_batch(SYNC_IGNORED)
            if not ended:
                self.on_batch(COPY_BEGINS)
        else:
            self.fault = f"server sent message type {COPY_IN_RESPONSE:#04x} out of turn"

    def _passed(self) -> None:
        """A message went by whole: take off the entry that it answers."""
        answers = _answers[self._kind]
        if answers:
            head = self.replies.head
            if head & KIND == answers:
                self._answered()
            elif answers in (PARSING, BINDING, CLOSING):
                self.fault = f"server sent message type {self._kind:#04x} out of turn"

    def _answered(self) -> None:
        entry = self.replies.pop()
        kind = entry & KIND
        if kind != CLOSING:
            self._paused = False
        if kind in (PARSING, CLOSING):
            taken = self.prepared.answered(entry)
            if taken is not None and self.good is not None:
                self.good.add(taken)

    # Learning.

    def _look(self, kind: int, body: bytes, head: int, drop: bool, out: Outbox, buf: bytes) -> bool:
        """Learn from a whole message; returns whether it ends here."""
        if kind == PARAMETER_STATUS:
            return self._parameter(body, drop, out, buf)
        if kind == NOTIFICATION_RESPONSE:
            return self._notified(body, out, buf)
        if kind == ERROR_RESPONSE:
            self._error(body, head)
            if head == PARSING | INTERNAL and self.replies.head == SYNCING | INTERNAL and body is not self.last_error:
                # Of a statement that was lent, in a turn of its own: the client hears of it when SQL looks for that.
                self.lent_error = b"" if self.client is None else body
                return True
            if head == CLOSING | INTERNAL and self.replies.head == SYNCING | INTERNAL and body is not self.last_error:
                # Of a name that PostgreSQL can't read. What else was to be closed with it is there still.
                self.worn = True
                return True
            if self.retry.due:
                # Its Sync is on its way, and what that answers isn't the client's either.
                self.replies.pop()
                self.replies.push(SYNCING | INTERNAL)
                return True
            if body is self.last_error:
                self.told = not drop
                self.worn = True
            if not drop and NO_ROOM in body and b"\0C26000\0" in body:
                text, hint = _statement_cache.lack_in(body)
                out.put(buf, messages.error("ERROR", "53200", f"out of memory: {text}", hint=hint))
                return True
            if not drop and MISMATCH in body and b"\0C26000\0" in body:
                out.put(buf, messages.message(ERROR_RESPONSE, CHANGED))
                return True
            if not drop and self.lent_error and self._misses_what_was_lent(body):
                body, self.lent_error = self.lent_error, b""
                out.put(buf, messages.message(ERROR_RESPONSE, body))
                return True
            if not drop and PREFIX in body:
                out.put(buf, messages.message(ERROR_RESPONSE, self._own_names(body)))
                return True
        elif kind == DATA_ROW:
            try:
                self.state.answered(body, self.client, out, buf)
                if self.state.there is not None:
                    self._keep_prepared(self.state.there)
                    self.state.there = None
            except ValueError as problem:
                self.fault = f"server answered with garbage: {problem}"
        elif kind == PARAMETER_DESCRIPTION:
            self._types = body[2:]
        elif kind in (ROW_DESCRIPTION, NO_DATA):
            self._described(body, head)
        elif body in (RESET, DISCARD_ALL, DEALLOCATE_ALL):
            self._command_done(body, drop)
        elif body.startswith(SELECT):
            self.state.temp_made(self.client)
        elif body == DEALLOCATE:
            if not drop:
                self.prepared.dropped()
        elif body.startswith(CHANGING):
            # Now for this client, and for the others when it is committed.
            self.changing = True
            _statement_cache.renew()
            if self.state.unverified & TEMP and body.startswith(b"CREATE "):
                self.state.temp_made(self.client)
        else:
            if body == COMMITTED:
                # In the middle of a text.
                self.redefined()
            self.state.command_done(body, self.client, drop)
        return drop

    def _keep_prepared(self, there: dict[str, str | None]) -> None:
        """The server has these prepared statements: code may have dropped others, or made them anew by SQL."""
        client = self.client
        for name in list(self.prepared.shadowed):
            statement = None if client is None or client.statements is None else client.statements.get(name)
            if client is None or statement is None or not self.prepared.goes_by(name, statement):
                continue
            text = there.get(name.decode("utf-8", messages.ESCAPE), "")
            if text is not None:
                client.take_statement(name)
            if text:
                # It is the client's, and not to be given back.
                del self.prepared.shadowed[name]
        self.prepared.keep(there)

    def _notified(self, body: bytes, out: Outbox, buf: bytes) -> bool:
        """A client that keeps its server is notified by that: its own notifications bear its own process id."""
        sender = self.client.process if self.client is not None else 0
        if not sender or int.from_bytes(body[:4], "big") != self.notification_sender.process:
            return False
        out.put(buf, messages.message(NOTIFICATION_RESPONSE, sender.to_bytes(4, "big") + body[4:]))
        return True

    def _described(self, columns: bytes, head: int) -> None:
        """A shared statement was described."""
        try:
            told = self._types, _statement_cache.digest(messages.columns(columns))
            self.prepared.described(head, told, self.client)
        except ValueError:
            self.fault = "server sent a malformed RowDescription"

    def _ready(self, status: int, head: int, drop: bool, out: Outbox, buf: bytes) -> bool:
        kind = head & KIND
        if kind >= SYNCING:
            self.replies.pop()
        elif head:
            self.fault = "server sent ReadyForQuery out of turn"
            return True
        else:
            self.on_batch(UNASKED)
        if self._paused and status == IDLE and kind == SYNCING:
            # A Close begins no command, either (exec_simple_query and finish_xact_command in postgres.c).
            self.state.mark_unsynced()
        self._paused = status == IN_TRANSACTION
        if self.batch:
            self.on_batch(RESTED if status == IDLE and not self.replies.count else COPY_OVER)
        self.status = status
        if (self.changing or self.redefining) and status == IDLE:
            self._committed()
        if self.state.unread():
            self._learn(drop, out, buf)
        if not drop and self.client is not None and self.client.defaults is not self.state.defaults:
            self.state.tell(self.client, out, buf)
        if head & INTERNAL:
            if kind == ASKING:
                self.state.over()
            elif kind != SYNCING:
                self.state.swallowed()
            if self.retry.due:
                self.unsent = self.retry.again(self.prepared, self.client)
        if not drop:
            self.turns += 1
            self.lent_error = b""
            if self.prepared.dropping is not None:
                self.prepared.not_dropped(self.client)
            if self.notes is not None and status == IDLE:
                out.put(buf, bytes(self.notes))
                self.notes = None
            if self.keeps_ready and status == IDLE and not self.replies.awaited():
                self.ready_kept = True
                return True
        return drop

    def _committed(self) -> None:
        """A transaction is over that may have changed what is not this client's alone."""
        if self.changing:
            self.changing = False
            _statement_cache.renew()
        self.redefined()
        if not self.replies.awaited():
            # Nor is what may redefine still to come.
            self.redefining = 0

    def _parameter(self, body: bytes, drop: bool, out: Outbox, buf: bytes) -> bool:
        words = body.split(b"\0")
        if len(words) != 3:
            self.fault = "server sent a malformed ParameterStatus"
            return True
        name = words[0].decode("utf-8", "replace").lower()
        if name in _parameters.FACTS:
            return drop
        self.state.reported(name, words[1])
        if not self.replies.head:
            self._learn(drop, out, buf)
        if self.state.coming is not None and self.client is not None and not words[1].isascii():
            # Nobody else can tell what this is in the client's encoding.
            return not self.state.converts()
        return drop or (self.state.resetting and self.client is not None and name in self.client.home.values)

    def _learn(self, drop: bool, out: Outbox, buf: bytes) -> None:
        self.state.learn(None if drop else self.client, self.status == IDLE, out, buf)

    def _error(self, body: bytes, head: int) -> None:
        if b"\0VFATAL\0" in body or b"\0VPANIC\0" in body or not self.replies.count:
            self.last_error = body
        if PREFIX in body and (b"\0C26000\0" in body or b"\0C42P05\0" in body):
            # What pglido had prepared is gone, unnoticed: this server's statements are not what they seem.
            self.worn = True
        stale = _statement_cache.stale(body)
        if stale:
            _statement_cache.renew()
        if self.status == IDLE and (stale or MISMATCH in body):
            self.retry.refused(self.prepared)
        if head == TRYING | INTERNAL:
            self.notification_sender.failed()
        if head == QUERYING | INTERNAL:
            fields = messages.report_fields(body)
            self.fault = f"server refused: {fields.get('M', 'no message')} (SQLSTATE {fields.get('C', '?')})"
            self.last_error = body
        self._failed(head)

    def _misses_what_was_lent(self, body: bytes) -> bool:
        """Is it an error of SQL that did not find a statement, or of the block that had failed for it?"""
        if b"\0C25P02\0" in body:
            return True
        said = body[body.find(b"\0M") + 2 :].split(b"\0", 1)[0]
        return b"\0C26000\0" in body and said[said.find(b'"') + 1 : said.rfind(b'"')] in self.prepared.shadowed

    def _own_names(self, body: bytes) -> bytes:
        """An error that speaks of statements by the names that the client gave them."""
        return SHARED.sub(self.own_name, body)

    def own_name(self, found: re.Match[bytes]) -> bytes:
        """The first name that the client gave to the statement of this name, or else that."""
        names = self.client.own_names().get(found[0]) if self.client is not None else None
        return next(iter(names)) if names else found[0]

    def _failed(self, head: int) -> None:
        """An error: in the extended protocol the server reads on to the next Sync."""
        self._paused = False
        kind = head & KIND
        if not head & INTERNAL or kind < SYNCING:
            self.state.refused(self.client, self.status != IDLE)
        self.on_batch(SKIPS if head and kind < SYNCING and self._skips() else COPY_OVER)

    def _skips(self) -> bool:
        """An error in a batch: does the server read on to a Sync that is still to come?"""
        self.flushed = False
        skips = self.prepared.skipped(self.client)
        if self.prepared.turn_lost:
            # What was to be prepared in front of a Query was refused, and so the Query is skipped: end its turn.
            self.prepared.turn_lost = skips = False
            self.replies.push(SYNCING)
            self.unsent += messages.SYNC
        return skips

    def _command_done(self, tag: bytes, drop: bool) -> None:
        """A command that takes back what was set or prepared."""
        self.state.resetting = tag in (RESET, DISCARD_ALL) or self.state.resetting
        if tag == RESET:
            return
        self.state.discarding = tag == DISCARD_ALL or self.state.discarding
        self.prepared.purged(None if drop else self.client)
