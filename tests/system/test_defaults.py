"""What sessions begin with is changed: who logs in afterwards has it, whoever had the servers before."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, error_in, rows_in

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


Configure = Callable[[str], None]


@pytest.fixture
def configure(cluster: Cluster) -> Iterator[Configure]:
    """Change the server's configuration by what follows ALTER SYSTEM; whoever runs something now has it."""

    def change(what: str) -> None:
        loaded = cluster.admin("SELECT pg_conf_load_time()")
        cluster.admin(f"ALTER SYSTEM {what}")
        cluster.admin("SELECT pg_reload_conf()")
        eventually(lambda: cluster.admin("SELECT pg_conf_load_time()") != loaded, what="the configuration is read")

    yield change
    change("RESET ALL")


def said(wire: Wire, sql: str) -> tuple[dict[str, str], str | None]:
    """What a client is told of parameters while it runs this, and what comes out."""
    read = wire.ask(sql)
    ((value,),) = rows_in(read)
    return dict(message.pair for message in read if message.kind == "S"), value.decode() if value else None


def greeted(pool: Pooler, setting: str, value: str) -> bool:
    """Is a newcomer told of this value?"""
    with pool.wire() as wire:
        return wire.parameters[setting] == value


@pytest.mark.parametrize(
    ("setting", "before", "value", "own"),
    [
        ("TimeZone", "UTC", "Asia/Tokyo", "Europe/Berlin"),
        ("DateStyle", "ISO, MDY", "German, DMY", "SQL, DMY"),
        ("IntervalStyle", "postgres", "sql_standard", "iso_8601"),
        ("search_path", '"$user", public', "elsewhere", "mine"),
        ("default_transaction_read_only", "off", "on", "on"),
    ],
)
def test_who_has_not_set_it_has_what_is_configured(
    pooler: MakePooler, configure: Configure, setting: str, before: str, value: str, own: str
) -> None:
    configure(f"SET {setting} = '{before}'" if setting != "search_path" else "RESET search_path")
    pool = pooler(default_pool_size=2, workers=1)
    show = f"SHOW {setting}"
    plain, named, begun, sets = pool.wire(), pool.wire(application_name="x"), pool.wire(**{setting: own}), pool.wire()
    sets.run(f"SET {setting} = '{own}'")
    for wire in (plain, named):
        assert said(wire, show) == ({}, before)
    configure(f"SET {setting} = '{value}'")
    for _ in range(2):
        for wire in (begun, sets):
            assert said(wire, show) == ({}, own)
        for told in ({setting: value}, {}):
            assert said(plain, show) == (told, value)
            assert said(named, show) == (told, value)
        eventually(partial(greeted, pool, setting, value))
        value, before = before, value
        configure(f"SET {setting} = '{value}'" if setting != "search_path" else "RESET search_path")


def test_maintenance_ends_for_all(pooler: MakePooler, configure: Configure) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    client = pool.wire()
    client.run("CREATE TABLE IF NOT EXISTS maintained (v int)")
    write = "INSERT INTO maintained VALUES (1)"
    configure("SET default_transaction_read_only = on")
    assert error_in(client.ask(write))["C"] == "25006"
    newcomer = pool.wire()
    assert error_in(newcomer.ask(write))["C"] == "25006"
    configure("RESET default_transaction_read_only")
    for wire in (client, newcomer, pool.wire()):
        wire.run(write)


@pytest.fixture
def hidden(cluster: Cluster) -> Iterator[None]:
    """A view that sets DateStyle."""
    sets = "SELECT set_config('DateStyle', 'German', false)"
    cluster.admin(f"CREATE FUNCTION hides() RETURNS text LANGUAGE sql AS $$ {sets} $$", "app")
    cluster.admin("CREATE VIEW hidden AS SELECT hides(); GRANT SELECT ON hidden TO PUBLIC", "app")
    yield
    cluster.admin("DROP FUNCTION hides() CASCADE", "app")


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("in_block", [False, True])
def test_what_a_client_sets_unseen_while_that_changes_is_its_own(
    pooler: MakePooler, configure: Configure, in_block: bool
) -> None:
    configure("SET TimeZone = 'UTC'")
    pool = pooler(default_pool_size=2, workers=1)
    client, other = pool.wire(), pool.wire()
    configure("SET TimeZone = 'Asia/Tokyo'")
    if in_block:
        client.run("BEGIN")
    told, _ = said(client, "SELECT * FROM hidden")
    assert told["DateStyle"] == "German, DMY"
    if in_block:
        client.run("COMMIT")
    for zone in ("Asia/Tokyo", "UTC"):
        configure(f"SET TimeZone = '{zone}'")
        other.run("BEGIN")
        assert [client.one("SHOW DateStyle"), client.one("SHOW TimeZone")] == ["German, DMY", zone]
        assert [other.one("SHOW DateStyle"), other.one("SHOW TimeZone")] == ["ISO, MDY", zone]
        other.run("COMMIT")


@pytest.mark.parametrize(
    "sets",
    [
        ["SET {}"],
        ["BEGIN", "SET {}", "COMMIT"],
        ["BEGIN", "SET LOCAL {}", "COMMIT", "SET {}"],
        ["SELECT 1; SET {}; SELECT 2"],
        ["DO $$ BEGIN SET {}; END $$"],
        ["SET {}", "BEGIN", "RESET ALL", "ROLLBACK"],
        ["SET {}", "BEGIN", "SET LOCAL TimeZone = 'Asia/Seoul'", "ROLLBACK"],
    ],
)
def test_what_a_client_has_set_stays_its_own(pooler: MakePooler, configure: Configure, sets: list[str]) -> None:
    configure("SET TimeZone = 'UTC'")
    pool = pooler(default_pool_size=1, workers=1)
    client, other = pool.wire(), pool.wire()
    for number, zone in enumerate(("Asia/Tokyo", "UTC")):
        for sql in sets:
            client.run(sql.format(f"TimeZone = '{zone}'"))
        configure(f"SET TimeZone = '{('Asia/Kolkata', 'Europe/Paris')[number]}'")
        assert said(client, "SHOW TimeZone") == ({}, zone)
        assert other.one("SHOW TimeZone") == ("Asia/Kolkata", "Europe/Paris")[number]
        assert said(client, "SHOW TimeZone") == ({}, zone)


@pytest.mark.parametrize(
    "takes_back",
    [
        ["RESET TimeZone"],
        ["SET TimeZone TO DEFAULT; RESET work_mem"],
        ["RESET ALL"],
        ["DISCARD ALL"],
        ["BEGIN", "RESET ALL", "COMMIT"],
        ["DISCARD ALL", "BEGIN", "SET TimeZone = 'Asia/Tokyo'", "ROLLBACK"],
        ["DISCARD ALL", "BEGIN; SET TimeZone = 'Asia/Tokyo'; SAVEPOINT s; ROLLBACK TO s; ROLLBACK"],
    ],
)
def test_what_a_client_has_taken_back_is_what_is_configured(
    pooler: MakePooler, configure: Configure, takes_back: list[str]
) -> None:
    configure("SET TimeZone = 'UTC'")
    pool = pooler(default_pool_size=1, workers=1)
    client, other = pool.wire(), pool.wire(TimeZone="Asia/Seoul")
    client.run("SET TimeZone = 'Asia/Tokyo'")
    for sql in takes_back:
        client.run(sql)
    assert said(client, "SHOW TimeZone") == ({}, "UTC")
    for zone in ("Asia/Kolkata", "UTC"):
        configure(f"SET TimeZone = '{zone}'")
        other.run("SELECT 1")
        assert said(client, "SHOW TimeZone") == ({"TimeZone": zone}, zone)
