"""One rule of the pool's policy at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from parity.builds import BUILDS, Build

OPENING, IDLE, BUSY, CHECKING, CLOSING = range(1, 6)
OPEN, PAUSED, SHUT = range(3)
STARTUP, OTHER_STARTUP = object(), object()
SETTINGS = object()

Make = Callable[..., "Bench"]


class Bench:
    """A pool, and a worker that carries out its plans when told to."""

    def __init__(self, build: Build, minimum: int = 0, **limits: Any) -> None:
        self.module = build.pooling.pool
        self.limits = build.pooling.limits.Limits(**({"startup_params": STARTUP, "lifetime_jitter": 0.0} | limits))
        self.pool = self.module.Pool(("db", "user"), self.limits, lambda: 1.0)
        self.pool.minimum = minimum
        self.now = 1000.0

    def plan(self) -> list[tuple[Any, ...]]:
        """What is to be done now: verb, and the one thing that it is about."""
        return [self._short(plan) for plan in self.pool.plan(self.now)]

    def _short(self, plan: Any) -> tuple[Any, ...]:
        what = plan.slot or plan.ticket or plan.number
        return (plan.verb.name, what, plan.problem) if plan.problem else (plan.verb.name, what)

    def ticket(self, startup_params: object = STARTUP, generation: int = 0) -> Any:
        """A client stands in line."""
        return self.pool.wait(object(), startup_params, SETTINGS, self.now, generation)

    def wait_for_login(self) -> Any:
        """A client that logs in stands in line."""
        return self.pool.wait_for_login(object(), STARTUP, SETTINGS, self.now)

    def granted(self, count: int) -> None:
        """The broker grants leases."""
        for _ in range(count):
            self.pool.grant()

    def idle(self, count: int, startup_params: object = STARTUP) -> list[Any]:
        """There are idle servers."""
        slots = []
        for _ in range(count):
            self.pool.grant()
            slot = self.module.ServerSlot(self.pool, startup_params, self.now)
            self.pool.slots[slot] = None
            self.pool.opening += 1
            self.pool.opened(slot, self.now)
            assert self.pool.freed(slot, SETTINGS, self.now) is None
            slots.append(slot)
        return slots

    def take(self, startup_params: object = STARTUP, settings: object = SETTINGS, generation: int = 0) -> Any:
        """A newcomer asks."""
        return self.pool.take(startup_params, settings, self.now, generation)

    def connects(self) -> list[Any]:
        """The slots to open now."""
        return [what for verb, what, *_ in self.plan() if verb == "CONNECT"]


@pytest.fixture(params=BUILDS, ids=lambda build: build.name)
def bench(request: pytest.FixtureRequest) -> Make:
    """Make a pool with limits, on each build."""
    return lambda **limits: Bench(request.param, **limits)


def verbs(plans: Sequence[tuple[Any, ...]]) -> list[str]:
    """The verbs of plans."""
    return [plan[0] for plan in plans]


# Asking for leases.


def test_a_waiting_client_makes_the_pool_ask_for_a_lease(bench: Make) -> None:
    it = bench()
    it.ticket()
    assert it.plan() == [("WANT", 1)]
    assert it.plan() == []


def test_it_does_not_ask_all_the_time(bench: Make) -> None:
    it = bench()
    it.ticket()
    it.plan()
    it.now += 0.01
    it.ticket()
    assert it.plan() == []
    it.now += 0.05
    assert it.plan() == [("WANT", 2)]


def test_small_changes_are_told_of_later(bench: Make) -> None:
    it = bench()
    for _ in range(8):
        it.ticket()
    assert it.plan() == [("WANT", 8)]
    it.now += 0.06
    it.ticket()
    assert it.plan() == []
    it.ticket()
    it.ticket()
    assert it.plan() == [("WANT", 11)]


def test_the_broker_is_told_again_who_waits_longest(bench: Make) -> None:
    # It was once told that somebody waits, and took that client for still waiting as long as the count was the same.
    it = bench()
    first = it.ticket()
    assert it.plan() == [("WANT", 1)]
    it.now += 0.14
    it.pool.line.leave(first)
    second = it.ticket()
    assert it.plan() == []
    it.now += 0.02
    assert it.plan() == [("WANT", 1)]
    assert it.pool.oldest_wait() == second.since


def test_it_says_when_it_wants_no_more(bench: Make) -> None:
    it = bench()
    ticket = it.ticket()
    it.plan()
    it.pool.line.leave(ticket)
    it.now += 1
    assert it.plan() == [("WANT", 0)]


def test_a_lease_opens_a_server_which_serves_who_waits(bench: Make) -> None:
    it = bench()
    ticket = it.ticket()
    it.plan()
    it.granted(1)
    (slot,) = it.connects()
    assert slot.state == OPENING
    it.pool.opened(slot, it.now)
    assert it.pool.freed(slot, SETTINGS, it.now) is ticket
    assert slot.state == BUSY
    assert it.pool.line.size == 0


def test_a_lease_that_nobody_needs_goes_back(bench: Make) -> None:
    it = bench()
    it.granted(3)
    assert it.plan() == [("RETURN", 3)]


def test_a_lease_that_came_too_late_is_kept_for_the_next_peak(bench: Make) -> None:
    it = bench()
    ticket = it.ticket()
    assert it.plan() == [("WANT", 1)]
    it.pool.line.leave(ticket)
    it.granted(1)
    assert it.plan() == []
    it.now += 0.1
    it.ticket()
    assert it.pool.needs_plan(it.now)
    assert len(it.connects()) == 1


def test_a_lease_that_came_too_late_goes_back_after_a_while(bench: Make) -> None:
    it = bench()
    ticket = it.ticket()
    it.plan()
    it.pool.line.leave(ticket)
    it.granted(1)
    it.now += it.module.SPARE - 0.01
    assert it.plan() == []
    it.now += 0.02
    assert it.plan() == [("RETURN", 1)]
    assert it.pool.unused()


def test_a_closed_pool_keeps_no_lease(bench: Make) -> None:
    it = bench()
    it.ticket()
    it.plan()
    it.granted(1)
    it.pool.set_gate(SHUT)
    assert ("RETURN", 1) in it.plan()


def test_a_lease_of_a_closed_server_goes_back(bench: Make) -> None:
    it = bench()
    (slot,) = it.idle(1)
    it.pool.closed_slot(slot)
    assert it.plan() == [("RETURN", 1)]
    assert it.pool.unused()


def test_a_lease_of_a_closed_server_serves_who_waits(bench: Make) -> None:
    it = bench()
    (slot,) = it.idle(1)
    it.take()
    it.ticket()
    it.pool.closed_slot(slot)
    assert verbs(it.plan()) == ["CONNECT"]


def test_several_are_opened_at_once_but_not_too_many(bench: Make) -> None:
    it = bench(parallel_connects=3)
    for _ in range(5):
        it.ticket()
    it.granted(5)
    assert len(it.connects()) == 3
    assert it.connects() == []


# Serving.


def test_newcomers_take_the_server_used_last(bench: Make) -> None:
    it = bench()
    slots = it.idle(3)
    assert it.take() is slots[2]
    assert it.take() is slots[1]


def test_round_robin_takes_the_one_that_rested_longest(bench: Make) -> None:
    it = bench(round_robin=True)
    slots = it.idle(3)
    other = object()
    assert it.take(settings=other) is slots[0]


def test_a_server_whose_settings_fit_is_preferred(bench: Make) -> None:
    it = bench()
    slots = it.idle(3)
    mine = object()
    slots[0].settings = mine
    assert it.take(settings=mine) is slots[0]


def test_where_none_fits_the_one_that_rested_longest_of_the_last_eight_is_taken(bench: Make) -> None:
    it = bench()
    slots = it.idle(10)
    assert it.take(settings=object()) is slots[2]
    assert it.take(settings=object()) is slots[1]
    assert it.take() is slots[9]


def test_where_none_fits_none_is_taken_that_must_be_checked_first(bench: Make) -> None:
    it = bench(check_delay=30.0)
    stale = it.idle(2)
    it.now += 31
    fresh = it.idle(2)
    assert it.take(settings=object()) is fresh[0]
    assert it.take(settings=object()) is fresh[1]
    assert it.take(settings=object()) is None
    assert {slot.state for slot in stale} == {IDLE}


def test_where_none_fits_one_of_another_birth_is_passed_by(bench: Make) -> None:
    it = bench()
    first, _, third = it.idle(1) + it.idle(1, OTHER_STARTUP) + it.idle(1)
    assert it.take(settings=object()) is first
    assert it.take(settings=object()) is third
    assert it.take(settings=object()) is None


def test_a_server_of_another_birth_is_not_given(bench: Make) -> None:
    it = bench()
    it.idle(2)
    assert it.take(startup_params=OTHER_STARTUP) is None


def test_a_server_of_an_earlier_generation_is_not_given(bench: Make) -> None:
    it = bench()
    (older,) = it.idle(1)
    it.pool.generation = 1
    assert it.take(generation=1) is None
    (newer,) = it.idle(1)
    assert it.take(generation=1) is newer
    assert it.take(generation=1) is None
    assert it.take() is older


def test_round_robin_passes_by_those_of_earlier_generations(bench: Make) -> None:
    it = bench(round_robin=True)
    (older,) = it.idle(1)
    it.pool.generation = 1
    (newer,) = it.idle(1)
    assert it.take(generation=1) is newer
    assert it.take() is older


def test_who_was_there_before_gets_later_ones_as_well(bench: Make) -> None:
    it = bench()
    it.pool.generation = 1
    (newer,) = it.idle(1)
    assert it.take() is newer
    ticket = it.ticket()
    assert it.pool.freed(newer, SETTINGS, it.now) is ticket


def test_one_server_of_an_earlier_generation_makes_room_for_each_client_that_waits(bench: Make) -> None:
    it = bench()
    servers = it.idle(3)
    it.pool.generation = 1
    ticket = it.ticket(generation=1)
    plans = it.plan()
    assert [plan for plan in plans if plan[0] == "CLOSE"] == [("CLOSE", servers[0])]
    it.pool.closed_slot(servers[0])
    (slot,) = it.connects()
    it.pool.opened(slot, it.now)
    assert it.pool.freed(slot, SETTINGS, it.now) is ticket
    assert it.take() in servers[1:]


def test_a_freed_server_of_an_earlier_generation_is_replaced_for_the_first_in_line(bench: Make) -> None:
    it = bench()
    (server,) = it.idle(1)
    assert it.take() is server
    it.pool.generation = 1
    ticket = it.ticket(generation=1)
    assert it.pool.freed(server, SETTINGS, it.now) is None
    assert ("CLOSE", server) in it.plan()
    it.pool.closed_slot(server)
    (slot,) = it.connects()
    it.pool.opened(slot, it.now)
    assert it.pool.freed(slot, SETTINGS, it.now) is ticket


def test_a_newcomer_passes_nobody(bench: Make) -> None:
    it = bench()
    it.ticket(OTHER_STARTUP)
    it.idle(1)
    assert it.take() is None


def test_the_line_is_served_in_order(bench: Make) -> None:
    it = bench()
    (slot,) = it.idle(1)
    it.take()
    tickets = [it.ticket() for _ in range(3)]
    served = [it.pool.freed(slot, SETTINGS, it.now) for _ in range(3)]
    assert served == tickets
    assert it.pool.freed(slot, SETTINGS, it.now) is None
    assert slot.state == IDLE


def test_who_left_the_line_is_not_served(bench: Make) -> None:
    it = bench()
    (slot,) = it.idle(1)
    it.take()
    gone, here = it.ticket(), it.ticket()
    it.pool.line.leave(gone)
    it.pool.line.leave(gone)
    assert it.pool.line.size == 1
    assert it.pool.freed(slot, SETTINGS, it.now) is here


def test_who_left_the_line_is_forgotten(bench: Make) -> None:
    it = bench()
    tickets = [it.ticket() for _ in range(5)]
    for gone in (2, 0, 4, 4, 3):
        it.pool.line.leave(tickets[gone])
    assert it.pool.line.all() == [tickets[1]]
    it.pool.line.leave(tickets[1])
    last = it.ticket()
    assert (it.pool.line.front, it.pool.line.back, it.pool.line.size) == (last, last, 1)
    assert (tickets[1].ahead, tickets[1].behind) == (None, None)


def test_an_idle_server_of_another_birth_makes_room(bench: Make) -> None:
    it = bench()
    (slot,) = it.idle(1)
    ticket = it.ticket(OTHER_STARTUP)
    assert it.plan()[0] == ("CLOSE", slot)
    it.pool.closed_slot(slot)
    (opened,) = it.connects()
    assert opened.startup_params is OTHER_STARTUP
    it.pool.opened(opened, it.now)
    assert it.pool.freed(opened, SETTINGS, it.now) is ticket


def test_an_idle_server_that_fits_is_not_closed_for_one_that_does_not(bench: Make) -> None:
    it = bench()
    (fits,) = it.idle(1, OTHER_STARTUP)
    it.idle(1)
    it.ticket(OTHER_STARTUP)
    assert it.plan() == [("CHECK", fits)]


# Age.


def test_a_server_that_rested_long_is_checked_before_it_is_given(bench: Make) -> None:
    it = bench(check_delay=30.0)
    (slot,) = it.idle(1)
    it.now += 30
    assert it.take() is None
    ticket = it.ticket()
    assert it.plan() == [("CHECK", slot)]
    assert slot.state == CHECKING
    assert it.pool.freed(slot, SETTINGS, it.now) is ticket


def test_a_server_that_fails_its_check_is_replaced(bench: Make) -> None:
    it = bench(check_delay=30.0)
    (slot,) = it.idle(1)
    it.now += 30
    it.ticket()
    it.plan()
    it.pool.closed_slot(slot)
    assert verbs(it.plan()) == ["CONNECT"]


def test_an_idle_server_is_closed_after_a_while(bench: Make) -> None:
    it = bench(idle_timeout=600.0)
    (slot,) = it.idle(1)
    it.now += 600
    assert it.plan() == []
    it.now += 1
    assert it.plan() == [("CLOSE", slot)]


def test_an_idle_server_stays_for_ever_without_a_limit(bench: Make) -> None:
    it = bench(idle_timeout=0.0, lifetime=1e9)
    it.idle(1)
    it.now += 1e6
    assert it.plan() == []


def test_an_old_server_is_closed_when_idle(bench: Make) -> None:
    it = bench(lifetime=100.0, idle_timeout=0.0)
    (slot,) = it.idle(1)
    it.now += 100
    assert it.plan() == [("CLOSE", slot)]


def test_an_old_server_is_closed_when_freed(bench: Make) -> None:
    it = bench(lifetime=100.0)
    (slot,) = it.idle(1)
    it.take()
    it.ticket()
    it.now += 100
    assert it.pool.freed(slot, SETTINGS, it.now) is None
    assert slot.state == CLOSING


def test_lifetimes_differ(bench: Make) -> None:
    it = bench(lifetime=100.0, lifetime_jitter=0.2)
    (slot,) = it.idle(1)
    assert slot.dies == it.now + 80


def test_a_lifetime_of_zero_serves_once(bench: Make) -> None:
    it = bench(lifetime=0.0)
    (slot,) = it.idle(1)
    assert it.plan() == []
    assert it.take() is slot
    it.pool.freed(slot, SETTINGS, it.now)
    assert slot.state == CLOSING


# Keeping warm.


def test_a_minimum_is_opened_and_kept(bench: Make) -> None:
    it = bench(minimum=2, idle_timeout=10.0)
    assert it.plan() == [("WANT", 2)]
    it.granted(2)
    slots = it.connects()
    assert len(slots) == 2
    for slot in slots:
        it.pool.opened(slot, it.now)
        it.pool.freed(slot, SETTINGS, it.now)
    it.now += 100
    assert it.plan() == []


# Failures.


REFUSED = ("08001", "could not connect to server: Connection refused")
NO_PASSWORD = ("28P01", "password authentication failed")


def failing(it: Bench, problem: tuple[str, str], seconds: float = 0.0) -> list[tuple[Any, ...]]:
    """Attempts fail for so long, until a pause begins; returns all that the pool had to say meanwhile."""
    began = it.now
    it.granted(1)
    said = []
    while True:
        plans = it.plan()
        for verb, slot, *_ in plans:
            if verb == "CONNECT":
                it.pool.failed(slot, *problem, it.now)
        said += plans + it.plan()
        if it.now - began >= seconds:
            return said
        it.now = max(it.pool.outage.retry_at, it.now + 0.01)


@pytest.mark.parametrize("sqlstate", ["08001", "08006", "53300", "57P01", "57P03", "58030", "F0000", "XX000"])
def test_what_passes_is_waited_out(bench: Make, sqlstate: str) -> None:
    it = bench(wait_notify=0.0)
    client, login = it.ticket(), it.wait_for_login()
    assert "REJECT" not in verbs(failing(it, (sqlstate, "gone"), 9.0))
    assert client.stands
    assert login.stands
    it.now = it.pool.outage.retry_at
    assert it.connects()


@pytest.mark.parametrize("sqlstate", ["0A000", "28000", "28P01", "3D000", "42501", "55000"])
def test_what_lasts_is_told_to_who_waits_and_not_repeated_at_once(bench: Make, sqlstate: str) -> None:
    it = bench()
    ticket = it.ticket()
    assert ("REJECT", ticket, (sqlstate, "no")) in failing(it, (sqlstate, "no"))
    it.ticket()
    it.granted(1)
    assert it.connects() == []


@pytest.mark.parametrize("sqlstate", ["55006", "55P03", "57014", "08P01"])
def test_neighbours_of_what_lasts_pass(bench: Make, sqlstate: str) -> None:
    it = bench()
    it.ticket()
    assert "REJECT" not in verbs(failing(it, (sqlstate, "no")))


@pytest.mark.parametrize(("retry", "patience"), [(15.0, 15.0), (0.2, 10.0), (0.0, 10.0), (60.0, 60.0)])
def test_logins_are_told_once_it_lasts_longer_than_a_restart(bench: Make, retry: float, patience: float) -> None:
    it = bench(login_retry=retry, wait_timeout=0.0, wait_notify=0.0)
    client, login = it.ticket(), it.wait_for_login()
    assert "REJECT" not in verbs(failing(it, REFUSED, patience * 0.7))
    assert it.pool.refusal(it.now) is None
    assert it.pool.outage.retry_at > it.now
    assert ("REJECT", login, REFUSED) in failing(it, REFUSED, patience * 0.5)
    assert client.stands
    assert it.pool.refusal(it.now) == (
        "08001",
        "server login has been failing, cached error: could not connect to server: Connection refused"
        " (server_login_retry)",
    )


def test_logins_that_wait_no_more_are_told_nothing(bench: Make) -> None:
    """One has got a server, one has hung up; and one still waits."""
    it = bench(wait_timeout=0.0, wait_notify=0.0)
    served, gone, waits = it.wait_for_login(), it.wait_for_login(), it.wait_for_login()
    it.granted(1)
    (slot,) = it.connects()
    it.pool.opened(slot, it.now)
    assert it.pool.freed(slot, SETTINGS, it.now) is served
    it.pool.closed_slot(slot)
    it.pool.leave(gone)
    it.pool.leave(gone)
    assert list(it.pool.logins) == [waits]
    said = failing(it, REFUSED, 20.0)
    assert [plan[1] for plan in said if plan[0] == "REJECT"] == [waits]
    assert not it.pool.logins


def test_who_logs_in_when_the_next_attempt_is_due_waits_for_it(bench: Make) -> None:
    it = bench()
    it.ticket()
    failing(it, NO_PASSWORD)
    assert it.pool.refusal(it.now) is not None
    it.now = it.pool.outage.retry_at
    assert it.pool.refusal(it.now) is None
    it.ticket()
    it.granted(1)
    (slot,) = it.connects()
    assert it.pool.refusal(it.now) is not None
    it.pool.opened(slot, it.now)
    assert it.pool.refusal(it.now) is None


def test_logins_wait_where_a_server_lives(bench: Make) -> None:
    it = bench()
    it.idle(1)
    it.take()
    login = it.ticket()
    login.login = True
    assert "REJECT" not in verbs(failing(it, NO_PASSWORD, 30.0))
    assert it.pool.refusal(it.now) is None


def test_an_outage_that_nobody_has_looked_at_since_is_none(bench: Make) -> None:
    it = bench()
    it.ticket()
    failing(it, NO_PASSWORD)
    it.now += 3600
    login = it.ticket()
    login.login = True
    assert it.pool.refusal(it.now) is None
    assert "REJECT" not in verbs(failing(it, REFUSED, 9.0))
    assert login.stands


def test_pauses_are_a_quarter_of_the_outage_up_to_the_limit(bench: Make) -> None:
    it = bench(login_retry=15.0, wait_timeout=0.0)
    it.ticket()
    began, pauses = it.now, []
    while it.now - began < 300:
        failing(it, REFUSED)
        pauses.append((it.now - began, it.pool.outage.retry_at - it.now))
        it.now = it.pool.outage.retry_at
    assert pauses[0] == (0.0, pytest.approx(0.1))
    assert all(pause == pytest.approx(min(15.0, max(0.1, away / 4))) for away, pause in pauses)
    assert len(pauses) < 50


def test_one_server_is_tried_at_a_time_while_none_can_be_had(bench: Make) -> None:
    it = bench(parallel_connects=4)
    for _ in range(10):
        it.ticket()
    failing(it, REFUSED)
    it.granted(9)
    it.now = it.pool.outage.retry_at
    (slot,) = it.connects()
    it.pool.opened(slot, it.now)
    it.pool.freed(slot, SETTINGS, it.now)
    assert len(it.connects()) == 4


def test_leases_that_can_not_be_used_are_given_back(bench: Make) -> None:
    """Another pool of the same user may have servers that can be reached."""
    it = bench()
    for _ in range(10):
        it.ticket()
    it.granted(10)
    failing(it, REFUSED, 2.0)
    assert it.pool.leases == 1


def test_a_crowd_in_line_is_not_looked_at_for_each_newcomer(bench: Make) -> None:
    it = bench()
    it.ticket()
    failing(it, REFUSED)
    it.plan()
    for _ in range(100):
        it.ticket()
        assert not it.pool.needs_plan(it.now)
    it.now = it.pool.outage.retry_at
    assert it.pool.needs_plan(it.now)


def test_a_success_ends_the_outage(bench: Make) -> None:
    it = bench()
    it.ticket()
    failing(it, REFUSED)
    it.now = it.pool.outage.retry_at
    (slot,) = it.connects()
    it.pool.opened(slot, it.now)
    assert it.pool.outage.problem is None
    assert it.pool.outage.retry_at == 0.0


def test_a_failure_with_other_servers_at_work_rejects_nobody(bench: Make) -> None:
    it = bench()
    it.idle(1)
    it.take()
    it.ticket()
    it.granted(1)
    (slot,) = it.connects()
    it.pool.failed(slot, "53300", "too many connections", it.now)
    assert "REJECT" not in verbs(it.plan())


def test_a_bad_parameter_is_its_clients_problem_only(bench: Make) -> None:
    it = bench()
    other = it.ticket()
    bad = it.ticket(OTHER_STARTUP)
    it.granted(2)
    slots = it.connects()
    assert [slot.startup_params for slot in slots] == [STARTUP, OTHER_STARTUP]
    (plan,) = it.pool.refused(slots[1], "22023", "invalid value")
    assert (plan.verb.name, plan.ticket, plan.problem) == ("REJECT", bad, ("22023", "invalid value"))
    assert other.stands
    assert it.pool.outage.problem is None


# Waiting too long.


def test_a_client_that_waits_too_long_is_told(bench: Make) -> None:
    it = bench(wait_timeout=120.0, wait_notify=0.0)
    ticket = it.ticket()
    it.now += 120
    assert "REJECT" not in verbs(it.plan())
    it.now += 0.1
    assert ("REJECT", ticket, ("08P01", "query_wait_timeout")) in it.plan()
    assert it.pool.line.size == 0


def test_who_waits_too_long_is_told_what_kept_servers_from_being_opened_meanwhile(bench: Make) -> None:
    it = bench(wait_timeout=120.0, wait_notify=5.0)
    it.idle(1)
    it.take()
    early = it.ticket()
    failing(it, REFUSED)
    it.now += 1
    late = it.ticket()
    it.now += 118
    notices = {plan.ticket: plan.detail for plan in it.pool.plan(it.now) if plan.verb.name == "NOTIFY"}
    assert notices == {early: f"last error: {REFUSED[1]}", late: ""}
    it.now += 2
    details = {plan.ticket: plan.detail for plan in it.pool.plan(it.now) if plan.verb.name == "REJECT"}
    assert details == {early: f"last error: {REFUSED[1]}"}


def test_a_client_that_waits_is_notified_once(bench: Make) -> None:
    it = bench(wait_notify=5.0)
    ticket = it.ticket()
    it.now += 6
    assert ("NOTIFY", ticket) in it.plan()
    it.now += 6
    assert "NOTIFY" not in verbs(it.plan())


def test_zero_means_for_ever(bench: Make) -> None:
    it = bench(wait_timeout=0.0, wait_notify=0.0)
    it.ticket()
    it.now += 1e6
    assert verbs(it.plan()) == ["WANT"]


# Recalls.


def test_an_unused_lease_is_given_at_once(bench: Make) -> None:
    it = bench()
    it.granted(1)
    (plan,) = it.pool.recall(False, it.now)
    assert (plan.verb.name, plan.number) == ("RETURN", 1)
    assert it.plan() == []


def test_an_idle_server_is_given_up(bench: Make) -> None:
    it = bench()
    slots = it.idle(2)
    (plan,) = it.pool.recall(False, it.now)
    assert plan.slot is slots[0]
    it.pool.closed_slot(slots[0])
    assert it.plan() == [("RETURN", 1)]


def test_a_server_between_two_transactions_is_kept(bench: Make) -> None:
    it = bench()
    it.idle(1)
    it.now += 0.5
    assert [plan.verb.name for plan in it.pool.recall(True, it.now, rest=1.0)] == ["KEPT"]
    it.now += 1
    assert [plan.verb.name for plan in it.pool.recall(True, it.now, rest=1.0)] == ["CLOSE"]


def test_a_server_between_two_transactions_is_given_up_for_who_has_waited_for_long(bench: Make) -> None:
    it = bench()
    it.idle(1)
    it.take()
    assert [plan.verb.name for plan in it.pool.recall(True, it.now, rest=0.0)] == ["KEPT"]
    it.idle(1)
    assert [plan.verb.name for plan in it.pool.recall(True, it.now, rest=0.0)] == ["CLOSE"]


def test_the_next_server_freed_is_given_up_even_when_clients_wait(bench: Make) -> None:
    it = bench()
    first, second = it.idle(2)
    it.take()
    it.take()
    it.ticket()
    assert it.pool.recall(False, it.now) == []
    assert it.pool.freed(first, SETTINGS, it.now) is None
    assert first.state == CLOSING
    it.pool.closed_slot(first)
    assert ("RETURN", 1) in it.plan()
    # And no other one.
    assert it.pool.freed(second, SETTINGS, it.now) is not None


def test_without_leases_nothing_can_be_recalled(bench: Make) -> None:
    it = bench()
    assert it.pool.recall(False, it.now) == []
    assert it.pool.recalls == 0


def test_a_lease_that_has_come_for_a_waiting_client_is_not_idle(bench: Make) -> None:
    it = bench()
    it.ticket()
    it.granted(2)
    assert [plan.verb.name for plan in it.pool.recall(True, it.now)] == ["RETURN"]
    assert [plan.verb.name for plan in it.pool.recall(True, it.now)] == ["KEPT"]
    assert [plan.verb.name for plan in it.pool.recall(False, it.now)] == ["RETURN"]


# What clients go through.


def test_load_is_what_clients_have_waited_and_had_till_now(bench: Make) -> None:
    it = bench()
    (slot,) = it.idle(1)
    assert it.pool.load(it.now) == (0.0, 0, 0.0, 0)
    it.take()
    it.pool.comers += 1
    it.now += 2
    it.ticket()
    it.ticket()
    it.pool.comers += 2
    it.now += 1
    assert it.pool.load(it.now) == (2.0, 1, 3.0, 3)
    it.now += 1
    it.pool.freed(slot, SETTINGS, it.now)
    it.now += 1
    wait, assignments, busy, clients = it.pool.load(it.now)
    assert (wait, assignments, busy) == (5.0, 2, 5.0)
    # One that got a server without coming anew, and one that waits.
    assert clients == 1


# Ends.


def test_retired_servers_go_when_they_are_free(bench: Make) -> None:
    it = bench()
    idle, busy = it.idle(2)
    assert it.take() is busy
    assert [plan.slot for plan in it.pool.retire()] == [idle]
    it.pool.closed_slot(idle)
    it.pool.freed(busy, SETTINGS, it.now)
    assert busy.state == CLOSING


def test_a_closed_pool_serves_nobody(bench: Make) -> None:
    it = bench(minimum=2)
    (slot,) = it.idle(1)
    ticket = it.ticket(OTHER_STARTUP)
    plans = [(plan.verb.name, plan.slot) for plan in it.pool.set_gate(SHUT)] + it.plan()
    assert ("REJECT", ticket, ("3D000", "database is no longer configured")) in plans
    assert ("CLOSE", slot) in plans
    it.pool.closed_slot(slot)
    it.plan()
    assert it.pool.unused()


def test_a_paused_pool_closes_its_servers_and_lets_clients_wait(bench: Make) -> None:
    it = bench(minimum=2)
    it.idle(2)
    busy = it.take()
    plans = it.pool.set_gate(PAUSED)
    assert [plan.verb.name for plan in plans] == ["CLOSE"]
    it.pool.closed_slot(plans[0].slot)
    assert it.take() is None
    ticket = it.ticket()
    assert not it.pool.needs_plan(it.now)
    assert not it.pool.released()
    it.now += 10
    assert [plan for plan in it.plan() if plan[0] not in ("RETURN", "WANT", "NOTIFY")] == []
    assert it.pool.freed(busy, SETTINGS, it.now) is None
    assert busy.state == CLOSING
    it.pool.closed_slot(busy)
    assert it.pool.released()
    it.now += 10
    assert ("WANT", 0) not in it.plan()
    assert it.pool.leases == 0
    assert it.pool.set_gate(OPEN) == []
    assert [plan[0] for plan in it.plan()] == ["WANT"]
    it.granted(1)
    ((verb, slot),) = it.plan()
    assert verb == "CONNECT"
    it.pool.opened(slot, it.now)
    assert it.pool.freed(slot, SETTINGS, it.now) is ticket


def test_a_server_that_is_opened_while_paused_is_closed_at_once(bench: Make) -> None:
    it = bench()
    it.ticket()
    it.plan()
    it.granted(1)
    ((_, slot),) = it.plan()
    it.pool.set_gate(PAUSED)
    it.pool.opened(slot, it.now)
    assert it.pool.freed(slot, SETTINGS, it.now) is None
    assert slot.state == CLOSING


def test_who_waits_too_long_in_a_paused_pool_is_told_so(bench: Make) -> None:
    it = bench(wait_timeout=5.0)
    ticket = it.ticket()
    it.pool.set_gate(PAUSED)
    it.now += 6
    (told,) = [plan for plan in it.pool.plan(it.now) if plan.ticket is ticket]
    assert (told.problem, told.detail) == (("08P01", "query_wait_timeout"), "the database is paused")


def test_it_says_how_it_is(bench: Make) -> None:
    it = bench()
    it.idle(2)
    it.take()
    it.ticket(OTHER_STARTUP)
    assert repr(it.pool) == "<Pool db/user leases=2 idle=1 active=1 waiting=1>"
    assert repr(next(iter(it.pool.slots))) == "<ServerSlot idle>"


def test_it_knows_who_waits_longest(bench: Make) -> None:
    it = bench()
    assert it.pool.oldest_wait() is None
    first = it.ticket()
    it.now += 1
    it.ticket()
    assert it.pool.oldest_wait() == first.since
    it.pool.line.leave(first)
    assert it.pool.oldest_wait() == it.now
