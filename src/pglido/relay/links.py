# cython: annotation_typing=True
"""The connections that are relayed: a client, and the server that serves it."""

from typing import TYPE_CHECKING

import cython

from ..pooling.stats import Stats
from ..session.client.dispatch import Client
from ..session.server.reader import Server
from ..session.transitions import ILLEGAL, SHIFT
from ..transport.connection import FLOW, HANDLED, KEEP, STOP, Link
from .stage import HUNG_UP, STAGE

NEXT_STAGES = STAGE.array
# The same, a C array where it is compiled.
_next = NEXT_STAGES
# What a client sends with so much at once is COPY: piece by piece as it comes, that took twice as long.
CLIENT_BULK = 4096


class ClientLink(Link):
    """A client, `stage`: see there; `waiting` while it stands in line for a server, or for its next round: then it
    is `paused`.

    `notes` are messages that it did not ask for, and gets between two transactions; not while `holds`, for it is still
    to be told which of them are its own. While it `listens`, the ReadyForQuery that ends a transaction is kept back
    (`late`) until all has come that was sent before. It is `tied` while something is kept until what it asked is done.

    Times are those of the monotonic clock: `started` the transaction, `asked` the query being answered (0: none),
    `rested` the last answer.
    """

    if TYPE_CHECKING:
        session: Client
        stats: Stats
        stage: int
        server: "ServerLink | None"
        waiting: bool
        paused: bool
        holds: bool
        listens: bool
        late: bool
        tied: bool
        notes: bytearray | None
        started: float
        asked: float
        rested: float

    def __cinit__(self) -> None:
        self.bulk = CLIENT_BULK

    def on_stage(self, event: cython.int) -> None:
        """Bring `stage` to its next: this has happened. Raises IllegalTransition."""
        after: cython.int = _next[self.stage << SHIFT | event]
        if after == ILLEGAL:
            raise STAGE.illegal(self.stage, event)
        self.stage = after

    def reading(self) -> int:
        if self.stage >= HUNG_UP:
            return STOP
        if self.waiting or self.late:
            return KEEP
        return FLOW if self.out is None else STOP

    def doing(self) -> int:
        return self.session.latest if self.mode == HANDLED else 0


class ServerLink(Link):
    """A server; `client` is whom it serves now."""

    def __cinit__(self) -> None:
        self.read_to_end = True

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.session: Server = Server()
        self.client: ClientLink | None = None
