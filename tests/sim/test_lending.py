"""Pools of several workers and the broker together: nobody waits while a server that it could have rests.

Real `Pool`s and a real `Broker` under a fake clock; random bursts of clients of several users and databases, under
every kind of limit.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from pglido.config.model import PoolKey
from pglido.ipc.messages import Load
from pglido.pooling import limits as _limits
from pglido.pooling.broker import Broker
from pglido.pooling.leases import LEND_AFTER, LeaseLimits, LeaseVerb
from pglido.pooling.pool import Plan, Pool, ServerSlot
from pglido.pooling.pool import Verb as Does
from pglido.pooling.states import CLOSING, IDLE

MESSAGE, OPEN, TICK, FAST_TICK = 0.0002, 0.005, 0.333, 0.05
# Seconds that it may take until a server that may be lent is there, besides: rounds of the broker, messages, the login.
SLACK = 0.5
STARTUP = object()


class World:
    """Workers with a pool of each kind, and what their clients do; `limits` by pool."""

    def __init__(self, workers: int, limits: dict[PoolKey, LeaseLimits], seed: int = 1) -> None:
        self.now = 100.0
        self.random = random.Random(seed)
        self.limits = limits
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.broker = Broker(limits.get)
        bounds = _limits.Limits(startup_params=STARTUP, wait_timeout=0.0, wait_notify=0.0)
        places = itertools.product(range(workers), limits)
        self.pools = {(worker, key): Pool(key, bounds, self.random.random) for worker, key in places}
        self.planned: set[tuple[int, PoolKey]] = set()
        self.tick_at = float("inf")
        self.served = 0
        self.opened = 0
        self.resting: dict[PoolKey, float] = {}
        self.complaints: list[str] = []
        for place in self.pools:
            self.at(self.random.random() * TICK, lambda place=place: self.tick(*place))
        self.at(0.0, self.watch)

    def at(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.serial), what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, what = heapq.heappop(self.events)
            what()
        self.now = end

    # ---- the broker

    def say(self, event: Callable[[], list[Any]]) -> None:
        self.at(MESSAGE, lambda: self.carry_out(event()))

    def carry_out(self, plans: list[Any]) -> None:
        for plan in plans:
            self.at(MESSAGE, lambda plan=plan: self.hear(plan))
        due = self.broker.due()
        if due is not None and due < self.tick_at:
            self.tick_at = due
            self.at(max(0.001, due - self.now), self.broker_ticks)

    def broker_ticks(self) -> None:
        self.tick_at = float("inf")
        self.carry_out(self.broker.tick(self.now))

    def hear(self, plan: Any) -> None:
        pool = self.pools[plan.worker, plan.pool]
        if plan.verb is LeaseVerb.GRANT:
            pool.grant()
            self.plan(plan.worker, plan.pool)
        elif plan.verb is LeaseVerb.MEASURE:
            wait, assignments, busy, clients = pool.load(self.now)
            load = Load(plan.pool, wait, assignments, busy, clients)
            self.say(lambda: self.broker.measured(plan.worker, plan.pool, load, self.now))
        else:
            for answer in pool.recall(plan.verb is LeaseVerb.ASK, self.now, plan.rest):
                self.do(plan.worker, plan.pool, answer)

    # ---- workers

    def tick(self, worker: int, key: PoolKey) -> None:
        self.plan(worker, key)
        pool = self.pools[worker, key]
        self.at(FAST_TICK if pool.line.size > pool.opening else TICK, lambda: self.tick(worker, key))

    def plan_soon(self, worker: int, key: PoolKey) -> None:
        if (worker, key) not in self.planned:
            self.planned.add((worker, key))
            self.at(0.0, lambda: self.plan(worker, key))

    def plan(self, worker: int, key: PoolKey) -> None:
        self.planned.discard((worker, key))
        for plan in self.pools[worker, key].plan(self.now):
            self.do(worker, key, plan)

    def do(self, worker: int, key: PoolKey, plan: Plan) -> None:
        pool = self.pools[worker, key]
        broker, slot, number = self.broker, plan.slot, plan.number
        if plan.verb is Does.CONNECT:
            assert slot is not None
            self.at(OPEN, lambda: self.connected(worker, slot))
        elif plan.verb is Does.CHECK:
            assert slot is not None
            self.at(0.001, lambda: self.give(worker, slot))
        elif plan.verb is Does.CLOSE:
            assert slot is not None
            pool.closed_slot(slot)
            self.plan_soon(worker, key)
        elif plan.verb is Does.WANT:
            since = pool.oldest_wait()
            moment, granted = self.now if since is None else since, pool.granted
            self.say(lambda: broker.want(worker, key, moment, number, granted, since is not None, self.now))
        elif plan.verb is Does.RETURN:
            self.say(lambda: broker.returned(worker, key, number, self.now))
        elif plan.verb is Does.KEPT:
            self.say(lambda: broker.kept(worker, key, self.now))

    def connected(self, worker: int, slot: ServerSlot) -> None:
        self.opened += 1
        slot.pool.opened(slot, self.now)
        self.give(worker, slot)

    def give(self, worker: int, slot: ServerSlot) -> None:
        ticket = slot.pool.freed(slot, STARTUP, self.now)
        if ticket is not None:
            self.serve(worker, slot, ticket.client)
        elif slot.state == CLOSING:
            slot.pool.closed_slot(slot)
            self.plan_soon(worker, slot.pool.key)
        elif slot.pool.line.size:
            self.plan_soon(worker, slot.pool.key)

    # ---- clients

    def arrive(self, worker: int, key: PoolKey, run: float) -> None:
        pool = self.pools[worker, key]
        slot = pool.take(STARTUP, STARTUP, self.now)
        if slot is not None:
            self.serve(worker, slot, run)
            return
        pool.wait(run, STARTUP, STARTUP, self.now)
        if pool.needs_plan(self.now):
            self.plan_soon(worker, key)

    def serve(self, worker: int, slot: ServerSlot, run: float) -> None:
        self.served += 1
        self.at(run, lambda: self.give(worker, slot))

    def loop(self, worker: int, key: PoolKey, run: float, think: float) -> None:
        """A client that asks again and again, whether it is answered or not."""
        self.arrive(worker, key, run)
        self.at(think, lambda: self.loop(worker, key, run, think))

    # ---- what is promised

    def watch(self) -> None:
        """Does somebody wait, though a server that it could have has rested all the time?"""
        for key in self.limits:
            waits = [since for (_, other), pool in self.pools.items() if other == key and (since := pool.oldest_wait())]
            if not waits or not self.could_have(key):
                self.resting.pop(key, None)
                continue
            since = max(min(waits), self.resting.setdefault(key, self.now))
            if self.now - since > LEND_AFTER + SLACK:
                self.complaints.append(f"{self.now:.2f} {key}: {self}")
        self.at(0.01, self.watch)

    def could_have(self, key: PoolKey) -> bool:
        """Does a server rest whose lease would let one be opened for this pool?"""
        limits, (database, user) = self.limits[key], key
        resting = {other for (_, other), pool in self.pools.items() if pool.count(IDLE)}
        full = self.broker.held(key) >= limits.pool_size + limits.reserve
        if full:
            return key in resting
        full_database = bool(limits.database) and self.broker.database_total(database) >= limits.database
        full_user = bool(limits.user) and self.broker.user_total(user) >= limits.user
        return any(
            (not full_database or other[0] == database) and (not full_user or other[1] == user) for other in resting
        )

    def __repr__(self) -> str:
        pools = [f"{worker}:{pool}" for (worker, _), pool in self.pools.items() if pool.slots or pool.line.size]
        return f"{self.broker} {' '.join(pools)}"


KEYS: list[PoolKey] = [("db", "a"), ("db", "b"), ("other", "a")]


def test_idle_servers_that_are_used_now_and_then_give_way() -> None:
    """max_db_connections = 3: one user's servers are used within each second, the other has one and needs two."""
    world = World(1, dict.fromkeys(KEYS[:2], LeaseLimits(20, database=3)))
    for number in range(2):
        world.at(number * 0.001, lambda: world.loop(0, KEYS[0], 0.01, 0.4))
    world.run(1)
    world.arrive(0, KEYS[1], 30.0)
    world.run(0.5)
    world.arrive(0, KEYS[1], 0.01)
    world.run(10)
    assert world.complaints == []
    assert not world.pools[0, KEYS[1]].line.size


@pytest.mark.parametrize("seed", range(60))
def test_nobody_waits_while_a_server_that_it_could_have_rests(seed: int) -> None:
    chance = random.Random(seed)
    limits = {
        key: LeaseLimits(
            chance.choice([1, 2, 3, 20]),
            reserve=chance.choice([0, 0, 1]),
            reserve_timeout=1.0,
            database=chance.choice([0, 3, 4]),
            user=chance.choice([0, 2, 3]),
        )
        for key in KEYS
    }
    # A limit of a database or user is the same for all its pools.
    for key in KEYS:
        same_database = next(other for other in KEYS if other[0] == key[0])
        same_user = next(other for other in KEYS if other[1] == key[1])
        limits[key] = limits[key]._replace(database=limits[same_database].database, user=limits[same_user].user)
    world = World(chance.choice([1, 2, 3]), limits, seed)
    workers = len({worker for worker, _ in world.pools})
    for _ in range(chance.randint(1, 3)):
        world.loop(chance.randrange(workers), chance.choice(KEYS), 0.01, chance.uniform(0.2, 0.9))
    for _ in range(25):
        world.run(chance.uniform(0.0, 2.0))
        worker, key = chance.randrange(workers), chance.choice(KEYS)
        run = chance.choice([0.001, 0.01, 0.1, 1.0, 8.0])
        for _ in range(chance.choice([1, 2, 5])):
            world.arrive(worker, key, run)
    assert world.complaints == []
    world.run(40)
    assert world.complaints == []
