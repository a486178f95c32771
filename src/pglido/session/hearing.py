"""What one server's session listens to for its client alone, and how it shows whether that was committed.

In a transaction block a mark is listened to besides: a channel that nobody notifies, which is there afterwards if what
was done in the block holds. Where a text takes the mark away itself (UNLISTEN *), tags tell instead.
"""

from ..wire import messages
from ..wire.codes import QUERY
from ..wire.tokens import identifier
from .entries import SWALLOW, TRYING
from .replies import Replies
from .state import ClientState

MARK = b"_pglido_mark"
# What PostgreSQL says of UNLISTEN, of the end of a transaction, and of what goes back to a savepoint.
UNLISTENED = b"UNLISTEN\0"
COMMITTED = b"COMMIT\0"
ROLLED_BACK = b"ROLLBACK\0"


class Hearing:
    """`heard`: what the client listens to may be another now; `needs_mark`: the mark may have been taken away."""

    __slots__ = ("_brought", "_ended", "_ending", "_marked", "heard", "needs_mark", "replies")

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.heard = False
        self._unmark()

    def _unmark(self) -> None:
        """Nothing of the client's is listened to here."""
        self._brought = self._marked = self._ending = self._ended = self.needs_mark = False

    def bring(self, channels: frozenset[bytes], in_block: bool) -> bytes:
        """The message that has the server listen to what the client listens to; its answers end here.

        In a transaction block to the mark, too.
        """
        if self._brought:
            return b""
        self._brought = True
        self._marked = in_block
        names = [*sorted(channels), MARK] if in_block else sorted(channels)
        return self.attempt(b";".join([b"LISTEN " + identifier(name) for name in names]))

    def unlistens(self) -> None:
        """The client ends to listen to anything: to the mark too."""
        self.needs_mark = self._marked

    def mark_again(self) -> bytes:
        """The message that sets the mark once more; its answers end here."""
        self.needs_mark = self._ending = False
        return self.attempt(b"LISTEN " + MARK)

    def attempt(self, sql: bytes) -> bytes:
        """The message with a query whose answers end here, an error among them."""
        self.replies.push(TRYING | SWALLOW)
        return messages.message(QUERY, sql + b"\0")

    def tagged(self, tag: bytes) -> None:
        """A command of the client's is done: did it end to listen, or commit that? It counts where the mark is gone."""
        if self.needs_mark and tag == UNLISTENED:
            self._ending = True
        elif self.needs_mark and tag in (COMMITTED, ROLLED_BACK):
            self._ended = self._ended or (self._ending and tag == COMMITTED)
            self._ending = False

    def failed(self) -> None:
        """A statement was refused, and what came before it in its text with it."""
        self._ending = False

    def hear(self, there: frozenset[bytes], client: ClientState | None) -> None:
        """What the server listens to, for this client alone."""
        if client is not None:
            rolled_back = self._marked and MARK not in there and not self._ending and not self._ended
            if not self._brought or rolled_back:
                # What it listened to before is not among it: or was, in a transaction that was rolled back.
                there |= client.channels
            client.channels = there - {MARK}
            self.heard = True
        self._unmark()

    def deaf(self) -> None:
        """All was discarded."""
        self.heard = False
        self._unmark()
