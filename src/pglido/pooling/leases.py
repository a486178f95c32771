"""What the broker keeps books of: limits, the part that each worker has of each pool, and plans."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ..config.model import PoolKey
from .balance import RecentLoad

LEND_AFTER = 1.0  # seconds that a server has rested, or who wants it has waited, before it is lent to others


class LeaseVerb(enum.Enum):
    GRANT = "grant"
    ASK = "ask"  # Recall(idle=True)
    RECALL = "recall"  # Recall(idle=False)
    MEASURE = "measure"


class LeasePlan(NamedTuple):
    verb: LeaseVerb
    worker: int
    pool: PoolKey
    rest: float = LEND_AFTER  # for ASK


class LeaseLimits(NamedTuple):
    """What may be open at a time; 0 is no limit, except for `reserve`."""

    pool_size: int
    reserve: int = 0
    reserve_timeout: float = 5.0
    database: int = 0
    user: int = 0


class Seat(NamedTuple):
    """Who is to have a recalled lease."""

    worker: int
    pool: PoolKey


@dataclass(slots=True)
class LeaseAccount:
    """One worker's part of one pool."""

    held: int = 0
    wanted: int = 0
    since: float = 0.0
    urgent: bool = False
    granted: int = 0  # Grants ever sent
    promised: int = 0  # recalls under way in its favour
    recalls: deque[Seat | None] = field(default_factory=deque)  # for whom it is to give up leases
    asked: Seat | None = None  # for whom it was asked for an idle one
    quiet_until: float = 0.0
    granted_at: float = 0.0
    gave_at: float = float("-inf")  # when a lease of its went to somebody else
    load: RecentLoad = field(default_factory=RecentLoad)
    measure_at: float = 0.0

    @property
    def waits(self) -> bool:
        return self.urgent and self.wanted > 0

    @property
    def stays(self) -> int:
        """What it will hold after the recalls under way."""
        return self.held - len(self.recalls)


@dataclass(slots=True)
class LeasePool:
    key: PoolKey
    limits: LeaseLimits
    accounts: dict[int, LeaseAccount] = field(default_factory=dict)
    total: int = 0
    uneven_since: float | None = None  # since when a lease would be better off elsewhere
    reversals: int = 0  # how often a move was undone by another, lately
    reversed_at: float = 0.0
    look_at: float | None = None  # when time alone may change what can be done

    def __repr__(self) -> str:
        parts = " ".join(
            f"{worker}:{a.held}" + f"+{a.wanted}" * bool(a.wanted) for worker, a in self.accounts.items()
        )
        return f"<LeasePool {self.key[0]}/{self.key[1]} {self.total}/{self.limits.pool_size} {parts}>"


class LeaseRow(NamedTuple):
    """One line of SHOW LEASES."""

    database: str
    user: str
    worker: int
    held: int
    wanted: int
    since: float | None
