"""What belongs to a server process pins its client, and ends with it: the server is closed, in session mode too."""

from collections.abc import Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, kinds
from pglido.sql import session_functions

from .test_session_state import keeps_its_server_until_it_leaves, pid, pinned, pins

SLOT = "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'k\\_%'"
# What is done, what shows it in the same session, and what it shows.
KEPT = (
    ("SELECT pg_backup_start('a', true)", "SELECT count(*) FROM pg_backup_stop(false)", "1"),
    ("SELECT pg_create_physical_replication_slot('k_one', true, true)", SLOT, "k_one"),
    ("SELECT pg_create_logical_replication_slot('k_two', 'pgoutput', true)", SLOT, "k_two"),
    (
        "SELECT pg_replication_origin_session_setup('k_origin')",
        "SELECT pg_replication_origin_session_is_setup()",
        "t",
    ),
    ("DO $$BEGIN PERFORM pg_create_physical_replication_slot('k_three', false, true); END$$", SLOT, "k_three"),
    ("SELECT k_own()", "SELECT 1", "1"),
)
# The text of functions is read in transaction mode alone.
CODE = ("SELECT k_calls()", SLOT, "k_four")
TRIED = [(mode, *row) for mode in ("transaction", "session") for row in KEPT] + [("transaction", *CODE)]


@pytest.fixture
def server(every_cluster: Cluster) -> Iterator[Cluster]:
    found = every_cluster
    found.admin(
        "SELECT pg_replication_origin_create('k_origin');"
        "CREATE FUNCTION k_slot() RETURNS void LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_create_physical_replication_slot('k_four', false, true); END$$;"
        "CREATE FUNCTION k_calls() RETURNS void LANGUAGE sql AS 'SELECT k_slot()';"
        "CREATE FUNCTION k_own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "app",
    )
    yield found
    found.admin(
        "SELECT pg_replication_origin_drop('k_origin'); DROP FUNCTION k_calls(), k_slot(), k_own()",
        "app",
    )


def superuser(pool: Pooler) -> Wire:
    return pool.wire("postgres")


@pytest.mark.parametrize(("mode", "sql", "show", "value"), TRIED, ids=[f"{row[0]}-{row[1][7:30]}" for row in TRIED])
def test_what_a_server_process_keeps_ends_with_its_client(
    pooler: MakePooler, server: Cluster, mode: str, sql: str, show: str, value: str
) -> None:
    pool = pooler(server, pool_mode=mode, default_pool_size=2, workers=1, pin_functions=["public.K_Own"])
    keeps_its_server_until_it_leaves(pool, server, mode, sql, show, value)
    assert server.admin(SLOT) == []


def test_what_is_prepared_keeps_when_it_is_executed(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = superuser(pool)
    wire.run("PREPARE k AS SELECT pg_create_physical_replication_slot($1, false, true)")
    wire.run("EXECUTE k('k_five')")
    pinned(pool, 1)
    wire.bye()
    eventually(lambda: cluster.admin(SLOT) == [])
    wire = superuser(pool)
    sent = m.parse("", "SELECT pg_create_physical_replication_slot('k_six', false, true)")
    wire.send(sent, m.bind("", ""), m.execute(), m.SYNC)
    assert "E" not in kinds(wire.until())
    pinned(pool, 1)
    wire.bye()
    eventually(lambda: cluster.admin(SLOT) == [])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_create_physical_replication_slot('k_named', temporary => true)",
        "SELECT pg_create_physical_replication_slot(/*)*/'k_noted', /*(*/ true, true)",
        "DO $$BEGIN /*" + "x " * 40_000 + "*/ PERFORM pg_create_physical_replication_slot('k_late', true, true); END$$",
        "SELECT k_slot/**/()",
        "SELECT k_slot -- ()\n()",
        'SELECT public . "k_slot" ()',
        "SELECT k_slots.k_row FROM k_slots",
        "DO $$BEGIN PERFORM k_slots.k_row FROM k_slots; END$$",
        "SELECT set_config('seed', '0.5', false)",
        'SELECT U&"\\0073etseed"(0.5)',
    ],
    ids=range(10),
)
def test_what_a_server_process_keeps_is_seen_however_it_is_written(
    pooler: MakePooler, cluster: Cluster, sql: str
) -> None:
    cluster.admin(
        "CREATE FUNCTION k_slot() RETURNS void LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_create_physical_replication_slot('k_own', false, true); END$$;"
        "CREATE TABLE k_slots AS SELECT 1 AS n;"
        "CREATE FUNCTION k_row(k_slots) RETURNS void LANGUAGE sql AS 'SELECT k_slot()'",
        "app",
    )
    pool = pooler(default_pool_size=1, workers=1)
    wire = superuser(pool)
    first = pid(wire)
    wire.run(sql)
    pinned(pool, 1)
    wire.run("DISCARD ALL")
    wire.bye()
    eventually(lambda: cluster.admin(f"SELECT 1 FROM pg_stat_activity WHERE pid = {first}") == [])
    assert cluster.admin(SLOT) == []
    cluster.admin("DROP TABLE k_slots CASCADE; DROP FUNCTION k_slot()", "app")


@pytest.mark.parametrize("arguments", ["'k_stays'", "'k_stays', true", "slot_name => 'k_stays'", "$$k_stays$$::name"])
def test_slot_that_stays_keeps_nobody(pooler: MakePooler, cluster: Cluster, arguments: str) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire, other = superuser(pool), superuser(pool)
    wire.run(f"SELECT pg_create_physical_replication_slot({arguments})")
    assert other.one(SLOT) == "k_stays"
    assert pins(pool) == []
    wire.run("SELECT pg_drop_replication_slot('k_stays')")


def test_functions_of_ones_own_are_told_by_a_reload(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("CREATE FUNCTION k_mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "app")
    pool = pooler(default_pool_size=1, workers=1)
    wire = superuser(pool)
    assert wire.one("SELECT k_mine()") == "1"
    assert pins(pool) == []
    pool.path.write_text(pool.path.read_text().replace("[pglido]\n", '[pglido]\npin_functions = ["k_mine"]\n'))
    pool.console("RELOAD")
    eventually(lambda: wire.one("SELECT k_mine()") == "1" and len(pins(pool)) == 1)
    wire.bye()
    eventually(lambda: pins(pool) == [])
    cluster.admin("DROP FUNCTION k_mine()", "app")


def test_functions_of_the_table_exist(every_cluster: Cluster) -> None:
    """By their names, of PostgreSQL's own; those that only older or other builds have are named here."""
    modules = {"dblink", "postgres_fdw", "pg_trgm", "sepgsql", "tablefunc", "xml2", "isn"}
    for row in session_functions.LASTING:
        for name in row.names if row.section not in modules else ():
            found = every_cluster.admin(f"SELECT 1 FROM pg_proc WHERE proname = '{name}' AND pronamespace = 11")
            assert found or name == "pg_start_backup", name
