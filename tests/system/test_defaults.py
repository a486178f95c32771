"""The server's configuration is changed: whoever has set nothing else has it, as in PostgreSQL."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, error_in, rows_in

pytestmark = pytest.mark.usefixtures("patience")


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
