"""What sessions begin with is changed: who logs in afterwards has it, whoever had the servers before."""

from collections.abc import Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def renewed(cluster: Cluster) -> Iterator[None]:
    """A database, and a role, that may be changed."""
    cluster.admin("CREATE DATABASE renewed")
    cluster.admin("CREATE ROLE changed LOGIN SUPERUSER")
    yield
    cluster.admin("DROP DATABASE renewed WITH (FORCE)")
    cluster.admin("DROP ROLE changed")


@pytest.fixture
def pool(pooler: MakePooler, renewed: None) -> Pooler:
    """Two workers, and everybody."""
    return pooler(databases={"*": {}}, workers=2, users={"changed": {}})


def shown(pool: Pooler, setting: str, user: str = "changed") -> set[str | None]:
    """What newcomers find, in both workers; they stay for as long as the others come."""
    wires = [pool.wire(user, "renewed") for _ in range(8)]
    found = {wire.one(f"SHOW {setting}") for wire in wires}
    for wire in wires:
        wire.bye()
    return found


@pytest.mark.parametrize(
    ("sql", "setting", "before", "after"),
    [
        ("ALTER DATABASE renewed SET search_path TO a, b", "search_path", '"$user", public', "a, b"),
        ("alter role changed set statement_timeout = '7s'", "statement_timeout", "0", "7s"),
        ("ALTER USER ALL IN DATABASE renewed SET app.who = 'all'; SELECT 1", "app.who", None, "all"),
        ("ALTER ROLE changed IN DATABASE renewed SET \"DateStyle\" = 'german'", "DateStyle", "ISO, MDY", "German, DMY"),
    ],
)
def test_who_logs_in_next_has_it(pool: Pooler, sql: str, setting: str, before: str | None, after: str) -> None:
    if before is not None:
        assert shown(pool, setting) == {before}
    else:
        shown(pool, "search_path")
    admin = pool.wire("postgres", "postgres")
    admin.run(sql)
    assert shown(pool, setting) == {after}


def test_it_is_reported_at_login(pool: Pooler) -> None:
    shown(pool, "TimeZone")
    admin = pool.wire("postgres", "postgres")
    admin.run("ALTER ROLE changed SET timezone = 'Asia/Tokyo'")
    assert pool.wire("changed", "renewed").parameters["TimeZone"] == "Asia/Tokyo"
    admin.run("ALTER ROLE changed RESET timezone")
    # One change right behind another takes a second.
    eventually(lambda: pool.wire("changed", "renewed").parameters["TimeZone"] != "Asia/Tokyo")


def test_many_changes_do_not_replace_all_servers_each_time(pool: Pooler) -> None:
    admin, client = pool.wire("postgres", "postgres"), pool.wire("changed", "renewed")
    pids = set()
    for number in range(50):
        admin.run(f"ALTER ROLE changed SET app.number = {number}")
        pids.add(pool.wire("changed", "renewed").one("SELECT pg_backend_pid()"))
        pids.add(client.one("SELECT pg_backend_pid()"))
    assert len(pids) < 20
    eventually(lambda: client.one("SHOW app.number") == "49")


def test_a_change_made_past_the_pooler_is_seen_in_a_while(pool: Pooler, cluster: Cluster) -> None:
    shown(pool, "search_path")
    client = pool.wire("changed", "renewed")
    cluster.admin("ALTER DATABASE renewed SET search_path TO elsewhere")
    eventually(lambda: client.one("SHOW search_path") == "elsewhere", 30)
    assert shown(pool, "search_path") == {"elsewhere"}


def test_once_it_is_committed(pool: Pooler) -> None:
    shown(pool, "search_path")
    admin = pool.wire("postgres", "postgres")
    admin.run("BEGIN")
    admin.send(m.parse("", "ALTER DATABASE renewed SET search_path TO late"), m.bind("", ""), m.execute(), m.SYNC)
    admin.until()
    assert shown(pool, "search_path") == {'"$user", public'}
    admin.run("COMMIT")
    assert shown(pool, "search_path") == {"late"}


def test_who_is_in_a_transaction_keeps_its_server(pool: Pooler) -> None:
    busy, admin = pool.wire("changed", "renewed"), pool.wire("postgres", "postgres")
    busy.run("BEGIN")
    pid = busy.one("SELECT pg_backend_pid()")
    admin.run("ALTER DATABASE renewed SET search_path TO a")
    assert shown(pool, "search_path") == {"a"}
    assert busy.one("SELECT pg_backend_pid()") == pid
    busy.run("COMMIT")
    assert busy.one("SELECT pg_backend_pid()") != pid
    assert busy.one("SHOW search_path") == "a"
