"""Leases stay where they are under any steady load, and follow one that changes within seconds."""

from __future__ import annotations

import random

import pytest

from harness.world import P, World, mean, served, worst
from pglido.ipc.messages import Load as Told
from pglido.pooling.balance import LOGIN, RecentLoad, worth_moving
from pglido.pooling.broker import FORGET, Broker
from pglido.pooling.leases import LeaseLimits, LeaseVerb

# Pool size, how long workers stall, and per worker: clients, seconds of a transaction, seconds between two.
STEADY = {
    "even": (10, 0.0, [(50, 0.02, 0.004), (50, 0.02, 0.004)]),
    "even, with stalls": (10, 0.005, [(50, 0.02, 0.004), (50, 0.02, 0.004)]),
    "nearly even": (10, 0.005, [(46, 0.02, 0.004), (54, 0.02, 0.004)]),
    "an odd number of servers": (5, 0.003, [(7, 0.02, 0.0), (8, 0.02, 0.0)]),
    "three workers": (7, 0.003, [(10, 0.02, 0.01), (11, 0.02, 0.01), (12, 0.02, 0.01)]),
    "four workers, seven servers": (7, 0.0, [(20, 0.02, 0.01)] * 4),
    "nearly all busy": (6, 0.003, [(30, 0.02, 0.2), (30, 0.02, 0.2)]),
    "many short ones": (2, 0.003, [(10, 0.004, 0.0), (10, 0.004, 0.0)]),
    "skewed": (10, 0.003, [(10, 0.02, 0.004), (90, 0.02, 0.004)]),
    "skewed, with three servers": (3, 0.003, [(5, 0.02, 0.004), (50, 0.02, 0.004)]),
    "one that hardly works": (10, 0.003, [(60, 0.02, 0.004), (3, 0.02, 0.5)]),
    "long beside short": (6, 0.0, [(8, 1.0, 0.001), (8, 0.02, 0.001)]),
    "long ones": (10, 0.0, [(20, 2.0, 0.1), (20, 2.0, 0.1)]),
}


def at_work(size: int, stall: float, workers: list[tuple[int, float, float]], seed: int = 1) -> World:
    world = World(LeaseLimits(size), seed, stall)
    for worker, (clients, run, think) in enumerate(workers):
        world.add_clients(clients, worker, run, think)
    return world


@pytest.mark.parametrize("name", STEADY)
def test_no_server_is_closed_in_a_minute_of_steady_load(name: str) -> None:
    world = at_work(*STEADY[name])
    world.run(30)
    world.run(60)
    assert world.closed_since(130) == 0


@pytest.mark.parametrize("seed", range(6))
def test_no_random_load_keeps_leases_moving(seed: int) -> None:
    """Whatever the forecast gets wrong, a move that is undone makes the next one harder."""
    chance = random.Random(seed)
    workers = [
        (chance.randint(1, 20), chance.choice([0.03, 0.1, 0.5]), chance.choice([0.0, 0.05, 0.3, 2.0]))
        for _ in range(chance.randint(2, 4))
    ]
    world = at_work(chance.randint(len(workers), 12), chance.choice([0.0, 0.004]), workers, seed)
    world.run(120)
    assert world.closed_since(160) <= 2, workers


@pytest.mark.parametrize("seed", range(3))
def test_leases_follow_a_load_that_changes_within_seconds(seed: int) -> None:
    world = at_work(10, 0.003, [(50, 0.02, 0.004), (50, 0.02, 0.004)], seed)
    world.run(20)
    few = world.clients[50:60]
    world.leave(world.clients[60:])
    more = world.add_clients(40, 0, 0.02, 0.004)
    world.run(5)
    changed = world.now
    world.run(10)
    assert mean(more, changed) < 1.5 * mean(few, changed)
    assert world.closed_since(changed) <= 1
    assert served(world, changed) >= 0.9 * 10 * 10 / 0.02


def test_a_worker_without_servers_gets_one_from_busy_others_at_once() -> None:
    world = at_work(6, 0.0, [(30, 0.05, 0.001), (30, 0.05, 0.001)])
    world.run(10)
    late = world.add_clients(1, 2, 0.05, 0.001)
    world.run(5)
    assert late[0].waits[0][1] < 0.1
    assert worst(late, 0) < 0.1


def test_one_server_goes_round_by_turns_and_not_for_each_transaction() -> None:
    world = at_work(1, 0.0, [(10, 0.005, 0.0), (10, 0.005, 0.0)])
    world.run(20)
    world.run(10)
    assert 10 <= world.closed_since(120) <= 22
    assert worst(world.clients, 120) < 1


def test_servers_that_clients_keep_are_nobody_elses() -> None:
    """Worker 0 holds most, and can use as many as worker 1."""
    world = World(LeaseLimits(10), 1)
    world.add_clients(4, 0, 0.02, 0.1, keeps=True)
    world.run(1)
    mine, theirs = world.add_clients(30, 0, 0.02, 0.0), world.add_clients(30, 1, 0.02, 0.0)
    world.run(20)
    assert (world.broker.held(P, 0), world.broker.held(P, 1)) == (7, 3)
    assert mean(mine, 115) == pytest.approx(mean(theirs, 115), rel=0.1)


# The forecast.


def load(clients: int, servers: int, work: float = 0.01, seconds: float = 2.0) -> RecentLoad:
    """Of so many clients without a pause, on servers that are always busy."""
    told = RecentLoad()
    told.learn(0.0, 0, 0.0, 0, 0.0)
    rate = servers / work
    told.learn((clients - servers) * seconds, int(rate * seconds), servers * seconds, clients, seconds)
    return told


def test_a_share_that_is_rounded_is_left_alone() -> None:
    for clients, giver, taker in ((50, 10, 9), (50, 6, 5), (50, 2, 1), (47, 10, 10)):
        assert worth_moving(load(clients, giver), giver, load(50, taker), taker, (0, 0), 1.0) == 0
    assert worth_moving(load(50, 10), 10, load(65, 10), 10, (0, 0), 1.0) == 1


def test_all_move_at_once_that_make_it_even() -> None:
    assert worth_moving(load(20, 10), 10, load(180, 10), 10, (0, 0), 1.25) == 8


def test_the_last_server_stays() -> None:
    assert worth_moving(load(2, 1), 1, load(180, 10), 10, (0, 0), 1.25) == 0


def test_what_is_saved_must_outweigh_a_login() -> None:
    """One client in five seconds waits for a hundredth of a second, while another worker's servers rest."""
    busy, rests = RecentLoad(), RecentLoad()
    for time in (0, 2):
        rests.learn(0.0, 0, 0.0, 0, float(time))
        busy.learn(0.005 * time, time // 2, 0.01 * time, 1, float(time))
    assert busy.rate * busy.delay < LOGIN
    assert worth_moving(rests, 5, busy, 1, (0, 0), 1.0) == 0


def test_what_chance_adds_counts_where_servers_are_not_all_busy() -> None:
    """Three servers for what keeps one and a half busy: with one less clients would wait, though none do now."""
    told = RecentLoad()
    told.learn(0.0, 0, 0.0, 0, 0.0)
    told.learn(0.0, 30, 3.0, 10, 2.0)
    assert told.delay == 0
    assert told.delay_with(3, 0) < 0.02 < told.delay_with(2, 0) < 0.2
    assert told.delay_with(1, 0) > 0.1


# Moves that are undone.


def test_each_move_that_is_undone_makes_the_next_harder_until_that_is_forgotten() -> None:
    broker = Broker(lambda pool: LeaseLimits(4))
    now = 1.0
    for worker in (0, 1):
        assert len(broker.want(worker, P, now, 2, 0, True, now)) == 2
    granted = {0: 2, 1: 2}

    def waits_before_it_asks(heir: int, giver: int) -> float:
        """Worker `heir` begins to wait; after how long is `giver` asked for what rests there?"""
        nonlocal now
        begin = now = now + 10
        plans = broker.want(heir, P, begin, 1, granted[heir], True, now)
        while not any(plan.verb is LeaseVerb.ASK and plan.worker == giver for plan in plans):
            now += 0.01
            plans = broker.tick(now)
        took = now - begin
        granted[heir] += sum(plan.verb is LeaseVerb.GRANT for plan in broker.returned(giver, P, 1, now))
        broker.want(heir, P, now, 0, granted[heir], True, now)
        return took

    waited = [waits_before_it_asks(turn % 2, (turn + 1) % 2) for turn in range(6)]
    assert waited == pytest.approx([0.05, 0.05, 0.1, 0.2, 0.4, 0.8], abs=0.02)
    now += 10 * FORGET
    assert waits_before_it_asks(0, 1) < 0.1


def test_a_measurement_is_asked_for_only_while_somebody_waits() -> None:
    broker = Broker(lambda pool: LeaseLimits(2))
    for worker in (0, 1):
        broker.want(worker, P, 1.0, 1, 0, True, 1.0)
    assert broker.due() is None
    plans = broker.want(0, P, 2.0, 1, 1, True, 2.0)
    assert [plan.worker for plan in plans if plan.verb is LeaseVerb.MEASURE] == [0, 1]
    assert not [plan for plan in broker.tick(2.3) if plan.verb is LeaseVerb.MEASURE]
    assert len([plan for plan in broker.tick(2.6) if plan.verb is LeaseVerb.MEASURE]) == 2
    assert broker.measured(7, P, Told(P, 0.0, 0, 0.0, 0), 3.0) == []
    broker.want(0, P, 3.0, 0, 1, True, 3.0)
    assert broker.due() is None
