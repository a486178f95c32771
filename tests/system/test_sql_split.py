"""A text is split into the statements that PostgreSQL finds in it."""

from collections.abc import Iterator

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg.pq import ExecStatus

from harness.cluster import Cluster
from pglido.sql import scanner
from pglido.sql.analysis import look

COMMANDS = [
    "select 1",
    "select ';'",
    "select ';'';', e'\\';\\\\', U&'\\003B;' , $$;$$, $a$;$b$;$$;$a$, N';', B'01'",
    "select e'a;'\n';\\';' ",
    "select 'a;'--;\n'\\;'",
    'select 1 as ";", 2 as ";"";", 3 as U&"\\003B;"',
    "select 1 as a$b$, 2 as c$b$",
    "select 1 /* ; /* ; */ ; */ + 1 -- ; /*\n + 2",
    "select 1 +--;\n 2",
    "select 3 */* ; */ 2",
    "(select 1) union (select 2)",
    "values (1), (2)",
    "select case when true then 1 end",
    "select 1 as begin, 2 as end, 3 as case",
    "explain (costs off) select 1",
    "create function pg_temp.begin() returns int language sql return 1",
    "create function pg_temp.f() returns int begin atomic select 1; select case when true then 2 end; end",
    "create function pg_temp.f(begin int) returns int begin atomic select 1 as case; select 2 as end; end",
    "create procedure pg_temp.g() language sql BEGIN/**/ATOMIC insert into pg_temp.t values (1); END",
    "create table pg_temp.t (n int); create rule r as on delete to pg_temp.t do also (select 1; select 2;)",
    "do $$ begin perform 1; end $$",
    "set local search_path = 'a;b'",
    "savepoint a",
]
BLANK = ["", " ", "\n", "/* ; */", "-- ;\n", "\t\f", "/**/;;"]
SETUP = "create temp table t (n int)"


@pytest.fixture(params=["cluster", "cluster16"])
def server(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """A connection to each version."""
    cluster: Cluster = request.getfixturevalue(request.param)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        yield connection


def completed(server: psycopg.Connection, text: str) -> int:
    """How many statements of the text PostgreSQL runs, in a transaction that is rolled back; -1 if one fails."""
    server.execute("begin")
    server.pgconn.send_query(text.encode())
    found = []
    while (result := server.pgconn.get_result()) is not None:
        found.append(result.status)
    server.execute("rollback")
    if ExecStatus.FATAL_ERROR in found:
        return -1
    return found.count(ExecStatus.COMMAND_OK) + found.count(ExecStatus.TUPLES_OK)


@pytest.mark.parametrize("text", COMMANDS)
def test_each_kind_of_statement_is_split_as_the_server_does(server: psycopg.Connection, text: str) -> None:
    if "into pg_temp.t" in text:
        text = f"{SETUP}; {text}"
    both = f"{text} ; select 1"
    assert len(look(both.encode()).statements) == completed(server, both)


@given(
    st.lists(
        st.tuples(st.sampled_from(BLANK), st.sampled_from([one for one in COMMANDS if "pg_temp" not in one])),
        max_size=5,
    ),
    st.sampled_from(BLANK),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_of_many_statements_are_split_as_the_server_does(
    server: psycopg.Connection, commands: list[tuple[str, str]], last: str
) -> None:
    text = ";".join([blank + command for blank, command in commands]) + ";" + last
    data = text.encode()
    statements = look(data).statements
    assert len(statements) == completed(server, text)
    assert [completed(server, one.decode()) for one in statements] == [1] * len(statements)
    flags = scanner.scan(data, 0, len(data), False, None)
    assert bool(flags & scanner.TAILS) == (len(statements) > 1) or flags & scanner.ANYTHING == scanner.ANYTHING


WORDS = "' '' \" $$ $a$ a$ /* */ -- \n ; ( ) E' e\\ \\ U&' x 1 , select select + $1 begin end as case"
SOUP = st.lists(st.sampled_from(WORDS.split(" ")), max_size=10)


@given(SOUP)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_server_can_read_is_split_as_it_does(server: psycopg.Connection, words: list[str]) -> None:
    text = "select 1 as a " + " ".join(words)
    found = completed(server, text)
    assert found in (-1, len(look(text.encode()).statements))
