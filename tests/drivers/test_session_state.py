"""What applications do that a shared server breaks where nobody takes care: they do it through transaction mode."""

import asyncio
import select
import time
from contextlib import AsyncExitStack, closing
from datetime import timedelta

import asyncpg
import psycopg
import psycopg2
import pytest
from psycopg import sql
from psycopg2 import extensions

import harness.messages as m
from conftest import MakePooler
from drivers.conftest import CLIENTS, DATABASE, SERVERS
from drivers.test_asyncpg import connect as connect_asyncpg
from drivers.test_asyncpg import create_pool, crowd
from drivers.test_psycopg import connect as connect_psycopg
from drivers.test_psycopg2 import connect as connect_psycopg2
from harness.cluster import Cluster
from harness.crowd import together
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import error_in, rows_in

# Some can have a server for themselves.
FEW = SERVERS - 2


# asyncpg


async def test_asyncpg_types_made_by_another_connection(pool: Pooler) -> None:
    """Each connection keeps what it has learnt of types."""
    names = "DROP TYPE IF EXISTS pair, shade"
    async with AsyncExitStack() as stack:
        conns = [await stack.enter_async_context(connect_asyncpg(pool)) for _ in range(CLIENTS)]
        await conns[0].execute(f"{names}; CREATE TYPE shade AS ENUM ('dark', 'light')")
        await conns[1].execute("CREATE TYPE pair AS (n int, of shade)")
        for number, conn in enumerate(conns):
            assert await conn.fetchval("SELECT $1::shade", "dark") == "dark"
            assert dict(await conn.fetchval("SELECT $1::pair", (number, "light"))) == {"n": number, "of": "light"}
            assert [tuple(one) for one in await conn.fetchval("SELECT $1::pair[]", [(1, "dark"), (2, None)])] == [
                (1, "dark"),
                (2, None),
            ]
        await conns[2].execute("ALTER TYPE shade ADD VALUE 'grey'")
        for conn in conns:
            assert await conn.fetchval("SELECT $1::shade", "grey") == "grey"
        await conns[0].execute(names)


async def test_asyncpg_listeners(pool: Pooler, test_id: str) -> None:
    async with AsyncExitStack() as stack:
        conns = [await stack.enter_async_context(connect_asyncpg(pool)) for _ in range(CLIENTS)]
        pids = [conn.get_server_pid() for conn in conns]
        heard: list[asyncio.Queue[tuple[str, str, int]]] = [asyncio.Queue() for _ in conns]

        def listener(number: int) -> "asyncpg.connection.Listener":
            return lambda _conn, pid, channel, payload: heard[number].put_nowait((channel, payload, pids.index(pid)))

        listeners = [listener(number) for number in range(CLIENTS)]
        for number, conn in enumerate(conns):
            await conn.add_listener("jobs", listeners[number])
            await conn.add_listener(f"mine{number}", listeners[number])
        async with asyncio.timeout(20):
            for number, conn in enumerate(conns):
                async with conn.transaction():
                    await conn.execute("SELECT pg_notify('jobs', $1)", str(number))
                    await conn.execute(f"NOTIFY mine{(number + 1) % CLIENTS}, 'to you'")
            for number in range(CLIENTS):
                told = [await heard[number].get() for _ in range(CLIENTS + 1)]
                assert sorted(told, key=lambda one: one[0])[-1] == (f"mine{number}", "to you", (number - 1) % CLIENTS)
                jobs = [(payload, sender) for channel, payload, sender in told if channel == "jobs"]
                assert jobs == [(str(n), n) for n in range(CLIENTS)]
            for number, conn in enumerate(conns):
                await conn.remove_listener("jobs", listeners[number])
            for number, conn in enumerate(conns):
                await conn.execute(f"NOTIFY jobs; NOTIFY mine{number}, 'last'")
                assert await heard[number].get() == (f"mine{number}", "last", number)


async def test_asyncpg_pool_forgets_listeners_and_settings(pool: Pooler) -> None:
    """The reset query of the driver's pool: unlock, close, unlisten, reset."""
    async with create_pool(pool, min_size=1, max_size=1, server_settings={"application_name": "shop"}) as many:
        async with many.acquire() as conn:
            await conn.execute("LISTEN a; SET search_path = pg_catalog; SET work_mem = '5MB'; PREPARE mine AS SELECT 1")
            assert await conn.fetch("SELECT pg_listening_channels()") == [("a",)]
            assert await conn.fetchval("SHOW search_path") == "pg_catalog"
        async with many.acquire() as conn:
            assert await conn.fetch("SELECT pg_listening_channels()") == []
            assert await conn.fetchval("SHOW search_path") == '"$user", public'
            assert await conn.fetchval("SHOW work_mem") == "4MB"
            assert await conn.fetchval("SHOW application_name") == "shop"


@pytest.mark.parametrize("cache", [0, 3])
async def test_asyncpg_server_settings_with_and_without_a_cache(pool: Pooler, cache: int) -> None:
    async def work(client: int) -> None:
        own = {"search_path": f"pg_catalog, s{client % 3}", "work_mem": f"{client + 1}MB"}
        lifetime = {"max_cached_statement_lifetime": 0}
        async with connect_asyncpg(pool, statement_cache_size=cache, server_settings=own, **lifetime) as conn:
            for n in range(8):
                assert await conn.fetchval(f"SELECT current_setting('search_path') /* {n % 5} */") == own["search_path"]
                assert await conn.fetchval("SHOW work_mem") == own["work_mem"]
                await conn.execute("SET statement_timeout = '7s'")
                assert await conn.fetchval("SHOW statement_timeout") == "7s"
                await conn.reset()
                assert await conn.fetchval("SHOW statement_timeout") == "0"

    await crowd(CLIENTS, work)


# psycopg


def test_psycopg_cursors_that_outlive_their_transaction(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect_psycopg(pool) as conn:
            for _ in range(3):
                with conn.cursor("mine", withhold=True) as cursor:
                    cursor.itersize = 30
                    cursor.execute("SELECT %s::int, n FROM generate_series(1, 100) n", (client,))
                    conn.commit()
                    conn.execute("SELECT 1")
                    conn.rollback()
                    assert list(cursor) == [(client, n) for n in range(1, 101)]
                conn.commit()

    together(FEW, work)


def test_psycopg_statements_beyond_its_limit(pool: Pooler) -> None:
    """The driver says DEALLOCATE of what it drops, or Close."""

    def work(client: int) -> None:
        with connect_psycopg(pool, prepare_threshold=1, autocommit=True) as conn:
            conn.prepared_max = 2
            for n in range(40):
                query = sql.SQL("SELECT {} * 1000 + %s::int").format(n % 5)
                for _ in range(3):
                    assert conn.execute(query, (client,)).fetchone() == ((n % 5) * 1000 + client,)
                if n % 10 == 9:
                    conn.execute("DEALLOCATE ALL")
                    conn._prepared.clear()

    together(CLIENTS, work)


def test_psycopg_notifies(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect_psycopg(pool, autocommit=True) as conn, connect_psycopg(pool) as other:
            channel = f"psycopg{client}"
            conn.execute(f"LISTEN {channel}")
            for n in range(3):
                other.execute("SELECT pg_notify(%s, %s)", (channel, str(n)))
                other.commit()
            told = list(conn.notifies(timeout=20, stop_after=3))
            assert [(one.payload, one.pid) for one in told] == [(str(n), other.info.backend_pid) for n in range(3)]
            with conn.pipeline():
                conn.execute(f"NOTIFY {channel}, 'own'")
                asked = conn.execute("SELECT %s::int", (client,))
            assert asked.fetchone() == (client,)
            own: list[psycopg.Notify] = []
            # It may have come right behind the reply; the driver looks again when more does.
            eventually(lambda: (conn.execute("SELECT 1") and own.extend(conn.notifies(timeout=0))) or own)
            assert [(one.payload, one.pid) for one in own] == [("own", conn.info.backend_pid)]
            conn.execute("UNLISTEN *")
            other.execute(f"NOTIFY {channel}")
            other.commit()
            assert list(conn.notifies(timeout=0)) == []

    together(CLIENTS // 2, work)


def test_psycopg_settings_in_autocommit_and_in_a_pipeline(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect_psycopg(pool, autocommit=True, prepare_threshold=0) as conn:
            conn.execute("SELECT set_config('app.tenant', %s, false)", (str(client),))
            conn.execute(f"SET search_path = tenant{client}, public")
            conn.execute(f"SET lock_timeout = '{client + 1}s'")
            for _ in range(5):
                with conn.pipeline():
                    tenant = conn.execute("SELECT current_setting('app.tenant')")
                    conn.execute("SET LOCAL lock_timeout = '99s'")
                    path = conn.execute("SELECT current_setting('search_path')")
                assert tenant.fetchone() == (str(client),)
                assert path.fetchone() == (f"tenant{client}, public",)
                assert conn.execute("SHOW lock_timeout").fetchone() == (f"{client + 1}s",)

    together(CLIENTS, work)


def test_psycopg_hears_in_a_commit_what_came_meanwhile(database: Cluster, pooler: MakePooler) -> None:
    """The driver then waits for more to come, and so must have it already."""
    pool = pooler(database, databases={DATABASE: {}}, default_pool_size=FEW, workers=1)
    with connect_psycopg(pool) as conn, connect_psycopg(pool, autocommit=True) as other:
        witness = pool.wire(database=DATABASE)
        witness.run("LISTEN meanwhile")
        conn.execute("LISTEN meanwhile")
        conn.commit()
        for n in range(20):
            conn.execute("SELECT 1")
            other.execute("SELECT pg_notify('meanwhile', %s)", (str(n),))
            witness.until("A")
            conn.commit()
            assert [one.payload for one in conn.notifies(timeout=20, stop_after=1)] == [str(n)]
        witness.bye()


# psycopg2


def test_psycopg2_listens_and_polls(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect_psycopg2(pool) as conn, connect_psycopg2(pool) as other:
            conn.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
            with conn.cursor() as cursor:
                cursor.execute(f"LISTEN two{client}")
            with other, other.cursor() as cursor:
                cursor.execute(f"NOTIFY two{client}, 'a'; NOTIFY two{client}, 'b'")
            deadline = time.monotonic() + 20
            while len(conn.notifies) < 2:
                assert select.select([conn], [], [], deadline - time.monotonic())[0]
                conn.poll()
            assert [(one.channel, one.payload) for one in conn.notifies] == [
                (f"two{client}", "a"),
                (f"two{client}", "b"),
            ]

    together(CLIENTS // 2, work)


def test_psycopg2_listens_in_a_transaction(pool: Pooler) -> None:
    """Without autocommit nothing is heard before the commit, and UNLISTEN ends in one too."""
    with connect_psycopg2(pool) as conn, connect_psycopg2(pool) as other:
        with conn, conn.cursor() as cursor:
            cursor.execute("LISTEN kept")
        with conn, conn.cursor() as cursor:
            cursor.execute("SELECT 1")
            with other, other.cursor() as sender:
                sender.execute("NOTIFY kept, 'while you work'")
        # It may have come together with the end of the transaction.
        eventually(lambda: conn.poll() or conn.notifies)
        assert [one.payload for one in conn.notifies] == ["while you work"]
        with conn, conn.cursor() as cursor:
            cursor.execute("UNLISTEN *")
        with conn, conn.cursor() as cursor:
            cursor.execute("SELECT pg_listening_channels()")
            assert cursor.fetchall() == []


def test_psycopg2_named_cursor_with_hold(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect_psycopg2(pool) as conn:
            with conn.cursor("mine", withhold=True) as cursor:
                cursor.itersize = 20
                cursor.execute("SELECT %s, n FROM generate_series(1, 60) n", (client,))
                conn.commit()
                assert list(cursor) == [(client, n) for n in range(1, 61)]
            conn.commit()

    together(FEW, work)


# Others, by what they say


def test_php_names_count_from_one_in_each_connection(pool: Pooler) -> None:
    """PDO calls the first statement of every connection the same; pgsql's pg_prepare uses the protocol too."""
    name = "pdo_stmt_00000001"
    wires = [pool.wire(database=DATABASE) for _ in range(CLIENTS)]
    for number, wire in enumerate(wires):
        if number % 2:
            wire.run(f"PREPARE {name} (int) AS SELECT $1 + {number}")
        else:
            wire.send(m.parse(name, f"SELECT $1::int + {number}"), m.SYNC)
            wire.until()
    for _ in range(3):
        for number, wire in enumerate(wires):
            if number % 2:
                assert wire.one(f"EXECUTE {name}(1000)") == str(1000 + number)
            else:
                wire.send(m.bind("", name, "1000"), m.describe_portal(), m.execute(), m.SYNC)
                assert rows_in(wire.until()) == [[str(1000 + number).encode()]]
    for wire in wires:
        wire.run(f"DEALLOCATE {name}")
        assert error_in(wire.ask(f"EXECUTE {name}(1)"))["C"] == "26000"
        wire.bye()


def test_django_keeps_connections_and_sets_them_up_once(pool: Pooler) -> None:
    """A persistent connection sets its time zone and search path when it begins, and is used by many requests."""

    def work(client: int) -> None:
        zone = ("UTC", "Europe/Berlin", "Asia/Tokyo")[client % 3]
        with connect_psycopg2(pool) as conn:
            conn.set_client_encoding("UTF8")
            conn.autocommit = True
            with conn.cursor() as cursor:
                cursor.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
                cursor.execute(f"SET search_path TO tenant_{client}, public")
            for _ in range(10):
                conn.autocommit = False
                with conn.cursor() as cursor:
                    cursor.execute("SELECT current_setting('TimeZone'), current_setting('search_path')")
                    assert cursor.fetchone() == (zone, f"tenant_{client}, public")
                    cursor.execute("SAVEPOINT s1")
                    cursor.execute("SELECT count(*) FROM items")
                    cursor.execute("RELEASE SAVEPOINT s1")
                conn.commit()
                conn.autocommit = True
                with conn.cursor() as cursor:
                    cursor.execute("SELECT 1")

    together(CLIENTS, work)


def test_migrations_lock_each_other_out(pool: Pooler, test_id: str) -> None:
    """Rails and Flyway: a lock of the session, some transactions, and the lock is given back."""
    inside: list[int] = []

    def work(client: int) -> None:
        with connect_psycopg(pool, autocommit=True) as conn:
            deadline = time.monotonic() + 30
            while conn.execute("SELECT pg_try_advisory_lock(4711)").fetchone() != (True,):
                assert time.monotonic() < deadline
            inside.append(client)
            with conn.transaction():
                conn.execute("CREATE TABLE IF NOT EXISTS migrations (version int)")
            for n in range(3):
                with conn.transaction():
                    conn.execute("INSERT INTO migrations VALUES (%s)", (client * 10 + n,))
                assert inside == [client]
            inside.remove(client)
            assert conn.execute("SELECT pg_advisory_unlock(4711)").fetchone() == (True,)

    together(4, work)
    with connect_psycopg(pool) as conn:
        assert conn.execute("SELECT count(*) FROM migrations").fetchone() == (12,)
        conn.execute("DROP TABLE migrations")


def test_migration_that_dies_gives_its_lock_back(pool: Pooler) -> None:
    dying = psycopg.connect(pool.conninfo(dbname=DATABASE), autocommit=True)
    assert dying.execute("SELECT pg_try_advisory_lock(4712)").fetchone() == (True,)
    with connect_psycopg(pool, autocommit=True) as conn:
        assert conn.execute("SELECT pg_try_advisory_lock(4712)").fetchone() == (False,)
        dying.pgconn.finish()
        eventually(lambda: conn.execute("SELECT pg_try_advisory_lock(4712)").fetchone() == (True,))
        assert conn.execute("SELECT pg_advisory_unlock(4712)").fetchone() == (True,)


def test_pre_ping_finds_out_what_is_dead(pool: Pooler, database: Cluster) -> None:
    """A pool of the application asks before it lends: a connection whose server was lost at rest is as good as new."""
    with closing(psycopg2.connect(pool.conninfo(dbname=DATABASE))) as conn:
        conn.autocommit = True
        for _ in range(3):
            with conn.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.execute("SET statement_timeout = '9s'")
            mine = f"datname = '{DATABASE}' AND usename = 'app' AND state = 'idle'"
            database.admin(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {mine}")
            eventually(lambda: not pool.pool(DATABASE)["sv_idle"])
            with conn.cursor() as cursor:
                cursor.execute("SHOW statement_timeout")
                assert cursor.fetchone() == ("9s",)


async def test_asyncpg_interval_style_and_codecs_are_each_clients_own(pool: Pooler) -> None:
    async def work(client: int) -> None:
        async with connect_asyncpg(pool) as conn:
            await conn.execute(f"SET intervalstyle = '{('iso_8601', 'postgres')[client % 2]}'")
            for _ in range(5):
                assert await conn.fetchval("SELECT $1::interval", timedelta(days=client)) == timedelta(days=client)
                shown = await conn.fetchval("SELECT interval '1 day'::text")
                assert shown == ("P1D", "1 day")[client % 2]

    await crowd(CLIENTS, work)
