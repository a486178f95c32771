"""Parameters belong to the client: they reach the server it gets, follow it, and are never seen by another."""

import random

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import together
from harness.proxy import Proxy
from harness.waiting import eventually
from harness.wire import ServerError, Wire, error_in, kinds, rows_in

ZONES = ["UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York", "Australia/Sydney"]
STYLES = ["ISO, MDY", "German, DMY", "SQL, DMY", "Postgres, YMD"]


def test_startup_parameters_never_leak(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2)

    def work(number: int) -> None:
        rng = random.Random(number)
        mine = {
            "application_name": f"client {number}'s",
            "TimeZone": rng.choice(ZONES),
            "DateStyle": rng.choice(STYLES),
            "work_mem": f"{64 + number}kB",
            "search_path": f"schema_{number}, public",
        }
        statement_timeout = str(100_001 + number)
        options = rf"-c statement_timeout={statement_timeout} -c my.tenant=tenant\ {number}"
        with pool.wire(options=options, **mine) as wire:
            for _ in range(25):
                name = rng.choice(list(mine))
                assert wire.one(f"SHOW {name}") == mine[name]
                assert wire.one("SELECT current_setting('my.tenant')") == f"tenant {number}"
                assert wire.one("SHOW statement_timeout") == f"{statement_timeout}ms"
            wire.bye()

    together(12, work)


def test_client_without_parameters_gets_the_defaults(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    names = [
        "TimeZone",
        "DateStyle",
        "work_mem",
        "search_path",
        "application_name",
        "statement_timeout",
        "extra_float_digits",
    ]
    with cluster.wire() as direct:
        expected = [direct.one(f"SHOW {name}") for name in names]
    with pool.wire(
        TimeZone="Asia/Tokyo", DateStyle="German", work_mem="1MB", search_path="x", application_name="a",
        statement_timeout="5s",
    ) as first:  # fmt: skip
        first.run("SELECT 1")
        plain = pool.wire()
        assert [plain.one(f"SHOW {name}") for name in names] == expected
        assert first.one("SHOW work_mem") == "1MB"


def test_reported_settings_follow_the_client(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    first, second, third = pool.wire(), pool.wire(), pool.wire()
    first.run(
        "SET TimeZone = 'Asia/Tokyo'; SET application_name = 'it''s \\ me'; SET search_path = \"Odd \"\"one\", public"
    )
    second.run("SET TimeZone = 'Europe/Berlin'")
    backends = set()
    for _ in range(6):
        # The third keeps a server busy, so that the two others have to use the other one.
        third.run("BEGIN")
        backends.add(third.one("SELECT pg_backend_pid()"))
        assert first.one("SHOW TimeZone") == "Asia/Tokyo"
        assert second.one("SHOW TimeZone") == "Europe/Berlin"
        assert third.one("SHOW TimeZone") == "UTC"
        assert first.one("SHOW application_name") == "it's \\ me"
        assert first.one("SHOW search_path") == '"Odd ""one", public'
        assert second.one("SHOW search_path") == '"$user", public'
        first.run("BEGIN")
        third.run("COMMIT")
        third.run("SELECT 1")
        first.run("COMMIT")
    assert len(cluster.backends()) == 2


def test_rolled_back_settings_are_not_kept(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    first, second = pool.wire(), pool.wire()
    first.run("SET TimeZone = 'Asia/Tokyo'")
    first.run("BEGIN; SET TimeZone = 'Europe/Berlin'; ROLLBACK")
    first.run("BEGIN; SET LOCAL TimeZone = 'Australia/Sydney'; COMMIT")
    second.run("BEGIN")
    assert first.one("SHOW TimeZone") == "Asia/Tokyo"
    assert second.one("SHOW TimeZone") == "UTC"


@pytest.mark.parametrize("back", ["RESET {}", "SET {} TO DEFAULT", "RESET ALL"])
@pytest.mark.parametrize("again", ["SET {} = '{}'", "SELECT set_config('{}', '{}', false)"])
def test_setting_that_is_set_again_at_once_is_kept(pooler: MakePooler, back: str, again: str) -> None:
    """The next statement may come before pglido has asked all that it wants to know about the one before."""
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = pool.wire(), pool.wire()
    values = {
        "work_mem": ("7MB", "8MB"),
        "statement_timeout": ("7s", "8s"),
        "lock_timeout": ("7s", "8s"),
        "hash_mem_multiplier": ("3", "4"),
        "max_parallel_workers_per_gather": ("3", "4"),
        "enable_seqscan": ("off", "off"),
    }
    for name, (first, second) in [*values.items()] * 5:
        wire.run(f"SET {name} = '{first}'")
        wire.run(back.format(name))
        wire.run(again.format(name, second))
        default = other.one(f"SHOW {name}")
        assert default != second
        assert wire.one(f"SHOW {name}") == second
        wire.run("RESET ALL")
        other.run("SELECT 1")
        assert wire.one(f"SHOW {name}") == default


def test_changes_of_others_are_not_reported(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.run("SET TimeZone = 'Asia/Tokyo'")
    assert kinds(second.ask("SELECT 1")) == "TDCZ"
    assert kinds(first.ask("SELECT 1")) == "TDCZ"
    assert second.silent()
    assert first.silent()


def test_changes_of_others_are_no_defaults_where_a_name_was_given_back(pooler: MakePooler) -> None:
    """What closes it is a batch of pglido's own, in front of the queries that set what the next client has."""
    pool = pooler(default_pool_size=1, workers=1)
    client, other = pool.wire(), pool.wire()
    client.run("SET DateStyle TO German")
    client.send(m.parse("s", "SELECT 1"), m.SYNC, m.parse("s", "SELECT 1"), m.SYNC)
    assert error_in(client.until(count=2))["C"] == "42P05"
    for _ in range(2):
        assert kinds(other.ask("SELECT 1")) == "TDCZ"


def test_changes_of_the_servers_configuration_are_reported(own_cluster: Cluster, pooler: MakePooler) -> None:
    pool = pooler(own_cluster, default_pool_size=1)
    wire = pool.wire()
    wire.run("SELECT 1")
    own_cluster.admin("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'")
    own_cluster.server.reload()
    eventually(lambda: wire.one("SHOW TimeZone") == "Asia/Tokyo")


def test_what_another_left_in_the_middle_takes_nobody_s_setting_away(own_cluster: Cluster, pooler: MakePooler) -> None:
    """One that has set what is the default anyway has it, too, when that is another."""
    pool = pooler(own_cluster, default_pool_size=1, workers=1)
    wire, leaver, other = pool.wire(), pool.wire(), pool.wire()
    wire.run("SET TimeZone = 'UTC'")
    leaver.run("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'")
    leaver.close()
    for _ in range(2):
        wire.run("SELECT 1")
    own_cluster.admin("ALTER SYSTEM SET TimeZone = 'Europe/Berlin'")
    own_cluster.admin("SELECT pg_reload_conf()")
    eventually(lambda: wire.one("SHOW TimeZone") and other.one("SHOW TimeZone") == "Europe/Berlin")
    assert wire.one("SHOW TimeZone") == "UTC"


def test_parameters_cost_no_round_trip(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, default_pool_size=1, workers=1)
        first, second = pool.wire(TimeZone="Asia/Tokyo"), pool.wire(TimeZone="Europe/Berlin")
        first.run("SELECT 1")
        second.run("SELECT 1")
        before = proxy.turns
        for _ in range(10):
            assert first.one("SHOW TimeZone") == "Asia/Tokyo"
            assert second.one("SHOW TimeZone") == "Europe/Berlin"
        assert proxy.turns - before == 20


def test_fitting_server_is_sent_nothing_more(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, default_pool_size=1, workers=1)
        wire = pool.wire(TimeZone="Asia/Tokyo", work_mem="1MB")
        wire.run("SELECT 1")
        before = len(proxy.sent_by_client)
        for _ in range(10):
            wire.run("SELECT 1")
        assert len(proxy.sent_by_client) - before == 10 * len(m.query("SELECT 1"))


def test_bad_parameter_is_its_clients_problem_only(pooler: MakePooler) -> None:
    for mode in ("transaction", "session"):
        pool = pooler(pool_mode=mode)
        for name, value, sqlstate in (
            ("client_encoding", "KLINGON", "22023"),
            ("no_such_setting", "1", "42704"),
            ("shared_buffers", "1MB", "55P02"),
            ("log_statement", "all", "42501"),
        ):
            with pytest.raises(ServerError) as refused:
                pool.wire(**{name: value})
            assert (refused.value.severity, refused.value.sqlstate) == ("FATAL", sqlstate)
            assert pool.wire().one("SELECT 1") == "1"


def test_setting_that_fails_later_is_an_error_not_a_leak(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("DROP ROLE IF EXISTS u_gone; CREATE ROLE u_gone; GRANT u_gone TO app")
    pool = pooler(default_pool_size=1, workers=1)
    first, second = pool.wire(role="u_gone"), pool.wire()
    assert first.one("SELECT current_user") == "u_gone"
    second.run("SELECT 1")
    cluster.admin("DROP ROLE u_gone")
    first.send(m.query("SELECT current_user"))
    assert "u_gone" in error_in(first.rest())["M"]
    assert second.one("SELECT current_user") == "app"
    assert pool.wire().one("SELECT current_user") == "app"


def test_ignore_startup_parameters(pooler: MakePooler) -> None:
    pool = pooler(ignore_startup_parameters=["extra_float_digits", "no_such_setting"])
    wire = pool.wire(extra_float_digits="3", no_such_setting="x", work_mem="1MB")
    assert wire.one("SHOW extra_float_digits") == "1"
    assert wire.one("SHOW work_mem") == "1MB"


def test_ignored_options_are_ignored_whole(pooler: MakePooler) -> None:
    pool = pooler(ignore_startup_parameters=["options"])
    assert pool.wire(options="-c work_mem=1MB").one("SHOW work_mem") == "4MB"


def test_parameters_of_the_database(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {"timezone": "Asia/Tokyo", "datestyle": "German"}})
    wire = pool.wire()
    assert wire.one("SHOW TimeZone") == "Asia/Tokyo"
    assert wire.one("SELECT '2020-02-29'::date") == "29.02.2020"
    assert pool.wire(TimeZone="UTC").one("SHOW TimeZone") == "UTC"


def test_application_name_add_host(pooler: MakePooler) -> None:
    pool = pooler(application_name_add_host=True)
    wire = pool.wire(application_name="named")
    port = wire.sock.getsockname()[1]
    assert wire.one("SHOW application_name") == f"named - 127.0.0.1:{port}"
    assert pool.wire().one("SHOW application_name").startswith("app - 127.0.0.1:")  # type: ignore[union-attr]


def test_encoding_is_the_clients(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    latin, utf8 = pool.wire(client_encoding="LATIN1"), pool.wire()

    def umlaut(wire: Wire) -> bytes | None:
        return wire.ask("SELECT chr(228)")[1].row[0]

    for _ in range(3):
        assert umlaut(latin) == b"\xe4"
        assert umlaut(utf8) == b"\xc3\xa4"
        latin.send(m.query(b"SELECT ascii('\xe4')"))
        assert latin.until()[1].row == [b"228"]


def test_welcome_is_a_real_servers(pooler: MakePooler, cluster: Cluster, cluster16: Cluster) -> None:
    pool = pooler(databases={"app": {}, "sixteen": {"port": cluster16.port, "dbname": "app"}})
    assert pool.wire().parameters == cluster.wire().parameters
    assert pool.wire(database="sixteen").parameters == cluster16.wire().parameters


def test_bytes_that_no_encoding_gives_a_meaning_follow_the_client(pooler: MakePooler, cluster: Cluster) -> None:
    """As PostgreSQL keeps them where a database's encoding is SQL_ASCII."""
    cluster.admin("DROP DATABASE IF EXISTS raw")
    cluster.admin("CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    pool = pooler(databases={"raw": {}}, default_pool_size=1, workers=1)
    client, other = pool.wire(database="raw"), pool.wire(database="raw")
    for sql in (b"SET search_path TO \"sch\xe9ma\", public", b"SET my.tenant TO 'v\xe9, \xc3\xa9'"):
        client.send(m.query(sql))
        assert "E" not in kinds(client.until())
    for _ in range(2):
        assert other.one("SHOW search_path") == '"$user", public'
        client.send(m.query("SELECT current_setting('search_path'), current_setting('my.tenant')"))
        assert rows_in(client.until()) == [[b'"sch\xe9ma", public', b"v\xe9, \xc3\xa9"]]
    client.bye()
    other.bye()
