"""What one client sends keeps nobody else waiting, and all of it is answered."""

from collections.abc import Callable

import pytest

import harness.messages as m
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.wire import error_in

MANY = 2000


@pytest.fixture(params=["epoll", "io_uring"])
def pool(request: pytest.FixtureRequest, cluster: Cluster, shared_pooler: Callable[..., Pooler]) -> Pooler:
    """One worker, so that all share it."""
    return shared_pooler(cluster, event_backend=request.param, workers=1, default_pool_size=4)


def test_many_statements_sent_behind_a_slow_query_are_answered_in_order(pool: Pooler) -> None:
    """Each is parsed under its own name, and executed in a turn of its own."""
    wire = pool.wire()
    sent = [m.query("SELECT pg_sleep(0.5)")]
    for number in range(MANY):
        sent.append(m.parse(f"s{number}", f"SELECT {number}") + m.SYNC)
    for number in range(0, MANY, 7):
        sent.append(m.bind("", f"s{number}") + m.execute() + m.SYNC)
    wire.send(*sent)
    asked = range(0, MANY, 7)
    said = wire.until(count=1 + MANY + len(asked))
    rows = [one.row[0] for one in said if one.kind == "D"]
    assert rows[1:] == [b"%d" % number for number in asked]
    assert not [one for one in said if one.kind == "E"]


def test_what_a_round_leaves_is_done_in_the_next_though_nothing_comes(pool: Pooler) -> None:
    """Each of these is read by name; all come in one write, and the client says nothing more."""
    wire, other = pool.wire(), pool.wire()
    wire.send(*[m.query(f"SET pooled.number = '{number}'") for number in range(MANY)], m.query("SHOW pooled.number"))
    assert other.one("SELECT 1") == "1"
    said = wire.until(count=MANY + 1)
    assert [one.row for one in said if one.kind == "D"] == [[b"%d" % (MANY - 1)]]


def test_what_a_round_leaves_is_done_before_goodbye(pool: Pooler) -> None:
    """A client that hangs up behind its Terminate."""
    wire, other = pool.wire(), pool.wire()
    other.run("CREATE TABLE IF NOT EXISTS pauses(n int)")
    other.run("TRUNCATE pauses")
    sets = [m.query(f"SET pooled.number = '{number}'") for number in range(MANY)]
    wire.send(*sets, m.query("INSERT INTO pauses SELECT current_setting('pooled.number')::int"), m.TERMINATE)
    wire.until(count=MANY + 1)
    assert other.one("SELECT n FROM pauses") == str(MANY - 1)


def test_error_that_speaks_of_a_shared_name_says_the_clients_own(pool: Pooler) -> None:
    """The client has prepared many, under several names each."""
    wire = pool.wire()
    for number in range(300):
        wire.send(m.parse(f"a{number}", f"SELECT {number % 150}, 'x'") + m.SYNC)
        wire.until()
    wire.send(m.bind("", "a7", b"1") + m.execute() + m.SYNC)
    assert 'prepared statement "a7"' in error_in(wire.until())["M"]
