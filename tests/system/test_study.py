"""What a server says is new of its functions comes to the same as reading all of them."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from harness.cluster import Cluster
from pglido.session.state import function_scan
from pglido.session.state.shared import NO_NEWS, FunctionCatalog

Connection = psycopg.Connection[Any]

SETS = "BEGIN PERFORM set_config('app.s', 'x', false); RETURN 1; END"
# What is done, one after the other, and whether it is news.
STEPS = (
    ("CREATE FUNCTION s_plain() RETURNS int LANGUAGE sql AS 'SELECT 1'", False),
    ("CREATE TABLE s_table (n int CHECK (n > 0))", False),
    (f"CREATE FUNCTION s_sets() RETURNS int LANGUAGE plpgsql AS $${SETS}$$", True),
    ("CREATE FUNCTION s_calls() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN S_Sets(); END'", True),
    ("CREATE FUNCTION s_last() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()'", True),
    ("CREATE OR REPLACE FUNCTION s_plain() RETURNS int LANGUAGE sql AS 'SELECT 2'", False),
    ("ALTER FUNCTION s_plain() RENAME TO s_other", False),
    ("DROP FUNCTION s_other()", False),
    (f"BEGIN; CREATE FUNCTION s_undone() RETURNS int LANGUAGE plpgsql AS $${SETS}$$; ROLLBACK", False),
    ("CREATE FUNCTION s_sets(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", True),
    ("DROP FUNCTION s_sets(int)", True),
    ("ALTER FUNCTION s_last() RENAME TO s_least", True),
    ("CREATE FUNCTION \"s_it's\"() RETURNS int LANGUAGE sql AS 'SELECT s_calls()'", True),
    ("CREATE TABLE s_next (n int)", False),
    ("CREATE AGGREGATE s_all(text, bool) (sfunc = set_config, stype = text, initcond = 'app.s')", True),
    ("ALTER TABLE s_table ADD COLUMN m int DEFAULT s_sets()", True),
    ("ALTER TABLE s_table DROP COLUMN m", True),
    ("CREATE OR REPLACE FUNCTION s_sets() RETURNS int LANGUAGE sql AS 'SELECT 1'", True),
    ("CREATE FUNCTION s_tells() RETURNS void LANGUAGE sql AS $$SELECT pg_notify('c', '')$$", True),
    ("CREATE FUNCTION s_tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM s_tells(); RETURN NULL; END'", True),
    ("CREATE TRIGGER t AFTER INSERT ON s_table EXECUTE FUNCTION s_tell()", True),
    ("DROP TRIGGER t ON s_table; DROP FUNCTION s_tell(), s_tells()", True),
    ('DROP AGGREGATE s_all(text, bool); DROP FUNCTION s_least(), s_calls(), "s_it\'s"(), s_sets()', True),
    ("CREATE FUNCTION s_plain() RETURNS int LANGUAGE sql AS 'SELECT 1'", False),
)
SAID = {"names": None, "vague": None, "counts": None, "settings": None, "triggers": False}
ALL = ("touchy", "triggers", "settings", "vague", "counting", "notifying", "notify_triggers")


@pytest.fixture(params=["cluster", "cluster16"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server with a database of this test's own: what others' functions are there would be news, too."""
    found: Cluster = request.getfixturevalue(request.param)
    found.admin("CREATE DATABASE s_study OWNER app")
    yield found
    found.admin("DROP DATABASE s_study WITH (FORCE)")


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Connection]:
    with connected(cluster) as connection:
        connection.execute("CREATE SCHEMA s_room")
        yield connection


def connected(cluster: Cluster) -> Connection:
    return psycopg.connect(cluster.conninfo(database="s_study", options="-c search_path=s_room"), autocommit=True)


def asked(server: Connection, sql: str) -> Any:
    """What the server says."""
    (row,) = server.execute(f"SELECT {sql}::text")
    return json.loads(row[0])


def learnt(functions: FunctionCatalog) -> dict[str, object]:
    return {name: getattr(functions, name) for name in ALL}


def ask(server: Connection, functions: FunctionCatalog) -> bool:
    """Ask as pglido does, and compare with what reading all comes to; was there news?"""
    reads_all = functions.since is None
    found = asked(
        server,
        function_scan.everything("app") if functions.since is None else function_scan.news(functions.since, "app"),
    )
    functions.learn(found)
    truth = FunctionCatalog()
    truth.learn(asked(server, function_scan.everything("app")))
    assert learnt(functions) == learnt(truth)
    return reads_all or found.keys() != NO_NEWS


def test_news_are_what_matters(server: Connection) -> None:
    functions = FunctionCatalog()
    assert ask(server, functions)
    for sql, is_news in STEPS:
        server.execute(sql)
        assert ask(server, functions) == is_news, sql
        assert not ask(server, functions) or functions.triggers, sql


def test_what_is_committed_late_is_news(cluster: Cluster, server: Connection) -> None:
    functions = FunctionCatalog()
    with connected(cluster) as slow:
        slow.execute(f"BEGIN; CREATE FUNCTION s_slow() RETURNS int LANGUAGE plpgsql AS $${SETS}$$")
        assert ask(server, functions)
        server.execute("CREATE FUNCTION s_quick() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        assert not ask(server, functions)
        slow.execute("COMMIT")
    assert ask(server, functions)
    assert functions.touchy == {b"s_slow"}


def test_another_server_is_asked_for_all(server: Connection) -> None:
    functions = FunctionCatalog()
    server.execute(f"CREATE FUNCTION s_sets() RETURNS int LANGUAGE plpgsql AS $${SETS}$$")
    ask(server, functions)
    assert functions.since is not None
    database, started = functions.since.place.split()
    # Ours is ahead of it: nothing seems new.
    for place in (f"{int(database) + 1} {started}", f"{database} {int(started) - 1}"):
        functions.learn(SAID | {"place": place, "horizon": functions.since.horizon, "bearers": 0})
        assert ask(server, functions)
        assert functions.touchy == {b"s_sets"}


def test_how_a_session_writes_things_is_no_news(server: Connection) -> None:
    functions = FunctionCatalog()
    ask(server, functions)
    for setting in (
        "timezone = 'Asia/Kolkata'",
        "datestyle = 'German'",
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
    ):
        server.execute(f"SET {setting}")
        assert not ask(server, functions)


@pytest.mark.parametrize("names", [["s.*"], ["s\\d"], ["s|x", "s_(", "s]"], ["é"], ["S_a b'c"]])
def test_names_are_taken_as_they_are_spelled(server: Connection, names: list[str]) -> None:
    for name in names:
        server.execute(
            f'CREATE FUNCTION "{name.replace(chr(34), chr(34) * 2)}"() RETURNS int LANGUAGE plpgsql AS $${SETS}$$'
        )
    functions = FunctionCatalog()
    ask(server, functions)
    server.execute("CREATE FUNCTION s_plain() RETURNS text LANGUAGE sql AS $$SELECT 'sss s1 sd x'$$")
    assert ask(server, functions) == (functions.since is None)
    name = names[0].replace('"', '""')
    server.execute(f'CREATE FUNCTION s_calls() RETURNS int LANGUAGE sql AS $$SELECT "{name}"()$$')
    assert ask(server, functions)


def test_very_many_names_are_not_looked_for(server: Connection) -> None:
    for number in range(300):
        server.execute(f"CREATE FUNCTION s_{'x' * 30}{number}() RETURNS int LANGUAGE plpgsql AS $${SETS}$$")
    functions = FunctionCatalog()
    assert ask(server, functions)
    assert functions.touchy is not None
    assert len(functions.touchy) == 300
    assert functions.since is None


@pytest.mark.parametrize(
    "said",
    [
        {"horizon": None},
        {"horizon": ""},
        {"horizon": "1; DROP TABLE x"},
        {"horizon": "\u0661"},
        {"place": ""},
        {"place": "5"},
        {"place": "5 '"},
        {"place": "5", "horizon": "1 7"},
    ],
)
def test_no_number_of_a_transaction_is_none(said: dict[str, Any]) -> None:
    functions = FunctionCatalog()
    known = {"place": "5 1", "horizon": "7", "bearers": 0}
    functions.learn(SAID | known)
    assert functions.since == function_scan.FunctionSnapshot("5 1", "7", (), 0)
    functions.learn({"place": "5 1", "horizon": "8", "defaults": "0 "})
    assert functions.since == function_scan.FunctionSnapshot("5 1", "8", (), 0)
    if said.keys() == {"horizon"}:
        functions.learn(said | {"place": "5 1", "defaults": "0 "})
        assert functions.since is None
    functions.learn(SAID | known | said)
    assert functions.since is None
    functions.learn({"place": "5 1", "horizon": "8", "defaults": "0 "})
    assert functions.since is None
