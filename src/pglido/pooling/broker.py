"""Decides which worker may open a server connection: the limits that hold across workers, counted here and
nowhere else.

The broker is policy only: no sockets, no clock; `now` is CLOCK_MONOTONIC. Every event returns the plans to
carry out.

Rules:

1. Leases are counted per pool (`pool_size`, plus `reserve` once the oldest has waited `reserve_timeout`), per database
   and per user. Nothing is granted above a limit; a pool size that was lowered is approached by recalls.
2. What is free goes to who has waited longest, one at a time: the next to the next.
3. When nothing is free, a lease is moved, at the cost of a login. At once: from workers without waiting clients what
   is idle, and from any to one that has none at all. Idle is what has rested for `LEND_AFTER`, and for who has waited
   as long, what rests at all. Else only what lasts counts: what clients of each worker go through is measured twice a
   second, and a lease moves when for a second its giver would, with one less, have waited less than its taker does,
   and what the taker's clients save outweighs the login (see `balance`). What clients keep (pins) does not count here:
   nobody else can use it.
4. A move that undoes an earlier one shows that a forecast was wrong: the next in this pool must promise more. So no
   steady load keeps leases moving. A lease that was recalled for somebody goes to them, if they still want it.
5. The leases of a dead worker are free at once: the kernel has closed its connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..config.model import PoolKey
from .balance import LOGIN, MARGIN, LoadSums, worth_moving
from .leases import LEND_AFTER, LeaseAccount, LeaseLimits, LeasePlan, LeasePool, LeaseRow, LeaseVerb, Seat

PATIENCE = 0.01  # seconds; most transactions are over sooner than a new connection would be there
LOOK = 0.05  # seconds until it is looked again at a pool in which clients wait
QUIET = 0.1  # seconds in which a worker that had nothing idle is not asked again
MEASURE = 0.5  # seconds between two measurements
LASTING = 1.0  # seconds that a difference must last
TURN = 0.5  # seconds for which a worker has its only lease before another without any gets it
MEMORY = 300.0  # seconds in which a move is undone by one in the other direction
FORGET = 600.0  # seconds without such, after which one of them is forgotten
MOST = 4  # reversals that are counted
REVERSED = 1.5  # by this much more a move must promise for each


class Broker:
    """The leases of all pools.

    `limits` tells the limits of a pool, None for one that does not exist; `pins` how many of a worker's servers in it
    are kept by clients.
    """

    def __init__(
        self,
        limits: Callable[[PoolKey], LeaseLimits | None],
        pins: Callable[[PoolKey, int], int] = lambda pool, worker: 0,
    ) -> None:
        self._limits = limits
        self._pins = pins
        self._pools: dict[PoolKey, LeasePool] = {}
        self._hungry: dict[PoolKey, LeasePool] = {}
        self._databases: dict[str, int] = {}
        self._users: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Broker {list(self._pools.values())}>"

    # ---- events

    def want(
        self, worker: int, pool: PoolKey, since: float, count: int, granted: int, urgent: bool, now: float
    ) -> list[LeasePlan]:
        """A worker's `Want`."""
        state = self._pool(pool)
        account = state.accounts.get(worker)
        if account is None:
            account = state.accounts[worker] = LeaseAccount(granted=granted)
        in_flight = max(0, account.granted - granted)
        account.wanted = max(0, count - in_flight)
        account.since, account.urgent = since, urgent
        self._tidy(worker, state)
        return self._serve([state], now)

    def returned(self, worker: int, pool: PoolKey, count: int, now: float) -> list[LeasePlan]:
        """A worker's `Return`."""
        state = self._pools.get(pool)
        account = state.accounts.get(worker) if state else None
        if state is None or account is None:
            return []
        plans: list[LeasePlan] = []
        for _ in range(min(count, account.held)):
            self._count(state, account, -1)
            heir = self._heir(account)
            if heir is not None:
                plans += self._bequeath(account, heir, now)
        self._tidy(worker, state)
        return plans + self._serve(self._related(pool), now)

    def kept(self, worker: int, pool: PoolKey, now: float) -> list[LeasePlan]:
        """A worker's `Kept`: it has nothing idle to give."""
        state = self._pools.get(pool)
        account = state.accounts.get(worker) if state else None
        if state is None or account is None or account.asked is None:
            return []
        self._unpromise(account.asked)
        account.asked = None
        account.quiet_until = now + QUIET
        return self._serve(self._related(pool), now)

    def measured(self, worker: int, pool: PoolKey, load: LoadSums, now: float) -> list[LeasePlan]:
        """What a worker's clients went through, since it knows the pool."""
        state = self._pools.get(pool)
        account = state.accounts.get(worker) if state else None
        if state is None or account is None:
            return []
        account.load.learn(load.wait, load.assignments, load.busy, load.clients, now)
        return self._serve(self._related(pool), now)

    def died(self, worker: int, now: float) -> list[LeasePlan]:
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

    def reconfigured(self, now: float) -> list[LeasePlan]:
        """`limits` may answer differently now: grant what has become free, recall what is too much."""
        plans: list[LeasePlan] = []
        for state in list(self._pools.values()):
            state.limits = self._limits_of(state.key)
            plans += self._shrink(state)
        return plans + self._serve(list(self._hungry.values()), now)

    def tick(self, now: float) -> list[LeasePlan]:
        """The time that `due` named has come."""
        ripe = [state for state in self._hungry.values() if state.look_at is not None and state.look_at <= now]
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

    def _limits_of(self, key: PoolKey) -> LeaseLimits:
        # A pool that the configuration has forgotten may keep nothing: a limit below zero is one that 0
        # leases exceed.
        return self._limits(key) or LeaseLimits(-1)

    def _pool(self, key: PoolKey) -> LeasePool:
        state = self._pools.get(key)
        if state is None:
            state = self._pools[key] = LeasePool(key, self._limits_of(key))
        return state

    def _count(self, state: LeasePool, account: LeaseAccount, delta: int) -> None:
        account.held += delta
        state.total += delta
        for totals, name in ((self._databases, state.key[0]), (self._users, state.key[1])):
            totals[name] = totals.get(name, 0) + delta
            if not totals[name]:
                del totals[name]

    def _tidy(self, worker: int, state: LeasePool) -> None:
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

    def _related(self, key: PoolKey) -> list[LeasePool]:
        """Hungry pools that a change in this one may help."""
        return [s for s in self._hungry.values() if s.key[0] == key[0] or s.key[1] == key[1]]

    def _blocked(self, state: LeasePool, urgent: bool, now: float) -> str | None:
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
    def _oldest(state: LeasePool) -> float:
        return min((a.since for a in state.accounts.values() if a.waits), default=float("inf"))

    # ---- giving

    def _grant(self, state: LeasePool, worker: int, now: float) -> LeasePlan:
        account = state.accounts[worker]
        account.granted_at = now
        self._count(state, account, +1)
        account.wanted -= 1
        account.granted += 1
        self._tidy(worker, state)
        return LeasePlan(LeaseVerb.GRANT, worker, state.key)

    def _serve(self, pools: Iterable[LeasePool], now: float) -> list[LeasePlan]:
        """Give away what is free among these pools, then see to those who got nothing."""
        pools = [state for state in pools if state.key in self._hungry]
        plans: list[LeasePlan] = []
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
                        plans.append(self._grant(state, worker, now))
                        if state.accounts[worker].wanted:
                            left.append((since, worker, key))
                queue = left
        for state in pools:
            if state.key in self._hungry:
                plans += self._feed(state, now)
        return plans

    @staticmethod
    def _heir(account: LeaseAccount) -> Seat | None:
        """For whom a lease comes back.

        It does not say whether it was asked for or recalled. So nobody is asked while a recall is under way, and a
        recall takes the place of what was asked for: else a promise would be left that nobody knows of any more.
        """
        if account.asked is not None:
            heir, account.asked = account.asked, None
            return heir
        return account.recalls.popleft() if account.recalls else None

    def _break_promises(self, account: LeaseAccount) -> None:
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

    def _bequeath(self, giver: LeaseAccount, heir: Seat, now: float) -> list[LeasePlan]:
        """A lease came back for somebody: it is theirs, if they still wait."""
        self._unpromise(heir)
        state = self._pools.get(heir.pool)
        account = state.accounts.get(heir.worker) if state else None
        if state is None or account is None or not account.waits or self._blocked(state, True, now):
            return []
        if now - account.gave_at < MEMORY:
            account.gave_at = float("-inf")
            state.reversals = min(MOST, self._reversals(state, now) + 1)
            state.reversed_at = now
        giver.gave_at = now
        giver.load.restart()
        account.load.restart()
        return [self._grant(state, heir.worker, now)]

    @staticmethod
    def _reversals(state: LeasePool, now: float) -> int:
        return max(0, state.reversals - int((now - state.reversed_at) / FORGET))

    # ---- moving

    def _feed(self, state: LeasePool, now: float) -> list[LeasePlan]:
        """Somebody waits in this pool and nothing is free: have leases moved; note when to look again."""
        state.look_at = None
        reason = self._blocked(state, True, now)
        waiting = sorted((a.since, worker) for worker, a in state.accounts.items() if a.waits)
        if reason is None or not waiting:
            return []
        group = list(self._group(state.key, reason))
        plans: list[LeasePlan] = self._rescue(state, waiting, group, now)
        patience = LOGIN * 2 ** self._reversals(state, now)
        for since, worker in waiting:
            if now - since < (patience if state.accounts[worker].held else PATIENCE):
                self._look(state, since + PATIENCE if now - since < PATIENCE else since + patience)
                continue
            plans += self._ask_idle(Seat(worker, state.key), now - since, group, now)
        if len(group) > 1:
            plans += self._measure(group, now)
            plans += self._balance(state, waiting, group, now)
            self._look(state, now + LOOK)
        limits = state.limits
        opens = waiting[0][0] + limits.reserve_timeout
        if limits.reserve and opens > now:
            self._look(state, opens)
        return plans

    @staticmethod
    def _look(state: LeasePool, when: float) -> None:
        state.look_at = when if state.look_at is None else min(state.look_at, when)

    def _group(self, key: PoolKey, reason: str) -> Iterator[tuple[Seat, LeaseAccount]]:
        """All who share the limit that is reached, and hold or want something."""
        for other in self._pools.values():
            if (
                other.key == key
                or (reason == "database" and other.key[0] == key[0])
                or (reason == "user" and other.key[1] == key[1])
            ):
                for worker, account in other.accounts.items():
                    yield Seat(worker, other.key), account

    def _ask_idle(
        self, heir: Seat, waited: float, group: list[tuple[Seat, LeaseAccount]], now: float
    ) -> list[LeasePlan]:
        """Ask those without waiting clients, most leases first, as far as `heir` has need.

        For a worker that has waited for `LEND_AFTER` seconds servers are asked for that have rested for less, whatever
        is promised already: those that are busy may stay so.
        """
        plans = []
        account = self._pools[heir.pool].accounts[heir.worker]
        late = waited >= LEND_AFTER
        under_way = sum(donor.asked == heir for _, donor in group) if late else account.promised
        donors = [
            (seat, donor)
            for seat, donor in group
            if seat != heir
            and donor.stays > 0
            and donor.quiet_until <= now
            and not (donor.waits or donor.asked or donor.recalls)
        ]
        donors.sort(key=lambda pair: -pair[1].stays)
        for seat, donor in donors[: max(0, account.wanted - under_way)]:
            donor.asked = heir
            account.promised += 1
            plans.append(LeasePlan(LeaseVerb.ASK, *seat, rest=0.0 if late else LEND_AFTER))
        return plans

    def _rescue(
        self, state: LeasePool, waiting: list[tuple[float, int]], group: list[tuple[Seat, LeaseAccount]], now: float
    ) -> list[LeasePlan]:
        """For each who has nothing, recall a lease from who has most; an only one when its turn is over."""
        plans = []
        for since, worker in waiting:
            heir, account = Seat(worker, state.key), state.accounts[worker]
            if now - since < PATIENCE or account.promised or self._usable(heir, account):
                continue
            givers = [
                (number, seat, giver)
                for seat, giver in group
                if (number := self._usable(seat, giver)) > 1 or (number and now - giver.granted_at >= TURN)
            ]
            if givers:
                _, seat, giver = max(givers, key=lambda found: found[0])
                plans.append(self._recall(seat, giver, heir))
        return plans

    def _measure(self, group: list[tuple[Seat, LeaseAccount]], now: float) -> list[LeasePlan]:
        """Ask all what their clients go through."""
        plans = []
        for seat, account in group:
            if now >= account.measure_at:
                account.measure_at = now + MEASURE
                plans.append(LeasePlan(LeaseVerb.MEASURE, *seat))
        return plans

    def _balance(
        self, state: LeasePool, waiting: list[tuple[float, int]], group: list[tuple[Seat, LeaseAccount]], now: float
    ) -> list[LeasePlan]:
        """Move leases to where clients have waited longer for a while, if that pays."""
        takers = [(a.load.delay, worker, a) for _, worker in waiting if (a := state.accounts[worker]).load.known]
        if any(a.promised for *_, a in takers) or any(giver.recalls or giver.asked for _, giver in group):
            # Something is under way.
            return []
        best: tuple[int, Seat, LeaseAccount] | None = None
        if takers:
            _, worker, taker = max(takers, key=lambda found: found[0])
            heir, margin = Seat(worker, state.key), MARGIN * REVERSED ** self._reversals(state, now)
            for seat, giver in group:
                if seat != heir and giver.load.known:
                    gives, has = self._usable(seat, giver), self._usable(heir, taker)
                    kept = giver.stays - gives, taker.stays - has
                    number = min(taker.wanted, worth_moving(giver.load, gives, taker.load, has, kept, margin))
                    if number > (best[0] if best else 0):
                        best = number, seat, giver
        if best is None:
            state.uneven_since = None
        elif state.uneven_since is None:
            state.uneven_since = now
        elif now - state.uneven_since >= LASTING:
            state.uneven_since = None
            number, seat, giver = best
            return [self._recall(seat, giver, heir) for _ in range(number)]
        return []

    def _usable(self, seat: Seat, account: LeaseAccount) -> int:
        """Leases that stay there, but for those of servers that clients keep."""
        return account.stays - min(account.stays, self._pins(seat.pool, seat.worker))

    def _recall(self, seat: Seat, donor: LeaseAccount, heir: Seat | None) -> LeasePlan:
        if donor.asked is not None:
            self._unpromise(donor.asked)
            donor.asked = None
        donor.recalls.append(heir)
        if heir is not None:
            self._pools[heir.pool].accounts[heir.worker].promised += 1
        return LeasePlan(LeaseVerb.RECALL, *seat)

    def _shrink(self, state: LeasePool) -> list[LeasePlan]:
        """Recall what a lowered pool size no longer allows, from those who hold most."""
        plans: list[LeasePlan] = []
        size = state.limits.pool_size
        allowed = 0 if size < 0 else size + state.limits.reserve
        if size == 0:
            return plans
        for _ in range(sum(a.stays for a in state.accounts.values()) - allowed):
            worker, account = max(state.accounts.items(), key=lambda item: item[1].stays)
            plans.append(self._recall(Seat(worker, state.key), account, None))
        return plans
