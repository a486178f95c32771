"""What of a client's messages may touch its session: what is to be verified at its server, and channels asked for.

A query is looked at when it is sent; a statement when it is parsed, and what it may do is remembered for when it is
bound: by its text (`marks`), or for all together that SQL has prepared, or that aren't shared (`sql_flags`). Before a
LISTEN goes to the server, the pool's own connection must listen (verdict WISH).
"""

from collections import Counter

from ...protocol import messages, octets
from ...protocol.codes import FAILED_TRANSACTION as FAILED
from ...protocol.codes import IDLE
from ...sql import effects as _effects
from ...sql import scanner
from ...sql import signal_targets as _signal_targets
from ...sql.analysis import ALTERED, Analysis
from ...sql.charclass import LONGEST_NAME
from ...sql.keywords import CALLED as _CALLED
from ..outbox import Outbox
from ..server.batch import COPYING, GOES_ON, OPEN
from ..server.deallocation import BINDS, SENDS
from ..server.reader import Server
from ..server.statements import ServerStatements
from ..state.parameters import ALWAYS_REPORTED
from ..state.session_state import LARGE
from ..state.shared import NUMBERS
from ..state.state_query import LASTING, UNDYING, UNNAMED
from ..verdicts import GO_ON, WAIT, WISH
from .statement_context import StatementContext

# Flags of `sql.scanner`, where they are C ints.
ENDS = scanner.ENDS
LISTENS = scanner.LISTENS
NOTIFIES = scanner.NOTIFIES
PREPARES = scanner.PREPARES
SEQUENCES = scanner.SEQUENCES
SETS = scanner.SETS
SHOWS = scanner.SHOWS
SIGNALS = scanner.SIGNALS
TEMP = scanner.TEMP
CREATES = scanner.CREATES
WRITES = scanner.WRITES

# A function that may do anything is called; whether it notifies is told apart.
CALLED = _CALLED & ~NOTIFIES

# What may have become of a session by something that has no text.
UNKNOWN = scanner.ANYTHING & ~LASTING
# The same by a text that can't be read: what nothing takes away again is not assumed of it.
UNREAD = scanner.ANYTHING & ~UNDYING
# A query too large to be held.
TOO_LARGE = UNKNOWN | UNNAMED

# Marks of statements that were closed since: how many are kept, besides as many as there are statements.
MARKS = 64
# The same of bytes of their texts.
MARKED = 65536

# Settings that SQL-level prepared statements name: of more it is not asked, each time one of these is executed.
MANY_NAMES = 100

# What is done for one client in one round, in steps of about a tenth of a microsecond: what its messages cost besides
# comes to as much again at most. One step a message is one that has 64 bytes to be scanned; and what reading a text by
# name costs besides its length.
SHARE = 16384
READ = 100

# The functions by which libraries reach large objects (be-fsstubs.c): these set nothing.
LARGE_OBJECTS = frozenset({715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172})

NO_NAMES: tuple[str, ...] = ()
NO_FUNCTIONS: frozenset[bytes] = frozenset()


class Inspection(StatementContext):
    """A client's session with its server, as far as that may be left with more than it had.

    `sql_flags` is what its SQL-level prepared statements may do, `sql_names` the settings that they name; `counts`: it
    has asked for the values of sequences once, which is why it keeps the server where it advanced them last, `counted`.
    `classified` are the bytes of all texts in `marks`. `studied` is the version of what is known of functions with
    which statements were classified, `fresh` are those of which that is true (None: all). `spent` is what was done
    since last asked, in steps (see `SHARE`). With verdict WAIT `until` says for how many replies of the server
    in all: before these nothing is new (see `may_go_on`). `notifies`: it has sent notifications. `signal_targets` are
    the numbers of clients that it is about to terminate, or to cancel (`cancels`), `processes` the process ids to be
    said instead (0: there is none; None: nothing was asked for). `wish` are the channels that it is about to listen to,
    `granted` those that are listened to for it until its transaction has ended (None: it has not asked).
    """

    __slots__ = (
        "cancels",
        "classified",
        "counted",
        "counts",
        "fresh",
        "granted",
        "notifies",
        "number",
        "processes",
        "server",
        "signal_targets",
        "spent",
        "sql_flags",
        "sql_names",
        "studied",
        "until",
        "vacates",
        "verdict",
        "wish",
    )

    def begin_inspection(self) -> None:
        """Nothing was said yet."""
        self.server: Server | None = None
        self.verdict = GO_ON
        self.classified = 0
        self.notifies = False
        self.until = 0
        self.spent = 0
        self.fresh: set[bytes] | None = None
        self.sql_flags = 0
        self.sql_names = NO_NAMES
        self.counts = False
        self.counted = 0
        self.studied = self.rules.functions.version
        self.number = next(NUMBERS)
        self.vacates: tuple[bytes, ...] = ()
        self.signal_targets: tuple[int, ...] = ()
        self.cancels = False
        self.processes: dict[int, int] | None = None
        self.wish: tuple[bytes, ...] = ()
        self.granted: frozenset[bytes] | None = None

    def inspect(self, flags: int, src: bytes, first: int, stop: int, out: Outbox, buf: bytes) -> bool:
        """The query `src[first:stop]` with these flags is about to be sent; returns whether it must wait."""
        if flags & SIGNALS and self.aims_at(src[first:stop], b""):
            return True
        if self._may_notify(flags):
            flags = self._inspect_notify(flags, src[first:stop], out, buf)
        if not flags & ~NOTIFIES or self._only_writes(flags & ~NOTIFIES):
            return False
        assert self.server is not None
        in_batch = self.server.batch & GOES_ON != 0
        return self._before_execute(flags, src[first:stop], NO_NAMES, in_batch, None, out, buf)

    def flags_of(self, text: bytes) -> int:
        """What executing this text may do to the session."""
        return self._flags(text, 0, len(text))

    def classify(self, text: bytes, flags: int) -> None:
        """This text is parsed: remember that executing it may do what these flags say."""
        if flags:
            if self.marks is None:
                self.marks = {}
            else:
                self._forget_marks(self.marks)
            self.marks[text] = flags
            self.classified += len(text)
        elif self.marks is not None:
            self.marks.pop(text, None)
        if self.fresh is not None:
            if len(self.fresh) > 2 * len(self.statements or ()) + MARKS:
                self.fresh = set()
            self.fresh.add(text)

    def _forget_marks(self, marks: dict[bytes, int]) -> None:
        """Keep no marks of statements that are no more, once these are more than those that are: by number, or bytes.

        What an error can bring back still is.
        """
        count, size = len(self.statements or ()), self.shares
        if self.server is not None:
            count += self.server.prepared.undo_log.count()
            size += self.server.prepared.undo_log.size
        if len(marks) > 2 * count + MARKS or self.classified > 2 * size + MARKED:
            kept = [statement.rest for statement in (self.statements or {}).values()]
            if self.server is not None:
                kept += self.server.prepared.texts_to_undo()
            self.marks = {one: marks[one] for one in kept if one in marks}
            self.classified = sum(map(len, self.marks))

    def classify_named(self, text: bytes) -> int:
        """This text is parsed under a name that nobody follows: as if SQL had prepared it. Returns its flags."""
        flags = self._flags(text, 0, len(text))
        if flags:
            said = self._read(text)
            self._keep(self._undying(flags, text) | self._vague(flags, text, said), said)
        return flags

    def inspect_bound(
        self, name: bytes, text: bytes | None, src: bytes, at: int, first: int, stop: int, out: Outbox, buf: bytes
    ) -> bool:
        """A statement is bound, by the message at `src[at]` whose body after the names is `src[first:stop]`.

        Must it wait?

        `text` is what its Parse said, None if that is not known.
        """
        assert self.server is not None
        if self.studied != self.rules.functions.version:
            self._scan_functions()
        if text is not None:
            flags = self._marked(name, text)
            if self.server.state.defining:
                flags |= UNREAD & self.rules.inspected
        elif name and self.sql_flags:
            # SQL may have prepared it.
            flags, text = (PREPARES | self.sql_flags & WRITES) & self.rules.inspected, b""
        else:
            return False
        if flags & SIGNALS and octets.length(src, at + 1) == stop - at - 1 and self.aims_at(text, src[first:stop]):
            return True
        if self._may_notify(flags):
            flags = self._inspect_notify(flags, text, out, buf)
        if not flags & ~NOTIFIES or self._only_writes(flags & ~NOTIFIES):
            return False
        names = _effects.names_in(src[first:stop]) if flags & (SETS | PREPARES) else NO_NAMES
        end = at + 5
        while src[end]:
            end += 1
        return self._before_execute(flags, text, names, self.server.unsynced(), src[at + 5 : end], out, buf)

    def _marked(self, name: bytes, text: bytes) -> int:
        """The flags of the statement of this name, whose Parse said this."""
        if not name:
            return self.unnamed_flags
        if self.fresh is not None and text not in self.fresh:
            self.classify(text, self.flags_of(text))
        return self.marks[text] if self.marks is not None and text in self.marks else 0

    def inspect_described(self, name: bytes, text: bytes, out: Outbox, buf: bytes) -> bool:
        """A statement of this text is described: what it executes must be there for that, too; must it wait?"""
        assert self.server is not None
        flags = self._marked(name, text)
        return flags & PREPARES != 0 and self._expose(self.server, self._read(text), self.server.unsynced(), out, buf)

    def inspect_unknown(self, flags: int, text: bytes) -> None:
        """Something is sent of which no more is known than that it may do this; `text` is where it begins."""
        assert self.server is not None
        if flags & UNNAMED:
            self.server.redefining |= ALTERED
        flags &= self.rules.inspected
        if flags:
            self.server.state.add_unverified(flags, NO_NAMES, False, text)

    def inspect_call(self, call: bytes) -> None:
        """A function is called, by the message whose body is `call`: what its arguments say is not read."""
        flags = UNKNOWN if int.from_bytes(call[:4], "big") in LARGE_OBJECTS else UNKNOWN | UNNAMED
        self.inspect_unknown(flags, b"function call")

    def inspect_kept(self, src: bytes, first: int, stop: int) -> int:
        """A client that keeps its server says `src[first:stop]`; returns its flags.

        It may leave there what no reset takes away. Of most texts nothing is copied, and none is read by name.
        """
        self.spent += (stop - first) >> 6
        flags = scanner.scan(src, first, stop, self.settings.odd, self.rules.functions.pinning or None)
        if flags & (UNDYING | CREATES) or flags & CALLED == CALLED:
            self._wear(flags, src[first:stop])
        return flags

    def _wear(self, flags: int, text: bytes) -> None:
        """A text with these flags is said: nobody else may have the server if it does what they are about.

        Nor such a one as it is, if it changes what sessions begin with.
        """
        assert self.server is not None
        if flags & CREATES:
            # Of functions nothing is known here.
            self.server.redefining |= _effects.redefines(text, self._read(text), NO_FUNCTIONS)
        keeps = flags & UNDYING and flags & _effects.undying(text)
        if keeps or (flags & CALLED == CALLED and _effects.mentions(text, self.rules.functions.pinning)):
            self.server.worn = True

    def aims_at(self, text: bytes, bind: bytes) -> bool:
        """A text that cancels or terminates is about to be run; must it wait, for whom it means is to be found?"""
        text = text[: _effects.LONGEST_READ]
        self.spent += READ + len(text)
        wanted = _signal_targets.wanted(text, bind)
        if not wanted or (self.processes is not None and self.processes.keys() >= set(wanted)):
            return False
        self.signal_targets = wanted
        self.cancels = _signal_targets.cancels(text)
        self.verdict = WISH
        return True

    def processes_of_targets(self) -> dict[int, int]:
        """The process ids that were found, for one message."""
        processes, self.processes = self.processes or {}, None
        return processes

    def inspect_parsed(self, flags: int, text: bytes, out: Outbox, buf: bytes) -> bool:
        """A text with these flags is about to be parsed, likely to be executed in the same batch; must it wait?"""
        if (flags & NOTIFIES or self.listens()) and self._may_notify(flags) and self._at_rest():
            # In front of the batch it lasts.
            self._inspect_notify(flags, text, out, buf)
        if not flags & (LISTENS | PREPARES | ENDS | SEQUENCES | TEMP):
            return False
        assert self.server is not None
        return self._must_wait(flags, text, self._read(text), self.server.unsynced(), out, buf)

    def closes(self, name: bytes) -> None:
        """A statement that SQL has prepared is closed by the protocol; whether that message was read will be asked."""
        assert self.server is not None
        self.server.state.add_unverified(PREPARES, (), True, b"Close")
        self.server.state.closed(name)
        self.settings = self.settings.without(name)

    def wait(self, until: int) -> bool:
        """Say WAIT, until the server has given so many replies; always True."""
        self.verdict = WAIT
        self.until = until
        return True

    def may_go_on(self) -> bool:
        """Can it be that what the client waits for has come? When a COPY has begun nothing more comes by itself."""
        server = self.server
        if server is None:
            return True
        replies = server.replies
        return replies.taken >= self.until or server.batch & COPYING != 0 or not replies.count

    def listens(self) -> bool:
        """Does this client listen, or is it about to?"""
        return len(self.channels) > 0 or self.granted is not None

    def grant(self) -> None:
        """The wish is fulfilled."""
        self.granted = (self.granted or frozenset()) | frozenset(self.wish)

    def await_answers(self, server: Server, out: Outbox, buf: bytes) -> bool:
        """Must what the client says next wait, for the server owes answers? It is asked to send what it has."""
        if not server.replies.count:
            return False
        if server.batch & OPEN and not server.flushed:
            server.flushed = True
            out.put(buf, messages.FLUSH)
        return self.wait(server.replies.next())

    def _inspect_notify(self, flags: int, text: bytes, out: Outbox, buf: bytes) -> int:
        """A text with these flags is about to be executed; returns them, NOTIFIES only where it says so itself."""
        says = flags & NOTIFIES != 0 and _effects.notifies(text)
        executes = flags & PREPARES and self.sql_flags & NOTIFIES and _effects.executes(text)
        if says or executes or (self._hears_functions() and self._calls_notifying(flags, text)):
            self._sign(out, buf)
        return flags if says else flags & ~NOTIFIES

    def _may_notify(self, flags: int) -> bool:
        """Is a text with these flags worth to be read for what it notifies?"""
        return flags & (NOTIFIES | PREPARES) != 0 or self._hears_functions()

    def _hears_functions(self) -> bool:
        """Does this client listen, where functions or triggers notify? Only then its own of these need be known."""
        functions = self.rules.functions
        return self.listens() and (functions.notify_triggers or len(functions.notifying) > 0)

    def _calls_notifying(self, flags: int, text: bytes) -> bool:
        """May executing this text notify by a function, or by a trigger?"""
        functions = self.rules.functions
        return (flags & WRITES != 0 and functions.notify_triggers) or _effects.mentions(text, functions.notifying)

    def _at_rest(self) -> bool:
        """Is no transaction of the client's open on its server, nor under way?"""
        server = self.server
        return server is not None and server.status == IDLE and not server.batch & OPEN and not server.replies.own

    def _sign(self, out: Outbox, buf: bytes) -> None:
        """Notifications are about to be sent: whose they are is said in front of them."""
        server = self.server
        assert server is not None
        notification_sender = server.notification_sender
        self.notifies = True
        if notification_sender.due(self.process) and server.status != FAILED:
            if self._at_rest():
                out.put(buf, notification_sender.alone(self.process))
            elif server.batch & OPEN:
                out.put(buf, notification_sender.in_batch(self.process))
            else:
                out.put(buf, notification_sender.within(self.process))

    def _scan_functions(self) -> None:
        """Functions may do what they didn't: so may the statements that were parsed before, which are classified anew.
        """
        self.studied = self.rules.functions.version
        if self.sql_flags:
            self.sql_flags |= UNREAD & self.rules.inspected
        self.fresh = set()
        if self.unnamed is not None:
            self.unnamed_flags = self.flags_of(self.unnamed)

    def _read(self, text: bytes) -> Analysis:
        """What a text says by name."""
        self.spent += READ + min(len(text), _effects.LONGEST_READ)
        return _effects.read(text)

    def _keep(self, flags: int, said: Analysis) -> None:
        """A text with these flags was prepared by SQL, or as if."""
        self.sql_flags |= flags
        names = {*self.sql_names, *said.names}
        if len(names) <= MANY_NAMES:
            self.sql_names = tuple(sorted(names))
        else:
            self.sql_flags |= UNNAMED & self.rules.inspected

    def _vague(self, flags: int, text: bytes, said: Analysis) -> int:
        """The flag of a text that can set something by a name that it doesn't say, else 0."""
        vague = flags & SETS and (said.vague or _effects.unnamed(text, self.rules.functions.vague))
        return UNNAMED & self.rules.inspected if vague else 0

    def _flags(self, src: bytes, first: int, stop: int) -> int:
        """What the text `src[first:stop]`, which may end before in a zero, may do to the session."""
        functions = self.rules.functions
        self.spent += (stop - first) >> 6
        flags = scanner.scan(src, first, stop, self.settings.odd, functions.touchy)
        if self.settings.own_temp:
            # SELECT INTO makes tables, too.
            flags |= TEMP
        if (flags & WRITES and functions.triggers) or (self.server is not None and self.server.state.defining):
            # What a function loads or seeds is not said by the text that calls it.
            flags |= UNREAD
        return flags & self.rules.inspected

    def _only_writes(self, flags: int) -> bool:
        """Is there nothing to inspect but that rows are written? That may advance sequences, whose values are kept."""
        if flags != WRITES:
            return False
        self._advances()
        return not self.counts

    def _advances(self) -> None:
        """From now on the server's sequences are where this client has brought them."""
        assert self.server is not None
        self.server.state.counter = self.number
        self.counted = self.server.state.number

    def _counts_here(self) -> bool:
        """Is this server where its sequences were advanced last, and by nobody else since?"""
        assert self.server is not None
        return self.server.state.counter == self.number and self.counted == self.server.state.number

    def _before_execute(
        self,
        flags: int,
        text: bytes,
        names: tuple[str, ...] | None,
        in_batch: bool,
        portal: bytes | None,
        out: Outbox,
        buf: bytes,
    ) -> bool:
        """A text with these flags is about to be executed, with `names` as parameters (None: not all are known).

        If it is bound to a `portal`, it is executed when that is. Returns whether it must wait.
        """
        said = self._read(text)
        if (flags & SHOWS or (flags & PREPARES and _effects.shows(text))) and self._alone(in_batch, out, buf):
            return True
        if self._must_wait(flags, text, said, in_batch, out, buf):
            return True
        if flags & WRITES:
            self._advances()
        assert self.server is not None
        self.server.redefining |= _effects.redefines(text, said, self.rules.functions.redefining)
        if flags & ENDS and _effects.purges_somewhere(said):
            if portal is not None:
                self.server.prepared.on_deallocation(BINDS)
            else:
                self.server.prepared.on_deallocation(SENDS)
        if flags & PREPARES and flags & ENDS:
            self._drops(self.server.prepared, _effects.deallocated(said), portal)
        self._suspect(flags, text, said, names)
        return False

    def _must_wait(self, flags: int, text: bytes, said: Analysis, in_batch: bool, out: Outbox, buf: bytes) -> bool:
        """What the server must have before it meets this text; returns whether the text must wait.

        `in_batch`: it is in the middle of a batch of the extended protocol, which goes on.
        """
        server = self.server
        assert server is not None
        if said.databases and self._vacates(said.databases):
            return True
        if flags & TEMP and self.settled is not None and self._keeps_meanings(server, out, buf):
            return True
        listens = flags & LISTENS != 0 or (flags & ENDS != 0 and len(self.channels) > 0 and _effects.forgets(text))
        if listens and self._wishes(server, _effects.channels(said)):
            return True
        if flags & PREPARES and flags & ENDS and server.ending() and _effects.deallocated(said):
            # What is dropped is known when its turn is over, and only of one turn at a time.
            return self.wait(server.replies.last_own + 1)
        if flags & PREPARES and self._expose(server, said, in_batch, out, buf):
            return True
        if flags & PREPARES and self.sql_flags & SEQUENCES and _effects.executes(text):
            asks = self.counts
        else:
            asks = flags & SEQUENCES != 0 and _effects.counts(text, self.rules.functions.counting)
        if asks:
            self.counts = True
            if not self._counts_here() and not server.batch & OPEN:
                # Never the values of another, nor those of before it was elsewhere.
                out.put(buf, server.own(server.state.forget_sequences()))
        if listens:
            self._bring_channels(server, flags, text, said, out, buf)
        return False

    def _keeps_meanings(self, server: Server, out: Outbox, buf: bytes) -> bool:
        """A temporary object may come in front of what statements are about; must that wait?"""
        if not self.rules.rewrite or server.unsynced() or server.status == FAILED:
            return False
        if self.await_answers(server, out, buf):
            return True
        self.spent += len(self.statements or ())
        sent = self.keep_meanings(server)
        self.spent += len(sent) >> 4
        out.put(buf, sent)
        return False

    def _alone(self, in_batch: bool, out: Outbox, buf: bytes) -> bool:
        """The server shall have the prepared statements of this client only, by its names; must that wait?"""
        server = self.server
        assert server is not None
        if not self.rules.rewrite or server.status == FAILED:
            return False
        if self.await_answers(server, out, buf):
            return True
        sent = server.prepared.only_of(self, in_batch)
        self.spent += len(sent) >> 1
        out.put(buf, sent)
        return False

    def _drops(self, prepared: ServerStatements, names: list[bytes], portal: bytes | None) -> None:
        """SQL takes away these prepared statements; where it is bound to a `portal`, when that is executed."""
        if portal is not None:
            for name in names[:1]:
                # PostgreSQL parses no text with more than one statement.
                prepared.doom(portal[:LONGEST_NAME], name)
        elif self.statements is not None:
            for name in names:
                prepared.drops(name, self.take_statement(name))

    def _vacates(self, databases: tuple[bytes, ...]) -> bool:
        """What is about to be run fails while anybody is connected to these; returns whether it must wait."""
        left = self.vacates == databases
        self.vacates = () if left else databases
        if not left:
            self.verdict = WISH
        return not left

    def _expose(self, server: Server, said: Analysis, in_batch: bool, out: Outbox, buf: bytes) -> bool:
        """Let SQL find what the protocol has prepared under the names that it speaks of; must it wait for that?"""
        statements = self.statements or {}
        prepared = server.prepared
        names = dict.fromkeys(said.executes + said.prepares)
        pending = [name for name in names if prepared.pending(name, None)]
        if pending:
            # Whether it is that, and there, is known when what it was made by, or taken away, is answered.
            return self.wait(max([prepared.known_at(name, None) for name in pending]))
        server.lent_error = b""
        # With a turn to end, what the server said last is not what it will have said.
        failed = server.status == FAILED and not server.ending()
        executed = Counter(said.executes)
        executed.subtract(_effects.deallocated(said))
        for name in names:
            if failed or name not in statements:
                continue
            self.settle(name)
            if not executed[name]:
                out.put(buf, prepared.expose_name_to_sql(name, in_batch))
            elif not prepared.is_exposed(name, statements[name]):
                out.put(buf, prepared.expose_to_sql(name, statements[name], in_batch))
        return False

    def _suspect(self, flags: int, text: bytes, said: Analysis, names: tuple[str, ...] | None) -> None:
        """Have the server asked what the text, as far as it is known, will have done."""
        assert self.server is not None
        state = self.server.state
        functions = self.rules.functions
        named = names or NO_NAMES
        if not state.dirty() and not self._has_state() and _effects.only_cleans(text, said):
            flags = 0
        flags = self._undying(flags, text)
        if flags & PREPARES:
            if self.studied != functions.version:
                self._scan_functions()
            if said.prepares or not _effects.whole(text):
                self._keep(flags, said)
            elif not flags & ENDS:
                flags &= ~PREPARES
            if _effects.executes(text):
                # To execute what was prepared by SQL does what its text does.
                flags |= self.sql_flags
                named += self.sql_names
        if state.pins & PREPARES and not flags & ENDS:
            # There are more than another server can be given: with none dropped there will be.
            flags &= ~PREPARES
        if flags & ENDS:
            flags |= self._ended(text)
        if flags & CREATES and self.settings.own_temp:
            flags |= TEMP
        flags |= UNNAMED & self.rules.inspected if flags & SETS and names is None else self._vague(flags, text, said)
        flags &= ~(NOTIFIES | SEQUENCES | SHOWS | SIGNALS | WRITES)
        if self.counts and not state.pins & SEQUENCES and self._counts_here():
            flags |= SEQUENCES
        if flags:
            if flags & TEMP:
                # A function of the database may be called.
                named += functions.settings + self.sql_names
            if flags & SETS and self.settings.odd:
                named += _effects.names_anywhere(text)
            exact = said.exact and _effects.whole(text) and not (named or flags & TEMP or self.settings.odd)
            if flags & SETS and not exact:
                named += _effects.masked(text)
            state.add_unverified(flags, said.names + named, exact, text)

    def _undying(self, flags: int, text: bytes) -> int:
        """The flags of a text; of what nothing takes away again only where its words say so."""
        if flags & UNDYING:
            flags &= _effects.undying(text) | ~UNDYING
        called = CALLED & self.rules.inspected
        if called and flags & called == called and _effects.mentions(text, self.rules.functions.keeping):
            flags |= scanner.KEEPS & self.rules.inspected
        return flags

    def _has_state(self) -> bool:
        """Is there anything that can be taken away, and of which the server would not tell by itself?"""
        settings = self.settings
        if self.home.values and settings is not self.home:
            # To this client's defaults, which the server does not know.
            return True
        return bool(settings.prepared or self.channels) or not ALWAYS_REPORTED.issuperset(settings.values)

    def _ended(self, text: bytes) -> int:
        """A text that may end what is there: flags of what that is."""
        assert self.server is not None
        state = self.server.state
        flags = state.pins & ~LASTING
        if self.settings.prepared:
            flags |= PREPARES
        if _effects.forgets(text):
            flags |= LISTENS
            if state.pins & (SEQUENCES | UNNAMED | LARGE):
                state.pins &= ~(SEQUENCES | UNNAMED | LARGE)
                state.counter = 0
        return flags

    def _wishes(self, server: Server, wish: tuple[bytes, ...]) -> bool:
        """A text that may LISTEN: is its transaction to begin later, or is anything to be done for it before?"""
        if server.ending():
            return self.wait(server.replies.last_own + 1)
        if (wish or self.channels) and (self.granted is None or not self.granted.issuperset(wish)):
            self.wish = wish
            self.verdict = WISH
            return True
        return False

    def _bring_channels(self, server: Server, flags: int, text: bytes, said: Analysis, out: Outbox, buf: bytes) -> None:
        """Before a text that may UNLISTEN: bring the server to what is listened to, as far as that may end."""
        if self.channels and not server.batch & OPEN:
            in_block = server.status != IDLE
            called = CALLED & self.rules.inspected
            # Code may end anything. What ends the block in the same text, takes what was brought in it away.
            exact = not in_block and not flags & PREPARES and flags & called != called
            ended = _effects.unlistened(text, said) if exact or _effects.only_listens(said) else None
            sent = server.state.bring(self.channels, ended, in_block)
            self.spent += len(sent) >> 4
            out.put(buf, server.own(sent))
        if _effects.unlistens(text):
            server.state.unlistens()
