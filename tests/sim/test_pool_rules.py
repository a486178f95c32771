"""One pool under any sequence of events: no server without a lease, nobody lost or passed, and it comes to rest."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from parity.builds import BUILDS, SOURCE, Build

OPENING, IDLE, BUSY, CHECKING, CLOSING = range(1, 6)
ROUNDS = 300


class Client:
    """Somebody who wants a server, or has one."""

    def __init__(self, startup_params: object) -> None:
        self.startup_params = startup_params


class Machine(RuleBasedStateMachine):
    """The worker around the pool, and the broker beyond it."""

    build: Build = SOURCE

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.module = self.build.pooling.pool
        self.births = [object(), object()]
        self.tickets: list[object] = []
        self.serving: dict[object, Client] = {}
        self.checks: list[object] = []
        self.connects: list[object] = []
        self.wanted = 0
        self.granted = self.returned = 0

    @initialize(
        minimum=st.integers(0, 2),
        parallel=st.integers(1, 3),
        round_robin=st.booleans(),
        lifetime=st.sampled_from([0.0, 20.0, 3600.0]),
        check_delay=st.sampled_from([0.0, 5.0, 30.0]),
        wait_timeout=st.sampled_from([0.0, 10.0]),
    )
    def begin(
        self, minimum: int, parallel: int, round_robin: bool, lifetime: float, check_delay: float, wait_timeout: float
    ) -> None:
        limits = self.build.pooling.limits.Limits(
            minimum=minimum,
            parallel_connects=parallel,
            round_robin=round_robin,
            lifetime=lifetime,
            check_delay=check_delay,
            wait_timeout=wait_timeout,
            startup_params=self.births[0],
        )
        self.pool = self.module.Pool(("db", "user"), limits, lambda: 0.5)
        self.pool.minimum = minimum

    # Carrying out.

    def do(self, plans: list[object]) -> None:
        verbs = self.module.Verb
        for plan in plans:
            slot, ticket = plan.slot, plan.ticket
            if plan.verb is verbs.CONNECT:
                assert slot.state == OPENING
                self.connects.append(slot)
            elif plan.verb is verbs.CHECK:
                assert slot.state == CHECKING
                self.checks.append(slot)
            elif plan.verb is verbs.CLOSE:
                assert slot.state == CLOSING
                assert slot not in self.serving
                self.pool.closed_slot(slot)
            elif plan.verb is verbs.REJECT:
                assert plan.problem
                self.tickets.remove(ticket)
            elif plan.verb is verbs.NOTIFY:
                assert ticket in self.tickets
            elif plan.verb is verbs.WANT:
                assert plan.number >= 0
                self.wanted = plan.number
            elif plan.verb is verbs.RETURN:
                assert plan.number > 0
                self.returned += plan.number
            else:
                assert plan.verb is verbs.KEPT

    def give(self, slot: object) -> None:
        """The server of `slot` is free."""
        ticket = self.pool.freed(slot, self.births[0], self.now)
        if ticket is not None:
            assert ticket is self.tickets[0], "somebody was passed in the line"
            assert ticket.startup_params is slot.startup_params
            self.tickets.pop(0)
            assert slot.state == BUSY
            self.serving[slot] = ticket.client
        elif slot.state == CLOSING:
            self.pool.closed_slot(slot)

    # Events.

    @rule(which=st.integers(0, 9))
    def arrive(self, which: int) -> None:
        startup_params = self.births[which == 0]
        client = Client(startup_params)
        slot = self.pool.take(startup_params, startup_params, self.now)
        if slot is not None:
            assert not self.tickets, "a newcomer passed the line"
            assert slot.state == BUSY
            assert slot.startup_params is startup_params
            assert slot not in self.serving
            self.serving[slot] = client
            return
        self.tickets.append(self.pool.wait(client, startup_params, startup_params, self.now))
        if self.pool.needs_plan(self.now):
            self.plan()

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.serving, key=id)), label="slot")
        del self.serving[slot]
        self.give(slot)

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.serving, key=id)), label="slot")
        del self.serving[slot]
        self.pool.closed_slot(slot)
        self.pool.closed_slot(slot)

    @precondition(lambda self: self.pool.idle.size)
    @rule(data=st.data())
    def idle_server_dies(self, data: st.DataObject) -> None:
        self.pool.closed_slot(data.draw(st.sampled_from(self.pool.idle.all()), label="slot"))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets), label="ticket")
        self.tickets.remove(ticket)
        self.pool.line.leave(ticket)
        self.pool.line.leave(ticket)

    @precondition(lambda self: self.connects)
    @rule(how=st.sampled_from(["open", "open", "fail", "deny", "refuse"]))
    def connect_ends(self, how: str) -> None:
        slot = self.connects.pop(0)
        if how == "open":
            self.pool.opened(slot, self.now)
            self.give(slot)
        elif how == "fail":
            self.pool.failed(slot, "08006", "no route", self.now)
        elif how == "deny":
            self.pool.failed(slot, "28P01", "wrong password", self.now)
        else:
            self.do(self.pool.refused(slot, "22023", "bad parameter"))

    @precondition(lambda self: self.checks)
    @rule(alive=st.booleans())
    def check_ends(self, alive: bool) -> None:
        slot = self.checks.pop(0)
        if alive:
            self.give(slot)
        else:
            self.pool.closed_slot(slot)

    @precondition(lambda self: self.wanted)
    @rule()
    def grant(self) -> None:
        self.wanted -= 1
        self.granted += 1
        self.pool.grant()

    @rule()
    def grant_unasked(self) -> None:
        self.granted += 1
        self.pool.grant()

    @rule(idle_only=st.booleans())
    def recall(self, idle_only: bool) -> None:
        if self.pool.recalls < self.pool.leases:
            self.do(self.pool.recall(idle_only, self.now))

    @rule()
    def retire(self) -> None:
        self.do(self.pool.retire())

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 7.0, 60.0, 700.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def plan(self) -> None:
        self.do(self.pool.plan(self.now))

    # What always holds.

    @invariant()
    def the_books_are_right(self) -> None:
        pool = getattr(self, "pool", None)
        if pool is None:
            return
        states = [slot.state for slot in pool.slots]
        assert len(pool.slots) <= pool.leases
        assert pool.leases + pool.returned + self.returned == self.granted
        assert pool.recalls <= pool.leases
        assert pool.opening == states.count(OPENING) + states.count(CHECKING)
        assert states.count(OPENING) <= pool.limits.parallel_connects
        assert [slot.state for slot in pool.idle.all()] == [IDLE] * states.count(IDLE)
        assert pool.idle.size == states.count(IDLE)
        assert states.count(BUSY) == len(self.serving)
        assert CLOSING not in states
        assert pool.line.size == len(self.tickets)
        assert "Pool db/user" in repr(pool)

    def teardown(self) -> None:
        """Everything goes well from here: everyone is served, then all goes back where it came from."""
        if not hasattr(self, "pool"):
            return
        for _ in range(ROUNDS):
            if not self.tickets and not self.serving and not self.connects and not self.checks:
                break
            self.round()
        assert not self.tickets, f"clients starve: {self.pool}"
        for _ in range(3):
            self.now += 4000.0
            self.round()
        # All were too old; only what shall be kept warm is opened again.
        for _ in range(10):
            self.round()
        assert len(self.pool.slots) == self.pool.leases == self.pool.minimum
        assert not self.pool.recalls

    def round(self) -> None:
        """Whatever is under way ends well."""
        self.now += 0.06
        self.plan()
        while self.wanted:
            self.grant()
        self.plan()
        for slot in list(self.serving):
            del self.serving[slot]
            self.give(slot)
        while self.connects:
            self.connect_ends("open")
        while self.checks:
            self.check_ends(True)
        self.the_books_are_right()


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_any_sequence_of_events(build: Build) -> None:
    machine = type("Machine", (Machine,), {"build": build})
    run_state_machine_as_test(machine, settings=settings(max_examples=150, stateful_step_count=60, deadline=None))
