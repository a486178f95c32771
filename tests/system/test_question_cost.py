"""What pglido asks costs the same whatever a client has set: the same plans, compiled by nobody, and no time runs out.

Counted by what the server says of its plans, with the rows and temporary blocks of each step.
"""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.waiting import eventually
from pglido.session.state import function_scan, state_query
from pglido.sql import transaction_settings
from pglido.sql.scanner import DEFINES, HOLD, LISTENS, LOCKS, PREPARES, SETS, TEMP

Connection = psycopg.Connection[Any]

# All that is asked, in each of its forms.
SINCE = function_scan.FunctionSnapshot("1 1", "3", ("q_sets",), 1)
ALL = TEMP | HOLD | LOCKS | PREPARES | LISTENS | DEFINES
FORMS = {
    "named": (SETS, True, False, None),
    "in another role": (SETS, True, True, None),
    "settings": (SETS, False, False, None),
    "state": (ALL & ~DEFINES, True, False, None),
    "functions": (DEFINES, True, False, None),
    "news": (DEFINES, True, False, SINCE),
    "all": (SETS | ALL, False, False, None),
}
OWNERSHIP = "ownership"
# Settings that cost or hinder, by the manual's sections; of these all that a client may set, at both of their ends.
SECTIONS = (
    "Query Tuning",
    "Resource Usage",
    "Client Connection Defaults / Statement Behavior",
    "Reporting and Logging",
    "Developer Options",
    "Version and Platform Compatibility",
    "Preset Options",
)
# They change no plan, but what statements may do at all, or are for building PostgreSQL.
BESIDES = {"search_path", "transaction_isolation", "transaction_read_only", "transaction_deferrable"}
# What is compared of each step of a plan.
COUNTED = (
    "Node Type",
    "Strategy",
    "Index Name",
    "Actual Rows",
    "Actual Loops",
    "Hash Batches",
    "Sort Space Type",
    "Storage",
    "Temp Written Blocks",
)


@pytest.fixture
def server(every_cluster: Cluster) -> Iterator[Cluster]:
    """A server with something to find: functions that matter and triggers."""
    found = every_cluster
    found.admin(
        "CREATE TABLE q_table (n int); GRANT ALL ON q_table TO PUBLIC;"
        "CREATE FUNCTION q_sets() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM set_config('app.s', 'x', false); RETURN NEW; END$$;"
        "CREATE TRIGGER q BEFORE INSERT ON q_table FOR EACH ROW EXECUTE FUNCTION q_sets();"
        "DO $$BEGIN FOR i IN 1..300 LOOP EXECUTE format('CREATE FUNCTION q_%s() RETURNS int LANGUAGE sql AS"
        " ''SELECT %s''', i, i); END LOOP; END$$; ANALYZE pg_proc; ANALYZE pg_depend; ANALYZE pg_trigger",
        "app",
    )
    yield found
    found.admin(
        "DROP TABLE q_table; DROP FUNCTION q_sets();"
        "DO $$BEGIN FOR i IN 1..300 LOOP EXECUTE format('DROP FUNCTION q_%s()', i); END LOOP; END$$",
        "app",
    )


def connected(server: Cluster) -> Connection:
    return psycopg.connect(server.conninfo(), autocommit=True)


def asked(server: Cluster, form: str) -> tuple[str, ...]:
    flags, exact, acted, since = FORMS[form]
    return state_query.make(flags, ["app.x"], ["role"], exact, acted, server.version, since).statements


def costs(connection: Connection, statements: tuple[str, ...]) -> list[Any]:
    """The plans of a question, as they come out in the session that is asked."""
    sent = [
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY ON, FORMAT JSON) {statement}"
        if statement.startswith("SELECT")
        else statement
        for statement in statements
    ]
    cursor = connection.cursor()
    cursor.execute(";".join(sent).encode(), prepare=False)
    found = []
    while True:
        if cursor.description is not None and cursor.description[0].name == "QUERY PLAN":
            row = cursor.fetchone()
            assert row is not None
            (explained,) = row[0] if isinstance(row[0], list) else json.loads(row[0])
            assert "JIT" not in explained
            found.append(plan(explained["Plan"]))
        if not cursor.nextset():
            return found


def plan(node: dict[str, Any]) -> list[Any]:
    """A plan without what is another in each run."""
    counted = dict(node)
    if node["Node Type"] == "Function Scan":
        # What was set by hand is among all settings.
        del counted["Actual Rows"]
    return [[counted.get(name) for name in COUNTED], *[plan(one) for one in node.get("Plans", ())]]


def extremes(server: Cluster) -> list[tuple[str, str]]:
    """The settings that may cost something, with each value at their ends."""
    found = []
    for name, kind, least, most, values in server.admin(
        "SELECT name, vartype, min_val, max_val, array_to_json(enumvals) FROM pg_settings"
        " WHERE context = 'user' AND ("
        + " OR ".join(f"category LIKE '{section}%'" for section in SECTIONS)
        + ") ORDER BY name"
    ):
        if name is None or name in BESIDES:
            continue
        ends = {"bool": ["on", "off"], "enum": json.loads(values or "[]"), "string": []}.get(
            str(kind), [str(least), str(most)]
        )
        if name == "idle_session_timeout":
            # It counts between two commands only: here as well, and the machine may be busy.
            ends = ["1min"]
        elif name.endswith("_timeout"):
            ends = ["1ms" if name == "lock_timeout" else "20ms"]
        found += [(name, end) for end in ends]
    return found


@pytest.mark.parametrize("form", [*FORMS, OWNERSHIP])
def test_questions_cost_the_same_under_any_setting(server: Cluster, form: str) -> None:
    # What is at its default is asked for in this way, and nothing else.
    unclear = {"lock_timeout": "0"} if form == OWNERSHIP else {}
    statements = state_query.of_ownership(unclear, server.version).statements if unclear else asked(server, form)
    with connected(server) as connection:
        usual = costs(connection, statements)
        assert usual
        tried = [(name, value) for name, value in extremes(server) if name not in unclear]
        assert {"jit", "enable_seqscan", "random_page_cost", "work_mem"} <= {name for name, _ in tried}
        for name, value in tried:
            connection.execute(f"RESET ALL; SET {name} = '{value}'")
            try:
                assert costs(connection, statements) == usual, f"{name} = {value}"
            except psycopg.Error as error:
                pytest.fail(f"{name} = {value}: {error}")


# All at their worst, as far as they go together. Timeouts are such that the client's own statements can be run.
WORST = {
    **{name: "off" for name in transaction_settings.PLANNER if name.startswith("enable_")},
    **{name: "1e300" for name in transaction_settings.PLANNER if name.endswith(("_cost", "_factor"))},
    "recursive_worktable_factor": "1000000",
    "jit_above_cost": "0",
    "jit_inline_above_cost": "0",
    "jit_optimize_above_cost": "0",
    "work_mem": "64kB",
    "lock_timeout": "1ms",
    "statement_timeout": "300ms",
    "idle_in_transaction_session_timeout": "300ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "search_path": "pg_temp",
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "row_security": "off",
    "client_min_messages": "debug5",
    "debug_print_plan": "on",
}


@pytest.mark.parametrize("way", ["connect_query", "startup", "session"])
def test_sessions_are_asked_under_the_worst_settings(pooler: MakePooler, server: Cluster, way: str) -> None:
    values = {name: value for name, value in WORST.items() if transaction_settings.SINCE.get(name, 0) <= server.version}
    sets = ";".join(f"SET {name} TO '{value}'" for name, value in values.items())
    place = {"host": "127.0.0.1", "port": server.port}
    query = {"connect_query": sets} if way == "connect_query" else {}
    pool = pooler(databases={"app": place | query}, default_pool_size=1, workers=1)
    wire = pool.wire(**(values if way == "startup" else {}))
    other = pool.wire()
    if way == "session":
        wire.run(sets)
    # A function that sets something is known: functions were asked for.
    wire.run("SET app.s = ''")
    eventually(lambda: pool.console("SHOW PINS") == [])
    wire.run("BEGIN READ WRITE; INSERT INTO public.q_table VALUES (1); COMMIT")
    assert other.one("SELECT coalesce(current_setting('app.s', true), '')") == ""
    assert wire.one("SHOW app.s") == "x"
    wire.run("DO $$BEGIN SET work_mem = '77kB'; SET jit = off; END$$")
    if way != "connect_query":
        assert other.one("SHOW work_mem") == "4MB"
        assert other.one("SHOW enable_seqscan") == "on"
        assert other.one("SHOW statement_timeout") == "0"
    assert wire.one("SHOW work_mem") == "77kB"
    assert wire.one("SHOW jit") == "off"
    assert wire.one("SHOW statement_timeout") == "300ms"
    assert wire.one("SHOW client_min_messages") == "debug5"
    assert pool.console("SHOW PINS") == []
