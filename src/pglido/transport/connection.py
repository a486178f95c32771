# cython: annotation_typing=True
"""A connection: its descriptor, what waits on either side of it, and how it is used."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .tls_record import TlsRecords

# For attributes that are set soon after, and have no value worth a check before.
UNSET: Any = None

# How a link is used.
COLLECT = 0  # bytes wait in `inbox` for a coroutine
HANDLED = 1  # bytes go to the handler as they come
RAW = 2  # bytes go to `peer` unseen
CONNECTING = 3  # the waiter is told when it can be written, or has failed

# What is to be read from a HANDLED link now.
FLOW = 0  # all that comes, while its peer has no `out`
KEEP = 1  # what has room in `inbox`, where the handler keeps it; after that it is told if the peer hangs up
STOP = 2  # nothing

# Two of the pieces that PostgreSQL sends. (With 4 KiB each piece was much, and results cost more on the ring.)
BULK = 16384


class Link:
    """One connected socket; owns its descriptor. With `tls`, `out` is sealed already, and `inbox` opened.

    `peer` is the link that its bytes are for: while that has an `out`, this one is not read. `bulk` says from how many
    bytes at once it carries much (`rounds`); one that is `read_to_end` is not lost before what it has sent was read.

    What isn't set here, or by a class below, begins as 0, False or None.
    """

    if TYPE_CHECKING:
        mode: int
        bulk: int
        read_to_end: bool
        mask: int
        tls: TlsRecords | None
        out: bytearray | None
        inbox: bytes | None
        waiter: Callable[[Any], None] | None
        eof: bool
        closed: bool
        broken: bool
        after_close: bool
        watched: bool
        parked: bool
        peer: "Link | None"
        # Of the round.
        queued: int  # so many bytes, from `queued_at` on
        queued_at: int
        flying: bool  # in a chain, the next of which is `behind`
        behind: "Link | None"
        fresh: Any  # a pointer
        fresh_size: int
        early: bytes | None
        much: int
        # Of the ring.
        coming: int
        coming_mask: int
        going: bool
        coming_ends: bool
        going_ends: bool
        changed: bool
        ended: bool
        half: bool  # a poll has told that the peer ended its side

    def __cinit__(self) -> None:
        self.bulk = BULK

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def reading(self) -> int:
        """What is to be read from it now, if it is HANDLED: FLOW, KEEP or STOP."""
        return FLOW

    def doing(self) -> int:
        """What it was dealt with for last: a number that the handler gave it, 0 for none."""
        return 0


class Watched:
    """A descriptor that is no link: one of asyncio's, told by its key, or one for which `call` does all."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self.call: Callable[[], None] | None = None
        self.fd = -1
        self.mask = self.polled_mask = 0
        self.polled = False


def wake(link: Link) -> None:
    """Tell whoever waits for this link, if any."""
    waiter = link.waiter
    if waiter is not None:
        link.waiter = None
        waiter(link)
