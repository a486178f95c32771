"""What one server connection owes, and what it may be sent and asked for now: the part that reading answers rests on.

Every message that makes PostgreSQL answer has an entry in `replies`. The server is free for another client only when it
owes nothing, says status I, has no `batch` under way (an implicit transaction), and no client message is half sent
(`free`).
"""

from ...protocol import messages
from ...protocol.codes import IDLE, IN_TRANSACTION
from ...sql.analysis import RELOADED
from ..state import role_defaults_epoch as _role_defaults_epoch
from ..state.session_state import SessionState
from ..state.shared import ClientState
from ..state.statement_cache import AcceptedStatements
from ..transitions import ILLEGAL, SHIFT
from .batch import BATCH, COPYING, OPEN, PIPED, SKIPPING, UNSYNCED
from .notification_sender import NotificationSender
from .replay import Replay
from .reply_kinds import ASKING, BINDING, COPY_END, EXECUTING, INTERNAL, KIND, PARSING, QUERYING, SYNCING
from .reply_queue import ReplyQueue
from .statements import NOBODYS, ServerStatements

BATCHES = BATCH.array
# The same, a C array where it is compiled.
_next = BATCHES


class ServerFlow:
    """The session on one server connection: what is owed (`replies`), `prepared`, `state` and `notification_sender`
    there.

    `changing`: the transaction has changed the catalogs; `redefining`: maybe also what sessions begin with (flags of
    `sql.analysis`). `unsent` is what it must be sent next, which nobody asked for; `notes` are notifications that the
    client is to have ahead of the ReadyForQuery that ends a transaction, as from PostgreSQL: libraries look for them
    there, and may not look for what came right behind before more does. `lent_error` is why SQL won't find a statement
    that was to be there for it.
    `batch` is a state of `server.batch`.
    `flushed`: the server was asked to send what it has.
    `_paused`: the server has said that it is in a transaction, and nothing that
    it was sent since has begun a command.
    """

    __slots__ = (
        "_dropping",
        "_held",
        "_kind",
        "_need",
        "_paused",
        "_types",
        "_wanted",
        "batch",
        "changing",
        "client",
        "fault",
        "flushed",
        "good",
        "keeps_ready",
        "last_error",
        "lent_error",
        "notes",
        "notification_sender",
        "prepared",
        "ready_kept",
        "redefining",
        "replies",
        "retry",
        "state",
        "status",
        "told",
        "turns",
        "unsent",
        "worn",
    )

    def __init__(self) -> None:
        self.client: ClientState | None = None
        self.replies = ReplyQueue()
        self.prepared = ServerStatements(self.replies)
        self.state = SessionState(self.replies)
        self.notification_sender = NotificationSender(self.prepared)
        self.retry = Replay()
        self.unsent = b""
        self.notes: bytearray | None = None
        self.keeps_ready = False
        self.ready_kept = False
        self.status = IDLE
        self.batch = 0
        self.worn = False
        self.turns = 0
        self.good: AcceptedStatements | None = None
        self.flushed = False
        self.changing = False
        self.redefining = 0
        self.fault = ""
        self.last_error = b""
        self.lent_error = b""
        self.told = False
        self._need = 0
        self._paused = False
        self._kind = 0
        self._dropping = False
        self._held: bytearray | None = None
        self._wanted = 0
        self._types = b""

    def _at_rest(self) -> bool:
        """Has the server answered all, outside of a transaction? What it says now is for no client in particular."""
        if self.status != IDLE or self.batch & ~PIPED or self.replies.head:
            return False
        return self.client is None or self.client.passing == 0

    def free(self) -> bool:
        """May another client have this server now?"""
        return self._at_rest() and not self._need and self._held is None

    def adopting(self) -> bool:
        """Is it still at something of pglido's own, before what its client has asked for?"""
        return self.state.coming is not None or self.replies.head == ASKING | INTERNAL

    def answering(self) -> bool:
        """Will the server answer what it was sent, without being sent more?"""
        return not self.batch & COPYING and bool(self.replies.head)

    def ending(self) -> bool:
        """Is a turn that the client asked for to end yet, of which the server waits for nothing more?"""
        return not self.batch & COPYING and self.replies.awaited()

    def decides(self) -> bool:
        """Will the answer to what was sent tell what names and plans mean to what follows?"""
        return self.prepared.dropping is not None or self.state.may_shadow()

    def unsynced(self) -> bool:
        """Is the client's next Sync the end of what it began: would one of pglido's own be too early?"""
        return self.batch & UNSYNCED != 0

    def awaits_more(self) -> bool:
        """Does the server wait for more of a batch, for the Sync up to which it skips, or for COPY data?"""
        return self.batch & ~PIPED != 0

    def between_messages(self) -> bool:
        """Can something else be said to the client now, without breaking a message in two?"""
        return self._need == 0 or self._dropping

    def expect(self, kind: int) -> None:
        """A message of the client was sent: the server owes an answer of `kind`."""
        self.replies.push(kind)
        # As `on_batch`, without the call: this is done for each message.
        after = _next[self.batch << SHIFT | kind & KIND]
        if after == ILLEGAL:
            self._no_such_event(kind & KIND)
        else:
            self.batch = after

    def on_batch(self, event: int) -> None:
        """Bring `batch` to its next state: a message was sent (by the kind of its reply), or the server said this."""
        after = _next[self.batch << SHIFT | event]
        if after == ILLEGAL:
            self._no_such_event(event)
        else:
            self.batch = after

    def _no_such_event(self, event: int) -> None:
        raise BATCH.illegal(self.batch, event)

    def ask(self, sql: str) -> bytes:
        """A query of pglido's own, whose answers end here; returns the message to send."""
        self.prepared.unnamed = 0
        self.replies.push(QUERYING | INTERNAL)
        return messages.query(sql)

    def begin(self, query: bytes) -> bytes:
        """The client's BEGIN, which was answered before; its answer ends here."""
        self.prepared.unnamed = 0
        self.replies.push(QUERYING | INTERNAL)
        self.status = IN_TRANSACTION
        return query

    def own(self, sent: bytes) -> bytes:
        """Queries of pglido's own, made by `state`: they leave no unnamed statement behind."""
        self.prepared.unnamed = 0
        return sent

    def farewell(self) -> bytes:
        """What a server is sent that is to be closed: that it works for nobody, if it can be told, and a Terminate."""
        told = self.notification_sender.alone(0) if self.notification_sender.named and self.free() else b""
        return told + messages.TERMINATE

    def drop(self) -> None:
        """The connection is gone: nothing is kept for what it owed."""
        self.prepared.drop()
        # It may have done what it was sent.
        self.redefined()

    def redefined(self) -> None:
        """What may change what sessions begin with may be committed."""
        if self.redefining & RELOADED:
            _role_defaults_epoch.reloaded()
        elif self.redefining:
            _role_defaults_epoch.changed()

    def abandon(self) -> bytes:
        """The client is gone between two messages: what to send so that the server comes to rest (maybe nothing)."""
        self.client = None
        self.prepared.awaited = self.prepared.mismatch = self.prepared.dropping = None
        self.lent_error = b""
        sent = b""
        if self.batch & COPYING:
            sent = messages.copy_fail("client disconnected")
            self.on_batch(COPY_END)
        if self.batch & (OPEN | SKIPPING):
            # A Sync alone would commit what was done since the last one.
            if self.batch & OPEN:
                # Not what any client has made it: 0 would say that there is none.
                self.prepared.unnamed = NOBODYS
                self.prepared.expect(PARSING, None, None)
                self.replies.push(BINDING)
                self.replies.push(EXECUTING)
                sent += messages.ROLL_BACK
            self.expect(SYNCING)
            sent += messages.SYNC
        return sent
