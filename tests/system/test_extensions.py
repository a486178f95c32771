"""Extensions that keep something in the server process: it is the client's alone, and ends with it.

Of the embedded servers PostgreSQL 17 brings these. Languages with data shared by functions are in none of them.
"""

from collections.abc import Iterator

import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.waiting import eventually

from .test_session_state import elsewhere, keeps_its_server_until_it_leaves, pins

REMOTE = "host=127.0.0.1 port={port} user=app dbname=other application_name=k_remote"
REMOTES = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'k_remote'"
# What is done, what shows it in the same session, and what it shows.
KEPT = {
    "dblink": ("SELECT dblink_connect('c', '{remote}')", "SELECT n FROM dblink('c', 'SELECT 7') AS t(n int)", "7"),
    "unnamed dblink": ("SELECT dblink_connect('{remote}')", "SELECT dblink_exec('SET app.x = 1')", "SET"),
    "dblink in a block": (
        "BEGIN; SELECT dblink_connect('c', '{remote}'); COMMIT",
        "SELECT dblink_get_connections()",
        "{c}",
    ),
    "dblink in code": (
        "DO $$BEGIN PERFORM dblink_connect_u('c', '{remote}'); END$$",
        "SELECT dblink_is_busy('c')",
        "0",
    ),
    "dblink to a foreign server": (
        "SELECT dblink_connect('c', 'k_server')",
        "SELECT n FROM dblink('c', 'SELECT 7') AS t(n int)",
        "7",
    ),
    "foreign table": (
        "SELECT count(*) FROM k_numbers; SELECT server_name FROM postgres_fdw_get_connections()",
        "SELECT server_name FROM postgres_fdw_get_connections()",
        "k_server",
    ),
}


@pytest.fixture(scope="module")
def extended(tls_cluster: Cluster) -> Iterator[Cluster]:
    """A server with these extensions, which is a foreign server to itself."""
    made = (
        "CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw; CREATE EXTENSION pg_trgm; CREATE EXTENSION tablefunc;"
        "CREATE SERVER k_server FOREIGN DATA WRAPPER postgres_fdw"
        f" OPTIONS (host '127.0.0.1', port '{tls_cluster.port}', dbname 'other');"
        "CREATE USER MAPPING FOR postgres SERVER k_server OPTIONS (user 'app', password_required 'false');"
        "CREATE FOREIGN TABLE k_numbers (n int) SERVER k_server OPTIONS (table_name 'numbers');"
    )
    tls_cluster.admin(made, "app")
    yield tls_cluster
    tls_cluster.admin("DROP EXTENSION dblink, postgres_fdw, pg_trgm, tablefunc CASCADE", "app")


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("what", KEPT)
def test_connection_is_its_clients_and_ends_with_it(
    pooler: MakePooler, extended: Cluster, what: str, mode: str
) -> None:
    sql, show, value = KEPT[what]
    pool = pooler(extended, pool_mode=mode, default_pool_size=2, workers=1)
    said = sql.format(remote=REMOTE.format(port=extended.port))
    keeps_its_server_until_it_leaves(pool, extended, mode, said, show, value)
    eventually(lambda: extended.admin(REMOTES) == [["0"]])


def test_connection_for_one_statement_keeps_nobody(pooler: MakePooler, extended: Cluster) -> None:
    pool = pooler(extended, default_pool_size=2, workers=1)
    wire = pool.wire("postgres")
    remote = REMOTE.format(port=extended.port)
    assert wire.one(f"SELECT n FROM dblink('{remote}', 'SELECT 7') AS t(n int)") == "7"
    assert wire.one("SELECT count(*) FROM k_numbers") == "1000"
    with elsewhere(pool, wire, user="postgres"):
        assert wire.one("SELECT count(*) FROM k_numbers") == "1000"
    assert pins(pool) == []


@pytest.mark.parametrize("sql", ["SELECT set_limit(0.9)", "SET pg_trgm.similarity_threshold = 0.9"])
def test_limit_of_similarity_follows_its_client(pooler: MakePooler, extended: Cluster, sql: str) -> None:
    pool = pooler(extended, default_pool_size=2, workers=1)
    wire, other = pool.wire(), pool.wire()
    assert other.one("SELECT show_limit()") == "0.3"
    wire.run(sql)
    for _ in range(2):
        with elsewhere(pool, wire):
            assert wire.one("SELECT show_limit()") == "0.9"
            assert wire.one("SELECT 'word' % 'words'") == "f"
            assert other.one("SELECT show_limit()") == "0.3"
    assert pins(pool) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM crosstab('SELECT ''a''::text, set_config(''app.k'', ''x'', false), 1') AS t(a text, b int)",
        "SELECT * FROM crosstab($$SELECT 'a'::text, 'b'::text, 1$$, $$SELECT set_config('app.k', 'x', false)$$)"
        " AS t(a text, b int)",
    ],
    ids=["source", "categories"],
)
def test_query_that_is_a_value_is_read(pooler: MakePooler, extended: Cluster, sql: str) -> None:
    pool = pooler(extended, default_pool_size=2, workers=1)
    wire = pool.wire()
    wire.run(sql)
    with elsewhere(pool, wire):
        assert wire.one("SELECT current_setting('app.k', true)") == "x"
