"""What one client has sent of a message that is not all there yet: held till it is whole, or under way in pieces.

A small message is held without being counted; the bytes of larger ones count with what is kept for the client.
"""

from ...protocol import messages, octets
from ...sql.effects import LONGEST_READ
from ..outbox import Outbox
from ..server.batch import COPYING
from ..state.shared import NO_CHANNELS
from ..state.statement_cache import OF_ALL, OF_ITS_OWN, OF_MEMORY, Lack
from ..verdicts import CLOSE_IT
from .inspection import Inspection

# A message up to this size is awaited whole before a server is asked for: more than most queries have.
SMALL = 16384
# A client for which no more than this is kept is never refused for what is kept for all others.
LITTLE = SMALL
# A query up to this size is held while there is room, so that all of it can be inspected: for queries there is this
# part more than all may have, which no statement takes. While memory is short, no more than will be read by name.
LONGEST_HELD = 16 << 20
SPARE = 4


class PartialMessages(Inspection):
    """A client's incomplete message: `buffered` till it has `wanted` bytes, or `passing` bytes to come that pass as
    they come.

    Those are dropped instead while `dropping`. `reserved` is what of that is counted.
    """

    __slots__ = ("buffered", "dropping", "fault", "reserved", "wanted")

    def begin_holding(self) -> None:
        """Nothing is held yet."""
        self.fault: tuple[str, str] | None = None
        self.buffered: bytearray | None = None
        self.wanted = 0
        self.reserved = 0
        self.dropping = False

    def half_sent(self) -> bool:
        """Is a message of which the beginning is with the server still incomplete?"""
        return self.passing > 0 and not self.dropping

    def waits_for_more(self) -> bool:
        """Is a message incomplete, held or half sent?"""
        return self.passing > 0 or (self.buffered is not None and len(self.buffered) < self.wanted)

    def says_goodbye(self, data: bytes) -> bool:
        """Does all that the client has sent, of which `data` is still to be taken, end in a whole Terminate?"""
        at = self.passing
        if self.buffered is not None:
            data = bytes(self.buffered) + data
        last = len(data) - len(messages.TERMINATE)
        while at < last:
            size = octets.int32(data, at + 1)
            if size < 4:
                return False
            at += size + 1
        return at == last and data.endswith(messages.TERMINATE)

    def release(self) -> None:
        """What was held is dealt with."""
        self.buffered = None
        self.keep(-self.reserved)
        self.reserved = 0

    def drop(self) -> None:
        """The client is gone: nothing is kept for it any more."""
        self.buffered = None
        self.reserved = 0
        self.take_statements()
        self.put_channels(NO_CHANNELS)
        self.put_unnamed(None, 0, 0)
        self.keep(-self.kept)

    def refuse(self, sqlstate: str, text: str) -> int:
        """The client must go, for it broke the protocol or a limit."""
        self.verdict = CLOSE_IT
        self.fault = (sqlstate, text)
        return 0

    def held_bytes(self) -> int:
        """All that is kept for this client: messages, statements, settings, channels, and what an error brings back."""
        size = self.kept + self.shares + self.settings.size
        return size if self.server is None else size + self.server.prepared.undo_log.size

    def lack(self, size: int, in_all: int) -> Lack | None:
        """What hinders that so many bytes more are kept for this client, `in_all` new ones; None: nothing does."""
        wanted = self.held_bytes() + size
        budget = self.budget
        if wanted > budget.each:
            return OF_ITS_OWN
        if wanted <= LITTLE:
            return None
        if budget.tight:
            return OF_MEMORY
        return OF_ALL if budget.total() + in_all > budget.limit else None

    def has_room(self, total: int) -> bool:
        """May a query of this size be held?"""
        if self.reserved:
            return True
        budget = self.budget
        if self.held_bytes() + total > budget.each or (budget.tight and total > LONGEST_READ):
            return False
        return budget.total() + total <= budget.limit + budget.limit // SPARE

    def owes_much(self) -> bool:
        """Is so much kept for what the server owes that nothing more may be said till it has answered?"""
        server = self.server
        if server is None or server.batch & COPYING or server.prepared.undo_log.size <= LITTLE:
            return False
        return self.lack(0, 0) is not None

    def await_whole(self, total: int) -> int:
        """The message must be held till `total` bytes are there, for which there is room."""
        self.wanted = total
        if total > SMALL and not self.reserved:
            self.reserved = total
            self.keep(total)
        return 0

    def pass_on(self, src: bytes, at: int, have: int, total: int, out: Outbox | None, buf: bytes) -> int:
        """The message goes through as it is, or (without `out`) nowhere."""
        if out is not None:
            if src is buf:
                out.run(buf, at, at + have)
            else:
                out.put(buf, src[at : at + have])
        self.dropping = out is None
        self.passing = total - have
        return have
