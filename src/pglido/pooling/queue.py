"""Who came after whom, of clients that wait or of servers that rest; any of them may leave at any time."""

from typing import Any


class QueueMember:
    """Who stands in a line, and while it `stands` there, its neighbours `ahead` and `behind`."""

    __slots__ = ("ahead", "behind", "stands")

    ahead: Any
    behind: Any
    stands: bool


class Ticket(QueueMember):
    """One client in line since `since`; `settings`, `startup_params`, `generation` as in `ServerSlot`. Made by
    `Pool.wait`.

    `login`: it is not let in yet, and told when the pool is known to fail.
    """

    __slots__ = ("client", "generation", "login", "notified", "settings", "since", "startup_params")

    client: Any
    startup_params: object
    generation: int
    settings: object
    since: float
    login: bool
    notified: bool


class Queue:
    """`size` members, from `front` to `back`."""

    __slots__ = ("back", "front", "size")

    def __init__(self) -> None:
        self.front: Any = None
        self.back: Any = None
        self.size = 0

    def join(self, member: QueueMember) -> None:
        """Stand in line, behind everybody; of the member nothing need be set yet."""
        member.stands = True
        member.ahead = self.back
        member.behind = None
        if self.back is None:
            self.front = member
        else:
            self.back.behind = member
        self.back = member
        self.size += 1

    def leave(self, member: QueueMember) -> None:
        """Stand there no more; who does not may leave again."""
        if not member.stands:
            return
        member.stands = False
        self.size -= 1
        if member.ahead is None:
            self.front = member.behind
        else:
            member.ahead.behind = member.behind
        if member.behind is None:
            self.back = member.ahead
        else:
            member.behind.ahead = member.ahead
        member.ahead = member.behind = None

    def all(self) -> list[Any]:
        """Everybody, from the front."""
        return self.first(self.size)

    def first(self, count: int) -> list[Any]:
        """So many from the front, or as many as there are."""
        found: list[Any] = []
        member = self.front
        while member is not None and len(found) < count:
            found.append(member)
            member = member.behind
        return found
