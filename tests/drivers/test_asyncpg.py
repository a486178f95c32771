"""asyncpg does its work through transaction mode with more clients than servers."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest

from drivers.conftest import CLIENTS, DATABASE, SERVERS
from harness.pooler import Pooler

INSERT = "INSERT INTO items VALUES ($1, $2, $3, $4)"
MINE = "SELECT n, body FROM items WHERE test = $1 AND client = $2 ORDER BY n"


@asynccontextmanager
async def connect(pool: Pooler, **more: object) -> AsyncIterator[asyncpg.Connection]:
    """A connection through the pool."""
    conn = await asyncpg.connect(host="127.0.0.1", port=pool.port, user="app", database=DATABASE, **more)
    try:
        yield conn
    finally:
        await conn.close(timeout=10)


def create_pool(pool: Pooler, **more: object) -> asyncpg.Pool:
    """A pool of the driver's, in front of ours."""
    return asyncpg.create_pool(host="127.0.0.1", port=pool.port, user="app", database=DATABASE, **more)


async def crowd(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Run `work(number)` in `count` tasks at once."""

    async def one(number: int) -> None:
        await work(number)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


@pytest.mark.parametrize("cache", [0, 2, 100])
async def test_transactions_of_many_clients(pool: Pooler, test_id: str, cache: int) -> None:
    async def work(client: int) -> None:
        async with connect(pool, statement_cache_size=cache) as conn:
            for n in range(10):
                async with conn.transaction():
                    await conn.execute(INSERT, test_id, client, n, f"{client}/{n}")
                    counted = "SELECT count(*) FROM items WHERE test = $1 AND client = $2"
                    assert await conn.fetchval(counted, test_id, client) == n + 1
                assert await conn.fetchval("SELECT $1::int + $2::int", client, n) == client + n
            assert [tuple(row) for row in await conn.fetch(MINE, test_id, client)] == [
                (n, f"{client}/{n}") for n in range(10)
            ]

    await crowd(40, work)


async def test_savepoints_and_isolation(pool: Pooler, test_id: str) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            async with conn.transaction(isolation="repeatable_read"):
                await conn.execute(INSERT, test_id, client, 1, "kept")
                with pytest.raises(asyncpg.UniqueViolationError):
                    async with conn.transaction():
                        await conn.execute(INSERT, test_id, client, 1, "twice")
                assert await conn.fetchval("SHOW transaction_isolation") == "repeatable read"
            async with conn.transaction(readonly=True):
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await conn.execute(INSERT, test_id, client, 2, "read only")
            assert await conn.fetchval("SHOW transaction_isolation") == "read committed"
            assert [tuple(row) for row in await conn.fetch(MINE, test_id, client)] == [(1, "kept")]

    await crowd(CLIENTS, work)


async def test_drivers_pool_with_its_reset_query(pool: Pooler, test_id: str) -> None:
    async with create_pool(pool, min_size=CLIENTS, max_size=CLIENTS, max_queries=7) as many:

        async def work(client: int) -> None:
            for n in range(5):
                async with many.acquire() as conn:
                    assert await conn.fetchval("SHOW TimeZone") == "UTC"
                    assert await conn.fetchval("SHOW application_name") == ""
                    await conn.execute(f"SET TimeZone = 'Asia/Tokyo'; SET application_name = 'client {client}'")
                    assert await conn.fetchval("SHOW TimeZone") == "Asia/Tokyo"
                    assert await conn.fetchval("SHOW application_name") == f"client {client}"
                    await conn.execute(INSERT, test_id, client, n, "pooled twice")
            rows = await many.fetch(MINE, test_id, client)
            assert [row["n"] for row in rows] == list(range(5))

        await crowd(40, work)


async def test_statements_prepared_by_hand(pool: Pooler) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            statement = await conn.prepare(f"SELECT {client} AS client, $1::int * 2 AS twice, $2::text[] AS names")
            assert [one.name for one in statement.get_parameters()] == ["int4", "text[]"]
            assert [(one.name, one.type.name) for one in statement.get_attributes()] == [
                ("client", "int4"), ("twice", "int4"), ("names", "text[]"),
            ]  # fmt: skip
            for n in range(15):
                row = await statement.fetchrow(n, [str(n), "é"])
                assert dict(row) == {"client": client, "twice": 2 * n, "names": [str(n), "é"]}
                async with conn.transaction():
                    assert await statement.fetchval(n, []) == client

    await crowd(CLIENTS, work)


async def test_many_of_the_same_kind(pool: Pooler, test_id: str) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            await conn.executemany(INSERT, [(test_id, client, n, "x" * n) for n in range(300)])
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.executemany(INSERT, [(test_id, client, n, "again") for n in (500, 501, 3)])
            rows = await conn.fetch(MINE, test_id, client)
            assert [(row["n"], len(row["body"])) for row in rows] == [(n, n) for n in range(300)]

    await crowd(CLIENTS, work)


async def test_cursors_in_transactions(pool: Pooler) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            async with conn.transaction():
                found = [tuple(row) async for row in conn.cursor("SELECT $1::int, n FROM generate_series(1, 120) n",
                                                                 client, prefetch=25)]
                assert found == [(client, n) for n in range(1, 121)]
            async with conn.transaction():
                cursor = await conn.cursor("SELECT n FROM generate_series(1, 50) n")
                await cursor.forward(10)
                assert (await cursor.fetchrow())["n"] == 11
                assert [row["n"] for row in await cursor.fetch(3)] == [12, 13, 14]

    await crowd(CLIENTS, work)


async def test_copy(pool: Pooler, test_id: str) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            rows = [(test_id, client, n, "ü" * n) for n in range(400)]
            assert await conn.copy_records_to_table("items", records=rows) == "COPY 400"
            text = io.BytesIO(b"".join(f"{test_id}\t{client}\t{n}\tas text\n".encode() for n in range(400, 420)))
            assert await conn.copy_to_table("items", source=text) == "COPY 20"
            out = io.BytesIO()
            copied = await conn.copy_from_query(
                "SELECT n, length(body) FROM items WHERE test = $1 AND client = $2 ORDER BY n",
                test_id, client, output=out, format="csv",
            )  # fmt: skip
            assert copied == "COPY 420"
            lines = out.getvalue().decode().split()
            assert lines == [f"{n},{n if n < 400 else 7}" for n in range(420)]
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.copy_records_to_table("items", records=rows[:3])
            assert await conn.fetchval("SELECT 'still here'") == "still here"

    await crowd(CLIENTS, work)


async def test_types_found_by_introspection(pool: Pooler, test_id: str) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
            given = {
                "test": test_id, "id": client, "feels": "happy", "home": ("Strand", client), "tags": ["a", None, ","],
                "moods": ["sad", "ok"], "places": [("x", 1), (None, None)], "worth": Decimal("1234.5600"),
                "born": datetime(2001, 2, 3, 4, 5, 6, 789, UTC), "more": {"deep": [client, None]}, "raw": b"\0\xff",
            }  # fmt: skip
            names = ", ".join(f"${n}" for n in range(1, len(given) + 1))
            row = await conn.fetchrow(f"INSERT INTO people VALUES ({names}) RETURNING *", *given.values())
            assert dict(row) == given
            assert row["home"]["number"] == client
            homes = "SELECT array_agg(home) FROM people WHERE test = $1 AND id = $2"
            found = await conn.fetchval(homes, test_id, client)
            assert found == [("Strand", client)]

    await crowd(CLIENTS, work)


async def test_types_made_and_dropped_while_connected(pool: Pooler) -> None:
    async with connect(pool) as conn:
        for turn in range(3):
            await conn.execute(f"DROP TYPE IF EXISTS passing; CREATE TYPE passing AS (a{turn} int, b text)")
            row = await conn.fetchval("SELECT $1::passing", (turn, "b"))
            assert dict(row) == {f"a{turn}": turn, "b": "b"}
            await conn.reload_schema_state()


async def test_columns_added_under_prepared_statements(pool: Pooler, test_id: str) -> None:
    """The driver sees PostgreSQL's own error, forgets its statements and goes on; so do the others."""
    table = "changing"
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(pool)) for _ in range(SERVERS * 2)]
        await clients[0].execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} AS SELECT 1 AS a")
        ask = f"SELECT * FROM {table} WHERE $1::text IS NOT NULL"
        for turn in range(3):
            for conn in clients:
                for _ in range(3):
                    assert len(await conn.fetchrow(ask, test_id)) == turn + 1
            await clients[0].execute(f"ALTER TABLE {table} ADD COLUMN b{turn} int")


async def test_timeout_cancels_the_query_and_nobody_else(pool: Pooler) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            for n in range(5):
                if client % 4:
                    assert await conn.fetchval("SELECT $1::int FROM pg_sleep(0.005)", n) == n
                else:
                    with pytest.raises(TimeoutError):
                        await conn.fetchval("SELECT pg_sleep(60)", timeout=0.05)
                    assert await conn.fetchval("SELECT $1::int", n) == n

    await crowd(CLIENTS, work)


async def test_large_values(pool: Pooler) -> None:
    async def work(client: int) -> None:
        async with connect(pool) as conn:
            sent = bytes([client]) * 500_000
            assert await conn.fetchval("SELECT $1::bytea || $1::bytea", sent) == sent * 2
            rows = await conn.fetch("SELECT n, repeat('x', $1) FROM generate_series(1, 2000) n", client)
            assert [tuple(row) for row in rows] == [(n, "x" * client) for n in range(1, 2001)]

    await crowd(8, work)
