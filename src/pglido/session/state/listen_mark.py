"""What one server's session listens to for its client alone, and how it shows whether that was committed.

Before an UNLISTEN the server is made to LISTEN to just the channels that it may take away, so that it can be asked
afterwards which of them it took. What the client listens to besides stays as it is.

In a transaction block a mark comes with each of these channels: a channel that nobody notifies, which is there
afterwards if what was done in the block holds. UNLISTEN * takes all marks away; what is left of it is a mark of its
own, which is set behind it. Where the transaction ends in the same text, tags tell instead. Outside of a block another
mark stands for all that UNLISTEN * ends.
"""

from ...protocol import messages
from ...protocol.codes import QUERY
from ...sql.tokens import identifier
from ..server.reply_kinds import INTERNAL, TRYING
from ..server.reply_queue import ReplyQueue
from .shared import ClientState

# With all channels that any text may end; followed by a number, with one channel.
MARK = b"_pglido_mark"
# In front of an UNLISTEN * outside of a block, and behind one in a block.
ALL_MARK = b"_pglido_all"
NONE_MARK = b"_pglido_none"
# What PostgreSQL says of UNLISTEN, of the end of a transaction, and of what goes back to a savepoint.
UNLISTENED = b"UNLISTEN\0"
COMMITTED = b"COMMIT\0"
ROLLED_BACK = b"ROLLBACK\0"


class ListenMark:
    """`heard`: what the client listens to may be another now; `needs_mark`: an UNLISTEN * may have ended the marks.

    Of the client's channels the server was brought to `_some` outside of a block, then (`_all`) to the others; in a
    block to those of `_marks`, each with its mark, then to the `_others` (None: it was not). `_none`: a block says
    UNLISTEN * by itself. `_ending`: an UNLISTEN was done where a mark is needed; `_ended`: and was committed.
    """

    __slots__ = (
        "_all",
        "_all_marked",
        "_ended",
        "_ending",
        "_marks",
        "_none",
        "_others",
        "_some",
        "heard",
        "needs_mark",
        "replies",
    )

    def __init__(self, replies: ReplyQueue) -> None:
        self.replies = replies
        self.heard = False
        self._unmark()

    def _unmark(self) -> None:
        """Nothing of the client's is listened to here."""
        self._all = self._all_marked = self._none = self._ending = self._ended = self.needs_mark = False
        self._some: set[bytes] = set()
        self._marks: dict[bytes, bytes] = {}
        self._others: frozenset[bytes] | None = None

    def bring(self, channels: frozenset[bytes], ended: frozenset[bytes] | None, in_block: bool) -> bytes:
        """The message that has the server listen to what of the client's `channels` a text may end to listen to.

        Those are the `ended` ones, b"" standing for all at once; None: any. The message's answers end here.
        """
        if ended is None:
            names = self._rest(channels, in_block)
        elif in_block:
            names = self._marked(channels & ended)
            self._none = self._none or b"" in ended
        else:
            names = [] if self._all else sorted((channels & ended) - self._some)
            self._some.update(names)
            if b"" in ended and not self._all and not self._all_marked:
                self._all_marked = True
                names.append(ALL_MARK)
        return self.attempt(b";".join([b"LISTEN " + identifier(name) for name in names])) if names else b""

    def _rest(self, channels: frozenset[bytes], in_block: bool) -> list[bytes]:
        """What the server is not brought to yet, of all that the client listens to."""
        if self._all or self._others is not None:
            return []
        if not in_block:
            self._all = True
            return sorted(channels - self._some)
        # What was brought, and ended, is not brought again: it would seem to be there still.
        others = frozenset() if self._none else channels.difference(self._some, self._marks)
        self._others = others
        return [*sorted(others), MARK]

    def _marked(self, channels: frozenset[bytes]) -> list[bytes]:
        """These channels, each with its mark; again where it was brought before, for that may have been undone."""
        names = []
        for name in sorted(channels):
            names += [name, self._marks.setdefault(name, MARK + b"%d" % len(self._marks))]
        return names

    def unlistens(self) -> None:
        """The client ends to listen to anything: to the marks too."""
        self.needs_mark = self._none or len(self._marks) > 0 or self._others is not None

    def mark_again(self) -> bytes:
        """The message that sets a mark behind an UNLISTEN *, if that was done; its answers end here."""
        ending, self.needs_mark, self._ending = self._ending, False, False
        if self._none and ending:
            return self.attempt(b"LISTEN " + NONE_MARK)
        return b"" if self._others is None else self.attempt(b"LISTEN " + MARK)

    def attempt(self, sql: bytes) -> bytes:
        """The message with a query whose answers end here, an error among them."""
        self.replies.push(TRYING | INTERNAL)
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
        self._ending = self.needs_mark = False

    def hear(self, there: frozenset[bytes], client: ClientState | None) -> None:
        """What the server listens to, for this client alone."""
        if client is not None:
            client.put_channels(self._left(there, client.channels))
            self.heard = True
        self._unmark()

    def _left(self, there: frozenset[bytes], channels: frozenset[bytes]) -> frozenset[bytes]:
        """What the client listens to, who listened to `channels` before, where the server listens to what is `there`.

        What was brought in a block that was rolled back, or to a savepoint, has not ended.
        """
        ended = self._ended or self._ending or self._all or NONE_MARK in there
        if not ended and not (self._all_marked and ALL_MARK not in there):
            gone = self._some | {name for name, mark in self._marks.items() if mark in there}
            if self._others is not None and MARK in there:
                gone |= self._others
            there |= channels - gone
        return there - {MARK, ALL_MARK, NONE_MARK} - frozenset(self._marks.values())

    def deaf(self) -> None:
        """All was discarded."""
        self.heard = False
        self._unmark()
