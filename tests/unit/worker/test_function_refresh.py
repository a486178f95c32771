"""When servers are asked again what functions there are."""

from types import SimpleNamespace
from typing import Any

import pytest

from pglido.ipc.shared_counters import SharedCounter, SharedCounters
from pglido.pooling.states import BUSY, IDLE
from pglido.session.state.function_scan import FunctionSnapshot
from pglido.session.state.shared import FunctionCatalog
from pglido.sql.scanner import DEFINES
from pglido.worker.servers.function_refresh import ALL, NEWS, FunctionRefresh

SINCE = FunctionSnapshot("5 1", "7", (), 0)
START = 1000.0
FOUND = {"names": ["sets"], "vague": None, "counts": None, "settings": ["app.tenant"], "triggers": False}


def slot(state: int, since: float = 0.0) -> Any:
    session = SimpleNamespace(state=SimpleNamespace(unverified=0))
    return SimpleNamespace(state=state, since=since, server=SimpleNamespace(session=session))


def asked(*slots: Any) -> list[bool]:
    """Which of these servers will be asked; they are not any more then."""
    found = [one.server.session.state.unverified == DEFINES for one in slots]
    for one in slots:
        one.server.session.state.unverified = 0
    return found


class Bench:
    """One worker (`row`) with one pool, in which these slots are."""

    def __init__(
        self, counters: SharedCounters, row: int, *slots: Any, inspected: int = 1, round_robin: bool = False
    ) -> None:
        functions = FunctionCatalog()
        functions.known = True
        functions.since = SINCE
        self.functions = functions
        idle = [one for one in slots if one.state == IDLE]
        pool = SimpleNamespace(
            slots=list(slots),
            idle=SimpleNamespace(front=next(iter(idle), None), back=next(reversed(idle), None), size=len(idle)),
            round_robin=round_robin,
        )
        runtime = SimpleNamespace(
            pool=pool, rules=SimpleNamespace(inspected=inspected, functions=functions), findings=0
        )
        lifecycle = SimpleNamespace(pools={("db", "user"): runtime}, counters=SharedCounters.attach(counters.fd, row))
        self.refresh = FunctionRefresh(lifecycle, START)  # type: ignore[arg-type]


@pytest.fixture
def counters() -> SharedCounters:
    return SharedCounters.create(2)


def test_news_are_asked_for_now_and_then(counters: SharedCounters) -> None:
    one = slot(IDLE)
    it = Bench(counters, 0, one)
    it.refresh.look(START + NEWS - 0.1)
    assert asked(one) == [False]
    it.refresh.look(START + NEWS)
    assert asked(one) == [True]
    assert it.functions.since is SINCE
    it.refresh.look(START + NEWS + 0.3)
    assert asked(one) == [False]
    it.refresh.look(START + 2 * NEWS)
    assert asked(one) == [True]


def test_at_times_all_is_read(counters: SharedCounters) -> None:
    one = slot(IDLE)
    it = Bench(counters, 0, one)
    it.refresh.look(START + ALL)
    assert asked(one) == [True]
    assert it.functions.since is None


def test_what_takes_long_is_not_asked_often(counters: SharedCounters) -> None:
    one = slot(IDLE)
    it = Bench(counters, 0, one)
    it.functions.since = None
    it.refresh.look(START + NEWS)
    assert asked(one) == [False]
    it.refresh.look(START + ALL)
    assert asked(one) == [True]


@pytest.mark.parametrize("known", [True, False])
def test_who_does_not_care_is_not_asked(counters: SharedCounters, known: bool) -> None:
    one = slot(IDLE)
    it = Bench(counters, 0, one, inspected=0 if known else 1)
    it.functions.known = known
    it.refresh.look(START + ALL)
    assert asked(one) == [False]


def test_the_server_that_is_used_next_is_asked(counters: SharedCounters) -> None:
    first, last, busy = slot(IDLE), slot(IDLE), slot(BUSY)
    Bench(counters, 0, first, last, busy).refresh.look(START + NEWS)
    assert asked(first, last, busy) == [False, True, False]
    Bench(counters, 0, first, last, busy, round_robin=True).refresh.look(START + NEWS)
    assert asked(first, last, busy) == [True, False, False]


def test_of_busy_servers_the_one_taken_last_is_asked(counters: SharedCounters) -> None:
    long, short = slot(BUSY, 10.0), slot(BUSY, 20.0)
    Bench(counters, 0, short, long).refresh.look(START + NEWS)
    assert asked(long, short) == [False, True]


def test_a_pool_without_servers_has_nobody_to_ask(counters: SharedCounters) -> None:
    Bench(counters, 0).refresh.look(START + NEWS)


def test_what_one_worker_finds_the_others_ask_for_at_once(counters: SharedCounters) -> None:
    mine, theirs = slot(IDLE), slot(IDLE)
    here, there = Bench(counters, 0, mine), Bench(counters, 1, theirs)
    there.functions.since = None
    here.refresh.look(START)
    there.refresh.look(START)
    here.functions.learn(FOUND)
    here.refresh.look(START + 0.3)
    there.refresh.look(START + 0.3)
    assert asked(theirs) == [True]
    # They find the same, and that ends it.
    there.functions.learn(FOUND)
    for at in (0.6, 0.9, 1.2):
        here.refresh.look(START + at)
        there.refresh.look(START + at)
        asked(mine, theirs)
    here.refresh.look(START + 1.5)
    there.refresh.look(START + 1.5)
    assert asked(mine, theirs) == [False, False]


def test_what_is_known_at_first_is_no_news(counters: SharedCounters) -> None:
    it = Bench(counters, 0, slot(IDLE))
    it.functions.known = False
    it.functions.learn(FOUND)
    it.refresh.look(START)
    assert counters.total(SharedCounter.FINDINGS) == 0
    it.functions.learn(FOUND | {"settings": None})
    it.refresh.look(START + 0.3)
    it.refresh.look(START + 0.6)
    assert counters.total(SharedCounter.FINDINGS) == 1
