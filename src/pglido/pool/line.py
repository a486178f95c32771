"""Who waits for a server of one pool, in the order in which they came; anybody may leave at any time."""

from typing import Any


class Ticket:
    """One client in line since `since`; `settings` and `birth` as in `Slot`. Made by `Line.join`.

    `ahead` and `behind` are its neighbours while it `stands` there.
    """

    __slots__ = ("ahead", "behind", "birth", "client", "notified", "settings", "since", "stands")

    ahead: "Ticket | None"
    behind: "Ticket | None"
    client: Any
    birth: object
    settings: object
    since: float
    notified: bool
    stands: bool


class Line:
    """The line of one pool, in which `size` clients stand, from `front` to `back`."""

    __slots__ = ("back", "front", "size")

    def __init__(self) -> None:
        self.front: Ticket | None = None
        self.back: Ticket | None = None
        self.size = 0

    def join(self, client: Any, birth: object, settings: object, since: float) -> Ticket:
        """Stand in line, behind everybody."""
        ticket: Ticket = Ticket.__new__(Ticket)
        ticket.client = client
        ticket.birth = birth
        ticket.settings = settings
        ticket.since = since
        ticket.notified = False
        ticket.stands = True
        ticket.ahead = self.back
        ticket.behind = None
        if self.back is None:
            self.front = ticket
        else:
            self.back.behind = ticket
        self.back = ticket
        self.size += 1
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Wait no more; who does not wait may leave again."""
        if not ticket.stands:
            return
        ticket.stands = False
        self.size -= 1
        if ticket.ahead is None:
            self.front = ticket.behind
        else:
            ticket.ahead.behind = ticket.behind
        if ticket.behind is None:
            self.back = ticket.ahead
        else:
            ticket.behind.ahead = ticket.ahead
        ticket.ahead = ticket.behind = None

    def all(self) -> list[Ticket]:
        """Everybody, from the front."""
        found = []
        ticket = self.front
        while ticket is not None:
            found.append(ticket)
            ticket = ticket.behind
        return found
