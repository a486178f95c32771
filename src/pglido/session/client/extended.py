"""Messages about prepared statements, said to the server under the names that all clients share.

They are looked at whole (a large Bind: its names only), for a statement must be on whichever server this client has
now; see `session.server.reply_kinds` for how the order of replies is kept, `session.server.statements` for what
a server has.
"""

from ...protocol import messages
from ...protocol.codes import BIND, CLOSE, DESCRIBE, IDLE, PARSE
from ...sql import effects as _effects
from ...sql import signal_targets as _signal_targets
from ...sql.charclass import LONGEST_NAME
from ...sql.scanner import LISTENS, PREPARES
from ..outbox import Outbox
from ..server.batch import OPEN
from ..server.deallocation import BINDS
from ..server.reader import Server
from ..server.replay import LONGEST
from ..server.reply_kinds import BINDING, CLOSING, DESCRIBING, INTERNAL, PARSING, STATEMENT, SYNCING
from ..server.statements import DOOM, FEW_DOOMS, ServerStatements
from ..state import statement_cache as _statement_cache
from ..state.shared import CHANNEL, NAMED
from ..state.statement_cache import LACKS, MISMATCH, OF_MEMORY, Lack, Statement
from .partial import SMALL, PartialMessages

# Bind and Describe: how much is awaited of a message too large to hold, for the names in front.
NAMES_FIRST = 1024
# Bytes in a shared name.
NAME_SIZE = _statement_cache.NAME_SIZE
# Parse: of one to be refused so much tells whether it has a name.
UNNAMED_FIRST = 6
# Binds of what there is not, one for each reason.
NOT_KEPT = {lack: messages.message(BIND, b"\0" + name + b"\0\0\0\0\0\0\0") for name, lack in LACKS.items()}
# The name of a statement that is there for one Bind.
AIMED = b"_pglido_aimed"
# What a Parse costs besides its text, in steps (see `inspection.SHARE`).
PARSED = 30
# In a Describe: of a portal. One of so many bytes has no name, not even an empty one.
PORTAL_KIND = ord("P")
NO_NAME = 6


def _begins_with_d(src: bytes, at: int, stop: int) -> bool:
    """May this query be a DEALLOCATE or DISCARD? Asked of each Bind, and so without a regular expression."""
    while at < stop and (src[at] == 0x20 or 9 <= src[at] <= 13):
        at += 1
    return at < stop and (src[at] | 0x20) == 0x64


class ExtendedQuery(PartialMessages):
    """A client's session, as far as it speaks of prepared statements."""

    __slots__ = ()

    def answer_alone(self, kind: int, src: bytes, at: int, stop: int) -> bytes | None:
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
        name = src[first : min(end, first + LONGEST_NAME)]
        if kind == CLOSE and src[at + 5] == 0x53 and self.statements is not None and name in self.statements:
            self.take_statement(name)
            self.parsed(name)
            return messages.CLOSE_COMPLETE
        taken = name in self.settings.prepared_names or (self.statements is not None and name in self.statements)
        if kind == PARSE and not taken:
            statement = _statement_cache.find(src[end + 1 : stop], self.dialect(None))
            if statement is not None and statement in self.rules.good:
                if self._lack_of_room(name, statement, len(statement.rest), NAMED) is not None:
                    return None
                if self.rules.inspected:
                    flags = self.flags_of(statement.rest)
                    self.classify(statement.rest, flags)
                    if flags & PREPARES:
                        # What it is depends on what goes by the name in it.
                        return None
                self.put_statement(name, statement)
                self.settle(name)
                self.expect_parse(name)
                self.rules.counts.client_parses += 1
                return messages.PARSE_COMPLETE
        return None

    def plain(self, kind: int, src: bytes, at: int, have: int, total: int, out: Outbox, buf: bytes) -> int:
        """The message goes through as it is: only the replies are counted."""
        server = self.server
        assert server is not None
        if kind == PARSE and have < total <= SMALL and self.rules.keep:
            return self.await_whole(total)
        if kind == PARSE:
            if self.rules.keep:
                self._heed_kept(src, at + 5, at + have)
            server.on_batch(PARSING)
            server.prepared.expect(PARSING, None, None)
        elif kind == CLOSE:
            server.prepared.bound = None
            server.on_batch(CLOSING)
            server.prepared.expect(CLOSING, None, None)
        elif kind == BIND:
            server.expect(BINDING)
        else:
            if server.prepared.bound is not None and have == total > NO_NAME and src[at + 5] == PORTAL_KIND:
                out.put(buf, server.prepared.describe_portal(src[at + 6 : at + total - 1]))
            server.expect(DESCRIBING)
        return self.pass_on(src, at, have, total, out, buf)

    def _heed_kept(self, src: bytes, first: int, stop: int) -> None:
        """Heed the text of a Parse, which comes behind its name."""
        while first < stop and src[first]:
            first += 1
        self.inspect_kept(src, min(first + 1, stop), stop)

    def rewrite(self, kind: int, src: bytes, at: int, have: int, total: int, out: Outbox, buf: bytes) -> int:
        """Parse, Bind, Describe and Close of statements: inspected, and under the name that all clients share."""
        server = self.server
        assert server is not None
        if have < total and (kind != BIND or total <= SMALL):
            lack = self.lack(total, total) if kind == PARSE and not self.reserved else None
            if lack is not None:
                if have < UNNAMED_FIRST:
                    self.wanted = UNNAMED_FIRST
                    return 0
                return self._refuse_statement(lack, src[at + 5] == 0, have, total, out, buf)
            return self.await_whole(total)
        if kind == PARSE:
            self.spent += PARSED + (have >> 4)
        stop = at + have
        first = at + 5
        if kind in (DESCRIBE, CLOSE):
            if first >= stop or src[first] != 0x53:  # not S: a portal
                return self.plain(kind, src, at, have, total, out, buf)
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
                self.wanted = min(total, max(NAMES_FIRST, 2 * have))
                return 0
            # No zero where the name should end, or none in sight: PostgreSQL has the words for that.
            return self.plain(kind, src, at, have, total, out, buf)
        name = src[first : min(end, first + LONGEST_NAME)]
        lack = self._lack_of_doom(server.prepared, name) if kind == BIND else None
        if lack is not None:
            self._provoke(server, lack, out, buf)
            return self.pass_on(src, at, have, total, None, buf)
        if not self.rules.rewrite:
            return self._unshared(kind, name, src, at, end + 1, have, total, out, buf)
        if kind == PARSE:
            return self._parse(name, src, at, end + 1, stop, out, buf)
        if kind == CLOSE:
            return self._close_statement(name, src, at, have, out, buf)
        return self._use(kind, name, src, at, first, end, have, total, out, buf)

    def _unshared(
        self, kind: int, name: bytes, src: bytes, at: int, rest_at: int, have: int, total: int, out: Outbox, buf: bytes
    ) -> int:
        """Prepared statements stay where they are (max_prepared_statements = 0); what they do is inspected as well."""
        server = self.server
        assert server is not None
        stop = at + have
        if kind == PARSE:
            rest = src[rest_at:stop]
            lack = self._lack_of_room(name, None, len(rest), 0)
            if lack is not None:
                return self._refuse_statement(lack, not name, have, total, out, buf)
            flags = self.classify_named(rest) if name else self.flags_of(rest)
            if self.inspect_parsed(flags, rest, out, buf):
                return 0
            if not name:
                server.on_batch(PARSING)
                server.prepared.name_unnamed(self, rest, flags)
                return self.pass_on(src, at, have, total, out, buf)
        elif not name and kind == CLOSE:
            server.on_batch(CLOSING)
            server.prepared.name_unnamed(self, None, 0)
            return self.pass_on(src, at, have, total, out, buf)
        elif not name:
            return self._use_unnamed(server, kind, src, at, rest_at - 1, have, total, out, buf)
        elif kind == BIND and self.inspect_bound(name, None, src, at, rest_at, stop, out, buf):
            return 0
        return self.plain(kind, src, at, have, total, out, buf)

    def _parse(self, name: bytes, src: bytes, at: int, rest_at: int, stop: int, out: Outbox, buf: bytes) -> int:
        server = self.server
        assert server is not None
        prepared = server.prepared
        rest = src[rest_at:stop]
        have = stop - at
        statement = _statement_cache.intern(rest, self.dialect(server)) if name else None
        if statement is not None and prepared.undecided(name, statement):
            self.wait(prepared.known_at(name, statement))
            return 0
        flags = self.flags_of(rest) if self.rules.inspected else 0
        lack = self._lack_of_room(name, statement, len(rest), NAMED) or self.lack_for(rest, flags)
        if lack is not None:
            return self._refuse_statement(lack, not name, have, have, out, buf)
        if self.rules.inspected:
            text = rest if statement is None else statement.rest
            if statement is not None:
                self.classify(text, flags)
            if self.inspect_parsed(flags, text, out, buf):
                return 0
        self.rules.counts.client_parses += 1
        server.on_batch(PARSING)
        if statement is None:
            prepared.name_unnamed(self, rest, flags)
            return self.pass_on(src, at, have, have, out, buf)
        taken = self.statements is not None and name in self.statements
        unsure = server.state.unverified & PREPARES != 0 and not taken
        if taken or (name in self.settings.prepared_names and not unsure):
            if taken:
                out.put(buf, prepared.collide(name))
            prepared.expect(PARSING, None, None)
            return self.pass_on(src, at, have, have, out, buf)
        if unsure:
            # SQL may have prepared this name, or may when a portal is executed: the server can tell.
            out.put(buf, prepared.probe(name, statement))
        self.put_statement(name, statement)
        self.settle(name)
        self.parsed(name)
        # Whoever had it parsed here before: what the text means now, and here, only PostgreSQL can tell.
        self.rules.counts.server_parses += 1
        out.put(buf, prepared.learn(name, statement, self.room(server), PARSING, True))
        return have

    def _lack_of_room(self, name: bytes, statement: Statement | None, size: int, named: int) -> Lack | None:
        """What hinders that a text of this size is kept; if it has a name, that takes `named` bytes and its own.

        A shared `statement` that anybody has a name for is nothing new in all.
        """
        if self.reserved:
            return None
        if name and self.budget.tight:
            return OF_MEMORY
        more = named + len(name) if name else 0
        return self.lack(size + more, more if statement is not None and statement.holders else size + more)

    def _lack_of_doom(self, prepared: ServerStatements, name: bytes) -> Lack | None:
        """What hinders that is kept what this statement drops once it was bound; None: nothing, or it drops nothing."""
        if len(prepared.dooms) < FEW_DOOMS:
            return None
        statement = None if self.statements is None else self.statements.get(name)
        text = statement.rest if statement is not None else self.unnamed if not name else None
        if text is None or not _effects.deallocated(self._read(text)):
            return None
        return self.lack(DOOM, DOOM)

    def _refuse_statement(self, lack: Lack, unnamed: bool, have: int, total: int, out: Outbox, buf: bytes) -> int:
        """Drop a Parse. In its place PostgreSQL gets something to refuse, and skips what follows up to a Sync.

        The unnamed statement ends with a Parse that fails, as it does there.
        """
        server = self.server
        assert server is not None
        if unnamed:
            out.put(buf, server.prepared.close_unnamed(self))
            server.prepared.unnamed = 0
            self.put_unnamed(None, 0, 0)
        self._provoke(server, lack, out, buf)
        return self.pass_on(buf, 0, have, total, None, buf)

    def refuse_query(self, lack: Lack, have: int, out: Outbox, buf: bytes) -> int:
        """The same of a whole Query, which ends the unnamed statement in any case."""
        server = self.server
        assert server is not None
        server.prepared.unnamed = 0
        self.put_unnamed(None, 0, 0)
        self._provoke(server, lack, out, buf)
        server.expect(SYNCING)
        out.put(buf, messages.SYNC)
        return self.pass_on(buf, 0, have, have, None, buf)

    def _provoke(self, server: Server, lack: Lack, out: Outbox, buf: bytes) -> None:
        """Have PostgreSQL refuse something; its error is replaced by what is lacking."""
        self.budget.refuse(lack[0])
        server.prepared.bound = None
        server.expect(BINDING)
        out.put(buf, NOT_KEPT[lack])

    def lack_for(self, text: bytes, flags: int) -> Lack | None:
        """What hinders that is kept what a text with these flags prepares by SQL, or listens to; None: nothing does.

        Of one that is too long to be read what its beginning says counts; and nothing of a client's first channels.
        """
        if not flags & (PREPARES | LISTENS) or not (self.budget.tight or len(self.channels) > 0):
            return None
        said = self._read(text)
        if self.budget.tight and said.prepares:
            return OF_MEMORY
        size = CHANNEL * len([name for name in _effects.channels(said) if name not in self.channels])
        return self.lack(size, size) if size else None

    def _close_statement(self, name: bytes, src: bytes, at: int, have: int, out: Outbox, buf: bytes) -> int:
        server = self.server
        assert server is not None
        if name and server.prepared.undecided(name, None):
            self.wait(server.prepared.known_at(name, None))
            return 0
        server.on_batch(CLOSING)
        out.put(buf, server.prepared.evict(name))
        if name and self.statements is not None and name in self.statements:
            # It goes by this name only where SQL was to find it; PostgreSQL answers in its turn, and minds no other.
            server.prepared.expect(CLOSING, name, self.take_statement(name))
            if name in server.prepared.shadowed:
                server.prepared.shadowed[name] = None
            self.parsed(name)
        elif name:
            if name in self.settings.prepared_names:
                self.closes(name)
            server.prepared.expect(CLOSING, None, None)
        else:
            server.prepared.name_unnamed(self, None, 0)
        return self.pass_on(src, at, have, have, out, buf)

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
        if kind == BIND:
            prepared.bound = None
        if not name:
            return self._use_unnamed(server, kind, src, at, end, have, total, out, buf)
        statement = None if self.statements is None else self.statements.get(name)
        if prepared.undecided(name, statement):
            self.wait(prepared.known_at(name, statement))
            return 0
        if statement is None:
            if kind == BIND and self.inspect_bound(name, None, src, at, end + 1, at + have, out, buf):
                return 0
            # Prepared by SQL; or unknown here, so unknown there, which PostgreSQL says itself: 26000.
            out.put(buf, prepared.evict(name))
            return self.plain(kind, src, at, have, total, out, buf)
        if self.settled is not None:
            self.settle(name)
            prepared.stale.discard(statement)
        if statement not in prepared.known:
            statement = self.as_now(name, statement, server)
        rest = statement.rest
        if kind == BIND and self.inspect_bound(name, rest, src, at, end + 1, at + have, out, buf):
            return 0
        if kind == BIND and self.processes is not None:
            return self._bind_aimed(server, rest, src, at, first, end, at + have, out, buf)
        if kind == BIND and statement not in prepared.known and prepared.goes_by(name, statement):
            # It goes by the client's own name only: for SQL that shows what there is.
            self.parsed(name)
            return self.plain(kind, src, at, have, total, out, buf)
        size = total - 1 + NAME_SIZE - (end - first)
        # May this be the beginning of a batch that can be said again? Not behind an Execute: its work would be lost.
        again = kind == BIND and have == total <= LONGEST and first == at + 6 and server.status == IDLE
        if prepared.mismatch is statement:
            prepared.mismatch = None
            if again and not server.batch & ~OPEN:
                server.retry.begin(prepared.bind_head(statement, size), src[end : at + have], statement)
            return self._send_as(MISMATCH, kind, DESCRIBING, src, at, first, end, have, total, out, buf)
        if kind == DESCRIBE and self.inspect_described(name, rest, out, buf):
            return 0
        self._bring(server, kind, name, statement, out, buf)
        if prepared.awaited is not None:
            # Asked last of all.
            self.wait(server.replies.next())
            return 0
        if kind == BIND:
            self.rules.counts.binds += 1
            self._foresee(prepared, rest)
            if statement.described is None:
                prepared.bound_to(src[at + 5 : first - 1], statement)
        if again and not server.unsynced():
            head = prepared.bind_head(statement, size)
            tail = src[end : at + have]
            server.retry.begin(head, tail, statement)
            server.expect(BINDING)
            out.put(buf, head)
            out.put(buf, tail)
            return have
        if kind == DESCRIBE:
            prepared.describes(statement, name)
        return self._send_as(statement.name, kind, DESCRIBING | STATEMENT, src, at, first, end, have, total, out, buf)

    def _use_unnamed(
        self, server: Server, kind: int, src: bytes, at: int, end: int, have: int, total: int, out: Outbox, buf: bytes
    ) -> int:
        """Bind or Describe of the unnamed statement: see that the server's is this client's."""
        if server.prepared.unnamed_undecided():
            self.wait(server.prepared.unnamed_known_at())
            return 0
        rest = self.unnamed
        if kind == BIND and self.inspect_bound(b"", rest, src, at, end + 1, at + have, out, buf):
            return 0
        if kind == BIND and self.processes is not None and rest is not None:
            return self._bind_aimed(server, rest, src, at, end, end, at + have, out, buf)
        if kind == DESCRIBE and rest is not None and self.inspect_described(b"", rest, out, buf):
            return 0
        if server.prepared.unnamed != self.unnamed_id:
            out.put(buf, server.prepared.renew_unnamed(self))
        if kind == BIND and rest is not None:
            self._foresee(server.prepared, rest)
        return self.plain(kind, src, at, have, total, out, buf)

    def _bind_aimed(
        self, server: Server, rest: bytes, src: bytes, at: int, first: int, end: int, stop: int, out: Outbox, buf: bytes
    ) -> int:
        """A Bind of a text that cancels or terminates others: of one that says their process ids, for this once."""
        processes = self.processes_of_targets()
        server.prepared.expect(PARSING | INTERNAL, None, None)
        server.expect(BINDING)
        server.prepared.expect(CLOSING | INTERNAL, None, None)
        values = _signal_targets.put_values(rest, src[end + 1 : stop], processes)
        bind = src[at + 5 : first] + AIMED + b"\0" + values
        out.put(buf, messages.parse(AIMED, _signal_targets.put_constants(rest, processes)))
        out.put(buf, messages.message(BIND, bind) + messages.close_statement(AIMED))
        return self.pass_on(src, at, stop - at, stop - at, None, buf)

    def _foresee(self, prepared: ServerStatements, rest: bytes) -> None:
        """A statement is bound: should it be executed, may all of them be gone?"""
        if _begins_with_d(rest, 0, len(rest)) and _effects.purges(rest):
            prepared.on_deallocation(BINDS)

    def _bring(self, server: Server, kind: int, name: bytes, statement: Statement, out: Outbox, buf: bytes) -> None:
        """See that the server has the client's statement; `awaited` where it is to say first whether it is the same."""
        prepared = server.prepared
        fresh = (self.unparsed is not None and name in self.unparsed) or (kind == DESCRIBE and not statement.lasts)
        if fresh or not prepared.has(statement, self.rules.max_statements):
            known_as = name if fresh else None
            self.rules.counts.server_parses += 1
            out.put(buf, prepared.learn(known_as, statement, self.room(server), PARSING | INTERNAL, fresh))
            if fresh:
                self.parsed(name)
            elif statement.described is not None:
                prepared.awaited = statement
                server.on_batch(DESCRIBING)
                out.put(buf, messages.FLUSH)

    def _send_as(
        self,
        name: bytes,
        kind: int,
        describing: int,
        src: bytes,
        at: int,
        first: int,
        end: int,
        have: int,
        total: int,
        out: Outbox,
        buf: bytes,
    ) -> int:
        """Send a Bind or Describe with `name` in place of what is at `src[first:end]`."""
        server = self.server
        assert server is not None
        size = total - 1 + len(name) - (end - first)
        server.expect(BINDING if kind == BIND else describing)
        out.put(buf, bytes((kind,)) + size.to_bytes(4, "big") + src[at + 5 : first] + name)
        if src is buf:
            out.run(buf, end, at + have)
        else:
            out.put(buf, src[end : at + have])
        self.dropping = False
        self.passing = total - have
        return have
