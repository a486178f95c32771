"""What the tests of drivers share: a database of their own, and a pool with fewer servers than they have clients."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually

DATABASE = "drivers"
SERVERS = 4  # server connections of the pool, over two workers
CLIENTS = 16  # what most tests connect at once
HERE = Path(__file__).parent

_TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE place AS (street text, number int);
CREATE TABLE items (test text, client int, n int, body text, PRIMARY KEY (test, client, n));
CREATE TABLE people (
    test text, id int, feels mood, home place, tags text[], moods mood[], places place[], worth numeric,
    born timestamptz, more jsonb, raw bytea, PRIMARY KEY (test, id)
);
"""


@pytest.fixture(scope="session")
def database(cluster: Cluster) -> Cluster:
    """PostgreSQL 18 with the database and the tables of these tests."""
    cluster.admin(f"CREATE DATABASE {DATABASE} OWNER app")
    with cluster.wire("app", DATABASE) as wire:
        wire.run(_TABLES)
        wire.bye()
    return cluster


@pytest.fixture
def pool(database: Cluster, shared_pooler: MakePooler) -> Iterator[Pooler]:
    """Transaction mode, two workers; after each test nobody waits, nothing is lent, and there are few servers."""
    one = shared_pooler(database, databases={DATABASE: {}}, default_pool_size=SERVERS, workers=2)
    yield one
    at_rest(one, database, SERVERS)


def at_rest(one: Pooler, database: Cluster, servers: int) -> None:
    """Clients are gone, no server is lent or in a transaction, and there are no more of them than allowed."""

    def rests() -> bool:
        now = one.pool(DATABASE)
        return not any(now[name] for name in ("cl_active", "cl_waiting", "sv_active"))

    def few() -> bool:
        return len(sessions("true")) <= servers and not sessions("state <> 'idle'")

    def sessions(where: str) -> list[list[str | None]]:
        mine = f"datname = '{DATABASE}' AND usename = 'app' AND application_name <> 'pglido listen'"
        return database.admin(f"SELECT pid, state FROM pg_stat_activity WHERE {mine} AND ({where})", DATABASE)

    eventually(rests, what="a pool without clients")
    eventually(few, what=f"not more than {servers} idle servers")


@pytest.fixture
def test_id(request: pytest.FixtureRequest) -> str:
    """What marks the rows of a test in the tables."""
    return str(request.node.nodeid).removeprefix("tests/drivers/")


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds the driver `pg`, in the versions of package-lock.json."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    done = subprocess.run(
        ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder
