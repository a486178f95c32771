"""Limits hold over all workers, with PgBouncer's texts."""

import threading

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile, together
from harness.pooler import Pooler
from harness.waiting import eventually, wait_until_read
from harness.wire import ServerError, Wire, error_in, kinds

EVERYBODY = {"app": {}, "app2": {}, "app3": {}}


def refused(pool: Pooler, *who: str) -> tuple[str, str, str]:
    """Severity, SQLSTATE and text of a login that is not admitted."""
    with pytest.raises(ServerError) as error:
        pool.wire(*who)
    return error.value.severity, error.value.sqlstate, error.value.text


def busy(pool: Pooler, count: int, *who: str) -> list[Wire]:
    """Clients that each ask for a server and keep it in a transaction, once they get it."""
    wires = [pool.wire(*who) for _ in range(count)]
    for wire in wires:
        wire.send(m.query("BEGIN"))
    return wires


def release(wires: list[Wire]) -> None:
    """Let all of them finish, in whatever order they get a server."""

    def finish(number: int) -> None:
        wire = wires[number]
        assert kinds(wire.until()) == "CZ"
        assert wire.one("SELECT 1") == "1"
        wire.run("COMMIT")

    together(len(wires), finish)


@pytest.mark.parametrize("workers", [1, 3])
def test_max_client_conn(pooler: MakePooler, workers: int) -> None:
    pool = pooler(max_client_conn=8, workers=workers)
    wires = [pool.wire() for _ in range(8)]
    for _ in range(5):
        severity, sqlstate, text = refused(pool)
        assert (severity, sqlstate) == ("FATAL", "08P01")
        assert text.startswith("no more connections allowed (max_client_conn)")
    assert pool.console("SHOW VERSION")
    wires.pop().bye()
    eventually(lambda: admitted(pool))
    assert all(wire.one("SELECT 1") == "1" for wire in wires)


def admitted(pool: Pooler, *who: str) -> bool:
    """Whether a client gets in now."""
    try:
        pool.wire(*who).bye()
    except ServerError:
        return False
    return True


def test_max_client_conn_counts_clients_that_come_at_once(pooler: MakePooler) -> None:
    pool = pooler(max_client_conn=11, workers=3)
    admin = pool.wire("postgres", "pglido")

    def clients() -> str | None:
        return dict(admin.run("SHOW LISTS"))["used_clients"]

    def login(number: int) -> Wire | None:
        try:
            return pool.wire()
        except ServerError:
            return None

    for _ in range(5):
        wires = [wire for wire in together(40, login) if wire is not None]
        assert len(wires) == 10
        for wire in wires:
            wire.bye()
        eventually(lambda: clients() == "1")


@pytest.mark.parametrize(("limit", "text"), [
    ("max_db_client_connections", "client connections exceeded (max_db_client_connections)"),
    ("max_user_client_connections", "client connections exceeded (max_user_client_connections)"),
])  # fmt: skip
def test_client_twins(pooler: MakePooler, limit: str, text: str) -> None:
    pool = pooler(workers=2, **{limit: 4})
    wires = [pool.wire() for _ in range(4)]
    severity, sqlstate, got = refused(pool)
    assert (severity, sqlstate) == ("FATAL", "08P01")
    assert got.startswith(text)
    other = ("app", "other") if "db" in limit else ("app2", "app")
    assert pool.wire(*other).one("SELECT 1") == "1"
    wires.pop().bye()
    eventually(lambda: admitted(pool))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_default_pool_size_over_all_workers(pooler: MakePooler, cluster: Cluster, workers: int) -> None:
    pool = pooler(default_pool_size=3, workers=workers)
    wires = busy(pool, 12)
    cluster.settles(3, "state = 'idle in transaction'")
    eventually(lambda: pool.pool()["cl_waiting"] == 9)
    assert len(cluster.backends()) == 3
    release(wires)
    assert len(cluster.backends()) <= 3


def test_no_worker_starves(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, workers=3)

    def work(number: int) -> None:
        with pool.wire() as wire:
            for _ in range(30):
                assert wire.one(f"SELECT {number}") == str(number)
            wire.bye()

    together(30, work)
    # All clients of all workers must get through, whoever holds the two servers now.
    for _ in range(20):
        with pool.wire() as wire:
            assert wire.one("SELECT 1") == "1"
    assert len(cluster.backends()) <= 2


def test_pool_size_of_database_and_user(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(
        default_pool_size=1,
        databases={"app": {"pool_size": 2}, "other": {}},
        users={**EVERYBODY, "app2": {"pool_size": 3}},
    )
    wires = [*busy(pool, 5), *busy(pool, 5, "app2", "app"), *busy(pool, 5, "app", "other")]
    where = "state = 'idle in transaction' AND "
    cluster.settles(2, where + "usename = 'app' AND datname = 'app'")
    cluster.settles(3, where + "usename = 'app2' AND datname = 'app'")
    cluster.settles(1, where + "usename = 'app' AND datname = 'other'")
    release(wires)


def test_max_db_connections(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5, databases={"app": {"max_db_connections": 3}, "other": {}})
    wires = [pool.wire(user) for user in ("app", "app2", "app3") for _ in range(4)]
    for wire in wires:
        wire.send(m.query("BEGIN"))
    cluster.settles(3, "state = 'idle in transaction' AND datname = 'app'")
    assert pool.wire(database="other").one("SELECT 1") == "1"
    release(wires)
    assert len(cluster.backends("datname = 'app'")) <= 3


def test_max_db_connections_evicts_idle_servers_of_others(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5, max_db_connections=2, databases={"app": {}})
    first = [pool.wire("app") for _ in range(2)]
    release(busy(pool, 2, "app"))
    second = pool.wire("app2")
    assert second.one("SELECT current_user") == "app2"
    assert [wire.one("SELECT current_user") for wire in first] == ["app", "app"]
    assert len(cluster.backends()) <= 2


def test_max_db_connections_evicts_servers_that_are_used_now_and_then(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5, workers=1, max_db_connections=3, databases={"app": {}})
    over = threading.Event()

    def now_and_then() -> None:
        pair = [pool.wire("app") for _ in range(2)]
        while not over.wait(0.3):
            for wire in pair:
                wire.send(m.query("SELECT pg_sleep(0.05)"))
            for wire in pair:
                wire.until()

    with Meanwhile(now_and_then) as others:
        cluster.settles(2, "usename = 'app' AND query LIKE '%sleep%'")
        (holder,) = busy(pool, 1, "app2")
        assert kinds(holder.until()) == "CZ"
        assert pool.wire("app2").one("SELECT current_user") == "app2"
        assert len(cluster.backends()) <= 3
        over.set()
        others.result()


def test_max_user_connections(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5, users={**EVERYBODY, "app2": {"max_user_connections": 3}})
    wires = [pool.wire("app2", database) for database in ("app", "other") for _ in range(4)]
    for wire in wires:
        wire.send(m.query("BEGIN"))
    cluster.settles(3, "state = 'idle in transaction' AND usename = 'app2'")
    assert pool.wire().one("SELECT 1") == "1"
    release(wires)


def test_min_pool_size(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(databases={"app": {"user": "app2", "min_pool_size": 4}, "other": {"min_pool_size": 2}})
    cluster.settles(4, "usename = 'app2'")
    assert cluster.backends("datname = 'other'") == []
    wire = pool.wire(database="other")
    cluster.settles(2, "datname = 'other'")
    wire.run("SELECT 1")
    cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app2'")
    cluster.settles(4, "usename = 'app2'")


def test_reserve_pool(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, reserve_pool_size=2, reserve_pool_timeout=0.5)
    ((before,),) = cluster.admin("SELECT clock_timestamp()")
    wires = busy(pool, 6)
    pids = cluster.settles(4, "state = 'idle in transaction'")
    soon = cluster.backends(f"backend_start < '{before}'::timestamptz + interval '0.5 s'")
    assert len(soon) <= 2
    assert len(cluster.backends()) == len(pids)
    eventually(lambda: pool.pool()["cl_waiting"] == 2)
    release(wires)


def test_max_packet_size(pooler: MakePooler) -> None:
    pool = pooler(max_packet_size="1MB", workers=1)
    other = pool.wire()
    assert pool.wire().one(f"SELECT length('{'x' * 500_000}')") == "500000"
    for data in (m.query("SELECT 1" + " " * 2_000_000), m.parse("", "SELECT 1" + " " * 2_000_000) + m.SYNC):
        wire = pool.wire()
        wire.send(data[:8])
        fields = error_in(wire.rest())
        assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
    assert other.one("SELECT 1") == "1"


def outcome(wire: Wire) -> str:
    """How a Parse and its Sync ended: the SQLSTATE, or nothing. The session goes on."""
    read = wire.until()
    assert kinds(read) in ("1Z", "EZ")
    assert wire.one("SELECT 1") == "1"
    return "" if kinds(read) == "1Z" else error_in(read)["C"]


def held(pool: Pooler) -> list[int]:
    """What SHOW CLIENTS says of each client, the largest last."""
    return sorted(int(row["held_bytes"] or 0) for row in pool.console("SHOW CLIENTS"))


@pytest.mark.parametrize("name", ["", "s"])
def test_max_held_bytes(pooler: MakePooler, name: str) -> None:
    pool = pooler(max_held_bytes="4MB", workers=1, default_pool_size=10)
    other = pool.wire()
    halves = [pool.wire() for _ in range(6)]
    said = [m.parse(name, f"SELECT {number}" + " " * 1_500_000) + m.SYNC for number in range(6)]
    for wire, data in zip(halves, said, strict=True):
        wire.send(data[:-20])
        wait_until_read(wire.sock, within=2)
    for wire, data in zip(halves, said, strict=True):
        wire.send(data[-20:])
    ends = [outcome(wire) for wire in halves]
    assert ends.count("") == 2
    assert ends.count("53200") == 4
    assert other.one("SELECT 1") == "1"


def test_max_client_held_bytes(pooler: MakePooler) -> None:
    pool = pooler(max_client_held_bytes="2MB", workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("BEGIN")
    for number in range(3):
        wire.send(m.parse(f"s{number}", f"SELECT {number}" + " " * 900_000), m.SYNC)
    read = [wire.until() for _ in range(3)]
    assert [kinds(one) for one in read] == ["1Z", "1Z", "EZ"]
    fields = error_in(read[2])
    assert (fields["S"], fields["C"]) == ("ERROR", "53200")
    assert "max_client_held_bytes" in fields["M"]
    assert fields["H"].startswith("Close prepared statements")
    assert read[2][-1].body == b"E"
    wire.run("ROLLBACK")
    other.send(m.parse("t", "SELECT 3" + " " * 900_000), m.SYNC)
    assert kinds(other.until()) == "1Z"
    assert held(pool)[-1] > 1_800_000 > 950_000 > held(pool)[-2] > 900_000
    wire.run("DEALLOCATE s0")
    assert 900_000 < held(pool)[-1] < 950_000
    wire.send(m.parse("s2", "SELECT 2" + " " * 900_000), m.bind("", "s2"), m.execute(), m.SYNC)
    assert kinds(wire.until()) == "12DCZ"
    rows = {row["name"]: int(row["memtotal"] or 0) for row in pool.console("SHOW MEM")}
    assert rows["held"] == sum(held(pool))
    assert 2_700_000 < rows["held_in_all"] < 3_800_000


def test_who_closes_its_statements_keeps_no_room_from_others(pooler: MakePooler) -> None:
    pool = pooler(max_held_bytes="10MB", workers=1)
    wire, other = pool.wire(), pool.wire()
    for number in range(8):
        wire.send(m.parse("s", f"SELECT {number}" + " " * 3_000_000), m.close_statement("s"), m.SYNC)
        assert kinds(wire.until()) == "13Z"
    other.send(m.parse("s", "SELECT 1" + " " * 3_000_000), m.SYNC)
    assert kinds(other.until()) == "1Z"
    assert held(pool)[-2] < 1_000


def test_zero_pool_size_means_no_limit(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=0)
    wires = busy(pool, 30)
    cluster.settles(30, "state = 'idle in transaction'")
    release(wires)


def test_who_only_looks_counts_in_max_client_conn(pooler: MakePooler) -> None:
    pool = pooler(max_client_conn=3, workers=1)
    wires = [pool.wire() for _ in range(3)]
    with pytest.raises(ServerError, match="max_client_conn"):
        pool.wire("app2", "pglido")
    assert pool.console("SHOW VERSION")
    wires.pop().bye()
    eventually(lambda: admitted(pool, "app2", "pglido"))


SMALL = {"workers": 1, "max_held_bytes": "1MB", "max_client_held_bytes": "200kB"}


def test_what_statements_are_described_as_takes_little(pooler: MakePooler, cluster: Cluster) -> None:
    columns = ",".join([f"{'c' * 55}{at:05d} int" for at in range(1500)])
    cluster.admin(f"CREATE TABLE wide ({columns}); GRANT SELECT ON wide TO PUBLIC", "app")
    pool = pooler(default_pool_size=1, **SMALL)
    wire, other = pool.wire(), pool.wire()
    for at in range(40):
        wire.send(m.parse(f"s{at}", f"SELECT * FROM wide WHERE {at} = {at}"), m.describe_statement(f"s{at}"), m.SYNC)
        assert kinds(wire.until()) == "1tTZ"
    other.send(m.parse("s", "SELECT '" + "y" * 20_000 + "'"), m.SYNC)
    assert kinds(other.until()) == "1Z"
    rows = {row["name"]: int(row["memtotal"] or 0) for row in pool.console("SHOW MEM")}
    assert rows["prepared_statement"] < 100_000
    cluster.admin("DROP TABLE wide", "app")


def test_who_floods_a_busy_server_keeps_no_room_from_others(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, **SMALL)
    wire, other, keeper = pool.wire(), pool.wire(), cluster.wire()
    keeper.run("SELECT pg_advisory_lock(77)")
    wire.send(m.parse("", "SELECT pg_advisory_xact_lock(77)"), m.bind("", ""), m.execute(), m.SYNC)
    cluster.settles(1, "wait_event_type = 'Lock'")
    wire.send(m.close_statement("x") * 30_000, m.SYNC)
    wait_until_read(wire.sock, within=2)
    other.send(m.parse("s", "SELECT '" + "y" * 20_000 + "'"), m.SYNC)
    assert kinds(other.until()) == "1Z"
    rows = {row["name"]: int(row["memtotal"] or 0) for row in pool.console("SHOW MEM")}
    assert 100_000 < rows["held_in_all"] < 400_000
    keeper.run("SELECT pg_advisory_unlock(77)")
    assert kinds(wire.until(count=2)) == "12DCZ" + "3" * 30_000 + "Z"
