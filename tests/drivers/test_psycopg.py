"""psycopg 3 does its work through transaction mode with more clients than servers."""

import asyncio
from contextlib import suppress
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

from drivers.conftest import CLIENTS, DATABASE
from harness.crowd import together
from harness.pooler import Pooler

INSERT = "INSERT INTO items VALUES (%s, %s, %s, %s)"
MINE = "SELECT n, body FROM items WHERE test = %s AND client = %s ORDER BY n"


class GaveUp(Exception):
    """The application changed its mind."""


def connect(pool: Pooler, **more: object) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection through the pool."""
    return psycopg.connect(pool.conninfo(dbname=DATABASE), **more)  # type: ignore[arg-type]


def copy_rows(cursor: "psycopg.Cursor[tuple[object, ...]]", rows: list[tuple[object, ...]]) -> None:
    """Copy rows into items."""
    with cursor.copy("COPY items FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@pytest.mark.parametrize("threshold", [None, 0, 2, 5])
def test_transactions_of_many_clients(pool: Pooler, test_id: str, threshold: int | None) -> None:
    def work(client: int) -> None:
        with connect(pool, prepare_threshold=threshold) as conn:
            for n in range(10):
                with conn.transaction():
                    conn.execute(INSERT, (test_id, client, n, f"{client}/{n}"))
                    (count,) = conn.execute(
                        "SELECT count(*) FROM items WHERE test = %s AND client = %s", (test_id, client)
                    ).fetchone() or (None,)
                    assert count == n + 1
            assert conn.execute(MINE, (test_id, client)).fetchall() == [(n, f"{client}/{n}") for n in range(10)]

    together(CLIENTS, work)


def test_rollback_takes_back_and_leaves_the_connection_usable(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool, prepare_threshold=0, autocommit=True) as conn:
            for n in range(5):
                with suppress(GaveUp), conn.transaction():
                    conn.execute(INSERT, (test_id, client, n, "never"))
                    with pytest.raises(psycopg.errors.DivisionByZero):
                        conn.execute("SELECT 1 / %s", (0,))
                    raise GaveUp
                with conn.transaction():
                    conn.execute(INSERT, (test_id, client, n, "kept"))
                    with pytest.raises(psycopg.errors.UniqueViolation), conn.transaction():
                        conn.execute(INSERT, (test_id, client, n, "twice"))
            assert conn.execute(MINE, (test_id, client)).fetchall() == [(n, "kept") for n in range(5)]

    together(CLIENTS, work)


def test_more_prepared_statements_than_a_connection_keeps(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool, prepare_threshold=0, autocommit=True) as conn:
            conn.prepared_max = 3
            for n in range(30):
                query = sql.SQL("SELECT {} + %s::int AS {}").format(n % 7, sql.Identifier(f"column {n % 7}"))
                cursor = conn.execute(query, (client,))
                assert cursor.fetchall() == [(n % 7 + client,)]
                assert cursor.description is not None
                assert cursor.description[0].name == f"column {n % 7}"

    together(CLIENTS, work)


def test_server_side_cursors_in_transactions(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            for _ in range(3):
                with conn.transaction(), conn.cursor("mine") as cursor:
                    cursor.itersize = 40
                    cursor.execute("SELECT %s::int, n FROM generate_series(1, 200) n", (client,))
                    assert list(cursor) == [(client, n) for n in range(1, 201)]
                with conn.transaction(), conn.cursor("mine", scrollable=True) as cursor:
                    cursor.execute("SELECT n FROM generate_series(1, 50) n")
                    cursor.scroll(20)
                    assert cursor.fetchone() == (21,)
                    cursor.scroll(0, mode="absolute")
                    assert cursor.fetchmany(2) == [(1,), (2,)]

    together(CLIENTS, work)


@pytest.mark.parametrize("binary", [False, True])
def test_copy_in_and_out(pool: Pooler, test_id: str, binary: bool) -> None:
    options = sql.SQL("(FORMAT binary)") if binary else sql.SQL("(FORMAT text)")

    def work(client: int) -> None:
        rows = [(test_id, client, n, f"tab\tline\n{n} \\ é {'x' * n}") for n in range(500)]
        with connect(pool, autocommit=True) as conn, conn.cursor() as cursor:
            with cursor.copy(sql.SQL("COPY items FROM STDIN {}").format(options)) as copy:
                copy.set_types(["text", "int4", "int4", "text"])
                for row in rows:
                    copy.write_row(row)
            assert cursor.rowcount == 500
            chosen = sql.SQL("SELECT * FROM items WHERE test = {} AND client = {} ORDER BY n").format(test_id, client)
            with cursor.copy(sql.SQL("COPY ({}) TO STDOUT {}").format(chosen, options)) as copy:
                copy.set_types(["text", "int4", "int4", "text"])
                assert list(copy.rows()) == rows

    together(CLIENTS, work)


def test_copy_that_fails_on_either_side(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool, autocommit=True) as conn, conn.cursor() as cursor:
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                copy_rows(cursor, [(test_id, client, "no number" if n == 3 else n, "x" * 100) for n in range(2000)])
            with suppress(GaveUp), cursor.copy("COPY items FROM STDIN") as copy:
                copy.write_row((test_id, client, 1, "given up"))
                raise GaveUp
            assert cursor.execute(MINE, (test_id, client)).fetchall() == []

    together(CLIENTS, work)


def test_pipelines(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool, prepare_threshold=client % 3 or None, autocommit=True) as conn:
            for turn in range(5):
                with conn.pipeline() as pipeline:
                    asked = [conn.execute("SELECT %s::int * 1000 + %s::int", (client, n)) for n in range(20)]
                    pipeline.sync()
                    with conn.transaction():
                        conn.execute(INSERT, (test_id, client, turn, "pipelined"))
                        counted = conn.execute("SELECT count(*) FROM items WHERE test = %s AND client = %s",
                                               (test_id, client))
                assert [cursor.fetchall() for cursor in asked] == [[(client * 1000 + n,)] for n in range(20)]
                assert counted.fetchone() == (turn + 1,)

    together(CLIENTS, work)


def test_results_taken_from_within_a_pipeline(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool, prepare_threshold=0, autocommit=True) as conn, conn.pipeline():
            for n in range(20):
                first = conn.execute("SELECT %s::int, 'first'", (n,))
                second = conn.execute("SELECT %s::int, 'second', %s::int", (n, client))
                assert first.fetchone() == (n, "first")
                assert second.fetchone() == (n, "second", client)

    together(CLIENTS, work)


def test_error_in_a_pipeline_ends_it_and_nothing_else(pool: Pooler, test_id: str) -> None:
    def fail(conn: "psycopg.Connection[tuple[object, ...]]", pipeline: psycopg.Pipeline, client: int) -> None:
        """Raises at once or at the end, whenever the driver reads the answer."""
        conn.execute(INSERT, (test_id, client, 1, "undone with what fails"))
        conn.execute("SELECT 1 / %s", (0,))
        conn.execute("SELECT %s::int", (client,))
        pipeline.sync()

    def work(client: int) -> None:
        with connect(pool, prepare_threshold=0, autocommit=True) as conn:
            for _ in range(5):
                with conn.pipeline() as pipeline:
                    kept = conn.execute("SELECT %s::int", (client,))
                    pipeline.sync()
                    with pytest.raises(psycopg.errors.DivisionByZero):
                        fail(conn, pipeline, client)
                    # What was not yet read when the error was raised tells of it a second time.
                    with suppress(psycopg.errors.PipelineAborted):
                        pipeline.sync()
                    after = conn.execute("SELECT %s::int + 1", (client,))
                assert kept.fetchone() == (client,)
                assert after.fetchone() == (client + 1,)
                assert conn.execute(MINE, (test_id, client)).fetchall() == []

    together(CLIENTS, work)


def test_executemany_with_results(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn, conn.cursor() as cursor:
            rows = [(test_id, client, n, "many") for n in range(100)]
            cursor.executemany(INSERT + " RETURNING n", rows, returning=True)
            returned = [cursor.fetchone()]
            while cursor.nextset():
                returned.append(cursor.fetchone())
            assert returned == [(n,) for n in range(100)]
            conn.commit()

    together(CLIENTS, work)


def test_streams_and_large_values(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool, prepare_threshold=0, autocommit=True) as conn, conn.cursor() as cursor:
            for n, (value,) in enumerate(cursor.stream("SELECT n FROM generate_series(0, 999) n", ())):
                assert value == n
            sent = bytes([client]) * 300_000
            (got,) = cursor.execute("SELECT %s || %b", (sent, sent), binary=True).fetchone() or (b"",)
            assert got == sent * 2

    together(8, work)


def test_types_of_the_application(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool, row_factory=dict_row, prepare_threshold=1) as conn:
            place = CompositeInfo.fetch(conn, "place")
            mood = EnumInfo.fetch(conn, "mood")
            assert place is not None
            assert mood is not None
            register_composite(place, conn)
            register_enum(mood, conn)
            (home, work) = place.python_type("Strand", client), place.python_type("Lido, \"3\"", None)
            mark = mood.enum  # type: ignore[attr-defined]
            for turn in range(4):
                conn.execute(
                    "INSERT INTO people (test, id, feels, home, tags, moods, places, worth) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                    (test_id, client * 10 + turn, mark.happy, home, ["a", "b,c", "NULL"], [mark.sad, mark.ok],
                     [home, work], Decimal("12.340")),
                )
                row = conn.execute(
                    "SELECT feels, home, tags, moods, places, worth FROM people WHERE test = %s AND id = %s",
                    (test_id, client * 10 + turn),
                ).fetchone()
                conn.commit()
                assert row == {
                    "feels": mark.happy, "home": home, "tags": ["a", "b,c", "NULL"], "moods": [mark.sad, mark.ok],
                    "places": [home, work], "worth": Decimal("12.340"),
                }  # fmt: skip

    together(CLIENTS, work)


def test_two_phase_commit(pool: Pooler, test_id: str) -> None:
    with connect(pool) as conn:
        ids = []
        for n in range(2):
            ids.append(conn.xid(1, test_id, str(n)))
            conn.tpc_begin(ids[n])
            conn.execute(INSERT, (test_id, 0, n, "in two phases"))
            conn.tpc_prepare()
            (conn.tpc_commit if n else conn.tpc_rollback)()
        assert conn.execute(MINE, (test_id, 0)).fetchall() == [(1, "in two phases")]


def test_cancel_reaches_the_query_and_nobody_else(pool: Pooler) -> None:
    async def work(client: int) -> None:
        async with await psycopg.AsyncConnection.connect(pool.conninfo(dbname=DATABASE), autocommit=True) as conn:
            for n in range(3):
                if client:
                    cursor = await conn.execute("SELECT %s::int", (n,))
                    assert await cursor.fetchone() == (n,)
                    continue
                query = asyncio.create_task(conn.execute("SELECT pg_sleep(60)"))
                while not conn.pgconn.transaction_status:  # until it is under way
                    await asyncio.sleep(0)
                await conn.cancel_safe(timeout=10)
                with pytest.raises(psycopg.errors.QueryCanceled):
                    await query

    async def crowd() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(work(client))

    asyncio.run(crowd())


async def test_async_clients(pool: Pooler, test_id: str) -> None:
    async def work(client: int) -> None:
        async with await psycopg.AsyncConnection.connect(
            pool.conninfo(dbname=DATABASE), prepare_threshold=client % 3 or None
        ) as conn:
            for n in range(5):
                async with conn.transaction():
                    await conn.execute(INSERT, (test_id, client, n, "async"))
                async with conn.pipeline():
                    asked = [await conn.execute("SELECT %s::int + %s::int", (client, k)) for k in range(10)]
                    assert [await one.fetchone() for one in asked] == [(client + k,) for k in range(10)]
                async with conn.transaction(), conn.cursor("mine") as cursor:
                    await cursor.execute(MINE, (test_id, client))
                    assert await cursor.fetchall() == [(k, "async") for k in range(n + 1)]
            async with conn.cursor() as cursor, cursor.copy("COPY items FROM STDIN") as copy:
                await copy.write_row((test_id, client, 100, "copied"))
            await conn.commit()
            cursor = await conn.execute(MINE, (test_id, client))
            assert (await cursor.fetchall())[-1] == (100, "copied")
            await conn.commit()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for client in range(40):
            group.create_task(work(client))


def test_settings_of_a_client_follow_it(pool: Pooler) -> None:
    def work(client: int) -> None:
        name = f"client {client}"
        with psycopg.connect(
            pool.conninfo(dbname=DATABASE, application_name=name, options="-c search_path=public,pg_catalog"),
            autocommit=True,
        ) as conn:
            zone = ("Asia/Tokyo", "America/Lima", "UTC")[client % 3]
            conn.execute(f"SET TimeZone = '{zone}'")
            for _ in range(10):
                row = conn.execute(
                    "SELECT current_setting('application_name'), current_setting('TimeZone'), "
                    "current_setting('search_path')"
                ).fetchone()
                assert row == (name, zone, "public,pg_catalog")

    together(CLIENTS, work)
