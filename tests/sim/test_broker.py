"""The broker under a fake clock: limits hold, and waiting is fair across workers."""

from __future__ import annotations

import random
from collections import deque

import pytest

from harness.world import P, World, mean, served, worst
from pglido.config.model import PoolKey
from pglido.pooling.broker import Broker
from pglido.pooling.leases import LeaseLimits, LeasePlan, LeaseVerb


def test_equal_workers_get_equal_shares_and_keep_them():
    world = World(LeaseLimits(20))
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
    world = World(LeaseLimits(20))
    few = world.add_clients(20, 0, run=0.005, think=0.001)
    many = world.add_clients(180, 1, run=0.005, think=0.001)
    world.run(3)
    start = world.now
    world.run(10)
    assert world.broker.held(P, 1) > 2 * world.broker.held(P, 0)
    assert mean(many, start) < 2 * mean(few, start) + 0.01
    assert served(world, start) >= 0.95 * 10 * 20 / 0.005


def test_idle_leases_move_to_where_they_are_needed():
    world = World(LeaseLimits(10))
    first = world.add_clients(50, 0, run=0.05, think=float("inf"))
    world.run(5)
    assert all(client.waits for client in first)
    assert world.broker.held(P, 0) == 10
    second = world.add_clients(50, 1, run=0.005, think=0.001)
    world.run(0.2)
    assert world.broker.held(P, 1) == 10
    assert worst(second, 0) < 0.15


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fewer_servers_than_workers_starve_nobody(size):
    world = World(LeaseLimits(size))
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
    world = World(LeaseLimits(2, reserve=3, reserve_timeout=1.0))
    world.add_clients(10, 0, run=5.0, think=0.001)
    world.run(0.9)
    assert world.peak[f"pool {P}"] == 2
    world.run(0.3)
    assert world.peak[f"pool {P}"] == 5
    world.run(20)
    assert world.peak[f"pool {P}"] == 5


def test_a_database_limit_holds_over_pools_and_is_shared_between_them():
    other: PoolKey = ("db", "other")
    world = World(LeaseLimits(20, database=10))
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
    world = World(LeaseLimits(20, user=5))
    world.add_clients(20, 0, run=0.005, think=float("inf"))
    world.run(1)
    assert world.broker.held(P) == 5
    late = world.add_clients(5, 0, run=0.005, think=0.01, pool=elsewhere)
    world.run(1)
    assert world.broker.user_total("user") == 5
    assert worst(late, 0) < 0.15


def test_a_dead_workers_leases_serve_the_others():
    world = World(LeaseLimits(20))
    world.add_clients(100, 0, run=0.005, think=0.001)
    world.add_clients(100, 1, run=0.005, think=0.001)
    world.run(3)
    world.kill(0)
    world.run(0.2)
    assert world.broker.held(P, 0) == 0
    assert world.broker.held(P, 1) == 20


def test_a_worker_busy_with_long_transactions_gives_up_some_when_they_end():
    world = World(LeaseLimits(10))
    world.add_clients(10, 0, run=1.0, think=0.001)
    world.run(1)
    late = world.add_clients(10, 1, run=0.005, think=0.001)
    world.run(10)
    assert worst(late, 0) < 2.5
    assert world.broker.held(P, 1) >= 1


def test_a_busy_pool_costs_no_message_per_transaction():
    world = World(LeaseLimits(20))
    world.add_clients(100, 0, run=0.001, think=0.001)
    world.add_clients(100, 1, run=0.001, think=0.001)
    world.run(10)
    assert served(world, 0) > 100_000
    assert world.messages < 1000


@pytest.mark.parametrize("seed", range(5))
def test_random_crowds_never_exceed_a_limit_and_all_get_served(seed):
    chance = random.Random(seed)
    pools = [(f"db{number % 2}", f"user{number % 3}") for number in range(6)]
    world = World({pool: LeaseLimits(chance.randint(1, 6), database=8, user=7) for pool in pools}, seed)
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


def measures(*workers: int) -> list[LeasePlan]:
    """These are asked what their clients go through."""
    return [LeasePlan(LeaseVerb.MEASURE, worker, P) for worker in workers]


@pytest.mark.parametrize("pinned", [True, False])
def test_what_clients_keep_is_nothing_that_others_could_use(pinned):
    """Worker 0 holds more, but all of it is kept; worker 1 has the one server that can be used."""
    kept = {0: 3, 1: 1} if pinned else {}
    broker = Broker(lambda pool: LeaseLimits(5), lambda pool, worker: kept.get(worker, 0))
    for worker, leases in ((0, 3), (1, 2)):
        assert broker.want(worker, P, 1.0, leases, 0, True, 1.0) == [LeasePlan(LeaseVerb.GRANT, worker, P)] * leases
    assert broker.want(0, P, 2.0, 1, 3, True, 2.0) == measures(0, 1)
    moved = [LeasePlan(LeaseVerb.RECALL, 1, P)] if pinned else []
    assert broker.want(1, P, 3.0, 1, 2, True, 3.0) == moved + measures(0, 1)
    assert broker.tick(3.5) == measures(0, 1)


def test_what_comes_back_for_a_recall_is_not_taken_for_what_was_asked_for_meanwhile():
    """Worker 1 is asked for what it has idle, for worker 0; then one of its leases is recalled for worker 2, which has
    none. It gives up two, and later two more.
    """
    broker = Broker(lambda pool: LeaseLimits(20))
    for worker, leases in ((0, 6), (1, 14)):
        assert broker.want(worker, P, 1.0, leases, 0, True, 1.0) == [LeasePlan(LeaseVerb.GRANT, worker, P)] * leases
    assert broker.want(0, P, 2.0, 3, 6, True, 2.0) == measures(0, 1)
    said = deque(broker.tick(2.06))
    assert list(said) == [LeasePlan(LeaseVerb.ASK, 1, P)]
    said += broker.want(2, P, 2.05, 1, 0, True, 2.1)
    assert list(said) == [LeasePlan(LeaseVerb.ASK, 1, P), LeasePlan(LeaseVerb.RECALL, 1, P), *measures(2)]
    measured = []
    for now, spare in ((2.1, 2), (3.0, 2)):
        while said:
            verb, worker, *_ = plan = said.popleft()
            if verb is LeaseVerb.MEASURE:
                measured.append(plan)
            elif verb is LeaseVerb.GRANT:
                continue
            elif worker == 1 and spare:
                spare -= 1
                said += broker.returned(1, P, 1, now)
            elif verb is LeaseVerb.ASK:
                said += broker.kept(worker, P, now)
        said += broker.tick(now + 0.5)
    assert measured == measures(2, 0, 1, 2)
    assert not said
    assert [broker.held(P, worker) for worker in range(3)] == [9, 10, 1]
