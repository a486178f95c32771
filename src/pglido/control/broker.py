"""Decides which worker may open a server connection: the limits that hold across workers, counted here and
nowhere else.

The broker is policy only: no sockets, no clock; `now` is CLOCK_MONOTONIC. Every event returns the plans to
carry out.

Rules:

1. Leases are counted per pool (`pool_size`, plus `reserve` once the oldest has waited `reserve_timeout`), per database
   and per user. Nothing is granted above a limit; a pool size that was lowered is approached by recalls.
2. What is free goes to who has waited longest, one at a time: the next to the next.
3. When nothing is free, a lease is moved. First an idle one: workers without waiting clients are asked. Then, of the
   workers whose clients wait too, one that holds more than its share by over one gives up the next that it releases.
   The share is in proportion to what each could use. A worker that has waited much longer than another that holds more,
   or longer and holds none at all, gets one from it whatever the shares. So counts that differ by one at most never
   change hands, unless one of the two is zero. What clients keep (pins) does not count here: nobody else can use it.
4. A lease that was recalled for somebody goes to them, if they still want it.
5. The leases of a dead worker are free at once: the kernel has closed its connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..ipc.messages import PoolKey
from .leases import Account, Donor, LeaseRow, Limits, Plan, Pool, Seat, Verb

PATIENCE = 0.01  # seconds; most transactions are over sooner than a new connection would be there
PAUSE = (
    0.05  # seconds between two rounds of moving leases in one pool, so that the effect of one is seen first
)
QUIET = 0.1  # seconds in which a worker that had nothing idle is not asked again
UNFAIR = 0.25  # seconds that somebody may wait longer than others before shares are overruled
STARVED = 0.1  # the same where it has nothing at all


class Broker:
    """The leases of all pools.

    `limits` tells the limits of a pool, None for one that does not exist; `pins` how many of a worker's servers in it
    are kept by clients.
    """

    def __init__(
        self, limits: Callable[[PoolKey], Limits | None], pins: Callable[[PoolKey, int], int] = lambda pool, worker: 0
    ) -> None:
        self._limits = limits
        self._pins = pins
        self._pools: dict[PoolKey, Pool] = {}
        self._hungry: dict[PoolKey, Pool] = {}
        self._databases: dict[str, int] = {}
        self._users: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Broker {list(self._pools.values())}>"

    # ---- events

    def want(
        self, worker: int, pool: PoolKey, since: float, count: int, granted: int, urgent: bool, now: float
    ) -> list[Plan]:
        """A worker's `Want`."""
        state = self._pool(pool)
        account = state.accounts.get(worker)
        if account is None:
            account = state.accounts[worker] = Account(granted=granted)
        in_flight = max(0, account.granted - granted)
        account.wanted = max(0, count - in_flight)
        account.since, account.urgent = since, urgent
        self._tidy(worker, state)
        return self._serve([state], now)

    def returned(self, worker: int, pool: PoolKey, count: int, now: float) -> list[Plan]:
        """A worker's `Return`."""
        state = self._pools.get(pool)
        account = state.accounts.get(worker) if state else None
        if state is None or account is None:
            return []
        plans: list[Plan] = []
        for _ in range(min(count, account.held)):
            self._count(state, account, -1)
            heir = self._heir(account)
            if heir is not None:
                plans += self._bequeath(heir, now)
        self._tidy(worker, state)
        return plans + self._serve(self._related(pool), now)

    def kept(self, worker: int, pool: PoolKey, now: float) -> list[Plan]:
        """A worker's `Kept`: it has nothing idle to give."""
        state = self._pools.get(pool)
        account = state.accounts.get(worker) if state else None
        if state is None or account is None or account.asked is None:
            return []
        self._unpromise(account.asked)
        account.asked = None
        account.quiet_until = now + QUIET
        return self._serve(self._related(pool), now)

    def died(self, worker: int, now: float) -> list[Plan]:
        """The worker is gone, and so are its connections and its clients."""
        for state in list(self._pools.values()):
            account = state.accounts.get(worker)
            if account is None:
                continue
            while account.held:
                self._count(state, account, -1)
            account.wanted = 0
            self._tidy(worker, state)
        return self._serve(list(self._hungry.values()), now)

    def reconfigured(self, now: float) -> list[Plan]:
        """`limits` may answer differently now: grant what has become free, recall what is too much."""
        plans: list[Plan] = []
        for state in list(self._pools.values()):
            state.limits = self._limits_of(state.key)
            plans += self._shrink(state)
        return plans + self._serve(list(self._hungry.values()), now)

    def tick(self, now: float) -> list[Plan]:
        """The time that `due` named has come."""
        ripe = [
            state for state in self._hungry.values() if state.look_at is not None and state.look_at <= now
        ]
        return self._serve(ripe, now)

    def due(self) -> float | None:
        """When to call `tick`; None: only an event can change anything."""
        return min((s.look_at for s in self._hungry.values() if s.look_at is not None), default=None)

    # ---- what is where

    def held(self, pool: PoolKey, worker: int | None = None) -> int:
        """Leases of a pool, of one worker or of all."""
        state = self._pools.get(pool)
        if state is None:
            return 0
        if worker is None:
            return state.total
        account = state.accounts.get(worker)
        return account.held if account else 0

    def database_total(self, database: str) -> int:
        """Server connections leased for a database, over all users."""
        return self._databases.get(database, 0)

    def user_total(self, user: str) -> int:
        """Server connections leased for a user, over all databases."""
        return self._users.get(user, 0)

    def rows(self) -> Iterator[LeaseRow]:
        """Who holds and who wants."""
        for (database, user), state in sorted(self._pools.items()):
            for worker, account in sorted(state.accounts.items()):
                since = account.since if account.wanted else None
                yield LeaseRow(database, user, worker, account.held, account.wanted, since)

    # ---- counting

    def _limits_of(self, key: PoolKey) -> Limits:
        # A pool that the configuration has forgotten may keep nothing: a limit below zero is one that 0
        # leases exceed.
        return self._limits(key) or Limits(-1)

    def _pool(self, key: PoolKey) -> Pool:
        state = self._pools.get(key)
        if state is None:
            state = self._pools[key] = Pool(key, self._limits_of(key))
        return state

    def _count(self, state: Pool, account: Account, delta: int) -> None:
        account.held += delta
        state.total += delta
        for totals, name in ((self._databases, state.key[0]), (self._users, state.key[1])):
            totals[name] = totals.get(name, 0) + delta
            if not totals[name]:
                del totals[name]

    def _tidy(self, worker: int, state: Pool) -> None:
        """Forget what is empty, and know who is hungry."""
        account = state.accounts.get(worker)
        if account is not None and not account.held:
            self._break_promises(account)
            if not account.wanted:
                del state.accounts[worker]
        if any(other.wanted for other in state.accounts.values()):
            self._hungry[state.key] = state
        else:
            self._hungry.pop(state.key, None)
            if not state.accounts:
                self._pools.pop(state.key, None)

    def _related(self, key: PoolKey) -> list[Pool]:
        """Hungry pools that a change in this one may help."""
        return [s for s in self._hungry.values() if s.key[0] == key[0] or s.key[1] == key[1]]

    def _blocked(self, state: Pool, urgent: bool, now: float) -> str | None:
        """Which limit keeps the pool from another lease: pool, database, user, or None."""
        limits, (database, user) = state.limits, state.key
        size = limits.pool_size
        if limits.reserve and urgent and size > 0 and now - self._oldest(state) >= limits.reserve_timeout:
            size += limits.reserve
        if size and state.total >= size:
            return "pool"
        if limits.database and self.database_total(database) >= limits.database:
            return "database"
        if limits.user and self.user_total(user) >= limits.user:
            return "user"
        return None

    @staticmethod
    def _oldest(state: Pool) -> float:
        return min((a.since for a in state.accounts.values() if a.waits), default=float("inf"))

    # ---- giving

    def _grant(self, state: Pool, worker: int) -> Plan:
        account = state.accounts[worker]
        self._count(state, account, +1)
        account.wanted -= 1
        account.granted += 1
        self._tidy(worker, state)
        return Plan(Verb.GRANT, worker, state.key)

    def _serve(self, pools: Iterable[Pool], now: float) -> list[Plan]:
        """Give away what is free among these pools, then see to those who got nothing."""
        pools = [state for state in pools if state.key in self._hungry]
        plans: list[Plan] = []
        for urgent in (True, False):
            queue = sorted(
                (account.since, worker, state.key)
                for state in pools
                for worker, account in state.accounts.items()
                if account.wanted and account.urgent is urgent
            )
            while queue:
                left = []
                for since, worker, key in queue:
                    state = self._pools[key]
                    if self._blocked(state, urgent, now) is None:
                        plans.append(self._grant(state, worker))
                        if state.accounts[worker].wanted:
                            left.append((since, worker, key))
                queue = left
        for state in pools:
            if state.key in self._hungry:
                plans += self._feed(state, now)
        return plans

    @staticmethod
    def _heir(account: Account) -> Seat | None:
        """For whom a lease comes back.

        It does not say whether it was asked for or recalled. So nobody is asked while a recall is under way, and a
        recall takes the place of what was asked for: else a promise would be left that nobody knows of any more.
        """
        if account.asked is not None:
            heir, account.asked = account.asked, None
            return heir
        return account.recalls.popleft() if account.recalls else None

    def _break_promises(self, account: Account) -> None:
        """The account has no lease left that it could give up."""
        for heir in (account.asked, *account.recalls):
            if heir is not None:
                self._unpromise(heir)
        account.asked = None
        account.recalls.clear()

    def _unpromise(self, seat: Seat) -> None:
        state = self._pools.get(seat.pool)
        account = state.accounts.get(seat.worker) if state else None
        if account is not None:
            account.promised = max(0, account.promised - 1)

    def _bequeath(self, heir: Seat, now: float) -> list[Plan]:
        """A lease came back for somebody: it is theirs, if they still wait."""
        self._unpromise(heir)
        state = self._pools.get(heir.pool)
        account = state.accounts.get(heir.worker) if state else None
        if state is None or account is None or not account.waits or self._blocked(state, True, now):
            return []
        return [self._grant(state, heir.worker)]

    # ---- moving

    def _feed(self, state: Pool, now: float) -> list[Plan]:
        """Somebody waits in this pool and nothing is free: ask for idle leases, recall by share; note when to
        look again.
        """
        state.look_at = None
        reason = self._blocked(state, True, now)
        waiting = sorted((a.since, worker) for worker, a in state.accounts.items() if a.waits)
        if reason is None or not waiting:
            return []
        plans: list[Plan] = []
        group = list(self._group(state.key, reason))
        for since, worker in waiting:
            if now - since < PATIENCE:
                self._look(state, since + PATIENCE)
                break
            plans += self._ask_idle(Seat(worker, state.key), group, now)
        if len(group) > 1:
            if now >= state.next_round:
                moved = self._move(state, waiting, group, now)
                plans += moved
                if moved:
                    state.next_round = now + PAUSE
            self._look(state, now + PAUSE)
        limits = state.limits
        opens = waiting[0][0] + limits.reserve_timeout
        if limits.reserve and opens > now:
            self._look(state, opens)
        return plans

    @staticmethod
    def _look(state: Pool, when: float) -> None:
        state.look_at = when if state.look_at is None else min(state.look_at, when)

    def _group(self, key: PoolKey, reason: str) -> Iterator[tuple[Seat, Account]]:
        """All who share the limit that is reached, and hold or want something."""
        for other in self._pools.values():
            if (
                other.key == key
                or (reason == "database" and other.key[0] == key[0])
                or (reason == "user" and other.key[1] == key[1])
            ):
                for worker, account in other.accounts.items():
                    yield Seat(worker, other.key), account

    def _ask_idle(self, heir: Seat, group: list[tuple[Seat, Account]], now: float) -> list[Plan]:
        """Ask those without waiting clients, most leases first, as far as `heir` has need."""
        plans = []
        account = self._pools[heir.pool].accounts[heir.worker]
        donors = [
            (seat, donor)
            for seat, donor in group
            if seat != heir
            and donor.stays > 0
            and not donor.waits
            and donor.asked is None
            and not donor.recalls
            and donor.quiet_until <= now
        ]
        for seat, donor in sorted(donors, key=lambda pair: -pair[1].stays):
            if account.promised >= account.wanted:
                break
            donor.asked = heir
            account.promised += 1
            plans.append(Plan(Verb.ASK, *seat))
        return plans

    def _move(
        self, state: Pool, waiting: list[tuple[float, int]], group: list[tuple[Seat, Account]], now: float
    ) -> list[Plan]:
        """Recall from those who hold too much, for the longest waiting who hold too little."""
        pins = {seat: min(account.stays, self._pins(seat.pool, seat.worker)) for seat, account in group}
        demand = {seat: account.held - pins[seat] + account.wanted * account.urgent for seat, account in group}
        total = sum(account.held - pins[seat] for seat, account in group)
        part = total / max(1, sum(demand.values()))
        for since, worker in waiting:
            heir = Seat(worker, state.key)
            account = state.accounts[worker]
            has = account.stays - pins[heir] + account.promised
            if now - since < PATIENCE or account.promised >= account.wanted:
                continue
            donors = [
                Donor(donor.stays - pins[seat], donor.stays - pins[seat] - part * demand[seat], seat, donor)
                for seat, donor in group
                if seat != heir and donor.stays > pins[seat]
            ]
            if not donors:
                continue
            rich = max(donors, key=lambda donor: donor.surplus)
            if rich.surplus > 1 and has < part * demand[heir]:
                number = min(max(1, int(rich.surplus / 2)), account.wanted - account.promised, rich.gives)
                return [self._recall(rich.seat, rich.account, heir) for _ in range(number)]
            older = [
                donor
                for donor in donors
                if (donor.gives > has + 1 or has == 0)
                and (donor.account.since if donor.account.waits else now) - since >= (UNFAIR if has else STARVED)
            ]
            if older:
                most = max(older, key=lambda donor: (donor.gives, donor.surplus))
                return [self._recall(most.seat, most.account, heir)]
        return []

    def _recall(self, seat: Seat, donor: Account, heir: Seat | None) -> Plan:
        if donor.asked is not None:
            self._unpromise(donor.asked)
            donor.asked = None
        donor.recalls.append(heir)
        if heir is not None:
            self._pools[heir.pool].accounts[heir.worker].promised += 1
        return Plan(Verb.RECALL, *seat)

    def _shrink(self, state: Pool) -> list[Plan]:
        """Recall what a lowered pool size no longer allows, from those who hold most."""
        plans: list[Plan] = []
        size = state.limits.pool_size
        allowed = 0 if size < 0 else size + state.limits.reserve
        if size == 0:
            return plans
        for _ in range(sum(a.stays for a in state.accounts.values()) - allowed):
            worker, account = max(state.accounts.items(), key=lambda item: item[1].stays)
            plans.append(self._recall(Seat(worker, state.key), account, None))
        return plans
