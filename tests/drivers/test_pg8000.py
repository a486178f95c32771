"""pg8000, native and DB-API, does its work through transaction mode with more clients than servers."""

import datetime
import io
from contextlib import closing
from decimal import Decimal

import pg8000.dbapi
import pg8000.native
import pytest

from drivers.conftest import CLIENTS, DATABASE
from harness.crowd import together
from harness.pooler import Pooler


def native(pool: Pooler, **more: object) -> "closing[pg8000.native.Connection]":
    """A connection of the native interface, closed at the end of the block."""
    place = {"host": "127.0.0.1", "port": pool.port, "database": DATABASE}
    return closing(pg8000.native.Connection("app", **place, **more))


def dbapi(pool: Pooler) -> "closing[pg8000.dbapi.Connection]":
    """A connection of the DB-API interface, closed at the end of the block."""
    return closing(pg8000.dbapi.connect("app", host="127.0.0.1", port=pool.port, database=DATABASE))


def test_native_transactions(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with native(pool) as conn:
            for n in range(10):
                conn.run("START TRANSACTION")
                conn.run("INSERT INTO items VALUES (:t, :c, :n, :b)", t=test_id, c=client, n=n, b=f"{client}/{n}")
                (row,) = conn.run("SELECT count(*) FROM items WHERE test = :t AND client = :c", t=test_id, c=client)
                assert row == [n + 1]
                conn.run("ROLLBACK" if n == 9 else "COMMIT")
            mine = "SELECT n, body FROM items WHERE test = :t AND client = :c ORDER BY n"
            found = conn.run(mine, t=test_id, c=client)
            assert found == [[n, f"{client}/{n}"] for n in range(9)]

    together(CLIENTS, work)


def test_native_prepared_statements(pool: Pooler) -> None:
    def work(client: int) -> None:
        with native(pool) as conn:
            statements = [conn.prepare(f"SELECT {client} + {k} + CAST(:v AS integer) AS total") for k in range(5)]
            for n in range(10):
                for k, statement in enumerate(statements):
                    assert statement.run(v=n) == [[client + k + n]]
            assert conn.run("SELECT 'between'") == [["between"]]
            for statement in statements:
                assert [column["name"] for column in statement.columns] == ["total"]
                statement.close()

    together(CLIENTS, work)


def test_native_error_and_rollback(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with native(pool) as conn:
            for _ in range(5):
                conn.run("BEGIN")
                conn.run("INSERT INTO items VALUES (:t, :c, 1, 'never')", t=test_id, c=client)
                with pytest.raises(pg8000.native.DatabaseError) as error:
                    conn.run("SELECT 1 / CAST(:zero AS integer)", zero=0)
                assert error.value.args[0]["C"] == "22012"
                conn.run("ROLLBACK")
                assert conn.run("SELECT count(*) FROM items WHERE test = :t", t=test_id) == [[0]]

    together(CLIENTS, work)


def test_native_copy(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with native(pool) as conn:
            text = "".join(f"{test_id}\t{client}\t{n}\tline {n} é\n" for n in range(300))
            conn.run("COPY items FROM STDIN", stream=io.BytesIO(text.encode()))
            assert conn.row_count == 300
            out = io.BytesIO()
            where = f"test = '{test_id}' AND client = {client}"
            conn.run(f"COPY (SELECT * FROM items WHERE {where} ORDER BY n) TO STDOUT", stream=out)
            assert out.getvalue().decode() == text

    together(CLIENTS, work)


def test_native_types_and_parameters(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        name = f"pg8000 {client}"
        with native(pool, application_name=name) as conn:
            born = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
            for turn in range(5):
                rows = conn.run(
                    "INSERT INTO people (test, id, feels, home, tags, moods, worth, born, more, raw) VALUES (:t, :i, "
                    "CAST(:f AS mood), CAST(:h AS place), :g, CAST(:m AS mood[]), :w, :d, CAST(:j AS jsonb), :r) "
                    "RETURNING feels, home, tags, moods, worth, born, more, raw, current_setting('application_name')",
                    t=test_id, i=client * 10 + turn, f="sad", h=("Strand", client), g=["a", "b,c", None],
                    m=["ok", "sad"], w=Decimal("1.50"), d=born, j='{"a": 1}', r=b"\0\xff",
                )  # fmt: skip
                assert rows == [
                    ["sad", f"(Strand,{client})", ["a", "b,c", None], "{ok,sad}", Decimal("1.50"), born, {"a": 1},
                     b"\0\xff", name]
                ]  # fmt: skip

    together(CLIENTS, work)


def test_dbapi_transactions(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with dbapi(pool) as conn:
            cursor = conn.cursor()
            for n in range(10):
                cursor.execute("INSERT INTO items VALUES (%s, %s, %s, %s)", (test_id, client, n, "dbapi"))
                (conn.rollback if n % 2 else conn.commit)()
            cursor.executemany(
                "INSERT INTO items VALUES (%s, %s, %s, %s)", [(test_id, client, n, "many") for n in range(20, 40)]
            )
            conn.commit()
            cursor.execute("SELECT n FROM items WHERE test = %s AND client = %s ORDER BY n", (test_id, client))
            assert [n for (n,) in cursor.fetchall()] == [0, 2, 4, 6, 8, *range(20, 40)]
            conn.commit()

    together(CLIENTS, work)


def test_dbapi_autocommit_and_errors(pool: Pooler, test_id: str) -> None:
    def work(client: int) -> None:
        with dbapi(pool) as conn:
            conn.autocommit = True
            cursor = conn.cursor()
            for n in range(10):
                cursor.execute("INSERT INTO items VALUES (%s, %s, %s, %s)", (test_id, client, n, "own"))
                with pytest.raises(pg8000.dbapi.DatabaseError) as error:
                    cursor.execute("INSERT INTO items VALUES (%s, %s, %s, %s)", (test_id, client, n, "twice"))
                assert error.value.args[0]["C"] == "23505"
                cursor.execute("SELECT body, %s::int FROM items WHERE test = %s AND client = %s AND n = %s",
                               (n, test_id, client, n))
                assert cursor.fetchall() == (["own", n],)

    together(CLIENTS, work)
