"""ALTER DATABASE, ALTER ROLE: who logs in afterwards has it, whoever was there before has not, nobody else notices."""

from collections.abc import Callable, Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, rows_in

pytestmark = pytest.mark.usefixtures("patience")

ROLES = ("changed", "left_alone")
DATABASES = ("renewed", "left_alone")
SETS = "ALTER DATABASE renewed SET search_path TO a, b"
PATH = '"$user", public'


def prepare(server: Cluster) -> None:
    """Two databases and two roles that may be changed, and what changes them."""
    for name in ROLES:
        server.admin(f"CREATE ROLE {name} LOGIN SUPERUSER")
    for name in DATABASES:
        server.admin(f"CREATE DATABASE {name}")
    server.admin(
        f"CREATE FUNCTION alters() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE '{SETS}'; END$$;"
        "CREATE FUNCTION passes() RETURNS void LANGUAGE sql AS 'SELECT alters()';"
        "CREATE TABLE altering (n int);"
        f"CREATE PROCEDURE alters_and_commits() LANGUAGE plpgsql AS $$BEGIN {SETS}; COMMIT; END$$"
    )


def clear(server: Cluster) -> None:
    """Take it away."""
    server.admin("DROP FUNCTION alters(), passes(); DROP PROCEDURE alters_and_commits(); DROP TABLE altering")
    for name in DATABASES:
        server.admin(f"DROP DATABASE {name} WITH (FORCE)")
    for name in ROLES:
        server.admin(f"DROP ROLE {name}")


@pytest.fixture(params=[("cluster", 1, "epoll"), ("cluster16", 2, "epoll"), ("cluster", 2, "io_uring")], ids=str)
def made(request: pytest.FixtureRequest, pooler: MakePooler) -> Iterator[Callable[..., Pooler]]:
    """Poolers for PostgreSQL 16 or 18, with one worker or two, on both backends."""
    name, workers, backend = request.param
    server: Cluster = request.getfixturevalue(name)
    prepare(server)
    users = {name: {} for name in ROLES}

    def make(**settings: object) -> Pooler:
        return pooler(server, databases={"*": {}}, workers=workers, event_backend=backend, users=users, **settings)

    yield make
    clear(server)


@pytest.fixture
def pool(made: Callable[..., Pooler]) -> Pooler:
    """One of them."""
    return made()


@pytest.fixture
def one(pooler: MakePooler, cluster: Cluster) -> Iterator[Callable[..., Pooler]]:
    """Poolers with one worker, for what is the same with all."""
    prepare(cluster)
    users = {name: {} for name in ROLES}
    yield lambda **more: pooler(cluster, **{"databases": {"*": {}}, "workers": 1, "users": users, **more})
    clear(cluster)


def newcomers(pool: Pooler, setting: str, user: str = "changed", database: str = "renewed") -> set[str | None]:
    """What they find, in all workers; they stay for as long as the others come."""
    wires = [pool.wire(user, database) for _ in range(6)]
    found = {wire.one(f"SELECT current_setting('{setting}', true)") for wire in wires}
    for wire in wires:
        wire.bye()
    return found


def superuser(pool: Pooler) -> Wire:
    return pool.wire("postgres", "postgres")


# Who logs in next.


@pytest.mark.parametrize(
    ("sql", "setting", "before", "after"),
    [
        (SETS, "search_path", PATH, "a, b"),
        ("alter role changed set statement_timeout = '7s'", "statement_timeout", "0", "7s"),
        ("ALTER USER ALL IN DATABASE renewed SET app.who = 'all'; SELECT 1", "app.who", None, "all"),
        ("ALTER ROLE changed IN DATABASE renewed SET \"DateStyle\" = 'german'", "DateStyle", "ISO, MDY", "German, DMY"),
        ("ALTER ROLE ALL SET work_mem = '5MB'", "work_mem", "4MB", "5MB"),
        ("ALTER ROLE changed SET log_min_messages = 'error'", "log_min_messages", "warning", "error"),
    ],
)
def test_who_logs_in_next_has_it(pool: Pooler, sql: str, setting: str, before: str | None, after: str) -> None:
    assert newcomers(pool, setting) == {before}
    admin = superuser(pool)
    admin.run(sql)
    assert newcomers(pool, setting) == {after}
    admin.run(sql.partition(" SET ")[0].partition(" set ")[0] + " RESET ALL")
    assert newcomers(pool, setting) <= {before, ""}


def test_it_is_reported_at_login(pool: Pooler) -> None:
    newcomers(pool, "TimeZone")
    admin = superuser(pool)
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        admin.run(f"ALTER ROLE changed SET timezone = '{zone}'")
        assert pool.wire("changed", "renewed").parameters["TimeZone"] == zone
        assert pool.wire("changed", "renewed", application_name="x").parameters["TimeZone"] == zone
    admin.run("ALTER ROLE changed RESET timezone")
    assert pool.wire("changed", "renewed").parameters["TimeZone"] == "UTC"


def test_what_a_client_asks_for_itself_is_what_it_gets(pool: Pooler) -> None:
    pool.wire("changed", "renewed", DateStyle="german")
    superuser(pool).run("ALTER ROLE changed SET datestyle = 'SQL'; ALTER ROLE changed SET timezone = 'Asia/Tokyo'")
    wire = pool.wire("changed", "renewed", DateStyle="german")
    assert (wire.parameters["DateStyle"], wire.parameters["TimeZone"]) == ("German, DMY", "Asia/Tokyo")
    assert (wire.one("SHOW datestyle"), wire.one("SHOW timezone")) == ("German, DMY", "Asia/Tokyo")


def test_each_of_many_changes_is_seen_at_once_and_costs_one_server(pool: Pooler) -> None:
    """Also that of others who have changed it meanwhile: a loop of changes is no storm."""
    admin, others = superuser(pool), [pool.wire("changed", "renewed") for _ in range(4)]
    for wire in others:
        wire.run("BEGIN")
    for wire in others:
        wire.run("COMMIT")
    before = pool.log.count("server connection opened")
    for number in range(50):
        admin.run(f"ALTER ROLE changed SET app.number = {number}")
        assert pool.wire("changed", "renewed").one("SHOW app.number") == str(number)
        assert others[number % 4].one("SELECT 1") == "1"
    # One for each login; and two workers lend each other servers.
    assert pool.log.count("server connection opened") - before <= 60


def test_changes_without_logins_cost_nothing(pool: Pooler) -> None:
    admin, client = superuser(pool), pool.wire("changed", "renewed")
    pid = client.one("SELECT pg_backend_pid()")
    before = pool.log.count("server connection opened")
    for number in range(50):
        admin.run(f"ALTER ROLE changed SET app.number = {number}")
        assert client.one("SELECT pg_backend_pid()") == pid
    assert pool.log.count("server connection opened") == before


# However it was made.


def batch(*texts: str) -> Callable[[Wire], object]:
    """These texts in one batch."""

    def run(wire: Wire) -> None:
        wire.send(*[part for text in texts for part in (m.parse("", text), m.bind("", ""), m.execute())], m.SYNC)
        wire.until()

    return run


def said(*texts: str) -> Callable[[Wire], object]:
    """These texts, one after the other."""
    return lambda wire: [wire.run(text) for text in texts]


def prepared(wire: Wire) -> None:
    """As a statement, which is executed later."""
    wire.send(m.parse("s", SETS), m.SYNC)
    wire.until()
    wire.send(m.bind("", "s"), m.execute(), m.SYNC)
    wire.until()


def and_goodbye(wire: Wire) -> None:
    """By a client that does not wait for its answer."""
    wire.send(m.query(SETS))
    wire.bye()


WAYS = {
    "block": said("BEGIN", SETS, "COMMIT"),
    "batch": batch("SELECT 1", SETS),
    "block by batches": batch("BEGIN", SETS, "COMMIT"),
    "many in one text": said(f"SELECT 1; {SETS}; SELECT 2"),
    "savepoint": said("BEGIN", "SAVEPOINT s", SETS, "RELEASE s", "COMMIT"),
    "prepared": prepared,
    "do": said(f"DO $$BEGIN EXECUTE '{SETS}'; END$$"),
    "do that puts it together": said(
        "DO $$BEGIN EXECUTE format('ALTER %s SET search_path TO a, b', 'DATABASE renewed'); END$$"
    ),
    "function": said("SELECT alters()"),
    "function of a function": said("SELECT passes()"),
    "function in a batch": batch("SELECT alters()"),
    "procedure": said("CALL alters_and_commits()"),
    "comment": said(SETS.replace(" ", " /* so */ ", 1)),
    "long": said(f"SELECT '{'x' * 100_000}'; {SETS}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_however_it_was_made(one: Callable[..., Pooler], way: str) -> None:
    pool = one()
    assert newcomers(pool, "search_path") == {PATH}
    WAYS[way](superuser(pool))
    assert newcomers(pool, "search_path") == {"a, b"}


@pytest.mark.parametrize("mode", ["session", "statement"])
def test_in_all_modes(one: Callable[..., Pooler], mode: str) -> None:
    pool = one(pool_mode=mode)
    for number in range(3):
        superuser(pool).run(f"ALTER ROLE changed SET app.number = {number}")
        assert newcomers(pool, "app.number") == {str(number)}


def test_by_a_client_that_does_not_wait_for_it(one: Callable[..., Pooler], cluster: Cluster) -> None:
    pool = one()
    assert newcomers(pool, "search_path") == {PATH}
    and_goodbye(superuser(pool))
    eventually(lambda: cluster.admin("SELECT 1 FROM pg_db_role_setting WHERE setconfig::text ~ 'search_path=a'"))
    eventually(lambda: newcomers(pool, "search_path") == {"a, b"}, 3)


def test_once_it_is_committed(pool: Pooler) -> None:
    assert newcomers(pool, "search_path") == {PATH}
    admin = superuser(pool)
    for end, after in (("ROLLBACK", PATH), ("COMMIT", "a, b")):
        admin.run("BEGIN")
        batch(SETS)(admin)
        assert newcomers(pool, "search_path") == {PATH}
        admin.run(end)
        assert newcomers(pool, "search_path") == {after}


def test_once_it_is_committed_in_the_middle_of_a_text(one: Callable[..., Pooler]) -> None:
    pool = one()
    assert newcomers(pool, "search_path") == {PATH}
    locks, admin = superuser(pool), superuser(pool)
    locks.run("BEGIN; LOCK altering")
    # PostgreSQL sends what it has to say when that is a good deal.
    admin.send(m.query(f"BEGIN; {SETS}; COMMIT; SELECT repeat('x', 100000); SELECT * FROM altering"))
    assert admin.until("C", 3)[-1].tag == "COMMIT"
    assert newcomers(pool, "search_path") == {"a, b"}
    locks.run("COMMIT")
    admin.until()


def test_what_was_rolled_back_or_set_to_the_same_replaces_nothing(one: Callable[..., Pooler]) -> None:
    pool = one()
    admin = superuser(pool)
    admin.run(SETS)
    pid = pool.wire("changed", "renewed").one("SELECT pg_backend_pid()")
    for ways in (("BEGIN", "ALTER DATABASE renewed SET search_path TO c", "ROLLBACK"), (SETS,)):
        for sql in ways:
            admin.run(sql)
        assert pool.wire("changed", "renewed").one("SELECT pg_backend_pid()") == pid


def test_what_was_made_past_the_pooler_is_seen_in_a_while(one: Callable[..., Pooler], cluster: Cluster) -> None:
    pool = one()
    client = pool.wire("changed", "renewed")
    assert client.one("SHOW search_path") == PATH
    cluster.admin(SETS)
    eventually(lambda: client.one("SELECT 1") and newcomers(pool, "search_path") == {"a, b"}, 30)
    assert client.one("SHOW search_path") == PATH


def test_who_is_a_superuser_now_is_told_so(one: Callable[..., Pooler]) -> None:
    pool = one()
    assert pool.wire("changed", "renewed").parameters["is_superuser"] == "on"
    superuser(pool).run("ALTER ROLE changed NOSUPERUSER")
    assert pool.wire("changed", "renewed").parameters["is_superuser"] == "off"


@pytest.fixture
def configure(cluster: Cluster) -> Iterator[Callable[[Pooler, str], None]]:
    """Change the server's configuration through a pooler."""

    def change(pool: Pooler, what: str) -> None:
        admin = superuser(pool)
        admin.run(f"ALTER SYSTEM {what}")
        admin.run("SELECT pg_reload_conf()")

    yield change
    cluster.admin("ALTER SYSTEM RESET ALL")
    cluster.admin("SELECT pg_reload_conf()")


def test_what_is_configured_is_told_at_login(
    one: Callable[..., Pooler], configure: Callable[[Pooler, str], None]
) -> None:
    pool = one()
    for zone in ("Asia/Tokyo", "Europe/Berlin", "Asia/Seoul"):
        pool.wire("changed", "renewed")
        configure(pool, f"SET TimeZone = '{zone}'")
        wire = pool.wire("changed", "renewed")
        assert (wire.parameters["TimeZone"], wire.one("SHOW timezone")) == (zone, zone)


# Whom it concerns.


@pytest.mark.parametrize(
    ("sql", "concerned"),
    [
        ("ALTER DATABASE renewed SET work_mem = '5MB'", {(user, "renewed") for user in ROLES}),
        ("ALTER ROLE changed SET work_mem = '5MB'", {("changed", database) for database in DATABASES}),
        ("ALTER ROLE changed IN DATABASE renewed SET work_mem = '5MB'", {("changed", "renewed")}),
        ("ALTER ROLE ALL IN DATABASE renewed SET work_mem = '5MB'", {(user, "renewed") for user in ROLES}),
        ("ALTER ROLE ALL SET work_mem = '5MB'", {(user, database) for user in ROLES for database in DATABASES}),
        ("DO $$BEGIN ALTER ROLE changed SET work_mem = '5MB'; END$$", {("changed", one) for one in DATABASES}),
    ],
)
def test_servers_of_nobody_else_are_replaced(
    one: Callable[..., Pooler], sql: str, concerned: set[tuple[str, str]]
) -> None:
    pool = one()
    admin = superuser(pool)

    def pids() -> dict[tuple[str, str], str | None]:
        pairs = [(user, database) for user in ROLES for database in DATABASES]
        return {pair: pool.wire(*pair).one("SELECT pg_backend_pid()") for pair in pairs}

    before = pids()
    assert pids() == before
    admin.run(sql)
    after = pids()
    assert {pair for pair in before if before[pair] != after[pair]} == concerned
    assert pids() == after
    admin.run(sql.replace("SET work_mem = '5MB'", "RESET work_mem"))


# Whoever was there before.


@pytest.mark.parametrize("size", [1, 4])
def test_who_was_there_before_keeps_what_it_had(one: Callable[..., Pooler], size: int) -> None:
    pool = one(default_pool_size=size)
    admin = superuser(pool)
    admin.run("ALTER ROLE changed SET statement_timeout = '9s'; ALTER ROLE changed SET app.who = 'first'")
    old, sets = pool.wire("changed", "renewed"), pool.wire("changed", "renewed", DateStyle="german")
    sets.run("SET work_mem = '7MB'")

    def shown(wire: Wire) -> list[str | None]:
        names = ("search_path", "statement_timeout", "work_mem", "DateStyle", "TimeZone")
        customs = [wire.one(f"SELECT current_setting('app.{name}', true)") or None for name in ("who", "new")]
        return [wire.one(f"SHOW {name}") for name in names] + customs

    assert shown(old) == [PATH, "9s", "4MB", "ISO, MDY", "UTC", "first", None]
    assert shown(sets) == [PATH, "9s", "7MB", "German, DMY", "UTC", "first", None]
    admin.run(
        "ALTER ROLE changed SET search_path = a; ALTER ROLE changed SET work_mem = '5MB';"
        "ALTER ROLE changed SET datestyle = 'SQL'; ALTER ROLE changed SET timezone = 'Asia/Tokyo';"
        "ALTER ROLE changed RESET statement_timeout; ALTER ROLE changed SET app.who = 'second';"
        "ALTER ROLE changed SET app.new = 'new'"
    )
    new = pool.wire("changed", "renewed")
    new.run("BEGIN")
    for _ in range(2):
        new.run("COMMIT")
        assert shown(new) == ["a", "0", "5MB", "SQL, MDY", "Asia/Tokyo", "second", "new"]
        assert shown(old) == [PATH, "9s", "4MB", "ISO, MDY", "UTC", "first", None]
        assert shown(sets) == [PATH, "9s", "7MB", "German, DMY", "UTC", "first", None]
        if size > 1:
            new.run("BEGIN")
    for clean in ("RESET ALL", "RESET search_path", "SET search_path TO DEFAULT", "DISCARD ALL"):
        old.run(clean)
        assert old.one("SHOW search_path") == PATH
        assert old.one("SHOW statement_timeout") == "9s"
    assert shown(new) == ["a", "0", "5MB", "SQL, MDY", "Asia/Tokyo", "second", "new"]


def test_what_only_superusers_may_set_does_not_part_a_client_from_its_servers(one: Callable[..., Pooler]) -> None:
    pool = one(default_pool_size=1)
    admin = superuser(pool)
    admin.run("ALTER ROLE changed NOSUPERUSER")
    old = pool.wire("changed", "renewed")
    admin.run("ALTER ROLE changed SET log_statement = 'all'; ALTER ROLE changed SET temp_buffers = '9MB'")
    new = pool.wire("changed", "renewed")
    assert (new.one("SHOW log_statement"), new.one("SHOW temp_buffers")) == ("all", "9MB")
    assert old.one("SELECT 1") == "1"


@pytest.mark.parametrize("name", ["", "s"])
def test_what_was_prepared_means_what_it_meant(one: Callable[..., Pooler], name: str) -> None:
    pool = one(default_pool_size=1)
    admin = superuser(pool)
    asks = m.parse(name, "SELECT (date '1/2/2024' - date '1/1/2024')::text, 1")

    def prepare(wire: Wire) -> Wire:
        wire.send(asks, m.SYNC)
        wire.until()
        return wire

    def days(wire: Wire) -> bytes | None:
        wire.send(m.bind("", name), m.execute(), m.SYNC)
        return rows_in(wire.until())[0][0]

    old = prepare(pool.wire("changed", "renewed"))
    assert days(old) == b"1"
    admin.run("ALTER ROLE changed SET datestyle = 'ISO, DMY'")
    new = prepare(pool.wire("changed", "renewed"))
    for _ in range(2):
        assert days(new) == b"31"
        assert days(old) == b"1"
    admin.run("ALTER ROLE changed RESET datestyle")
    newest = prepare(pool.wire("changed", "renewed"))
    for _ in range(2):
        assert days(newest) == b"1"
        assert days(new) == b"31"
        assert days(old) == b"1"


def test_what_connect_query_sets_is_nobodys_default(one: Callable[..., Pooler]) -> None:
    pool = one(databases={"*": {"connect_query": "SET work_mem = '6MB'"}}, default_pool_size=1)
    old, admin = pool.wire("changed", "renewed"), superuser(pool)
    admin.run("ALTER ROLE changed SET work_mem = '5MB'; ALTER ROLE changed SET search_path = a")
    new = pool.wire("changed", "renewed")
    for _ in range(2):
        assert [new.one("SHOW search_path"), new.one("SHOW work_mem")] == ["a", "6MB"]
        assert [old.one("SHOW search_path"), old.one("SHOW work_mem")] == [PATH, "6MB"]


def test_who_proves_itself_as_others_have_before(one: Callable[..., Pooler], cluster: Cluster) -> None:
    users = {name: {"password": f"{name} secret"} for name in ROLES}
    pool = one(auth_type="scram-sha-256", users=users | {"postgres": {"password": "its secret"}})

    def newcomer() -> Wire:
        return pool.wire("changed", "renewed", password="changed secret")

    admin = pool.wire("postgres", "postgres", password="its secret")
    for number in range(3):
        admin.run(f"ALTER ROLE changed SET timezone = '+0{number}'")
        for _ in range(3):
            wire = newcomer()
            assert wire.parameters["TimeZone"] == wire.one("SHOW timezone") == f"<+0{number}>-0{number}"


def test_who_is_in_a_transaction_keeps_its_server(pool: Pooler) -> None:
    busy, admin = pool.wire("changed", "renewed"), superuser(pool)
    busy.run("BEGIN")
    pid = busy.one("SELECT pg_backend_pid()")
    admin.run(SETS)
    assert newcomers(pool, "search_path") == {"a, b"}
    assert busy.one("SELECT pg_backend_pid()") == pid
    busy.run("COMMIT")
    assert busy.one("SHOW search_path") == PATH
