"""The queue of replies that one server still owes: what was sent, in order, and whose each answer is."""

from .reply_kinds import COPY_END, INTERNAL, KIND, MAX_OWED, NAMES, QUERYING, SYNCING

# So many entries, a byte each, fit into one number.
NEAR = 8


class ReplyQueue:
    """A queue of entries (see `reply_kinds`); empty means that the server owes nothing.

    `head` is the entry whose answer comes next, 0 when nothing is owed; it is looked at a dozen times per transaction.
    `turns` of them end in a ReadyForQuery, `own` of these the client asked for, and `queries` by a Query; so many
    Queries are over, `queried`. The first eight are the bytes of one number, the lowest first, those behind are in a
    queue: most batches need no more than the number.

    Entries have numbers, from 0 on, in the order in which they were added; so many were `taken` off. `last_turn` and
    `last_own` are the numbers of the last of these that was added. So what is to be known of all that is owed is known
    without looking at each.
    """

    __slots__ = (
        "_far",
        "_near",
        "count",
        "head",
        "last_own",
        "last_turn",
        "own",
        "queried",
        "queries",
        "taken",
        "turns",
    )

    def __init__(self) -> None:
        self.count = 0
        self.head = 0
        self.turns = 0
        self.own = 0
        self.queries = 0
        self.queried = 0
        self.taken = 0
        self.last_turn = -1
        self.last_own = -1
        self._near = 0
        self._far = bytearray()

    def push(self, entry: int) -> None:
        """Add an entry; raises OverflowError far beyond MAX_OWED, where the client must have been stopped.

        A COPY_END in front of all others is dropped.
        """
        if self.count or entry != COPY_END:
            if self.count < NEAR:
                wide = entry
                self._near |= wide << 8 * self.count
            elif self.count < 2 * MAX_OWED:
                self._far.append(entry)
            else:
                raise OverflowError("too many messages sent without waiting for a reply")
            self.count += 1
            self.head = self._near & 255
            if entry & KIND >= SYNCING and entry != COPY_END:
                self.turns += 1
                self.last_turn = self.next() - 1
                if not entry & INTERNAL:
                    self.own += 1
                    self.queries += entry == QUERYING
                    self.last_own = self.last_turn

    def next(self) -> int:
        """The number of the entry that is added next."""
        return self.taken + self.count

    def pop(self) -> int:
        """Take the first entry off, and COPY_END marks behind it; the queue must not be empty."""
        entry = self._take()
        while self.head == COPY_END:
            self._take()
        return entry

    def _take(self) -> int:
        entry = self.head
        self._near >>= 8
        if self.count > NEAR:
            wide = self._far[0]
            self._near |= wide << 8 * (NEAR - 1)
            del self._far[:1]
        self.count -= 1
        self.taken += 1
        if entry & KIND >= SYNCING and entry != COPY_END:
            self.turns -= 1
            if not entry & INTERNAL:
                self.own -= 1
                self.queries -= entry == QUERYING
                self.queried += entry == QUERYING
        self.head = self._near & 255
        return entry

    def entries(self) -> bytes:
        """All entries in order."""
        return self._near.to_bytes(NEAR, "little")[: self.count] + self._far

    def awaited(self) -> bool:
        """Is a turn of the client's own to end yet?"""
        return self.own > 0

    def turns_behind(self, number: int) -> bool:
        """Does a turn end behind the entry of this number?"""
        return self.turns > 0 and number < self.last_turn

    def copy_begins(self) -> bool:
        """COPY IN begins, asked for by the first entry: drop each Sync sent during it, for the server ignores it.

        Returns True when it has an end among what was sent: a COPY_END, which is dropped, too, as a Query may begin
        more than one COPY; or a message that has no place in it.
        """
        while self._second() == SYNCING:
            self._drop_second()
        ended = self._second()
        if ended == COPY_END:
            self._drop_second()
        return ended > 0

    def _second(self) -> int:
        return self._near >> 8 & 255

    def _drop_second(self) -> None:
        """Take the second entry off: it changes places with the first."""
        both = self.head ^ self._second()
        self._near ^= both | both << 8
        self.head ^= both
        self._take()

    def __repr__(self) -> str:
        words = [("~" if e & INTERNAL else "") + NAMES[e & KIND] for e in self.entries()]
        return f"<ReplyQueue {' '.join(words)}>"
