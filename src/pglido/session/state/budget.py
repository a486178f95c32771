"""Bytes that are kept for clients: counted, and limited."""


class MemoryBudget:
    """Bytes that are kept for all clients of a worker: `used`, and besides the `shared` statements, once for all.

    All may have `limit` together, one of them `each`. `tight`: memory is short, and nothing new is kept. So many times
    something was `refused` since the log told of it, the last time for this `reason`.
    """

    __slots__ = ("each", "limit", "reason", "refused", "shared", "tight", "used")

    def __init__(self, limit: int, each: int | None = None) -> None:
        self.limit = limit
        self.each = limit if each is None else each
        self.used = 0
        self.shared = 0
        self.tight = False
        self.refused = 0
        self.reason = ""

    def total(self) -> int:
        """All that is kept: shared texts once."""
        return self.used + self.shared

    def refuse(self, reason: str) -> None:
        """Something is not kept for a client, which is told so."""
        self.refused += 1
        self.reason = reason


NO_BUDGET = MemoryBudget(0)
