"""The broker under a fake clock: limits hold, waiting is fair across workers, and leases do not wander about.

Each scenario runs clients in a closed loop (think, wait for a server, run a transaction) on workers that
behave as the docstrings of the messages say, with delays for messages and for opening a connection.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pglido.control.broker import Broker
from pglido.control.leases import Limits, Plan, Verb
from pglido.ipc.messages import WANT_INTERVAL, PoolKey

MESSAGE = 0.0001
OPEN = 0.005
P: PoolKey = ("db", "user")


@dataclass
class Desk:
    """What a simulated worker knows of one pool."""

    idle: int = 0
    opening: int = 0
    queue: deque[tuple[float, Client]] = field(default_factory=deque)
    granted: int = 0
    debt: int = 0
    told_at: float = -1.0
    told: int = 0
    timer: bool = False


@dataclass
class Client:
    worker: int
    pool: PoolKey
    run: float
    think: float
    waits: list[tuple[float, float]] = field(default_factory=list)


class World:
    """Workers, clients and the broker on one simulated clock."""

    def __init__(self, limits: Limits | dict[PoolKey, Limits], seed: int = 1) -> None:
        self.now = 100.0
        self.random = random.Random(seed)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.limits = limits
        self.broker = Broker(self.limits_of)
        self.desks: dict[tuple[int, PoolKey], Desk] = {}
        self.clients: list[Client] = []
        self.dead: set[int] = set()
        self.moves: list[tuple[float, Plan]] = []
        self.asks = 0
        self.wants = 0
        self.peak: Counter[str] = Counter()
        self.tick_at = float("inf")

    def limits_of(self, pool: PoolKey) -> Limits | None:
        return self.limits.get(pool) if isinstance(self.limits, dict) else self.limits

    def desk(self, worker: int, pool: PoolKey) -> Desk:
        return self.desks.setdefault((worker, pool), Desk())

    def at(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.serial), what))

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, what = heapq.heappop(self.events)
            what()
        self.now = end
        return self

    # ---- the broker's side

    def carry_out(self, plans: list[Plan]) -> None:
        for plan in plans:
            if plan.verb is not Verb.GRANT:
                self.asks += plan.verb is Verb.ASK
                if plan.verb is Verb.RECALL:
                    self.moves.append((self.now, plan))
            self.at(MESSAGE, lambda plan=plan: self.told(plan))  # type: ignore[misc]
        for pool in {pool for _, pool in self.desks}:
            self.peak[f"pool {pool}"] = max(self.peak[f"pool {pool}"], self.broker.held(pool))
        for name in {pool[0] for _, pool in self.desks}:
            self.peak[name] = max(self.peak[name], self.broker.database_total(name))
        due = self.broker.due()
        if due is not None and due < self.tick_at:
            self.tick_at = due
            self.at(max(0.0, due - self.now), self.tick)

    def tick(self) -> None:
        self.tick_at = float("inf")
        self.carry_out(self.broker.tick(self.now))

    def tell(self, worker: int, event: Callable[[], list[Plan]]) -> None:
        self.at(MESSAGE, lambda: None if worker in self.dead else self.carry_out(event()))

    # ---- a worker's side

    def told(self, plan: Plan) -> None:
        worker, pool = plan.worker, plan.pool
        if worker in self.dead:
            return
        desk = self.desk(worker, pool)
        if plan.verb is Verb.GRANT:
            desk.granted += 1
            desk.opening += 1
            desk.told = max(0, desk.told - 1)
            self.at(OPEN, lambda: self.opened(worker, pool))
        elif desk.idle:
            desk.idle -= 1
            self.give_back(worker, pool)
        elif plan.verb is Verb.ASK:
            self.tell(worker, lambda: self.broker.kept(worker, pool, self.now))
        else:
            desk.debt += 1

    def opened(self, worker: int, pool: PoolKey) -> None:
        self.desk(worker, pool).opening -= 1
        self.release(worker, pool)

    def give_back(self, worker: int, pool: PoolKey) -> None:
        self.tell(worker, lambda: self.broker.returned(worker, pool, 1, self.now))

    def release(self, worker: int, pool: PoolKey) -> None:
        if worker in self.dead:
            return
        desk = self.desk(worker, pool)
        if desk.debt:
            desk.debt -= 1
            self.give_back(worker, pool)
        elif desk.queue:
            since, client = desk.queue.popleft()
            self.start(client, since)
        else:
            desk.idle += 1
        self.wish(worker, pool)

    def wish(self, worker: int, pool: PoolKey) -> None:
        desk = self.desk(worker, pool)
        count = max(0, len(desk.queue) - desk.opening)
        if desk.timer or count == desk.told:
            return
        wait = desk.told_at + WANT_INTERVAL - self.now
        if wait > 0:
            desk.timer = True
            self.at(wait, lambda: self.wish_later(worker, pool))
            return
        self.wants += 1
        desk.told_at, desk.told = self.now, count
        since = desk.queue[0][0] if desk.queue else self.now
        granted = desk.granted
        self.tell(worker, lambda: self.broker.want(worker, pool, since, count, granted, True, self.now))

    def wish_later(self, worker: int, pool: PoolKey) -> None:
        self.desk(worker, pool).timer = False
        if worker not in self.dead:
            self.desk(worker, pool).told = -1  # `since` has changed in any case
            self.wish(worker, pool)

    # ---- clients

    def add_clients(
        self, number: int, worker: int, run: float, think: float, pool: PoolKey = P
    ) -> list[Client]:
        made = [Client(worker, pool, run, think) for _ in range(number)]
        for client in made:
            self.at(self.random.random() * 0.02, lambda client=client: self.arrive(client))  # type: ignore[misc]
        self.clients += made
        return made

    def arrive(self, client: Client) -> None:
        if client.worker in self.dead:
            return
        desk = self.desk(client.worker, client.pool)
        if desk.idle:
            desk.idle -= 1
            self.start(client, self.now)
        else:
            desk.queue.append((self.now, client))
            self.wish(client.worker, client.pool)

    def start(self, client: Client, since: float) -> None:
        client.waits.append((self.now, self.now - since))
        duration = client.run * self.random.uniform(0.5, 1.5)
        self.at(duration, lambda: self.release(client.worker, client.pool))
        if client.think < float("inf"):
            self.at(duration + client.think * self.random.uniform(0.5, 1.5), lambda: self.arrive(client))

    def kill(self, worker: int) -> None:
        self.dead.add(worker)
        self.carry_out(self.broker.died(worker, self.now))


def mean(clients: list[Client], after: float) -> float:
    waits = [wait for client in clients for when, wait in client.waits if when >= after]
    return sum(waits) / len(waits)


def worst(clients: list[Client], after: float) -> float:
    return max(wait for client in clients for when, wait in client.waits if when >= after)


def served(world: World, after: float) -> int:
    return sum(when >= after for client in world.clients for when, _ in client.waits)


def test_equal_workers_get_equal_shares_and_keep_them():
    world = World(Limits(20))
    left = world.add_clients(100, 0, run=0.005, think=0.001)
    right = world.add_clients(100, 1, run=0.005, think=0.001)
    world.run(2)
    settled, settled_at = len(world.moves), world.now
    world.run(10)
    assert world.peak[f"pool {P}"] == 20
    assert abs(world.broker.held(P, 0) - world.broker.held(P, 1)) <= 2
    assert len(world.moves) - settled <= 4
    assert mean(left, settled_at) == pytest.approx(mean(right, settled_at), rel=0.25)
    assert served(world, settled_at) >= 0.97 * 10 * 20 / 0.005


def test_shares_follow_the_number_of_clients():
    world = World(Limits(20))
    few = world.add_clients(20, 0, run=0.005, think=0.001)
    many = world.add_clients(180, 1, run=0.005, think=0.001)
    world.run(3)
    start = world.now
    world.run(10)
    assert world.broker.held(P, 1) > 2 * world.broker.held(P, 0)
    assert mean(many, start) < 2 * mean(few, start) + 0.01
    assert served(world, start) >= 0.95 * 10 * 20 / 0.005


def test_idle_leases_move_to_where_they_are_needed():
    world = World(Limits(10))
    first = world.add_clients(50, 0, run=0.005, think=float("inf"))
    world.run(5)
    assert all(client.waits for client in first)
    assert world.broker.held(P, 0) == 10
    second = world.add_clients(50, 1, run=0.005, think=0.001)
    world.run(0.2)
    assert world.broker.held(P, 1) == 10
    assert worst(second, 0) < 0.15


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fewer_servers_than_workers_starve_nobody(size):
    world = World(Limits(size))
    for worker in range(4):
        world.add_clients(10, worker, run=0.005, think=0.001)
    world.run(30)
    start = world.now
    world.run(30)
    for worker in range(4):
        mine = [client for client in world.clients if client.worker == worker]
        assert worst(mine, start) < 3
    assert served(world, start) >= 0.8 * 30 * size / 0.005
    assert world.peak[f"pool {P}"] == size


def test_the_reserve_opens_only_after_its_timeout():
    world = World(Limits(2, reserve=3, reserve_timeout=1.0))
    world.add_clients(10, 0, run=5.0, think=0.001)
    world.run(0.9)
    assert world.peak[f"pool {P}"] == 2
    world.run(0.3)
    assert world.peak[f"pool {P}"] == 5
    world.run(20)
    assert world.peak[f"pool {P}"] == 5


def test_a_database_limit_holds_over_pools_and_is_shared_between_them():
    other: PoolKey = ("db", "other")
    world = World(Limits(20, database=10))
    world.add_clients(50, 0, run=0.005, think=0.001)
    world.run(2)
    assert world.broker.held(P) == 10
    late = world.add_clients(50, 1, run=0.005, think=0.001, pool=other)
    world.run(3)
    start = world.now
    world.run(5)
    assert world.peak["db"] == 10
    assert 3 <= world.broker.held(other) <= 7
    assert worst(late, start) < 1


def test_an_idle_pool_makes_room_for_another_of_the_same_user():
    elsewhere: PoolKey = ("db2", "user")
    world = World(Limits(20, user=5))
    world.add_clients(20, 0, run=0.005, think=float("inf"))
    world.run(1)
    assert world.broker.held(P) == 5
    late = world.add_clients(5, 0, run=0.005, think=0.01, pool=elsewhere)
    world.run(1)
    assert world.broker.user_total("user") == 5
    assert worst(late, 0) < 0.15


def test_a_dead_workers_leases_serve_the_others():
    world = World(Limits(20))
    world.add_clients(100, 0, run=0.005, think=0.001)
    world.add_clients(100, 1, run=0.005, think=0.001)
    world.run(3)
    world.kill(0)
    world.run(0.2)
    assert world.broker.held(P, 0) == 0
    assert world.broker.held(P, 1) == 20


def test_a_worker_busy_with_long_transactions_gives_up_some_when_they_end():
    world = World(Limits(10))
    world.add_clients(10, 0, run=1.0, think=0.001)
    world.run(1)
    late = world.add_clients(10, 1, run=0.005, think=0.001)
    world.run(10)
    assert worst(late, 0) < 2.5
    assert world.broker.held(P, 1) >= 1


def test_a_busy_pool_costs_no_message_per_transaction():
    world = World(Limits(20))
    world.add_clients(100, 0, run=0.001, think=0.001)
    world.add_clients(100, 1, run=0.001, think=0.001)
    world.run(10)
    assert served(world, 0) > 100_000
    assert world.wants + world.asks + len(world.moves) < 1000


@pytest.mark.parametrize("seed", range(5))
def test_random_crowds_never_exceed_a_limit_and_all_get_served(seed):
    chance = random.Random(seed)
    pools = [(f"db{number % 2}", f"user{number % 3}") for number in range(6)]
    world = World({pool: Limits(chance.randint(1, 6), database=8, user=7) for pool in pools}, seed)
    for _ in range(20):
        world.add_clients(
            chance.randint(1, 15),
            chance.randrange(4),
            chance.uniform(0.001, 0.05),
            0.01,
            chance.choice(pools),
        )
    world.run(10)
    assert all(world.peak[f"pool {pool}"] <= world.limits_of(pool).pool_size for pool in pools)  # type: ignore[union-attr]
    assert max(world.peak["db0"], world.peak["db1"]) <= 8
    assert worst(world.clients, 0) < 8
    assert all(client.waits for client in world.clients)


@pytest.mark.parametrize("pinned", [True, False])
def test_what_clients_keep_is_nothing_that_others_could_use(pinned):
    """Worker 0 holds more, but all of it is kept; worker 1 has the one server that can be used."""
    pool = ("db", "user")
    kept = {0: 3, 1: 1} if pinned else {}
    broker = Broker(lambda pool: Limits(5), lambda pool, worker: kept.get(worker, 0))
    for worker, leases in ((0, 3), (1, 2)):
        assert len(broker.want(worker, pool, 1.0, leases, 0, True, 1.0)) == leases
    assert broker.want(0, pool, 2.0, 1, 3, True, 2.0) == []
    moved = broker.want(1, pool, 3.0, 1, 2, True, 3.0)
    assert moved == ([Plan(Verb.RECALL, 1, pool)] if pinned else [])
    assert broker.tick(3.5) == []


def test_what_comes_back_for_a_recall_is_not_taken_for_what_was_asked_for_meanwhile():
    """Worker 1 has two leases to spare when it is asked for one and another is recalled; later it has four."""
    broker = Broker(lambda pool: Limits(20))
    for worker, leases in ((0, 6), (1, 14)):
        assert len(broker.want(worker, P, 1.0, leases, 0, True, 1.0)) == leases
    assert broker.want(0, P, 2.0, 6, 6, True, 2.0) == []
    for now, spare in ((2.1, 2), (3.0, 4)):
        said = deque(broker.tick(now))
        assert Plan(Verb.ASK, 1, P) in said
        while said:
            verb = said.popleft().verb
            if verb is not Verb.GRANT and spare:
                spare -= 1
                said += broker.returned(1, P, 1, now)
            elif verb is Verb.ASK:
                said += broker.kept(1, P, now)
    assert broker.held(P, 0) == 12
