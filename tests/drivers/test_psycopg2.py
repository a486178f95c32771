"""psycopg2 does its work through transaction mode with more clients than servers."""

import io
from contextlib import closing

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest
from psycopg2 import extensions
from psycopg2.pool import ThreadedConnectionPool

from drivers.conftest import CLIENTS, DATABASE
from harness.crowd import together
from harness.pooler import Pooler

INSERT = "INSERT INTO items VALUES (%s, %s, %s, %s)"
MINE = "SELECT n, body FROM items WHERE test = %s AND client = %s ORDER BY n"


def connect(pool: Pooler) -> "closing[psycopg2.extensions.connection]":
    """A connection through the pool, closed at the end of the block."""
    return closing(psycopg2.connect(pool.conninfo(dbname=DATABASE)))


def mine(conn: "psycopg2.extensions.connection", test_id: str, client: int) -> list[tuple[object, ...]]:
    """What a client has in the table items; ends the transaction."""
    with conn, conn.cursor() as cursor:
        cursor.execute(MINE, (test_id, client))
        return cursor.fetchall()


def test_transactions_from_the_drivers_pool(pool: Pooler, test_id: str) -> None:
    many = ThreadedConnectionPool(CLIENTS, CLIENTS, pool.conninfo(dbname=DATABASE))
    def work(client: int) -> None:
        for n in range(10):
            conn = many.getconn()
            with conn, conn.cursor() as cursor:
                cursor.execute(INSERT, (test_id, client, n, f"{client}/{n} '\\"))
                cursor.execute("SELECT count(*) FROM items WHERE test = %s AND client = %s", (test_id, client))
                assert cursor.fetchone() == (n + 1,)
            many.putconn(conn)
        conn = many.getconn()
        assert mine(conn, test_id, client) == [(n, f"{client}/{n} '\\") for n in range(10)]
        many.putconn(conn)

    try:
        together(CLIENTS, work)
    finally:
        many.closeall()


def test_rollback(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            for _ in range(5):
                with conn.cursor() as cursor:
                    cursor.execute(INSERT, (test_id, client, 1, "never"))
                    with pytest.raises(psycopg2.errors.DivisionByZero):
                        cursor.execute("SELECT 1 / 0")
                    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
                        cursor.execute("SELECT 1")
                conn.rollback()
                assert mine(conn, test_id, client) == []

    together(CLIENTS, work)


def test_many_rows_in_three_ways(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            with conn, conn.cursor() as cursor:
                cursor.executemany(INSERT, [(test_id, client, n, "many") for n in range(50)])
            with conn, conn.cursor() as cursor:
                returned = psycopg2.extras.execute_values(
                    cursor,
                    "INSERT INTO items VALUES %s RETURNING n",
                    [(test_id, client, n, "values") for n in range(50, 250)],
                    page_size=60,
                    fetch=True,
                )
                assert sorted(returned) == [(n,) for n in range(50, 250)]
            with conn, conn.cursor() as cursor:
                rows = [(test_id, client, n, "batch") for n in range(250, 400)]
                psycopg2.extras.execute_batch(cursor, INSERT, rows, page_size=40)
            kinds = ["many"] * 50 + ["values"] * 200 + ["batch"] * 150
            assert mine(conn, test_id, client) == list(enumerate(kinds))

    together(CLIENTS, work)


def test_named_cursors_in_a_transaction(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            for _ in range(3):
                with conn, conn.cursor("mine") as cursor:
                    cursor.itersize = 30
                    cursor.execute("SELECT %s, n FROM generate_series(1, 100) n", (client,))
                    assert list(cursor) == [(client, n) for n in range(1, 101)]
                with conn, conn.cursor("mine", scrollable=True, cursor_factory=psycopg2.extras.DictCursor) as cursor:
                    cursor.execute("SELECT n FROM generate_series(1, 50) n")
                    cursor.scroll(20)
                    assert cursor.fetchone()["n"] == 21
                    cursor.scroll(-5)
                    assert [row["n"] for row in cursor.fetchmany(2)] == [17, 18]

    together(CLIENTS, work)


def test_copy(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            text = "".join(f"{test_id}\t{client}\t{n}\tline {n}\\n é\n" for n in range(500))
            with conn, conn.cursor() as cursor:
                cursor.copy_from(io.StringIO(text), "items")
                assert cursor.rowcount == 500
            with conn, conn.cursor() as cursor:
                out = io.StringIO()
                cursor.copy_expert(f"COPY (SELECT * FROM items WHERE test = '{test_id}' AND client = {client} "
                                   "ORDER BY n) TO STDOUT", out)
                assert out.getvalue() == text
            with conn.cursor() as cursor, pytest.raises(psycopg2.errors.BadCopyFileFormat):
                cursor.copy_from(io.StringIO("one column\n" * 2000), "items")
            conn.rollback()
            assert len(mine(conn, test_id, client)) == 500

    together(CLIENTS, work)


def test_isolation_and_encoding_are_each_clients_own(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            conn.set_client_encoding(("UTF8", "LATIN1")[client % 2])
            conn.set_session(isolation_level=("repeatable read", "read committed")[client % 2])
            for n in range(8):
                with conn.cursor() as cursor:
                    cursor.execute(INSERT, (test_id, client, n, "größe"))
                    cursor.execute("SELECT body, octet_length(body), current_setting('client_encoding') FROM items "
                                   "WHERE test = %s AND client = %s AND n = %s", (test_id, client, n))
                    assert cursor.fetchone() == ("größe", 7, ("UTF8", "LATIN1")[client % 2])
                    cursor.execute("SHOW transaction_isolation")
                    assert cursor.fetchone() == (("repeatable read", "read committed")[client % 2],)
                conn.commit()
                assert conn.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE
            assert len(mine(conn, test_id, client)) == 8

    together(CLIENTS, work)


def test_types_of_the_application(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            place = psycopg2.extras.register_composite("place", conn).type
            with conn, conn.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO people (test, id, feels, home, tags, places, more) VALUES (%s, %s, %s, %s, %s, "
                    "%s::place[], %s) RETURNING feels, home, tags, places, more",
                    (test_id, client, "ok", place("Lido", client), ["a", "b,c"], [place('"', None)],
                     psycopg2.extras.Json({"a": [client]})),
                )  # fmt: skip
                expected = ("ok", ("Lido", client), ["a", "b,c"], [('"', None)], {"a": [client]})
                assert cursor.fetchone() == expected

    together(CLIENTS, work)


def test_notices_reach_who_caused_them(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn:
            for n in range(5):
                with conn, conn.cursor() as cursor:
                    cursor.execute(f"DO $$ BEGIN RAISE NOTICE 'client {client} turn {n}'; END $$")
            assert conn.notices == [f"NOTICE:  client {client} turn {n}\n" for n in range(5)]

    together(CLIENTS, work)


def test_cancel(pool: Pooler) -> None:
    def work(client: int) -> None:
        with connect(pool) as conn, conn.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            with pytest.raises(psycopg2.errors.QueryCanceled):
                cursor.execute("SELECT pg_sleep(60)")
            conn.rollback()
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)

    together(CLIENTS, work)
