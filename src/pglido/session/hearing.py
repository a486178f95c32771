"""What one server's session listens to for its client alone, and how it shows whether that was committed.

Before a text that may end to listen, the server is brought to listen to what that may end, no more: what the client
listens to besides stays as it is. In a transaction block that is all, and a mark besides: a channel that nobody
notifies, which is there afterwards if what was done in the block holds. Where a text takes the mark away itself
(UNLISTEN *), tags tell instead. Outside of a block another mark stands for all that UNLISTEN * ends.
"""

from ..wire import messages
from ..wire.codes import QUERY
from ..wire.tokens import identifier
from .entries import SWALLOW, TRYING
from .replies import Replies
from .state import ClientState

MARK = b"_pglido_mark"
ALL_MARK = b"_pglido_all"
# What PostgreSQL says of UNLISTEN, of the end of a transaction, and of what goes back to a savepoint.
UNLISTENED = b"UNLISTEN\0"
COMMITTED = b"COMMIT\0"
ROLLED_BACK = b"ROLLBACK\0"


NOTHING: frozenset[bytes] = frozenset()


class Hearing:
    """`heard`: what the client listens to may be another now; `needs_mark`: the mark may have been taken away.

    Of the client's channels the server was brought to `_some` outside of a block, then (`_all`) to the others.
    """

    __slots__ = ("_all", "_all_marked", "_ended", "_ending", "_marked", "_some", "heard", "needs_mark", "replies")

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.heard = False
        self._unmark()

    def _unmark(self) -> None:
        """Nothing of the client's is listened to here."""
        self._all = self._marked = self._all_marked = self._ending = self._ended = self.needs_mark = False
        self._some = NOTHING

    def bring(self, channels: frozenset[bytes], ended: frozenset[bytes] | None, in_block: bool) -> bytes:
        """The message that has the server listen to what of the client's `channels` a text may end to listen to.

        Those are the `ended` ones, b"" standing for all at once; None: any. The message's answers end here.
        """
        names: list[bytes] = []
        if self._all or (ended is not None and not ended):
            return b""
        if ended is None or in_block:
            self._all = True
            self._marked = in_block
            names = sorted(channels - self._some)
            if in_block:
                names.append(MARK)
        else:
            names = sorted((channels & ended) - self._some)
            self._some |= frozenset(names)
            if b"" in ended and not self._all_marked:
                self._all_marked = True
                names.append(ALL_MARK)
        return self.attempt(b";".join([b"LISTEN " + identifier(name) for name in names])) if names else b""

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
            # All but what was brought here and has ended; what was brought in a block that was rolled back, has not.
            stays = not self._all or rolled_back
            if stays and not (self._all_marked and ALL_MARK not in there):
                there |= client.channels - self._some if self._some else client.channels
            client.put_channels(there - {MARK, ALL_MARK})
            self.heard = True
        self._unmark()

    def deaf(self) -> None:
        """All was discarded."""
        self.heard = False
        self._unmark()
