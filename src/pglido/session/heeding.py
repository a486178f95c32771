"""What of a client's messages may touch its session: suspicions raised for its server, and channels asked for.

A query is looked at when it is sent; a statement when it is parsed, and what it may do is remembered (`marks`) for
when it is bound. Before a LISTEN goes to the server, the pool's own connection must listen (verdict HEAR).
"""

from ..wire import sql
from ..wire.codes import FAILED_TRANSACTION as FAILED
from ..wire.codes import IDLE
from . import question as _question
from .outbox import Outbox
from .server import Server
from .settings import Settings
from .state import NUMBERS, ClientState, Rules
from .verdicts import GO_ON, HEAR

# Flags of text by which anything may have become of the session, the same of what has no text, and of what may fire
# triggers.
ANYTHING = sql.ANYTHING
UNKNOWN = ANYTHING & ~_question.LASTING
WRITES = sql.WRITES
ENDS = sql.ENDS
LISTENS = sql.LISTENS
PREPARES = sql.PREPARES
SETS = sql.SETS
# Of a query that isn't there as a whole: that a word of it is LOAD tells nothing, and nothing takes that pin away.
PARTLY = ANYTHING & ~_question.UNDYING
UNNAMED = _question.UNNAMED
SEQUENCES = sql.SEQUENCES
TEMP = sql.TEMP

# Marks of statements that were closed since: how many are kept, besides as many as there are statements.
MARKS = 64


class Heeding(ClientState):
    """A client's session with its server, as far as that may be left with more than it had.

    `sql_flags` is what its SQL-level prepared statements may do; `counts`: it has asked for the values of sequences
    once, which is why it keeps the server where it advanced them last, `counted`. `wish` are the channels that it is
    about to listen to, `granted` those that are listened to for it until its transaction has ended (None: it has not
    asked).
    """

    __slots__ = ("counted", "counts", "granted", "number", "server", "sql_flags", "verdict", "wish")

    def __init__(self, home: Settings, rules: Rules) -> None:
        super().__init__(home, rules)
        self.server: Server | None = None
        self.verdict = GO_ON
        self.sql_flags = 0
        self.counts = False
        self.counted = 0
        self.number = next(NUMBERS)
        self.wish: tuple[bytes, ...] = ()
        self.granted: frozenset[bytes] | None = None

    def heed(self, src: bytes, first: int, stop: int, whole: bool, out: Outbox, buf: bytes) -> bool:
        """The query `src[first:stop]` is about to be sent; returns whether it must wait."""
        flags = self._flags(src, first, stop) if whole else PARTLY & self.rules.heeded
        if flags & WRITES:
            self._advances()
            if flags == WRITES and not self.counts:
                return False
        if not flags:
            return False
        text = src[first:stop]
        if self._must_wait(flags, text, out, buf):
            return True
        self._suspect(flags, text, ())
        return False

    def mark(self, name: bytes, src: bytes, first: int, stop: int) -> int:
        """The text `src[first:stop]` is parsed under `name`: remember what executing it may do. Returns its flags."""
        flags = self._flags(src, first, stop)
        if flags:
            if self.marks is None:
                self.marks = {}
            elif len(self.marks) > 2 * len(self.statements or ()) + MARKS:
                kept = [b"", *(self.statements or ())]
                self.marks = {one: self.marks[one] for one in kept if one in self.marks}
            self.marks[name] = flags
        elif self.marks is not None:
            self.marks.pop(name, None)
        return flags

    def heed_marked(
        self, name: bytes, text: bytes, src: bytes, first: int, stop: int, out: Outbox, buf: bytes
    ) -> bool:
        """A statement is bound, by the message whose body after the names is `src[first:stop]`; must it wait?"""
        if self.marks is None or name not in self.marks:
            return False
        flags: int = self.marks[name]
        if flags & WRITES:
            self._advances()
            if flags == WRITES and not self.counts:
                return False
        if self._must_wait(flags, text, out, buf):
            return True
        self._suspect(flags, text, _question.names_in(src[first:stop]))
        return False

    def heed_unknown(self, text: bytes) -> None:
        """Something is sent of which it is not known what it does."""
        assert self.server is not None
        if self.rules.heeded:
            self.server.setup.suspicion(UNKNOWN & self.rules.heeded, (), False, text)

    def heed_parsed(self, flags: int, src: bytes, first: int, stop: int, out: Outbox, buf: bytes) -> bool:
        """A text with these flags is about to be parsed, likely to be executed in the same batch; must it wait?"""
        if not flags & (LISTENS | PREPARES | ENDS | SEQUENCES):
            return False
        return self._must_wait(flags, src[first:stop], out, buf)

    def closes(self, name: bytes) -> None:
        """A statement that SQL has prepared is closed by the protocol; whether that message was read will be asked."""
        assert self.server is not None
        self.server.setup.suspicion(PREPARES, (), True, b"Close")
        self.server.setup.closed(name)
        self.settings = self.settings.without(name)

    def grant(self) -> None:
        """The wish is fulfilled."""
        self.granted = (self.granted or frozenset()) | frozenset(self.wish)

    def _flags(self, src: bytes, first: int, stop: int) -> int:
        """What the text `src[first:stop]`, which may end before in a zero, may do to the session."""
        functions = self.rules.functions
        flags = sql.scan(src, first, stop, self.settings.odd, functions.touchy)
        if (flags & WRITES and functions.triggers) or (self.server is not None and self.server.setup.defining):
            # What a function loads or seeds is not said by the text that calls it.
            flags |= PARTLY
        return flags & self.rules.heeded

    def _advances(self) -> None:
        """A statement may advance sequences: whose values they have is this client's business now."""
        assert self.server is not None
        self.server.setup.counter = self.number
        self.counted = self.server.setup.number

    def _suspect(self, flags: int, text: bytes, names: tuple[str, ...]) -> None:
        server = self.server
        assert server is not None
        setup = server.setup
        said = _question.suspicion(flags, text, self, setup.pins, setup.stained(), self.sql_flags)
        self.sql_flags, flags, look = said
        if self.counts and setup.counter == self.number and self.counted == setup.number and not setup.pins & SEQUENCES:
            flags |= SEQUENCES
        if flags & ENDS and setup.pins & (SEQUENCES | UNNAMED) and _question.forgets(text):
            setup.pins &= ~(SEQUENCES | UNNAMED)
            setup.counter = 0
        functions = self.rules.functions
        if flags & SETS and _question.unnamed(text, functions.vague):
            flags |= UNNAMED & self.rules.heeded
        if flags & TEMP:
            names += functions.settings
        if flags & PREPARES and flags & ENDS and self.statements is not None:
            for name in _question.deallocated_in(text):
                self.statements.pop(name, None)
        if flags:
            exact = look.exact and not (names or flags & TEMP or self.settings.odd)
            setup.suspicion(flags, look.names + names, exact, text)

    def _must_wait(self, flags: int, text: bytes, out: Outbox, buf: bytes) -> bool:
        """What the server must have before it meets this text; returns whether the text must wait."""
        server = self.server
        assert server is not None
        if flags & PREPARES and self.statements is not None and not server.open and server.status != FAILED:
            for name in _question.statements_in(text):
                if name in self.statements:
                    out.put(buf, server.prepared.lend(name, self.statements[name]))
        if flags & SEQUENCES and _question.counts(text):
            self.counts = True
            if (server.setup.counter != self.number or self.counted != server.setup.number) and not server.open:
                # Never the values of another, nor those of before it was elsewhere.
                out.put(buf, server.own(server.setup.forget_sequences()))
        if flags & LISTENS or (flags & ENDS and self.channels and _question.forgets(text)):
            return self._wishes(text, out, buf)
        return False

    def _wishes(self, text: bytes, out: Outbox, buf: bytes) -> bool:
        """A text that may LISTEN: ask for its channels, then bring the server to what is listened to already."""
        server = self.server
        assert server is not None
        wish = _question.channels_in(text)
        if self.granted is None or not self.granted.issuperset(wish):
            self.wish = wish
            self.verdict = HEAR
            return True
        if self.channels and not server.open:
            out.put(buf, server.own(server.setup.bring(self.channels, server.status != IDLE)))
        if _question.unlistens(text):
            server.setup.unlistens()
        return False
