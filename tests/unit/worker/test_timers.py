"""Where clients stand, and which limit one has overstepped there, by a clock of the test's own."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pglido.config.model import Settings
from pglido.pooling.states import OPEN, PAUSED
from pglido.protocol.codes import IDLE as STATUS_IDLE
from pglido.protocol.codes import IN_TRANSACTION as STATUS_IN_TRANSACTION
from pglido.relay.stage import (
    ARRIVED,
    HUNG_UP,
    LEAVING,
    LINGERING,
    LISTEN_ONLY,
    LOGIN,
    PROVING,
    RAW,
    SERVED,
    STAGES,
    TLS,
)
from pglido.worker.report import STATE_WORDS
from pglido.worker.standing import ACTIVE, IDLE, IN_TRANSACTION, KEEPING, QUEUED, WITH_SESSION, standing
from pglido.worker.timers import LIMITS, over_time, resting

SETTINGS = Settings()
OUTAGE = ("08006", "the server is down")


def client(settings: Settings, asked: float) -> Any:
    """A client in a transaction that began at 0, whose query was asked then (0: none is)."""
    session = server(status=STATUS_IN_TRANSACTION, owed=int(asked > 0))
    return SimpleNamespace(
        session=object(),
        stage=SERVED,
        runtime=SimpleNamespace(settings_for=lambda user: settings),
        ticket=None,
        user="app",
        server=SimpleNamespace(session=session),
        asked=asked,
        started=0.0,
        rested=asked,
    )


def server(status: int = STATUS_IDLE, owed: int = 0, more: bool = False, pins: int = 0) -> Any:
    """The session of a server that owes so many replies; `more`: it waits for the rest of a batch."""
    return SimpleNamespace(
        status=status,
        awaits_more=lambda: more,
        replies=SimpleNamespace(head=owed),
        state=SimpleNamespace(pins=pins),
    )


def at(stage: int, session: Any = None, ticket: object = None, settings: Settings | None = None, **more: Any) -> Any:
    """A client at this stage since 100, with a server that has this session (None: without one)."""
    pool = SimpleNamespace(outage=SimpleNamespace(problem=None))
    own = SimpleNamespace(rules=SimpleNamespace(keep=False), begun=False, waits_for_more=lambda: False)
    options = {
        "stage": stage,
        "ticket": ticket,
        "session": own,
        "server": None if session is None else SimpleNamespace(session=session),
        "pool": SimpleNamespace(gate=OPEN),
        "runtime": SimpleNamespace(settings_for=lambda user: settings, pool=pool),
        "user": "app",
        "paused": False,
        "out": None,
    }
    times = {"born": 100.0, "rested": 100.0, "asked": 0.0, "started": 100.0}
    return SimpleNamespace(**(options | times | more))


def test_query_timeout_counts_each_query() -> None:
    """However many there were in this transaction, and how long they took together."""
    settings = Settings(query_timeout=1.0)
    for number in range(1, 20):
        asked = 0.9 * number
        assert over_time(client(settings, asked), asked + 0.9, SETTINGS) is None
        assert over_time(client(settings, asked), asked + 1.1, SETTINGS) == "query timeout"
        assert over_time(client(settings, 0.0), asked + 60, SETTINGS) is None
    assert over_time(client(Settings(query_timeout=0.0), 1.0), 1000.0, SETTINGS) is None


def test_transaction_timeout_counts_all_of_them() -> None:
    settings = Settings(query_timeout=10.0, transaction_timeout=1.0)
    assert over_time(client(settings, 0.9), 1.0, SETTINGS) is None
    assert over_time(client(settings, 0.9), 1.1, SETTINGS) == "transaction timeout"


STANDINGS = [
    *[(at(stage), stage) for stage in STAGES if stage not in WITH_SESSION],
    *[(at(stage), IDLE) for stage in WITH_SESSION],
    *[(at(stage, ticket=object()), QUEUED) for stage in WITH_SESSION],
    *[(at(stage, server(owed=1)), ACTIVE) for stage in WITH_SESSION],
    (at(SERVED, server(STATUS_IN_TRANSACTION, owed=1)), ACTIVE),
    (at(SERVED, server(more=True)), IN_TRANSACTION),
    (at(SERVED, server(STATUS_IN_TRANSACTION)), IN_TRANSACTION),
    (at(SERVED, server()), KEEPING),
    (at(SERVED, server(pins=1)), KEEPING),
]


@pytest.mark.parametrize(("one", "stands"), STANDINGS)
def test_standing(one: Any, stands: int) -> None:
    assert standing(one) == stands


def test_each_standing_has_a_row_of_limits() -> None:
    """But for those whose session is over: they are no clients any more."""
    assert LIMITS.keys() == {stands for _, stands in STANDINGS} - {LINGERING}


def test_what_show_clients_says() -> None:
    words = {stands: STATE_WORDS.get(stands, "idle") for stands in LIMITS}
    assert words == {
        **dict.fromkeys((ARRIVED, TLS, PROVING, LOGIN, LISTEN_ONLY, IDLE), "idle"),
        **dict.fromkeys((RAW, ACTIVE, IN_TRANSACTION, KEEPING), "active"),
        QUEUED: "waiting",
    }


ALL = {limit.setting for row in LIMITS.values() for limit in row}


def limited(names: Iterable[str]) -> Settings:
    """Settings in which these limits are a second, and all others off."""
    return msgspec.structs.replace(SETTINGS, **{name: 1.0 if name in names else 0.0 for name in ALL})


@pytest.mark.parametrize(
    ("stage", "session", "asked", "setting", "told"),
    [
        *[(stage, None, 0, "client_login_timeout", "client_login_timeout") for stage in (ARRIVED, TLS, PROVING, LOGIN)],
        (LISTEN_ONLY, None, 0, "client_idle_timeout", "client_idle_timeout"),
        *[(stage, None, 0, "client_idle_timeout", "client_idle_timeout") for stage in WITH_SESSION],
        (SERVED, server(), 0, "client_idle_timeout", "client_idle_timeout"),
        (SERVED, server(pins=1), 0, "client_idle_timeout", "client_idle_timeout"),
        (SERVED, server(pins=1), 0, "pin_timeout", "pin_timeout"),
        (SERVED, server(owed=1), 100, "query_timeout", "query timeout"),
        (SERVED, server(owed=1), 0, "transaction_timeout", "transaction timeout"),
        (SERVED, server(STATUS_IN_TRANSACTION), 0, "transaction_timeout", "transaction timeout"),
        (SERVED, server(STATUS_IN_TRANSACTION), 0, "idle_transaction_timeout", "idle transaction timeout"),
        (SERVED, server(more=True), 0, "idle_transaction_timeout", "idle transaction timeout"),
    ],
)
def test_limits(stage: int, session: Any, asked: float, setting: str, told: str) -> None:
    """Each by itself is told once its time is over; the others don't concern a client that stands there."""
    settings, others = limited({setting}), limited(ALL - {setting})
    one = at(stage, session, settings=settings, asked=asked)
    assert over_time(one, 100.9, settings) is None
    assert over_time(one, 101.1, settings) == told
    assert over_time(at(stage, session, settings=others, asked=asked), 101.1, others) != told


@pytest.mark.parametrize("one", [at(RAW, settings=limited(ALL)), at(SERVED, ticket=1, settings=limited(ALL))])
def test_who_has_no_limit(one: Any) -> None:
    """One whose bytes pass unseen; one in line: for that there is query_wait_timeout, which the pool minds."""
    assert over_time(one, 1e6, limited(ALL)) is None


def test_a_login_that_waits_for_a_server_that_is_down() -> None:
    one = at(LOGIN, settings=SETTINGS)
    one.runtime.pool.outage.problem = OUTAGE
    assert over_time(one, 1000.0, Settings(client_login_timeout=1.0)) == "client_login_timeout (server down)"


@pytest.mark.parametrize(
    ("one", "rests"),
    [
        *[(at(stage), True) for stage in (ARRIVED, TLS, PROVING, LOGIN, LISTEN_ONLY, RAW)],
        *[(at(stage), True) for stage in (SERVED, HUNG_UP, LEAVING)],
        (at(SERVED, ticket=object()), False),
        (at(SERVED, ticket=object(), pool=SimpleNamespace(gate=PAUSED)), True),
        (at(SERVED, paused=True), False),
        (at(SERVED, out=b"x"), False),
        (at(SERVED, server()), False),
        (at(SERVED, server(pins=1)), True),
        (at(SERVED, server(pins=1, owed=1)), False),
        (at(SERVED, server(STATUS_IN_TRANSACTION, pins=1)), False),
    ],
)
def test_who_rests_when_a_drain_begins(one: Any, rests: bool) -> None:
    assert resting(one) == rests
