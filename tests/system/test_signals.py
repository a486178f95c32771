"""pg_cancel_backend and pg_terminate_backend reach a client by the process id that it was given at login."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Message, Wire, error_in, kinds, rows_in

pytestmark = pytest.mark.usefixtures("patience")

STANDING = "application_name = 'pglido signal'"
Ask = Callable[[str, int], bytes]


@pytest.fixture(params=[16, 18])
def server(request: pytest.FixtureRequest) -> Cluster:
    """PostgreSQL, the oldest and the newest one that tests have."""
    found: Cluster = request.getfixturevalue("cluster" if request.param == 18 else "cluster16")
    return found


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def pool(request: pytest.FixtureRequest, server: Cluster, shared_pooler: MakePooler) -> Iterator[Pooler]:
    """As many servers as workers: fewer than clients. Nobody stands in for anybody afterwards."""
    yield shared_pooler(server, default_pool_size=request.param, workers=request.param)
    server.settles(0, STANDING)


def prepared(function: str, pid: int) -> bytes:
    """A named statement that is parsed in one turn and bound in the next."""
    parse = m.parse("s", f"SELECT {function}($1)") + m.describe_statement("s") + m.SYNC
    return parse + m.bind("", "s", pid.to_bytes(4, "big"), formats=[1]) + m.execute() + m.SYNC


ASKS: dict[str, Ask] = {
    "constant": lambda function, pid: m.query(f"SELECT {function}({pid})"),
    "cast": lambda function, pid: m.query(f"SELECT pg_catalog.{function} (  ('{pid}'::int4))"),
    "shown": lambda function, pid: m.query(f"SELECT {function}(pid) FROM pg_stat_activity WHERE pid = {pid}"),
    "in a block": lambda function, pid: m.query(f"BEGIN; SELECT {function}({pid}); COMMIT"),
    "text": lambda function, pid: (
        m.parse("", f"SELECT {function}($1)") + m.bind("", "", str(pid)) + m.execute() + m.SYNC
    ),
    "int8": lambda function, pid: (
        m.parse("", f"SELECT {function}($1::int)", 20)
        + m.bind("", "", pid.to_bytes(8, "big"), formats=[1])
        + m.execute()
        + m.SYNC
    ),
    "constant in a batch": lambda function, pid: (
        m.parse("", f"SELECT {function}({pid})") + m.bind("", "") + m.describe_portal() + m.execute() + m.SYNC
    ),
    "prepared": prepared,
}


def answers(wire: Wire, data: bytes) -> list[Message]:
    """What is answered to this."""
    wire.send(data)
    return wire.until("Z", sum(data[at : at + 1] in (b"Q", b"S") for at in starts(data)))


def starts(data: bytes) -> Iterator[int]:
    """Where messages begin."""
    at = 0
    while at < len(data):
        yield at
        at += 1 + int.from_bytes(data[at + 1 : at + 5], "big")


@pytest.mark.parametrize("way", ASKS)
def test_terminate_a_client_at_rest(way: str, pool: Pooler) -> None:
    clients = [pool.wire() for _ in range(3)]
    for target in clients[:2]:
        target.run("SELECT 1")
        assert [b"t"] in rows_in(answers(clients[2], ASKS[way]("pg_terminate_backend", target.pid)))
        (error,) = [one.fields for one in target.rest() if one.kind == "E"]
        assert (error["S"], error["C"]) == ("FATAL", "57P01")
        assert error["M"] == "terminating connection due to administrator command"
    assert clients[2].one("SELECT 1") == "1"
    assert pool.wire().one("SELECT 1") == "1"


@pytest.mark.parametrize("way", ASKS)
def test_cancel_what_a_client_does(way: str, pooler: MakePooler, server: Cluster) -> None:
    pool = pooler(server, default_pool_size=4, workers=2)
    with ThreadPoolExecutor(4) as threads:
        targets = [pool.wire() for _ in range(2)]
        asker = pool.wire()
        for target in targets:
            reply = threads.submit(target.ask, "SELECT pg_sleep(50)")
            server.settles(1, "query = 'SELECT pg_sleep(50)' AND state = 'active'")
            assert [b"t"] in rows_in(answers(asker, ASKS[way]("pg_cancel_backend", target.pid)))
            assert error_in(reply.result(20))["C"] == "57014"
            assert target.one("SELECT 1") == "1"
    server.settles(0, STANDING)


def test_cancel_who_does_nothing(pool: Pooler) -> None:
    resting, asker = pool.wire(), pool.wire()
    assert asker.one(f"SELECT pg_cancel_backend({resting.pid})") == "t"
    assert resting.one("SELECT 1") == "1"


def test_who_waits_in_line(pooler: MakePooler, server: Cluster) -> None:
    pool = pooler(server, default_pool_size=2, workers=1)
    asker, holder, cancelled, ended = (pool.wire() for _ in range(4))
    for wire in (asker, holder):
        wire.run("BEGIN")
    for wire in (cancelled, ended):
        wire.send(m.query("SELECT pg_sleep(50)"))
    eventually(lambda: pool.pool()["cl_waiting"] == 2)
    assert asker.one(f"SELECT pg_cancel_backend({cancelled.pid})") == "t"
    assert asker.one(f"SELECT pg_terminate_backend({ended.pid})") == "t"
    assert [one.fields["C"] for one in ended.rest()] == ["57P01"]
    # What it waits for is cancelled when it comes.
    holder.run("COMMIT")
    assert error_in(cancelled.until())["C"] == "57014"


def test_in_a_transaction_that_goes_on(pool: Pooler) -> None:
    target, asker = pool.wire(), pool.wire()
    asker.run("BEGIN")
    assert asker.one(f"SELECT pg_terminate_backend({target.pid})") == "t"
    assert [one.fields["C"] for one in target.rest()] == ["57P01"]
    assert asker.one("SELECT 1") == "1"
    asker.run("COMMIT")


def test_terminate_within_a_transaction(pooler: MakePooler, server: Cluster) -> None:
    pool = pooler(server, default_pool_size=4, workers=2)
    target, asker = pool.wire(), pool.wire()
    target.run("CREATE TABLE IF NOT EXISTS signalled (n int)")
    target.run("BEGIN; INSERT INTO signalled VALUES (1)")
    assert asker.one(f"SELECT pg_terminate_backend({target.pid})") == "t"
    assert [one.fields["C"] for one in target.rest()] == ["57P01"]
    assert asker.one("SELECT count(*) FROM signalled") == "0"
    server.settles(0, STANDING)


def test_a_client_that_means_itself(pool: Pooler) -> None:
    client = pool.wire()
    assert error_in(client.ask(f"SELECT pg_cancel_backend({client.pid}), pg_sleep(9)"))["C"] == "57014"
    client.send(m.query(f"SELECT pg_terminate_backend({client.pid}), pg_sleep(9)"))
    assert [one.fields["C"] for one in client.rest() if one.kind == "E"] == ["57P01"]


def test_the_servers_own_rules_say_who_may(pooler: MakePooler, server: Cluster) -> None:
    pool = pooler(server, default_pool_size=2, workers=2)
    target, boss, other = pool.wire("postgres"), pool.wire("postgres"), pool.wire("app")
    for function in ("pg_cancel_backend", "pg_terminate_backend"):
        direct = server.wire("postgres")
        expected = error_in(server.wire("app").ask(f"SELECT {function}({direct.pid})"))
        error = error_in(other.ask(f"SELECT {function}({target.pid})"))
        assert {key: error.get(key) for key in "SCMDHFLR"} == {key: expected.get(key) for key in "SCMDHFLR"}
        assert target.one("SELECT 1") == "1"
    assert boss.one(f"SELECT pg_terminate_backend({other.pid})") == "t"
    assert [one.fields["C"] for one in other.rest()] == ["57P01"]
    server.settles(0, STANDING)


def test_several_at_once(pool: Pooler) -> None:
    targets, asker = [pool.wire() for _ in range(4)], pool.wire()
    calls = ", ".join(f"pg_terminate_backend({target.pid})" for target in targets)
    assert asker.run(f"SELECT {calls}") == [["t"] * 4]
    for target in targets:
        assert [one.fields["C"] for one in target.rest()] == ["57P01"]


def test_many_askers_at_once(pool: Pooler) -> None:
    pairs = [(pool.wire(), pool.wire()) for _ in range(8)]
    for asker, target in pairs:
        asker.send(m.query(f"SELECT pg_terminate_backend({target.pid})"))
    for asker, target in pairs:
        assert rows_in(asker.until()) == [[b"t"]]
        assert [one.fields["C"] for one in target.rest()] == ["57P01"]


def test_who_is_gone_or_never_was(pool: Pooler, server: Cluster) -> None:
    gone, asker = pool.wire(), pool.wire()
    gone.bye()
    eventually(lambda: pool.pool()["cl_active"] + pool.pool()["cl_waiting"] <= 1)
    for pid in (gone.pid, (200 << 23) + 1, (1 << 31) - 1, 1 << 23):
        said = asker.ask(f"SELECT pg_terminate_backend({pid})")
        assert rows_in(said) == [[b"f"]]
        assert [one.fields["M"] for one in said if one.kind == "N"] == [
            f"PID {pid} is not a PostgreSQL backend process"
        ]


def test_what_is_no_number_of_a_client_stays(pool: Pooler) -> None:
    other, asker = pool.wire(), pool.wire()
    said = f"'pg_terminate_backend({other.pid})', {other.pid}, pg_terminate_backend(1), {other.pid} + 0"
    ((quoted, number, _, added),) = asker.run(f"SELECT {said}")
    assert (quoted, number, added) == (f"pg_terminate_backend({other.pid})", str(other.pid), str(other.pid))
    assert other.one("SELECT 1") == "1"


def test_the_same_where_the_server_is_kept(server: Cluster, shared_pooler: MakePooler) -> None:
    pool = shared_pooler(server, default_pool_size=4, workers=2, pool_mode="session")
    target, asker = pool.wire(), pool.wire()
    target.run("SELECT 1")
    assert asker.one(f"SELECT pg_terminate_backend({target.pid})") == "t"
    assert [one.fields["C"] for one in target.rest()] == ["57P01"]
    server.settles(0, STANDING)


def test_a_statement_is_bound_again(pool: Pooler) -> None:
    asker = pool.wire()
    asker.send(m.parse("s", "SELECT pg_terminate_backend($1)") + m.SYNC)
    assert kinds(asker.until()) == "1Z"
    for _ in range(3):
        target = pool.wire()
        said = answers(asker, m.bind("", "s", str(target.pid)) + m.execute() + m.SYNC)
        assert kinds(said) == "2DCZ"
        assert [one.fields["C"] for one in target.rest()] == ["57P01"]
    assert kinds(answers(asker, m.bind("", "s", "1") + m.execute() + m.SYNC)) == "2NDCZ"
