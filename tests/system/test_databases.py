"""Databases that are dropped, renamed or copied through the pooler: servers that rest there are not in the way."""

from collections.abc import Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import ServerError, kinds

pytestmark = pytest.mark.usefixtures("patience")

THERE = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname IN ('rested', 'Other one')"


@pytest.fixture
def rested(cluster: Cluster) -> Iterator[None]:
    """A database of this name."""
    cluster.admin("CREATE DATABASE rested")
    yield
    for name in ("rested", "Other one"):
        cluster.admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def pool(pooler: MakePooler, rested: None) -> Pooler:
    """Two workers, and all databases."""
    return pooler(databases={"*": {}}, workers=2)


def use(pool: Pooler, database: str = "rested") -> None:
    """Clients come, leave a server behind in each worker, and a connection that listens."""
    wires = [pool.wire(user, database) for user in ("app", "postgres") for _ in range(8)]
    for wire in wires:
        wire.run("SELECT 1; LISTEN a")
    for wire in wires:
        wire.bye()


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        ("DROP DATABASE rested", None),
        ('ALTER DATABASE rested RENAME TO "Other one"', "Other one"),
        ('CREATE DATABASE "Other one" OWNER app TEMPLATE = rested', "Other one rested"),
    ],
)
def test_resting_servers_are_not_in_the_way(pool: Pooler, sql: str, left: str | None) -> None:
    use(pool)
    admin = pool.wire("postgres", "postgres")
    admin.run(sql)
    assert admin.one(THERE) == left
    if left:
        use(pool, "Other one")


def test_copy_of_the_database_one_is_in(pool: Pooler, cluster: Cluster) -> None:
    use(pool)
    admin = pool.wire("postgres", "rested")
    admin.run('CREATE DATABASE "Other one" TEMPLATE rested')
    assert admin.one(THERE) == "Other one rested"


def test_by_the_extended_protocol(pool: Pooler) -> None:
    use(pool)
    admin = pool.wire("postgres", "postgres")
    admin.send(m.parse("", "DROP DATABASE rested"), m.bind("", ""), m.execute(), m.SYNC)
    assert kinds(admin.until()) == "12CZ"


def test_quoted_names(pool: Pooler) -> None:
    admin = pool.wire("postgres", "postgres")
    admin.run('ALTER DATABASE rested RENAME TO "Other one"')
    use(pool, "Other one")
    admin.run('DROP DATABASE "Other one"')
    assert admin.one(THERE) is None


def test_connected_clients_are_in_the_way_as_without_a_pooler(pool: Pooler) -> None:
    client, admin = pool.wire("app", "rested"), pool.wire("postgres", "postgres")
    pid = client.one("SELECT pg_backend_pid()")
    with pytest.raises(ServerError) as failed:
        admin.run("DROP DATABASE rested")
    assert failed.value.sqlstate == "55006"
    assert client.one("SELECT pg_backend_pid()") == pid


def test_servers_of_other_databases_stay(pool: Pooler) -> None:
    other = pool.wire("app", "app")
    pid = other.one("SELECT pg_backend_pid()")
    use(pool)
    pool.wire("postgres", "postgres").run("DROP DATABASE rested")
    assert other.one("SELECT pg_backend_pid()") == pid


def names(pool: Pooler) -> set[str | None]:
    """The databases of all pools."""
    return {row["database"] for row in pool.console("SHOW POOLS")}


def test_pools_of_names_made_up_are_forgotten(pooler: MakePooler) -> None:
    pool = pooler(databases={"*": {}, "named": {"dbname": "app"}}, workers=2)
    wires = [pool.wire("app", "app"), pool.wire("app", "named")]
    for number in range(10):
        with pytest.raises(ServerError, match="does not exist"):
            pool.wire("app", f"made up {number}")
    eventually(lambda: names(pool) == {"app", "named"})
    for wire in wires:
        wire.bye()
    assert names(pool) == {"app", "named"}


def test_pools_of_star_are_forgotten_when_they_are_unused(pooler: MakePooler) -> None:
    pool = pooler(
        databases={"*": {}, "named": {"dbname": "app"}}, server_idle_timeout=0.5, autodb_idle_timeout=0.5, workers=2
    )
    used = pool.wire("app", "other")
    for database in ("app", "named"):
        with pool.wire("app", database) as wire:
            wire.run("SELECT 1; LISTEN a")
            wire.bye()
    eventually(lambda: names(pool) == {"other", "named"}, within=20)
    assert used.one("SELECT 1") == "1"
    with pool.wire("app", "app") as again:
        assert again.one("SELECT current_database()") == "app"
