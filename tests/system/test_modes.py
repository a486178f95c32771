"""Pool modes: when a server goes back to the pool, and when not."""

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import together
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, error_in, kinds


def backend(wire: Wire) -> str | None:
    """The server that answers."""
    return wire.one("SELECT pg_backend_pid()")


def test_clients_share_servers_in_transaction_mode(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    assert backend(first) == backend(second) == backend(first)
    assert len(cluster.backends()) == 1


def test_server_is_kept_inside_a_transaction(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster, default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.run("BEGIN")
    held = backend(first)
    second.send(m.query("SELECT pg_backend_pid()"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    assert second.silent()
    assert backend(first) == held
    first.run("COMMIT")
    assert kinds(second.until()) == "TDCZ"


def test_server_is_kept_inside_a_failed_transaction(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster, default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.run("BEGIN")
    assert error_in(first.ask("SELECT 1/0"))["C"] == "22012"
    second.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    assert second.silent()
    first.run("ROLLBACK")
    assert kinds(second.until()) == "TDCZ"


def test_server_is_kept_during_copy(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster, default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.send(m.query("COPY notes FROM STDIN WHERE false"))
    first.until("G")
    second.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    assert second.silent()
    first.send(m.COPY_DONE)
    first.until()
    assert kinds(second.until()) == "TDCZ"


def test_server_is_kept_until_sync(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster, default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.send(m.parse("", "SELECT 1"), m.bind("", ""), m.execute(), m.FLUSH)
    first.until("C")
    second.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    assert second.silent()
    first.send(m.SYNC)
    first.until()
    assert kinds(second.until()) == "TDCZ"


def test_server_is_kept_while_replies_are_outstanding(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster, default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.send(*(m.query("SELECT pg_sleep(0.05)") for _ in range(5)))
    first.until("Z", 1)
    second.send(m.query("SELECT 1"))
    first.until("Z", 4)
    assert kinds(second.until()) == "TDCZ"


def test_session_mode_keeps_the_server_until_the_client_leaves(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(pool_mode="session", default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.dial()
    first.run("CREATE TEMP TABLE mine (n int); SET work_mem = '1MB'; PREPARE p AS SELECT 1; LISTEN x")
    held = backend(first)
    second.hello("app", "app")
    first.run("SELECT * FROM mine")
    assert cluster.backends() == [int(held or 0)]
    first.bye()
    second.authenticate("app", "")
    assert backend(second) == held
    assert second.one("SHOW work_mem") == "4MB"
    assert second.run("SELECT * FROM pg_prepared_statements") == []
    assert second.run("SELECT * FROM pg_listening_channels()") == []
    assert error_in(second.ask("SELECT * FROM mine"))["C"] == "42P01"


def test_server_reset_query_is_run_between_sessions(pooler: MakePooler) -> None:
    pool = pooler(pool_mode="session", default_pool_size=1, workers=1, server_reset_query="SET work_mem TO 123")
    with pool.wire() as first:
        held = backend(first)
        first.bye()
    second = pool.wire()
    assert backend(second) == held
    assert second.one("SHOW work_mem") == "123kB"


def test_server_reset_query_always(pooler: MakePooler) -> None:
    query = "CREATE TEMP TABLE IF NOT EXISTS met (n int); INSERT INTO met VALUES (1)"
    pool = pooler(default_pool_size=1, workers=1, server_reset_query_always=True, server_reset_query=query)
    wire = pool.wire()
    wire.run("SELECT 1")
    assert wire.one("SELECT count(*) FROM met") == "1"
    assert wire.one("SELECT count(*) FROM met") == "2"


def test_statement_mode_refuses_transactions(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(pool_mode="statement", default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    assert backend(first) == backend(second)
    first.send(m.query("BEGIN"))
    fields = error_in(first.rest())
    assert fields["M"].startswith("transaction blocks not allowed in statement pooling mode")
    assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
    assert second.one("SELECT 1") == "1"
    assert cluster.backends("state <> 'active' AND xact_start IS NOT NULL") == []


@pytest.mark.parametrize("how", ["simple", "extended"])
def test_statement_mode_allows_what_is_no_transaction_block(pooler: MakePooler, how: str) -> None:
    wire = pooler(pool_mode="statement").wire()
    if how == "simple":
        assert wire.run("INSERT INTO notes SELECT 1, 'x' WHERE false; SELECT 1") == [["1"]]
        assert wire.run("BEGIN; SELECT 2; COMMIT") == [["2"]]
    else:
        wire.send(m.parse("", "SELECT $1::int"), m.bind("", "", "3"), m.execute(), m.SYNC)
        assert kinds(wire.until()) == "12DCZ"


def mode_of(pool: Pooler, database: str, user: str) -> str:
    """What mode a client gets, by what it does."""
    with pool.wire(user, database) as wire:
        wire.run("SELECT 1")
        if wire.ask("BEGIN")[-1].kind != "Z":
            return "statement"
        wire.run("ROLLBACK")
        return "session" if pool.pool(database, user)["sv_active"] else "transaction"


def test_pool_mode_of_user_before_database_before_global(pooler: MakePooler) -> None:
    pool = pooler(
        pool_mode="session",
        databases={"app": {}, "other": {"pool_mode": "transaction"}},
        users={"app2": {"pool_mode": "session"}, "app3": {"pool_mode": "transaction"}},
    )
    assert mode_of(pool, "app", "app") == "session"
    assert mode_of(pool, "other", "app") == "transaction"
    assert mode_of(pool, "other", "app2") == "session"
    assert mode_of(pool, "app", "app3") == "transaction"


def test_many_more_clients_than_servers(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=3, workers=2)

    def work(number: int) -> int:
        with pool.wire() as wire:
            for turn in range(20):
                tag = f"{number}-{turn}"
                assert wire.one(f"SELECT '{tag}'") == tag
                wire.run("BEGIN")
                assert wire.one(f"SELECT '{tag}'") == tag
                wire.run("COMMIT")
            wire.bye()
        return len(cluster.backends()) if number == 0 else 0

    assert together(40, work)[0] <= 3
    assert len(cluster.backends()) <= 3


def queue_up(pool: Pooler, holder: Wire, clients: list[Wire], pause_after: int = 0) -> None:
    """Let the clients ask one after the other while the only server is held; with a pause after so many."""
    holder.run("CREATE SEQUENCE IF NOT EXISTS turn; SELECT setval('turn', 1, false); GRANT ALL ON turn TO PUBLIC")
    holder.run("BEGIN")
    for place, client in enumerate(clients, 1):
        client.send(m.query("SELECT nextval('turn'), pg_sleep(0.01)"))
        eventually(lambda place=place: pool.pool()["cl_waiting"] == place)
        if place == pause_after:
            eventually(lambda: pool.pool()["maxwait_us"] + 1_000_000 * pool.pool()["maxwait"] > 700_000)
    holder.run("COMMIT")


def turns(clients: list[Wire]) -> list[int]:
    """When each client was served, counted from 1."""
    return [int(client.until()[1].row[0] or 0) for client in clients]


def test_waiting_clients_are_served_in_order(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    clients = [pool.wire() for _ in range(12)]
    queue_up(pool, pool.wire(), clients)
    assert turns(clients) == list(range(1, 13))


def test_forced_user_makes_one_pool_for_all(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(databases={"app": {"user": "app2", "pool_size": 2}})
    with pool.wire("app") as first, pool.wire("app3") as second:
        assert first.one("SELECT current_user") == second.one("SELECT current_user") == "app2"
    assert len(cluster.backends("usename = 'app2'")) <= 2
    assert cluster.backends("usename <> 'app2'") == []
