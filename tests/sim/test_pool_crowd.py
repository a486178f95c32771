"""One pool with a crowd of clients under a fake clock: all servers are busy, waits are even, and storms pass."""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from parity.builds import BUILDS, Build

CLOSING = 5
STARTUP = object()


class Crowd:
    """`clients` in a closed loop of thinking and transactions, over a broker with `leases` to grant."""

    def __init__(
        self,
        build: Build,
        clients: int,
        leases: int,
        think: float = 0.01,
        work: float = 0.005,
        connect: float = 0.02,
        seed: int = 1,
        **limits: Any,
    ) -> None:
        self.module = build.pooling.pool
        self.chance = random.Random(seed)
        bounds = build.pooling.limits.Limits(**({"startup_params": STARTUP} | limits))
        self.pool = self.module.Pool(("db", "user"), bounds, self.chance.random)
        self.free_leases = leases
        self.think, self.work, self.connect = think, work, connect
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.order = itertools.count()
        self.waits: list[float] = []
        self.served = [0] * clients
        self.rejected = 0
        self.opened = 0
        self.openings: list[float] = []
        self.tries = 0
        self.down = False
        self.wanted = 0
        for client in range(clients):
            self.after(self.chance.expovariate(1 / think), self.arrive, client)
        self.after(0.1, self.tick)

    def after(self, delay: float, what: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), what, args))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, what, args = heapq.heappop(self.events)
            what(*args)
        self.now = end

    def tick(self) -> None:
        self.plan()
        self.after(0.1, self.tick)

    def plan(self) -> None:
        # Each plan may look at all who stand in line: nobody twice, and none who has left.
        assert self.pool.line.size == len(self.pool.line.all()) <= len(self.served)
        for plan in self.pool.plan(self.now):
            self.do(plan)

    def do(self, plan: Any) -> None:
        name = plan.verb.name
        if name == "CONNECT":
            self.tries += 1
            self.after(self.connect, self.connected, plan.slot)
        elif name == "CHECK":
            self.after(0.001, self.give, plan.slot)
        elif name == "CLOSE":
            self.close(plan.slot)
        elif name == "REJECT":
            self.rejected += 1
            self.after(self.think, self.arrive, plan.ticket.client)
        elif name == "WANT":
            self.wanted = plan.number
            self.after(0.001, self.broker)
        elif name == "RETURN":
            self.free_leases += plan.number
            self.after(0.001, self.broker)

    def broker(self) -> None:
        while self.wanted and self.free_leases:
            self.wanted -= 1
            self.free_leases -= 1
            self.pool.grant()
        self.plan()

    def connected(self, slot: Any) -> None:
        if slot not in self.pool.slots:
            return
        if self.down:
            self.pool.failed(slot, "08006", "down", self.now)
            self.plan()
            return
        self.opened += 1
        self.openings.append(self.now)
        self.pool.opened(slot, self.now)
        self.give(slot)

    def close(self, slot: Any) -> None:
        self.pool.closed_slot(slot)
        self.after(0.0, self.plan)

    def give(self, slot: Any) -> None:
        if slot not in self.pool.slots:
            return
        ticket = self.pool.freed(slot, STARTUP, self.now)
        if ticket is not None:
            self.serve(ticket.client, slot, self.now - ticket.since)
        elif slot.state == CLOSING:
            self.close(slot)
        elif self.pool.line.size:
            self.after(0.0, self.plan)

    def arrive(self, client: int) -> None:
        slot = self.pool.take(STARTUP, STARTUP, self.now)
        if slot is not None:
            self.serve(client, slot, 0.0)
            return
        self.pool.wait(client, STARTUP, STARTUP, self.now)
        if self.pool.needs_plan(self.now):
            self.after(0.0, self.plan)

    def serve(self, client: int, slot: Any, waited: float) -> None:
        self.waits.append(waited)
        self.served[client] += 1
        self.after(self.chance.expovariate(1 / self.work), self.finish, client, slot)

    def finish(self, client: int, slot: Any) -> None:
        self.give(slot)
        self.after(self.chance.expovariate(1 / self.think), self.arrive, client)

    def crash(self) -> None:
        """All servers die, and none can be reached."""
        self.down = True
        for slot in list(self.pool.slots):
            self.pool.closed_slot(slot)
        # Clients of the dead ones come again.
        self.events = [event for event in self.events if event[2] not in (self.finish, self.give, self.connected)]
        heapq.heapify(self.events)
        waiting = {ticket.client for ticket in self.pool.line.all()}
        coming = {event[3][0] for event in self.events if event[2] == self.arrive}
        for client in range(len(self.served)):
            if client not in waiting | coming:
                self.after(self.think, self.arrive, client)
        self.plan()


@pytest.fixture(params=BUILDS, ids=lambda build: build.name)
def build(request: pytest.FixtureRequest) -> Build:
    """One build of the pool."""
    made: Build = request.param
    return made


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_pool_serves_everybody_alike(build: Build, seed: int) -> None:
    crowd = Crowd(build, clients=100, leases=10, seed=seed)
    crowd.run(10)
    # Ten servers, transactions of 5 ms: 2000 a second is all there is.
    assert sum(crowd.served) > 0.95 * 2000 * 10
    assert max(crowd.served) < 1.3 * min(crowd.served)
    waits = sorted(crowd.waits[2000:])
    assert waits[int(len(waits) * 0.99)] < 3 * waits[len(waits) // 2]
    assert crowd.opened == 10
    assert crowd.rejected == 0


def test_a_quiet_pool_keeps_what_it_needs(build: Build) -> None:
    crowd = Crowd(build, clients=20, leases=20, think=1.0, work=0.005, idle_timeout=5.0)
    crowd.run(60)
    assert len(crowd.pool.slots) <= 4
    assert crowd.opened < 40
    waits = sorted(crowd.waits[100:])
    assert waits[len(waits) // 2] == 0.0


def test_old_servers_are_replaced_without_harm(build: Build) -> None:
    crowd = Crowd(build, clients=50, leases=10, lifetime=2.0)
    crowd.run(20)
    assert 80 < crowd.opened < 160
    assert sum(crowd.served) > 0.93 * 2000 * 20
    assert crowd.rejected == 0


def test_a_recall_takes_one_server_and_no_more(build: Build) -> None:
    crowd = Crowd(build, clients=100, leases=10)
    crowd.run(2)
    for plan in crowd.pool.recall(False, crowd.now):
        crowd.do(plan)
    crowd.broker = lambda: crowd.plan()  # type: ignore[method-assign]
    crowd.run(2)
    assert len(crowd.pool.slots) == crowd.pool.leases == 9
    assert crowd.free_leases == 1
    assert crowd.opened == 10


def test_an_outage_passes(build: Build) -> None:
    crowd = Crowd(build, clients=100, leases=10, login_retry=5.0)
    crowd.run(2)
    crowd.crash()
    tries = crowd.tries
    crowd.run(30)
    # Nobody is told, and the server is not stormed.
    assert crowd.rejected == 0
    assert crowd.pool.line.size == 100
    assert 10 < crowd.tries - tries < 60
    crowd.down = False
    back = crowd.now
    before = sum(crowd.served)
    crowd.run(10)
    assert sum(crowd.served) - before > 2000 * 4
    assert len(crowd.pool.slots) == 10
    assert crowd.pool.line.size < 100
    # Who waited was served a quarter later than the server was back, at most.
    assert min(when for when in crowd.openings if when >= back) - back < 0.25 * 30


def test_slow_connects_are_not_too_many_at_once(build: Build) -> None:
    crowd = Crowd(build, clients=50, leases=20, connect=0.5, parallel_connects=4)
    most = 0
    for _ in range(400):
        crowd.run(0.01)
        most = max(most, crowd.pool.opening)
    assert most == 4
    assert len(crowd.pool.slots) == 20
