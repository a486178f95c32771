"""Workers, clients and the broker on one simulated clock: real policies on both sides, no sockets.

Clients run in a closed loop: think, wait for a server, run a transaction. Messages and connections take time, and
workers may stall, as processes do that share a processor with others.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pglido.config.model import PoolKey
from pglido.ipc.messages import Load
from pglido.pooling import pool as policy
from pglido.pooling.broker import Broker
from pglido.pooling.leases import LeaseLimits, LeasePlan, LeaseVerb
from pglido.pooling.limits import Limits as PoolLimits
from pglido.pooling.queue import Ticket
from pglido.pooling.states import CLOSING

MESSAGE = 0.0001  # seconds that a message takes
OPEN = 0.005  # seconds that a login takes
TICK, FAST_TICK = 0.333, 0.05  # as in `worker.timers`
P: PoolKey = ("db", "user")
STARTUP = object()
SETTINGS = object()
FOREVER = float("inf")


@dataclass(eq=False)
class Client:
    """`run` and `think` are the means of what is drawn evenly from half to one and a half of it. One that `keeps` its
    server holds it from its first transaction on."""

    worker: int
    pool: PoolKey
    run: float
    think: float
    keeps: bool = False
    slot: policy.ServerSlot | None = None
    gone: bool = False
    period: int = -1
    waits: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Desk:
    """One worker's part of one pool."""

    pool: policy.Pool
    planned: bool = False


class World:
    """`closed` are the times at which a server connection was closed for another worker, `moves` the recalls.

    `stall`: mean length in seconds of the pauses in which a worker does nothing, one about every tenth part of it.
    """

    def __init__(self, limits: LeaseLimits | dict[PoolKey, LeaseLimits], seed: int = 1, stall: float = 0.0) -> None:
        self.now = 100.0
        self.random = random.Random(seed)
        self.events: list[tuple[float, int, int | None, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.limits = limits
        self.kept: Counter[tuple[PoolKey, int]] = Counter()
        self.broker = Broker(self.limits_of, lambda pool, worker: self.kept[pool, worker])
        self.desks: dict[tuple[int, PoolKey], Desk] = {}
        self.workers: set[int] = set()
        self.clients: list[Client] = []
        self.dead: set[int] = set()
        self.moves: list[tuple[float, LeasePlan]] = []
        self.closed: list[float] = []
        self.messages = 0
        self.peak: Counter[str] = Counter()
        self.tick_at = FOREVER
        self.stall = stall
        self.stalled: dict[int, float] = {}

    def limits_of(self, pool: PoolKey) -> LeaseLimits | None:
        return self.limits.get(pool) if isinstance(self.limits, dict) else self.limits

    def at(self, delay: float, what: Callable[[], None], worker: int | None = None) -> None:
        """Do this later; what a worker does waits until it no longer stalls."""
        heapq.heappush(self.events, (self.now + delay, next(self.serial), worker, what))

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, worker, what = heapq.heappop(self.events)
            if worker in self.dead:
                continue
            pause = self.stalled.get(worker, 0.0) - self.now if worker is not None else 0.0
            if pause > 0:
                self.at(pause, what, worker)
            else:
                what()
        self.now = end
        return self

    # ---- the broker's side

    def carry_out(self, plans: list[LeasePlan]) -> None:
        for plan in plans:
            self.messages += 1
            if plan.verb is LeaseVerb.RECALL:
                self.moves.append((self.now, plan))
            self.at(MESSAGE, lambda plan=plan: self.told(plan), plan.worker)  # type: ignore[misc]
        for pool in {pool for _, pool in self.desks}:
            self.peak[f"pool {pool}"] = max(self.peak[f"pool {pool}"], self.broker.held(pool))
        for name in {pool[0] for _, pool in self.desks}:
            self.peak[name] = max(self.peak[name], self.broker.database_total(name))
        due = self.broker.due()
        if due is not None and due < self.tick_at:
            self.tick_at = due
            self.at(max(0.001, due - self.now), self.tick)

    def tick(self) -> None:
        self.tick_at = FOREVER
        self.carry_out(self.broker.tick(self.now))

    def tell(self, worker: int, event: Callable[[], list[LeasePlan]]) -> None:
        self.messages += 1
        self.at(MESSAGE, lambda: None if worker in self.dead else self.carry_out(event()))

    # ---- a worker's side

    def desk(self, worker: int, pool: PoolKey) -> Desk:
        if worker not in self.workers:
            self.workers.add(worker)
            self.at(self.random.uniform(0, TICK), lambda: self.look(worker), worker)
            if self.stall:
                self.at(self.stall, lambda: self.stalls(worker), worker)
        if (worker, pool) not in self.desks:
            limits = PoolLimits(startup_params=STARTUP, wait_timeout=0.0, wait_notify=0.0, lifetime=FOREVER)
            self.desks[worker, pool] = Desk(policy.Pool(pool, limits, self.random.random))
        return self.desks[worker, pool]

    def stalls(self, worker: int) -> None:
        self.stalled[worker] = self.now + self.random.uniform(0, 2 * self.stall)
        self.at(10 * self.stall * self.random.uniform(0.5, 1.5), lambda: self.stalls(worker), worker)

    def look(self, worker: int) -> None:
        pressed = False
        for (owner, key), desk in list(self.desks.items()):
            if owner == worker:
                pressed = pressed or desk.pool.line.size > desk.pool.opening
                self.plan(worker, key)
        self.at(FAST_TICK if pressed else TICK, lambda: self.look(worker), worker)

    def told(self, plan: LeasePlan) -> None:
        worker, key = plan.worker, plan.pool
        desk = self.desk(worker, key)
        match plan.verb:
            case LeaseVerb.GRANT:
                desk.pool.grant()
                self.plan_soon(worker, key)
            case LeaseVerb.MEASURE:
                load = Load(key, *desk.pool.load(self.now))
                self.tell(worker, lambda: self.broker.measured(worker, key, load, self.now))
            case _:
                self.obey(worker, key, desk.pool.recall(plan.verb is LeaseVerb.ASK, self.now, plan.rest))

    def plan_soon(self, worker: int, key: PoolKey) -> None:
        desk = self.desk(worker, key)
        if not desk.planned:
            desk.planned = True
            self.at(0.0, lambda: self.plan(worker, key), worker)

    def plan(self, worker: int, key: PoolKey) -> None:
        desk = self.desk(worker, key)
        desk.planned = False
        self.obey(worker, key, desk.pool.plan(self.now))

    def obey(self, worker: int, key: PoolKey, plans: list[policy.Plan]) -> None:
        pool = self.desk(worker, key).pool
        for plan in plans:
            number = plan.number
            match plan.verb:
                case policy.Verb.CONNECT:
                    self.at(OPEN, lambda slot=plan.slot: self.opened(worker, key, slot), worker)  # type: ignore[misc]
                case policy.Verb.CHECK:
                    assert plan.slot is not None
                    self.give(worker, key, plan.slot)
                case policy.Verb.CLOSE:
                    assert plan.slot is not None
                    self.close(worker, key, plan.slot)
                case policy.Verb.WANT:
                    self.want(worker, key, number)
                case policy.Verb.RETURN:
                    self.tell(worker, lambda n=number: self.broker.returned(worker, key, n, self.now))  # type: ignore[misc]
                case policy.Verb.KEPT:
                    self.tell(worker, lambda: self.broker.kept(worker, key, self.now))
                case _:
                    raise AssertionError(f"{pool} can't {plan}")

    def want(self, worker: int, key: PoolKey, count: int) -> None:
        pool = self.desk(worker, key).pool
        since, granted = pool.oldest_wait(), pool.granted
        urgent, moment = since is not None, self.now if since is None else since
        self.tell(worker, lambda: self.broker.want(worker, key, moment, count, granted, urgent, self.now))

    def opened(self, worker: int, key: PoolKey, slot: policy.ServerSlot) -> None:
        self.desk(worker, key).pool.opened(slot, self.now)
        self.give(worker, key, slot)

    def give(self, worker: int, key: PoolKey, slot: policy.ServerSlot) -> None:
        """A server is free: it serves the next, rests, or goes."""
        pool = self.desk(worker, key).pool
        ticket = pool.freed(slot, SETTINGS, self.now)
        if ticket is not None:
            self.start(ticket.client, slot, ticket.since)
        elif slot.state == CLOSING:
            self.close(worker, key, slot)
        elif pool.line.size:
            self.plan_soon(worker, key)

    def close(self, worker: int, key: PoolKey, slot: policy.ServerSlot) -> None:
        self.closed.append(self.now)
        self.desk(worker, key).pool.closed_slot(slot)
        self.plan_soon(worker, key)

    # ---- clients

    def add_clients(
        self, number: int, worker: int, run: float, think: float, pool: PoolKey = P, keeps: bool = False
    ) -> list[Client]:
        made = [Client(worker, pool, run, think, keeps) for _ in range(number)]
        for client in made:
            self.at(self.random.random() * 0.02, lambda client=client: self.arrive(client), worker)  # type: ignore[misc]
        self.clients += made
        return made

    def leave(self, clients: list[Client]) -> None:
        """These come no more, once their transactions are over."""
        for client in clients:
            client.gone = True

    def arrive(self, client: Client) -> None:
        if client.gone:
            return
        if client.slot is not None:
            self.start(client, client.slot, self.now)
            return
        pool = self.desk(client.worker, client.pool).pool
        if client.period != pool.period:
            client.period = pool.period
            pool.comers += 1
        slot = pool.take(STARTUP, SETTINGS, self.now)
        if slot is not None:
            self.start(client, slot, self.now)
            return
        pool.wait(client, STARTUP, SETTINGS, self.now)
        if pool.needs_plan(self.now):
            self.plan_soon(client.worker, client.pool)

    def start(self, client: Client, slot: policy.ServerSlot, since: float) -> None:
        client.waits.append((self.now, self.now - since))
        duration = client.run * self.random.uniform(0.5, 1.5)
        if client.keeps:
            if client.slot is None:
                self.kept[client.pool, client.worker] += 1
            client.slot = slot
        else:
            self.at(duration, lambda: self.give(client.worker, client.pool, slot), client.worker)
        if client.think < FOREVER:
            pause = duration + client.think * self.random.uniform(0.5, 1.5)
            self.at(pause, lambda: self.arrive(client), client.worker)

    def waiting(self) -> list[Ticket]:
        """All who stand in line now."""
        return [ticket for desk in self.desks.values() for ticket in desk.pool.line.all()]

    def kill(self, worker: int) -> None:
        self.dead.add(worker)
        self.carry_out(self.broker.died(worker, self.now))

    # ---- what came of it

    def closed_since(self, when: float) -> int:
        """Server connections closed since then."""
        return sum(moment >= when for moment in self.closed)

    def held(self) -> dict[int, int]:
        """Leases of each worker, over all pools."""
        return {w: sum(self.broker.held(p, w) for o, p in self.desks if o == w) for w in sorted(self.workers)}


def mean(clients: list[Client], after: float) -> float:
    """Seconds that these have waited for a server since then."""
    waits = [wait for client in clients for when, wait in client.waits if when >= after]
    return sum(waits) / len(waits)


def worst(clients: list[Client], after: float) -> float:
    """The longest of these waits."""
    return max(wait for client in clients for when, wait in client.waits if when >= after)


def served(world: World, after: float) -> int:
    """Transactions since then."""
    return sum(when >= after for client in world.clients for when, _ in client.waits)
