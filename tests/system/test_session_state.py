"""In transaction mode a session's state follows its client, or keeps the client on its server; nobody else meets it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.proxy import Proxy
from harness.waiting import eventually
from harness.wire import Wire, error_in, kinds
from pglido.session.state.state_query import ISOLATED
from pglido.worker.servers.function_refresh import NEWS

PID = "SELECT pg_backend_pid()"


def pid(wire: Wire) -> str | None:
    """The server that serves this client now."""
    return wire.one(PID)


@contextmanager
def elsewhere(pool: Pooler, wire: Wire, **login: Any) -> Iterator[None]:
    """Meanwhile this client, which keeps nothing, is served by another of two servers than before."""
    now = pid(wire)
    others = [pool.wire(**login) for _ in range(2)]
    for other in others:
        other.run("BEGIN")
    for other in others:
        if pid(other) != now:
            other.run("ROLLBACK")
    assert pid(wire) != now
    yield
    for other in others:
        other.run("ROLLBACK")
        other.bye()


def pins(pool: Pooler) -> list[dict[str, str | None]]:
    """SHOW PINS."""
    return pool.console("SHOW PINS")


def pinned(pool: Pooler, count: int) -> list[dict[str, str | None]]:
    """Wait until so many clients are pinned; returns their rows."""
    eventually(lambda: len(pins(pool)) == count, what=f"{count} pins")
    return pins(pool)


def keeps_its_server_until_it_leaves(
    pool: Pooler, cluster: Cluster, mode: str, sql: str, show: str, value: str
) -> None:
    """A superuser says `sql`, which leaves something in the server process, as `show` tells; both end together."""
    wire, other = pool.wire("postgres"), pool.wire("postgres")
    other.run("SELECT 1")
    first = pid(wire)
    wire.run(sql)
    if mode == "transaction":
        assert pinned(pool, 1)[0]["reason"] == "state of the server process"
        other.run("BEGIN")
        assert pid(other) != first
        other.run("ROLLBACK")
    assert wire.one(show) == value
    assert pid(wire) == first
    wire.bye()
    eventually(lambda: cluster.admin(f"SELECT 1 FROM pg_stat_activity WHERE pid = {first}") == [])
    assert pins(pool) == []


@contextmanager
def stuck(cluster: Cluster) -> Iterator[None]:
    """Nobody can find out meanwhile whether there are temporary objects."""
    with cluster.wire("postgres", "app") as keeper:
        keeper.run("BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE")
        yield
        keeper.run("ROLLBACK")
        keeper.bye()


def asking(cluster: Cluster) -> None:
    """Wait until a server is at the question."""
    cluster.settles(1, f"state = 'active' AND query LIKE '{ISOLATED}%' AND wait_event_type = 'Lock'")


@pytest.mark.parametrize(
    ("sql", "show", "value"),
    [
        ("SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", "Asia/Tokyo"),
        ("SET work_mem = '1MB'", "SHOW work_mem", "1MB"),
        ('SET search_path TO a, "B"', "SHOW search_path", 'a, "B"'),
        ("SET app.tenant = 'it''s \\ ä'", "SHOW app.tenant", "it's \\ ä"),
        ("SELECT set_config('app.tenant', 'x', false)", "SHOW app.tenant", "x"),
        ("DO $$ BEGIN SET work_mem = '2MB'; END $$", "SHOW work_mem", "2MB"),
        ("BEGIN; SET work_mem = '3MB'; COMMIT", "SHOW work_mem", "3MB"),
    ],
)
def test_setting_follows_its_client_and_nobody_else(pooler: MakePooler, sql: str, show: str, value: str) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire, other = pool.wire(), pool.wire()
    unset = pool.wire().one(show) if "app." not in show else None
    wire.run(sql)
    assert wire.one(show) == value
    with elsewhere(pool, wire):
        assert wire.one(show) == value
        if unset is not None:
            assert other.one(show) == unset
        else:
            assert other.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
    assert pins(pool) == []


@pytest.mark.parametrize("sql", ["BEGIN; SET work_mem = '1MB'; ROLLBACK", "BEGIN; SET LOCAL work_mem = '1MB'; COMMIT"])
def test_setting_that_ended_with_its_transaction_is_not_kept(pooler: MakePooler, sql: str) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run(sql)
    assert wire.one("SHOW work_mem") == "4MB"
    with elsewhere(pool, wire):
        assert wire.one("SHOW work_mem") == "4MB"


def test_setting_that_was_refused_is_not_kept(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    for sql, sqlstate in (("SET log_statement = 'all'", "42501"), ("SET max_connections = 5", "55P02")):
        assert error_in(wire.ask(sql))["C"] == sqlstate
        with elsewhere(pool, wire):
            pass


def test_setting_in_a_batch_that_failed_for_what_was_put_into_it_is_not_kept(
    pooler: MakePooler, cluster: Cluster
) -> None:
    """A statement that the server has lost is parsed there anew, in vain."""
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    cluster.admin("CREATE TABLE IF NOT EXISTS going (n int); GRANT ALL ON going TO PUBLIC", "app")
    wire.send(m.parse("s", "SELECT n FROM going"), m.SYNC)
    wire.until()
    cluster.admin(f"SELECT pg_terminate_backend({pid(wire)}, 5000)")
    cluster.admin("DROP TABLE going", "app")
    setting = m.parse("", "SET work_mem = '5MB'") + m.bind("", "") + m.execute()
    wire.send(setting, m.bind("", "s"), m.execute(), m.SYNC)
    assert error_in(wire.until())["C"] == "42P01"
    other.run("SELECT 1")
    assert wire.one("SELECT source FROM pg_settings WHERE name = 'work_mem'") == "default"


def test_setting_of_one_transaction_is_not_kept(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run("SET transaction_isolation = 'serializable'")
    with elsewhere(pool, wire):
        assert wire.one("SHOW transaction_isolation") == "read committed"


def test_reset_leads_to_what_the_client_came_with(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire(TimeZone="Asia/Tokyo", work_mem="7MB", options="-c app.tenant=home")
    names = ["TimeZone", "work_mem", "app.tenant"]
    for sql in 5 * (
        "RESET ALL",
        "DISCARD ALL",
        "RESET app.tenant; RESET work_mem; RESET TimeZone",
        "SET work_mem TO DEFAULT; SET TIME ZONE DEFAULT; RESET app.tenant",
    ):
        wire.run("SET TimeZone = 'Europe/Berlin'; SET work_mem = '1MB'; SET app.tenant = 'away'")
        assert [wire.one(f"SHOW {name}") for name in names] == ["Europe/Berlin", "1MB", "away"]
        wire.run(sql)
        assert [wire.one(f"SHOW {name}") for name in names] == ["Asia/Tokyo", "7MB", "home"], sql


@pytest.mark.parametrize("reset", ["RESET ALL", "RESET TimeZone", "SET TimeZone TO DEFAULT", "DISCARD ALL"])
def test_what_reset_leads_to_is_told_also_where_the_server_has_nothing_to_tell(pooler: MakePooler, reset: str) -> None:
    """The client had set what is the server's default."""
    wire = pooler(default_pool_size=1, workers=1).wire(TimeZone="Asia/Tokyo")
    wire.run("SET TimeZone = 'UTC'")
    told = [one.pair for one in [*wire.ask(reset), *wire.ask("SELECT 1")] if one.kind == "S"]
    assert told == [("TimeZone", "Asia/Tokyo")]
    assert wire.one("SHOW TimeZone") == "Asia/Tokyo"


def test_role_follows_its_client(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("DROP ROLE IF EXISTS u_role; CREATE ROLE u_role; GRANT u_role TO app")
    pool = pooler(default_pool_size=2, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("SET ROLE u_role")
    with elsewhere(pool, wire):
        assert wire.one("SELECT current_user") == "u_role"
        assert other.one("SELECT current_user") == "app"
    wire.run("RESET ROLE")
    with elsewhere(pool, wire):
        assert wire.one("SELECT current_user") == "app"
    came = pool.wire(role="u_role")
    came.run("SET ROLE NONE")
    assert came.one("SELECT current_user") == "app"
    came.run("SET ROLE app")
    came.run("RESET ROLE")
    assert came.one("SELECT current_user") == "u_role"


def test_session_authorization_follows_its_client(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire("postgres")
    wire.run("SET SESSION AUTHORIZATION app2")
    with elsewhere(pool, wire, user="postgres"):
        assert wire.one("SELECT session_user") == "app2"
    assert pool.wire("postgres").one("SELECT session_user") == "postgres"


def test_statement_prepared_by_sql_follows_its_client_and_meets_no_namesake(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("PREPARE q (int) AS SELECT $1 + 1")
    other.run("PREPARE q AS SELECT 'other'; SELECT 1")
    for _ in range(3):
        with elsewhere(pool, wire):
            assert wire.one("EXECUTE q(1)") == "2"
            assert other.one("EXECUTE q") == "other"
    wire.run("DEALLOCATE q")
    assert error_in(wire.ask("EXECUTE q(1)"))["C"] == "26000"
    assert error_in(pool.wire().ask("EXECUTE q"))["C"] == "26000"
    assert other.one("EXECUTE q") == "other"
    assert pins(pool) == []


def test_temporary_table_keeps_the_client_until_it_is_dropped(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("CREATE TEMP TABLE t (n int)")
    (row,) = pinned(pool, 1)
    assert (row["database"], row["user"], row["reason"]) == ("app", "app", "temporary object")
    assert row["statement"] == "CREATE TEMP TABLE t (n int)"
    assert row["remote_pid"] == pid(wire)
    clients = {one["id"]: one["pinned"] for one in pool.console("SHOW CLIENTS") if one["database"] == "app"}
    assert sorted(clients.values(), key=str) == ["", "temporary object"]
    assert [one["pinned"] for one in pool.console("SHOW SERVERS")] == ["temporary object"]
    wire.run("INSERT INTO t VALUES (1)")
    other.send(m.query("SELECT 'mine'"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    assert wire.one("SELECT n FROM t") == "1"
    wire.run("DROP TABLE t")
    assert kinds(other.until()) == "TDCZ"
    assert pins(pool) == []
    assert [one["pinned"] for one in pool.console("SHOW SERVERS")] == [""]


@pytest.mark.parametrize(
    ("sql", "reason", "end"),
    [
        ("CREATE TEMP TABLE t (n int)", "temporary object", "DISCARD TEMP"),
        ("SET search_path = pg_temp; CREATE TABLE t (n int)", "temporary object", "DISCARD ALL"),
        ("SELECT pg_advisory_lock(77)", "session advisory lock", "SELECT pg_advisory_unlock(77)"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor with hold", "CLOSE c"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor with hold", "CLOSE ALL"),
    ],
)
def test_what_keeps_a_client_is_seen_and_lets_go(pooler: MakePooler, sql: str, reason: str, end: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run(sql)
    assert pinned(pool, 1)[0]["reason"] == reason
    wire.run("SELECT 1")
    assert len(pins(pool)) == 1
    wire.run(end)
    assert other.one("SELECT 1") == "1"
    assert pins(pool) == []


def test_table_that_is_dropped_on_commit_keeps_nobody(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("BEGIN; CREATE TEMP TABLE t (n int) ON COMMIT DROP; COMMIT")
    assert other.one("SELECT 1") == "1"
    assert pins(pool) == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TEMP TABLE t (n int); SET app.tenant = 'gone'; SET ROLE app",
        "SELECT pg_advisory_lock(78)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1; PREPARE q AS SELECT 1",
    ],
)
@pytest.mark.parametrize("politely", [True, False])
def test_server_is_cleaned_and_kept_when_its_pinned_client_leaves(
    pooler: MakePooler, cluster: Cluster, sql: str, politely: bool
) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run(sql)
    server = pid(wire)
    pinned(pool, 1)
    if politely:
        wire.bye()
    else:
        wire.close()
    fresh = pool.wire()
    assert pid(fresh) == server
    assert fresh.run("SELECT 1 FROM pg_class WHERE relnamespace = pg_my_temp_schema()") == []
    assert fresh.run("SELECT 1 FROM pg_cursors WHERE is_holdable") == []
    assert fresh.run("SELECT 1 FROM pg_prepared_statements WHERE from_sql") == []
    assert fresh.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
    assert cluster.admin("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
    assert pins(pool) == []


def test_random_seed_keeps_the_client_and_costs_the_server(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run("SELECT setseed(0.5)")
    server = pid(wire)
    assert pinned(pool, 1)[0]["reason"] == "random seed"
    wire.bye()
    assert pid(pool.wire()) != server


def test_client_is_disconnected_where_session_state_is_rejected(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, on_session_state="reject")
    wire = pool.wire()
    wire.run("SET work_mem = '1MB'; PREPARE q AS SELECT 1")
    wire.send(m.query("SELECT pg_advisory_lock(79)"))
    fields = error_in(wire.rest())
    assert (fields["S"], fields["C"]) == ("FATAL", "0A000")
    assert "session advisory lock" in fields["M"]
    assert pool.wire().run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []


def test_session_state_is_left_alone_where_it_is_ignored(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, on_session_state="ignore")
    wire, other = pool.wire(), pool.wire()
    wire.run("CREATE TEMP TABLE t (n int); SET work_mem = '1MB'")
    assert other.run("SELECT n FROM t") == []
    assert other.one("SHOW work_mem") == "4MB"
    assert wire.one("SHOW work_mem") == "1MB"
    assert pins(pool) == []


def test_only_so_many_clients_may_keep_their_servers(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=2, max_pinned_share=0.5)
    first, second = pool.wire(), pool.wire()
    first.run("CREATE TEMP TABLE t (n int)")
    pinned(pool, 1)
    second.send(m.query("CREATE TEMP TABLE t (n int)"))
    fields = error_in(second.rest())
    assert (fields["S"], fields["C"]) == ("FATAL", "53300")
    assert first.run("SELECT n FROM t") == []
    first.run("DROP TABLE t")
    eventually(lambda: pins(pool) == [])
    third = pool.wire()
    third.run("CREATE TEMP TABLE t (n int)")
    pinned(pool, 1)
    third.close()
    fourth = eventually(lambda: pins(pool) == [] and pool.wire())
    assert fourth
    fourth.run("CREATE TEMP TABLE t (n int)")
    pinned(pool, 1)


def test_client_that_keeps_its_server_for_nothing_is_disconnected(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, pin_timeout=0.5)
    wire, other = pool.wire(), pool.wire()
    wire.run("CREATE TEMP TABLE t (n int)")
    other.send(m.query("SELECT 1"))
    fields = error_in(wire.rest())
    assert (fields["S"], fields["M"].split(" (")[0]) == ("FATAL", "pin_timeout")
    assert kinds(other.until()) == "TDCZ"
    assert pins(pool) == []


def test_transactions_without_session_state_cost_no_question(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, default_pool_size=1, workers=1)
        wire = pool.wire()
        wire.run("SELECT 1")
        said = [
            m.query("SELECT n, name AS prepare FROM numbers WHERE n = 1"),
            m.query("BEGIN; SET LOCAL work_mem = '1MB'; INSERT INTO notes VALUES (1, 'temp set'); ROLLBACK"),
            m.query("SELECT set_config('work_mem', '1MB', true)"),
            m.query("SELECT pg_advisory_xact_lock(1)"),
            m.query("BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; COMMIT"),
            m.parse("", "SELECT $1::int") + m.bind("", "", "1") + m.execute() + m.SYNC,
            m.query("SELECT pg_backend_pid()"),
        ]
        before = len(proxy.sent_by_client)
        for data in said:
            wire.send(data)
            assert "E" not in kinds(wire.until())
        assert bytes(proxy.sent_by_client[before:]) == b"".join(said)


def test_setting_costs_one_question(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, default_pool_size=1, workers=1)
        wire = pool.wire()
        wire.run("SET app.tenant = 'x'")
        wire.run("SELECT 1")
        before = len(proxy.sent_by_client)
        wire.run("SET app.tenant = 'y'")
        wire.run("SELECT 1")
        sent = bytes(proxy.sent_by_client[before:])
        assert sent.count(b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED;") == 1
        assert sent.endswith(m.query("SELECT 1"))


def test_question_that_was_cancelled_is_asked_again(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    with stuck(cluster):
        assert wire.one("SELECT 1 AS temp") == "1"
        asking(cluster)
        # Too late for what the client has an answer to: nobody waits for it, and the question goes on.
        with pool.dial() as late:
            late.send(m.cancel_request(wire.pid, wire.key))
            assert late.ends()
        asking(cluster)
        # As one that was sent in time, but came late.
        cluster.admin(
            f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '{ISOLATED}%'"
            " AND pid <> pg_backend_pid()"
        )
        assert pinned(pool, 1)[0]["reason"] == "state of the session unknown"
        assert wire.silent()
    assert wire.one("SELECT 2") == "2"
    assert other.one("SELECT 3") == "3"
    assert pins(pool) == []


def test_question_that_was_not_answered_leaks_nothing(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("SET statement_timeout = '1s'")
    with stuck(cluster):
        wire.run("SELECT 1 AS temp; SELECT set_config('app.tenant', 'x', false)")
        asking(cluster)
        cluster.admin(
            f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '{ISOLATED}%'"
            " AND pid <> pg_backend_pid()"
        )
        assert pinned(pool, 1)[0]["reason"] == "state of the session unknown"
        assert other.one("SHOW statement_timeout") == "0"
        assert other.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
    wire.close()
    eventually(lambda: pins(pool) == [])
    fresh = [pool.wire() for _ in range(2)]
    for one in fresh:
        one.run("BEGIN")
        assert one.one("SHOW statement_timeout") == "0"
        assert one.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""


def test_cancel_of_what_waits_behind_a_question(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    with stuck(cluster):
        wire.run("SELECT 1 AS temp")
        asking(cluster)
        wire.send(m.query("SELECT pg_sleep(60)"))
        assert wire.silent()
        cancel = pool.dial()
        cancel.send(m.cancel_request(wire.pid, wire.key))
        assert cancel.silent()
    assert error_in(wire.until())["C"] == "57014"
    assert cancel.ends()


def test_messages_behind_a_question_wait_for_its_answer(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire(work_mem="7MB")
    with stuck(cluster):
        wire.run("SELECT 1 AS temp; SET work_mem TO DEFAULT")
        asking(cluster)
        wire.send(m.query("SHOW work_mem"))
        assert wire.silent()
    assert wire.until()[1].row == [b"7MB"]


def test_setting_that_no_server_takes_is_its_clients_problem_only(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("DROP ROLE IF EXISTS u_brief; CREATE ROLE u_brief; GRANT u_brief TO app")
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run("SET ROLE u_brief")
    wire.run("SELECT 1")
    cluster.admin("DROP ROLE u_brief")
    other = pool.wire()
    other.run("BEGIN")
    wire.send(m.query("SELECT 1"))
    assert "u_brief" in error_in(wire.rest())["M"]
    assert [pool.wire().one("SELECT current_user"), other.one("SELECT current_user")] == ["app", "app"]


def test_value_follows_its_client_in_its_encoding(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    values = (("LATIN1", "latin-1", "ä"), ("KOI8R", "koi8-r", "привет"), ("SJIS", "cp932", "表"))
    for encoding, codec, value in (*values, ("SQL_ASCII", "utf-8", "ä")):
        wire, other = pool.wire(client_encoding=encoding), pool.wire()
        wire.send(m.message("Q", f"SET app.tenant = '{value}'\0".encode(codec)))
        assert kinds(wire.until()) == "CZ"
        assert other.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert wire.ask("SHOW app.tenant")[1].row == [value.encode(codec)]
        assert other.one("SHOW client_encoding") == "UTF8"


def test_short_timeout_of_a_client_does_not_hit_the_next_one(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    # Other's settings take the server longer than that.
    for at in range(100):
        other.run(f"SELECT set_config('app.v{at}', '{at}{'x' * 9000}', false)")
    wire.run("SET statement_timeout = '1ms'")
    for _ in range(5):
        assert wire.one("SHOW statement_timeout") == "1ms"
        assert other.one("SHOW statement_timeout") == "0"


def test_client_that_waits_for_a_safe_snapshot_does_not_have_the_next_one_wait(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    writer, wire, other = pool.wire(), pool.wire(), pool.wire()
    for one in (writer, other):
        one.run("BEGIN")
    for one in (writer, other):
        one.run("ROLLBACK")
    wire.run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
    writer.run("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT n FROM numbers")
    assert other.one("SHOW default_transaction_deferrable") == "off"
    assert other.one("SELECT n FROM numbers WHERE n = 1") == "1"
    writer.run("ROLLBACK")
    assert wire.one("SHOW default_transaction_deferrable") == "on"


def test_question_does_not_wait_for_a_safe_snapshot(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    writer, wire, other = pool.wire(), pool.wire(), pool.wire()
    writer.run("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT n FROM numbers")
    wire.run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
    assert other.one("SHOW default_transaction_deferrable") == "off"
    assert wire.one("SHOW default_transaction_deferrable") == "on"
    wire.run("SET app.tenant = 'one'")
    assert other.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
    writer.run("ROLLBACK")


def test_any_number_of_settings_follows_its_client(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    for first in range(0, 1700, 100):
        wire.run("SELECT " + ",".join([f"set_config('app.k{n}', 'x', false)" for n in range(first, first + 100)]))
    assert other.one("SELECT coalesce(current_setting('app.k1699', true), '')") == ""
    assert wire.one("SHOW app.k1699") == "x"


def test_a_word_among_the_data_keeps_nobody(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    query = m.query(f"SELECT 'please load it {'x' * 40000}'")
    for at in range(0, len(query), 1000):
        wire.send(query[at : at + 1000])
    assert kinds(wire.until()) == "TDCZ"
    assert other.one("SELECT 1") == "1"
    wire.run(
        "CREATE TABLE word (said text);"
        " CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('app.seen', 'x', false); RETURN new; END $$;"
        " CREATE TRIGGER seen BEFORE INSERT ON word FOR EACH ROW EXECUTE FUNCTION seen()"
    )
    wire.run("INSERT INTO word VALUES ('please load it')")
    assert other.one("SELECT coalesce(current_setting('app.seen', true), '')") == ""
    assert wire.one("SHOW app.seen") == "x"
    wire.run("DROP TABLE word; DROP FUNCTION seen()")


def test_server_of_a_client_that_may_not_idle_does_not_end_while_it_rests(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    wire.run("SET idle_session_timeout = '100ms'")
    server = pid(wire)
    assert (wire.one("SHOW idle_session_timeout"), other.one("SHOW idle_session_timeout")) == ("100ms", "0")
    assert wire.silent(0.5)
    assert pid(other) == server


def tenant_elsewhere(pool: Pooler, name: str = "app.tenant") -> str | None:
    """What a client that set nothing has."""
    return pool.wire().one(f"SELECT coalesce(current_setting('{name}', true), '')")


def alone_in_having_set_it(pool: Pooler, wire: Wire) -> None:
    """Nobody else meets what this client has set, and it has it wherever it comes."""
    assert tenant_elsewhere(pool) == ""
    assert wire.one("SHOW app.tenant") == "one"


def test_end_of_a_long_text_is_heeded(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run("RESET ALL;" * 8000 + "SET app.tenant = 'one'")
    assert pinned(pool, 1)[0]["reason"] == "setting of unknown name"
    alone_in_having_set_it(pool, wire)


@pytest.mark.parametrize("size", [20_000, 200_000, 20_000_000])
def test_long_query_in_pieces_is_heeded_to_its_end(pooler: MakePooler, size: int) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    query = m.query(f"SELECT length('{'x' * size}'), set_config('app.tenant', 'one', false)")
    for at in range(0, len(query), size // 10):
        wire.send(query[at : at + size // 10])
    assert kinds(wire.until()) == "TDCZ"
    if size > 65536:
        assert pinned(pool, 1)[0]["reason"] == "setting of unknown name"
    else:
        pinned(pool, 0)
    alone_in_having_set_it(pool, wire)


def test_long_query_keeps_nobody(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    query = m.query(f"SELECT length('{'set x hold temp ' * 60000}')")
    wire.send(query[:100000])
    wire.send(query[100000:])
    assert wire.until()[1].row == [b"960000"]
    assert pins(pool) == []


@pytest.mark.parametrize("statements", [0, 10])
@pytest.mark.parametrize("name", ["", "mine"])
def test_parsed_statement_is_heeded_whether_it_is_shared_or_not(
    pooler: MakePooler, statements: int, name: str
) -> None:
    pool = pooler(default_pool_size=2, workers=1, max_prepared_statements=statements)
    wire = pool.wire()
    parse = m.parse(name, "SELECT set_config($1, $2, false)")
    wire.send(parse + m.bind("", name, "app.tenant", "one") + m.execute() + m.SYNC)
    wire.until()
    alone_in_having_set_it(pool, wire)
    assert pins(pool) == []


def test_statement_prepared_by_sql_is_heeded_when_it_is_run(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run("PREPARE keep AS SELECT set_config('app.tenant', $1, false)")
    wire.run("PREPARE other AS SELECT set_config($1, $2, false)")
    pinned(pool, 0)
    wire.run("EXECUTE keep('one')")
    assert tenant_elsewhere(pool) == ""
    wire.run("EXECUTE other('app.other', 'two')")
    assert tenant_elsewhere(pool, "app.other") == ""
    wire.send(m.bind("", "other", "app.third", "three") + m.execute() + m.SYNC)
    wire.until()
    assert tenant_elsewhere(pool, "app.third") == ""
    assert [wire.one(f"SHOW {name}") for name in ("app.tenant", "app.other", "app.third")] == ["one", "two", "three"]


def test_setting_whose_name_stands_in_a_table_keeps_the_client(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run("SELECT set_config(k, 'one', false) FROM (SELECT 'app.' || 'tenant' AS k) AS t")
    assert pinned(pool, 1)[0]["reason"] == "setting of unknown name"
    assert tenant_elsewhere(pool) == ""


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
@pytest.mark.parametrize("said", ["SET app.größe = 'one'", "SELECT set_config('app.größe', 'one', false)"])
def test_setting_with_a_name_beyond_ascii(pooler: MakePooler, encoding: str, said: str) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire(client_encoding=encoding)
    codec = {"UTF8": "utf-8", "LATIN1": "latin-1"}[encoding]
    wire.send(m.message("Q", said.encode(codec) + b"\0"))
    wire.until()
    assert tenant_elsewhere(pool, "app.größe") == ""
    wire.send(m.message("Q", "SELECT current_setting('app.größe')".encode(codec) + b"\0"))
    assert wire.until()[1].row == [b"one"]


PARAMETRIC = "SELECT set_config($1, $2, false)"
SET_IT = m.bind("", "keep", "app.tenant", "one") + m.execute() + m.SYNC


@pytest.mark.parametrize("statements", [0, 10])
@pytest.mark.parametrize(
    "meanwhile",
    [
        m.parse("keep", "SELECT 1") + m.SYNC,
        m.bind("", "missing") + m.close_statement("keep") + m.parse("keep", "SELECT 1") + m.SYNC,
        b"".join(m.parse(f"k{at}", f"{PARAMETRIC}, {at}") for at in range(100)) + m.SYNC,
    ],
)
def test_statement_is_heeded_whatever_was_tried_with_its_name(
    pooler: MakePooler, statements: int, meanwhile: bytes
) -> None:
    pool = pooler(default_pool_size=1, workers=1, max_prepared_statements=statements)
    wire = pool.wire()
    for data in (m.parse("keep", PARAMETRIC) + m.SYNC, meanwhile, SET_IT):
        wire.send(data)
        read = wire.until()
    assert kinds(read) == "2DCZ"
    assert tenant_elsewhere(pool) == ""


@pytest.mark.parametrize("statements", [0, 10])
def test_unnamed_statement_is_heeded_though_the_next_one_was_skipped(pooler: MakePooler, statements: int) -> None:
    pool = pooler(default_pool_size=1, workers=1, max_prepared_statements=statements)
    wire = pool.wire()
    wire.send(m.parse("", PARAMETRIC) + m.SYNC)
    wire.until()
    wire.send(m.bind("", "missing") + m.parse("", "SELECT 1") + m.SYNC)
    assert error_in(wire.until())["C"] == "26000"
    wire.send(m.bind("", "", "app.tenant", "one") + m.execute() + m.SYNC)
    assert kinds(wire.until()) == "2DCZ"
    assert tenant_elsewhere(pool) == ""


@pytest.mark.parametrize("first", ["PREPARE other AS SELECT 1", "DEALLOCATE one", "DISCARD PLANS"])
def test_execute_is_heeded_besides_other_statements(pooler: MakePooler, first: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run("PREPARE keep AS SELECT set_config('app.tenant', $1, false)")
    wire.run("PREPARE one AS SELECT 1")
    wire.run(f"{first}; EXECUTE keep('one')")
    alone_in_having_set_it(pool, wire)


def test_setting_with_a_long_name_in_a_parameter(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    for name in ("app." + "x" * 500, "app." + "x" * 5000):
        wire = pool.wire()
        wire.send(m.parse("", PARAMETRIC) + m.bind("", "", name, "one") + m.execute() + m.SYNC)
        wire.until()
        assert tenant_elsewhere(pool, name) == ""
        wire.close()


def function(code: str, name: str = "u_function", language: str = "plpgsql") -> str:
    """SQL that makes a function that returns text."""
    return f"CREATE OR REPLACE FUNCTION {name}() RETURNS text LANGUAGE {language} AS $made${code}$made$"


@pytest.mark.parametrize("bound", [True, False])
def test_function_that_is_made_anew_is_heeded_where_it_was_prepared_before(pooler: MakePooler, bound: bool) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run(function("BEGIN RETURN 1; END"))
    wire.run("PREPARE by_sql AS SELECT u_function()")
    wire.send(m.parse("keep", "SELECT u_function()") + m.SYNC)
    wire.until()
    wire.run(function("BEGIN RETURN set_config('app.tenant', 'one', false); END"))
    if bound:
        wire.send(m.bind("", "keep") + m.execute() + m.SYNC)
        wire.until()
    else:
        wire.run("EXECUTE by_sql")
    alone_in_having_set_it(pool, wire)
    wire.run("DROP FUNCTION u_function()")


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("BEGIN\n -- sets it\n SET app.tenant = 'one'; RETURN 1; END", "plpgsql"),
        ("BEGIN /* sets it */ SET app.tenant = 'one'; RETURN 1; END", "plpgsql"),
        ("BEGIN SET/* it */app.tenant = 'one'; RETURN 1; END", "plpgsql"),
        ("BEGIN EXECUTE $$SET app.tenant = 'one'$$; RETURN 1; END", "plpgsql"),
        ("BEGIN EXECUTE 'SET app.tenant = ''one'''; RETURN 1; END", "plpgsql"),
        ("BEGIN EXECUTE format('SET %I.%I = %L', 'app', 'tenant', 'one'); RETURN 1; END", "plpgsql"),
        ("BEGIN EXECUTE 'SET app.' || 'tenant = ''one'''; RETURN 1; END", "plpgsql"),
        ('BEGIN SET "app"."tenant" = $$one$$; RETURN 1; END', "plpgsql"),
        ("BEGIN RETURN set_config($$app.tenant$$, 'one', false); END", "plpgsql"),
        ("DECLARE n text := 'app.tenant'; BEGIN RETURN set_config(n, 'one', false); END", "plpgsql"),
        ("BEGIN RETURN set_config(lower('APP') || '.tenant', 'one', false); END", "plpgsql"),
        ("-- sets it\nSET app.tenant = 'one'; SELECT 'a'", "sql"),
    ],
)
def test_function_is_told_by_its_text_however_that_is_written(pooler: MakePooler, code: str, language: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    maker, wire = pool.wire(), pool.wire()
    maker.run(function(code, language=language))
    maker.run(function("BEGIN RETURN u_function(); END", "u_caller"))
    maker.bye()
    wire.run("SELECT u_caller()")
    assert wire.one("SHOW app.tenant") == "one"
    # A moment behind the answer its server is free, or is known to be kept.
    eventually(lambda: pins(pool) or pool.pool()["sv_idle"])
    if pins(pool):
        wire.bye()
    assert tenant_elsewhere(pool) == ""
    pool.wire().run("DROP FUNCTION u_function(), u_caller()")


def test_function_that_updates_the_view_of_settings_is_heeded(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run(function("BEGIN UPDATE pg_settings SET setting = '1MB' WHERE name = 'work_mem'; RETURN 1; END"))
    wire.run("SELECT u_function()")
    assert pool.wire().one("SHOW work_mem") == "4MB"
    assert wire.one("SHOW work_mem") == "1MB"
    wire.run("DROP FUNCTION u_function()")


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE u_table (n int, said text DEFAULT u_function())",
        "CREATE TABLE u_table (n int CHECK (u_function() <> ''))",
        "CREATE TABLE u_table (n int); CREATE RULE u_rule AS ON INSERT TO u_table DO ALSO SELECT u_function()",
    ],
)
def test_function_that_is_called_where_rows_are_written_is_heeded(pooler: MakePooler, made: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    maker, wire = pool.wire(), pool.wire()
    maker.run(function("BEGIN RETURN set_config('app.tenant', 'one', false); END"))
    maker.run(made + "; CREATE OR REPLACE FUNCTION u_last() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    wire.run("INSERT INTO u_table VALUES (1)")
    alone_in_having_set_it(pool, wire)
    wire.run("DROP TABLE u_table; DROP FUNCTION u_function(), u_last()")


@pytest.fixture
def logged(cluster: Cluster) -> Iterator[None]:
    """PostgreSQL's log has each statement of the user app."""
    cluster.admin("ALTER ROLE app SET log_statement = 'all'")
    yield
    cluster.admin("ALTER ROLE app RESET log_statement")


@pytest.mark.usefixtures("logged")
def test_function_made_by_way_of_another_worker_is_heeded(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=8, workers=2)
    mine: list[list[Wire]] = [[], []]
    while min(map(len, mine)) < 4:
        wire = pool.wire()
        mine[(wire.pid >> 23) - 1].append(wire)
    wires = mine[0] + mine[1]
    for wire in wires:
        wire.run("SELECT 1")
    maker, others = mine[0][0], mine[1]
    servers = {pid(wire) for wire in others}
    before = len(cluster.server.log_text())
    maker.run(function("BEGIN RETURN set_config('app.tenant', 'one', false); END"))

    def asked() -> bool:
        """Was a server of the other worker asked what there is? That is known after two looks at the clock."""
        servers.update(pid(wire) for wire in others)
        said = cluster.server.log_text()[before:]
        return any(f"[{server}] app@app LOG:  statement: {ISOLATED}" in said for server in servers)

    eventually(asked)
    eventually(lambda: pool.pool()["sv_active"] == 0)
    for wire in wires:
        wire.run("SELECT u_function()")
        alone_in_having_set_it(pool, wire)
    maker.run("DROP FUNCTION u_function()")


def test_function_made_past_the_pooler_is_heeded_soon(pooler: MakePooler, cluster: Cluster) -> None:
    busy = pooler(default_pool_size=2, workers=1)
    resting = pooler(default_pool_size=2, workers=1, server_check_delay=NEWS / 2)
    wires = [pool.wire() for pool in (busy, resting)]
    for wire in wires:
        wire.run("SELECT 1")
    with cluster.wire() as direct:
        direct.run(function("BEGIN RETURN set_config('app.tenant', 'one', false); END"))
    time.sleep(NEWS + 1)
    # A server in use is asked when it is next used; one that has rested, before that.
    wires[0].run("SELECT 1")
    for pool, wire in zip((busy, resting), wires, strict=True):
        wire.run("SELECT u_function()")
        alone_in_having_set_it(pool, wire)
    wires[0].run("DROP FUNCTION u_function()")


def test_functions_of_the_database_that_a_pool_has_moved_to_are_known(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    with cluster.wire(database="other") as direct:
        direct.run(function("BEGIN RETURN set_config('app.tenant', 'one', false); END"))
    assert pool.wire().one("SELECT 1") == "1"
    pool.reload(pool.path.read_text().replace('[databases."app"]', '[databases."app"]\ndbname = "other"', 1))
    wire = pool.wire()
    wire.run(function("BEGIN RETURN 1; END", "u_plain"))
    wire.run("SELECT u_function()")
    alone_in_having_set_it(pool, wire)
    wire.run("DROP FUNCTION u_function(), u_plain()")


def test_aggregate_that_sets_is_heeded(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run("CREATE AGGREGATE u_sets(text, bool) (sfunc = set_config, stype = text, initcond = 'app.tenant')")
    wire.run("DISCARD ALL")
    wire.run("SELECT u_sets('one', false)")
    wire.bye()
    assert tenant_elsewhere(pool) == ""
    pool.wire().run("DROP AGGREGATE u_sets(text, bool)")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT set_config -- here\n ('app.' || 'tenant', 'one', false)",
        "SELECT \"set_config\"('app.' || 'tenant', 'one', false)",
        "SELECT U&\"set_con\\0066ig\"('app.' || 'tenant', 'one', false)",
        "DO $$ BEGIN EXECUTE 'SET app.' || 'tenant = ''one'''; END $$",
        "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'app', 'tenant', 'one'); END $$",
    ],
)
def test_setting_whose_name_is_put_together_keeps_the_client(pooler: MakePooler, sql: str) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run(sql)
    reason = pinned(pool, 1)[0]["reason"]
    assert reason is not None
    assert reason.endswith("setting of unknown name")
    alone_in_having_set_it(pool, wire)


def test_setting_by_a_function_call_keeps_the_client_but_large_objects_do_not(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.send(m.function_call(957, b"\0\6\0\0", binary=True))  # lo_creat
    assert kinds(wire.until()) == "VZ"
    assert pins(pool) == []
    wire.send(m.function_call(2078, "app.tenant", "one", "f"))  # set_config
    assert kinds(wire.until()) == "VZ"
    assert pinned(pool, 1)[0]["reason"] == "setting of unknown name"
    assert tenant_elsewhere(pool) == ""


def test_setting_in_a_text_with_backslashes_in_plain_constants(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run("SET standard_conforming_strings = off")
    wire.run("SELECT 'it\\'s', set_config('app.tenant', 'one', false) --'")
    alone_in_having_set_it(pool, wire)


@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_function_is_known_though_its_maker_left_at_once(pooler: MakePooler, politely: bool, read: bool) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    for name in ("u_first", "u_second", "u_third"):
        maker, wire = pool.wire(), pool.wire()
        maker.send(m.query(function("BEGIN RETURN set_config('app.tenant', 'one', false); END", name)))
        if read:
            maker.until()
        if politely:
            maker.bye()
        else:
            maker.close()
        eventually(lambda: pool.pool()["sv_active"] == 0 and pool.pool()["sv_idle"] == 1)
        (made,) = wire.run(f"SELECT count(*) FROM pg_proc WHERE proname = '{name}'")
        if made == ["1"]:
            wire.run(f"SELECT {name}()")
            assert tenant_elsewhere(pool) == ""
            wire.run(f"DROP FUNCTION {name}()")
        wire.bye()


@pytest.mark.parametrize(
    "sql",
    [
        "SET search_path = pg_temp, public; SELECT 1 AS n INTO t",
        "SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE t (n int)",
        "BEGIN; SET LOCAL search_path = 'pg_temp'; CREATE TABLE t (n int); COMMIT",
    ],
)
def test_table_that_is_temporary_by_the_search_path_alone_keeps_the_client(pooler: MakePooler, sql: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run(sql)
    assert pinned(pool, 1)[0]["reason"] == "temporary object"


def test_table_made_by_a_select_is_temporary_by_the_search_path(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    wire.run("SET search_path = pg_temp, public")
    wire.run("SELECT 1")
    assert pins(pool) == []
    wire.run("SELECT 1 AS n INTO t")
    assert pinned(pool, 1)[0]["reason"] == "temporary object"


@pytest.mark.parametrize(
    "ask",
    [
        "SELECT u_last()",
        "EXECUTE u_last",
        "INSERT INTO u_child VALUES (lastval())",
        "DO $$ BEGIN INSERT INTO u_child VALUES (lastval()); END $$",
    ],
)
def test_value_of_a_sequence_is_not_told_to_another_who_does_not_ask_by_name(pooler: MakePooler, ask: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    maker, wire, other = pool.wire(), pool.wire(), pool.wire()
    maker.run("DROP SEQUENCE IF EXISTS u_counter; DROP TABLE IF EXISTS u_child; DROP FUNCTION IF EXISTS u_last()")
    maker.run("CREATE SEQUENCE u_counter; CREATE TABLE u_child (n bigint)")
    maker.run("CREATE FUNCTION u_last() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()'")
    maker.bye()
    wire.run("PREPARE u_last AS SELECT lastval()")
    other.run("SELECT nextval('u_counter')")
    assert error_in(wire.ask(ask))["C"] == "55000"
    wire.run("DROP FUNCTION u_last(); DROP SEQUENCE u_counter; DROP TABLE u_child")


@pytest.fixture
def climber(pooler: MakePooler, cluster: Cluster) -> Iterator[Pooler]:
    """Two servers, and a user that may act as a superuser, and is none."""
    climbs = "SELECT set_config('log_min_messages', 'error', false)"
    cluster.admin("CREATE ROLE climber LOGIN; CREATE ROLE summit SUPERUSER; GRANT summit TO climber")
    cluster.admin("CREATE ROLE ledge; GRANT ledge TO climber; GRANT SET ON PARAMETER log_duration TO ledge")
    cluster.admin(f"CREATE FUNCTION climbs() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ {climbs} $$", "app")
    yield pooler(default_pool_size=2, workers=1, users={"climber": {}})
    cluster.admin("DROP FUNCTION climbs()", "app")
    cluster.admin("DROP OWNED BY ledge; DROP ROLE climber, summit, ledge")


@pytest.mark.parametrize(
    ("sets", "setting", "value", "default"),
    [
        (["SET ROLE summit", "SET log_statement = 'ddl'", "RESET ROLE"], "log_statement", "ddl", "none"),
        (["SET ROLE summit; SET log_statement = 'ddl'; SET ROLE NONE"], "log_statement", "ddl", "none"),
        (["SET ROLE summit; SET log_statement = 'ddl'", "SET work_mem = '1MB'"], "log_statement", "ddl", "none"),
        (["SELECT climbs()"], "log_min_messages", "error", "warning"),
        (["BEGIN", "SELECT climbs()", "COMMIT"], "log_min_messages", "error", "warning"),
    ],
)
def test_what_only_another_may_set_keeps_the_server(
    climber: Pooler, sets: list[str], setting: str, value: str, default: str
) -> None:
    client, others = climber.wire("climber"), [climber.wire("climber") for _ in range(3)]
    for sql in sets:
        client.run(sql)
    (pin,) = pinned(climber, 1)
    assert pin["reason"] == "setting that its user may not set"
    for other in others:
        assert other.one(f"SHOW {setting}") == default
    assert client.one(f"SHOW {setting}") == value
    client.run("SET statement_timeout = '9s'")
    assert pinned(climber, 1)
    client.run("RESET ALL")
    assert client.one(f"SHOW {setting}") == default
    pinned(climber, 0)


@pytest.mark.parametrize("how", ["said", "given", "inside", "role"])
def test_what_its_user_may_not_even_see_keeps_the_server(climber: Pooler, how: str, cluster: Cluster) -> None:
    sees = "'SELECT current_setting(''dynamic_library_path'')'"
    cluster.admin(
        "CREATE FUNCTION sets(name text) RETURNS text LANGUAGE sql SECURITY DEFINER"
        " AS $$ SELECT set_config(name, '/x', false) $$;"
        f"CREATE FUNCTION sees() RETURNS text LANGUAGE sql SECURITY DEFINER AS {sees};"
        "CREATE FUNCTION hides() RETURNS text LANGUAGE sql AS $$ SELECT sets('dynamic_library_path') $$",
        "app",
    )
    try:
        client, others = climber.wire("climber"), [climber.wire("climber") for _ in range(3)]
        if how == "given":
            client.send(m.parse("", "SELECT sets($1)"), m.bind("", "", "dynamic_library_path"), m.execute(), m.SYNC)
            assert kinds(client.until()) == "12DCZ"
        else:
            said = "SET ROLE summit; SET dynamic_library_path = '/x'; RESET ROLE"
            client.run({"said": "SELECT sets('dynamic_library_path')", "inside": "SELECT hides()", "role": said}[how])
        client.run("SELECT set_config('app.x', '', false)")
        assert {other.one("SELECT sees()") for other in others} == {"$libdir"}
        assert client.one("SELECT sees()") == "/x"
        client.run("DISCARD ALL")
        assert pinned(climber, 0) == []
        assert client.one("SELECT sees()") == "$libdir"
    finally:
        cluster.admin("DROP FUNCTION sets(text), sees(), hides()", "app")


def test_what_only_another_may_set_is_gone_with_the_client(climber: Pooler) -> None:
    client = climber.wire("climber")
    client.run("SELECT climbs()")
    pinned(climber, 1)
    client.bye()
    pinned(climber, 0)
    others = [climber.wire("climber") for _ in range(2)]
    for other in others:
        other.run("BEGIN")
        assert other.one("SHOW log_min_messages") == "warning"


def test_what_its_user_may_set_too_keeps_no_server(climber: Pooler) -> None:
    client = climber.wire("climber")
    client.run("SET ROLE ledge; SET log_duration = on; SET work_mem = '1MB'; RESET ROLE")
    with elsewhere(climber, client, user="climber"):
        assert [client.one("SHOW log_duration"), client.one("SHOW work_mem")] == ["on", "1MB"]
    assert pins(climber) == []


GIVEN = (
    "SELECT * FROM ts_stat({})",
    "SELECT ts_rewrite('a'::tsquery, {})",
)
SETTING = "SELECT to_tsvector('simple', set_config('app.given', 'own', false))"


@pytest.mark.parametrize("call", GIVEN, ids=["ts_stat", "ts_rewrite"])
def test_query_given_as_a_value_sets_for_its_client_alone(pooler: MakePooler, call: str) -> None:
    """What it sets by name follows its client; where the query itself isn't said the client stays."""
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    sql = "SELECT a, b FROM (SELECT 'a'::tsquery a, set_config('app.given', 'own', false)::tsquery b) x"
    given = sql if "ts_rewrite" in call else SETTING
    wire.run(call.format("'" + given.replace("'", "''") + "'"))
    assert other.one("SELECT coalesce(current_setting('app.given', true), '')") == ""
    assert wire.one("SHOW app.given") == "own"
    assert pins(pool) == []
    wire.send(m.parse("", call.format("$1")), m.bind("", "", given), m.execute(), m.SYNC)
    assert "E" not in kinds(wire.until())
    assert pinned(pool, 1)[0]["reason"] == "setting of unknown name"
