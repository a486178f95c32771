"""What a prepared statement means is what it means to the client that prepared it, whoever has said the same text."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.wire import Message, Wire, error_in, kinds, rows_in

INT4, TEXT, BOOL = 23, 25, 16
INSERT = "INSERT INTO meant VALUES ($1)"
SELECT = "SELECT * FROM meant"


@pytest.fixture
def direct(cluster: Cluster) -> Iterator[Wire]:
    """A client of the server itself, and a table."""
    with cluster.wire() as wire:
        wire.run("DROP TABLE IF EXISTS meant CASCADE; CREATE TABLE meant (v int)")
        yield wire
        wire.run("DROP TABLE IF EXISTS meant CASCADE")


@pytest.fixture
def pool(cluster: Cluster, shared_pooler: MakePooler) -> Pooler:
    """Two servers, so that a client can be brought to another by a third that keeps one."""
    return shared_pooler(cluster, default_pool_size=2, workers=1)


@contextmanager
def elsewhere(other: Wire) -> Iterator[None]:
    """The client that was served last is served by the other server: this one keeps that client's."""
    other.run("BEGIN")
    yield
    other.run("COMMIT")


def say(wire: Wire, *parts: bytes) -> list[Message]:
    """The reply to these messages and Sync."""
    wire.send(*parts, m.SYNC)
    return wire.until("Z")


def described(wire: Wire, sql: str, name: str = "s") -> list[int]:
    """Prepare and describe a statement, in a turn each; returns the types of its parameters."""
    assert kinds(say(wire, m.parse(name, sql))) == "1Z"
    body = next(one.body for one in say(wire, m.describe_statement(name)) if one.kind == "t")
    return [int.from_bytes(body[at : at + 4], "big") for at in range(2, len(body), 4)]


def described_portal(wire: Wire, sql: str, portal: str = "") -> None:
    """Prepare and bind a statement, describe the portal, and execute it, in one batch."""
    read = say(wire, m.parse("s", sql), m.bind(portal, "s"), m.describe_portal(portal), m.execute(portal))
    assert kinds(read).startswith("12T")


def bound(wire: Wire, *values: bytes, formats: tuple[int, ...] = (), results: tuple[int, ...] = ()) -> list[Message]:
    """The reply to a Bind of the statement, and an Execute."""
    return say(wire, m.bind("", "s", *values, formats=formats, results=results), m.execute())


@pytest.mark.parametrize("way", ["by-the-pool", "directly"])
def test_new_client_is_told_what_there_is(way: str, pool: Pooler, direct: Wire) -> None:
    first = pool.wire()
    assert described(first, INSERT) == [INT4]
    change = "ALTER TABLE meant ALTER v TYPE boolean USING v::boolean"
    (first if way == "by-the-pool" else direct).run(change)
    for _ in range(3):
        wire = pool.wire()
        assert described(wire, INSERT) == [BOOL]
        assert kinds(bound(wire, b"\1", formats=(1,))) == "2CZ"
    assert described(first, INSERT, "t") == [BOOL]


@pytest.mark.parametrize("way", ["by-the-pool", "directly"])
def test_values_go_in_as_they_were_described(way: str, pool: Pooler, direct: Wire) -> None:
    wire, other = pool.wire(), pool.wire()
    assert described(wire, INSERT) == [INT4]
    assert kinds(bound(wire, b"\0\0\0\7", formats=(1,))) == "2CZ"
    (other if way == "by-the-pool" else direct).run("ALTER TABLE meant ALTER v TYPE real")
    with elsewhere(other):
        assert kinds(bound(wire, b"\0\0\0\7", formats=(1,))) == "2CZ"
    assert kinds(bound(wire, b"\0\0\0\7", formats=(1,))) == "2CZ"
    assert direct.run("SELECT DISTINCT v FROM meant") == [["7"]]


@pytest.mark.parametrize("way", ["statement", "portal", "named portal"])
@pytest.mark.parametrize("block", [False, True])
def test_columns_that_are_others_are_refused(block: bool, way: str, pool: Pooler, direct: Wire) -> None:
    wire, other = pool.wire(), pool.wire()
    direct.run("INSERT INTO meant VALUES (1)")
    # The other server has not met this text before.
    select = f"{SELECT} -- {way} {block}"
    if way == "statement":
        described(wire, select)
    else:
        described_portal(wire, select, "p" if way == "named portal" else "")
    assert rows_in(bound(wire, results=(1,))) == [[b"\0\0\0\1"]]
    direct.run("ALTER TABLE meant ALTER v TYPE real")
    with elsewhere(other):
        if block:
            wire.run("BEGIN")
        read = bound(wire, results=(1,))
        assert kinds(read) == "EZ"
        assert {key: error_in(read)[key] for key in "SCR"} == {"S": "ERROR", "C": "0A000", "R": "RevalidateCachedQuery"}
        assert read[-1].body == (b"E" if block else b"I")
        if block:
            wire.run("ROLLBACK")
        assert kinds(say(wire, m.close_statement("s"))) == "3Z"
        described(wire, select)
        assert rows_in(bound(wire, results=(1,))) == [[b"\x3f\x80\0\0"]]


def test_batch_that_describes_its_portal_goes_by_what_that_says(pool: Pooler, direct: Wire) -> None:
    wire, other = pool.wire(), pool.wire()
    direct.run("INSERT INTO meant VALUES (1)")
    described_portal(wire, SELECT)
    direct.run("ALTER TABLE meant ADD w text DEFAULT 'new'")
    with elsewhere(other):
        for _ in range(2):
            read = say(wire, m.bind("", "s"), m.describe_portal(), m.execute())
            assert kinds(read) == "2TDCZ"
            assert rows_in(read) == [[b"1", b"new"]]


@pytest.mark.parametrize("column", ["CASE WHEN true THEN v ELSE v END", "coalesce(NULL, v)"])
def test_portal_whose_columns_are_planned_as_more_than_was_parsed_is_no_other(
    column: str, pool: Pooler, direct: Wire
) -> None:
    direct.run("ALTER TABLE meant ALTER v TYPE varchar(10)")
    direct.run("INSERT INTO meant VALUES ('x')")
    wire, other = pool.wire(), pool.wire()
    described_portal(wire, f"SELECT {column} FROM meant")
    with elsewhere(other):
        for _ in range(2):
            assert rows_in(bound(wire)) == [[b"x"]]


TELL = """CREATE OR REPLACE FUNCTION tell() RETURNS text LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT v FROM meant); END'"""


@pytest.mark.parametrize("block", [False, True], ids=["alone", "in-a-block"])
@pytest.mark.parametrize("way", ["protocol", "sql", "function"])
@pytest.mark.parametrize(
    "made",
    ["CREATE TEMP TABLE meant (v text)", "CREATE TEMP TABLE meant AS SELECT 'x'", "SELECT 'x' INTO TEMP meant"],
    ids=["table", "table-as", "select-into"],
)
def test_temporary_table_stands_in_front_of_what_was_planned(
    made: str, way: str, block: bool, pool: Pooler, direct: Wire
) -> None:
    made = made.replace("'x'", "'temporary'::text AS v")
    direct.run(f"ALTER TABLE meant ALTER v TYPE text; INSERT INTO meant VALUES ('permanent'); {TELL}")
    # In a process that has had temporary objects before, PostgreSQL sees no reason to plan anew.
    before = [pool.wire(), pool.wire()]
    for one in before:
        one.run("BEGIN; CREATE TEMP TABLE before () ON COMMIT DROP")
    for one in before:
        one.run("COMMIT")
    wire = pool.wire()
    if block:
        wire.run("BEGIN")
    if way == "protocol":
        described(wire, SELECT)
    elif way == "sql":
        wire.run(f"PREPARE s AS {SELECT}")
    for there in ("permanent", "temporary"):
        if there == "temporary":
            wire.run(made)
            if "AS v" not in made:
                wire.run("INSERT INTO meant VALUES ('temporary')")
        if way == "protocol":
            assert rows_in(bound(wire)) == [[there.encode()]]
        else:
            assert wire.one("EXECUTE s" if way == "sql" else "SELECT tell()") == there
    if block:
        wire.run("ROLLBACK")
    direct.run("DROP FUNCTION tell")


def test_temporary_table_made_in_the_same_write(pool: Pooler, direct: Wire) -> None:
    for _ in range(2):
        wire = pool.wire()
        assert kinds(say(wire, m.parse("s", INSERT))) == "1Z"
        wire.send(m.query("CREATE TEMP TABLE meant (v int)"), m.bind("", "s", "7"), m.execute(), m.SYNC)
        assert kinds(wire.until("Z", 2)) == "CZ2CZ"
        assert wire.one("SELECT v FROM pg_temp.meant") == "7"
        wire.bye()
    assert direct.run("SELECT * FROM meant") == []


def test_portal_of_a_statement_that_had_to_make_room(pooler: MakePooler) -> None:
    wire = pooler(max_prepared_statements=2).wire()
    assert kinds(say(wire, m.parse("s", "SELECT 1"))) == "1Z"
    room = [m.parse(f"more{number}", f"SELECT {number}") for number in range(3)]
    assert kinds(say(wire, m.bind("", "s"), *room, m.describe_portal(), m.execute())) == "2111TDCZ"


def test_one_that_has_other_settings_now_does_not_parse_it_for_others(pooler: MakePooler) -> None:
    pool = pooler(max_prepared_statements=2, default_pool_size=1)
    stays, goes, third = pool.wire(), pool.wire(), pool.wire()
    for wire in (stays, goes):
        wire.run("SET DateStyle = 'ISO, DMY'")
        assert kinds(say(wire, m.parse("s", "SELECT '01/02/2024'::date"))) == "1Z"
    goes.run("SET DateStyle = 'ISO, MDY'")
    for number in range(3):
        # The server has no room for `s` any more.
        assert kinds(say(third, m.parse(f"more{number}", f"SELECT {number}"))) == "1Z"
    assert kinds(bound(goes)) == "2DCZ"
    assert rows_in(bound(stays)) == [[b"2024-02-01"]]


# What ends, or follows, between the Bind of a portal and the Describe of another that bears its name.
REDECLARED = {
    "a block": (m.SYNC, m.query("BEGIN; DECLARE c CURSOR FOR SELECT 'two' AS two")),
    "an execute": (m.parse("d", "DECLARE c CURSOR WITH HOLD FOR SELECT 'two' AS two"), m.close_portal("c"),
                   m.bind("", "d"), m.execute()),
    "a failure": (m.bind("c", "nowhere"), m.SYNC, m.query("BEGIN; DECLARE c CURSOR FOR SELECT 'two' AS two")),
}  # fmt: skip


@pytest.mark.parametrize("way", REDECLARED.values(), ids=REDECLARED.keys())
def test_portal_that_bears_the_name_of_another_says_nothing_of_its_statement(
    way: tuple[bytes, ...], pool: Pooler, direct: Wire
) -> None:
    direct.run("INSERT INTO meant VALUES (1)")
    wire, other = pool.wire(), pool.wire()
    assert kinds(say(wire, m.parse("s", SELECT))) == "1Z"
    wire.send(m.bind("c", "s"), *way, m.describe_portal("c"), m.SYNC)
    columns = [one.body for one in wire.until("Z", 1 + b"".join(way).count(m.SYNC) * 2) if one.kind == "T"]
    assert b"two" in columns[-1]
    wire.run("ROLLBACK; CLOSE ALL")
    with elsewhere(other):
        assert rows_in(bound(wire)) == [[b"1"]]


@pytest.mark.parametrize("describe", [b"D\0\0\0\5P", b"D\0\0\0\4"])
def test_describe_that_names_nothing_ends_nothing_but_its_batch(describe: bytes, pool: Pooler, direct: Wire) -> None:
    wire = pool.wire()
    assert kinds(say(wire, m.parse("s", SELECT))) == "1Z"
    read = say(wire, m.bind("", "s"), describe, m.parse("", "SELECT 1"))
    assert kinds(read) == "2EZ"
    assert error_in(read)["C"] == "08P01"
    assert wire.one("SELECT 2") == "2"


def test_what_was_executed_before_is_undone_with_it_as_alone(pool: Pooler, direct: Wire) -> None:
    wire, other = pool.wire(), pool.wire()
    described_portal(wire, SELECT)
    assert kinds(say(wire, m.parse("t", "INSERT INTO meant VALUES (7)"))) == "1Z"
    direct.run("ALTER TABLE meant ADD w int")
    with elsewhere(other):
        read = say(wire, m.bind("", "t"), m.execute(), m.bind("", "s"), m.describe_portal(), m.execute())
        assert kinds(read) == "2CEZ"
        assert error_in(read)["C"] == "0A000"
        assert direct.run("SELECT * FROM meant") == []


def test_statement_of_a_change_that_was_rolled_back_is_refused(pool: Pooler, direct: Wire) -> None:
    wire, other = pool.wire(), pool.wire()
    wire.run("BEGIN; ALTER TABLE meant ADD w int")
    described(wire, SELECT)
    wire.run("ROLLBACK")
    with elsewhere(other):
        for _ in range(2):
            assert error_in(bound(wire, results=(0, 0)))["C"] == "0A000"


def test_temporary_table_stands_in_front_for_who_made_it(pool: Pooler, direct: Wire) -> None:
    sql = "DELETE FROM meant"
    direct.run("INSERT INTO meant VALUES (1), (2)")
    others = [pool.wire() for _ in range(3)]
    for wire in others:
        assert kinds(say(wire, m.parse("s", sql))) == "1Z"
    wire = pool.wire()
    wire.run("CREATE TEMPORARY TABLE meant (v int); INSERT INTO meant VALUES (3)")
    assert kinds(say(wire, m.parse("s", sql), m.bind("", "s"), m.execute())) == "12CZ"
    assert wire.run(SELECT) == []
    assert direct.run("SELECT count(*) FROM meant") == [["2"]]
    wire.bye()
    assert others[0].run("SELECT count(*) FROM meant") == [["2"]]


@pytest.mark.parametrize("in_one_batch", [False, True])
def test_temporary_tables_of_one_name_are_each_its_own(in_one_batch: bool, pool: Pooler, direct: Wire) -> None:
    for kind, oid, value in (("int", INT4, b"1"), ("text", TEXT, b"x"), ("int", INT4, b"2")):
        wire = pool.wire()
        made = f"CREATE TEMPORARY TABLE stage (v {kind}) ON COMMIT DROP"
        wire.run("BEGIN")
        if in_one_batch:
            parts = (m.parse("", made), m.bind("", ""), m.execute(), m.parse("s", "INSERT INTO stage VALUES ($1)"))
            read = say(wire, *parts, m.describe_statement("s"))
            assert kinds(read) == "12C1tnZ"
            assert next(one.body for one in read if one.kind == "t")[2:] == oid.to_bytes(4, "big")
        else:
            wire.run(made)
            assert described(wire, "INSERT INTO stage VALUES ($1)") == [oid]
        assert kinds(bound(wire, value)) == "2CZ"
        read = say(wire, m.parse("all", "SELECT * FROM stage"), m.bind("", "all"), m.describe_portal(), m.execute())
        assert kinds(read) == "12TDCZ"
        assert rows_in(read) == [[value]]
        wire.run("COMMIT")
        wire.bye()


@pytest.mark.parametrize("local", ["", "LOCAL "])
def test_the_search_path_tells_what_is_meant(local: str, pool: Pooler, direct: Wire) -> None:
    direct.run("DROP SCHEMA IF EXISTS meant_a, meant_b CASCADE; CREATE SCHEMA meant_a; CREATE SCHEMA meant_b")
    direct.run("CREATE TABLE meant_a.told (v int); CREATE TABLE meant_b.told (v text)")
    wires = {"meant_a": pool.wire(), "meant_b": pool.wire()}
    for number in range(2):
        for schema, oid in (("meant_a", INT4), ("meant_b", TEXT)):
            wire = wires[schema]
            wire.run(f"BEGIN; SET {local}search_path = {schema}")
            assert described(wire, "INSERT INTO told VALUES ($1)", f"s{number}") == [oid]
            assert kinds(say(wire, m.bind("", f"s{number}", "1"), m.execute())) == "2CZ"
            wire.run("COMMIT")
    assert direct.run("SELECT count(*) FROM meant_a.told") == [["2"]]
    direct.run("DROP SCHEMA meant_a, meant_b CASCADE")


def test_type_made_anew_is_known_to_all_workers(pooler: MakePooler, direct: Wire) -> None:
    pool = pooler(default_pool_size=4, workers=2)
    sql = "SELECT $1::meaning"
    wires = [pool.wire() for _ in range(8)]
    for number in range(3):
        wires[0].run(f"DROP TYPE IF EXISTS meaning; CREATE TYPE meaning AS ENUM ('m{number}')")
        for wire in wires:
            read = say(wire, m.parse(f"s{number}", sql), m.bind("", f"s{number}", f"m{number}"), m.execute())
            assert rows_in(read) == [[f"m{number}".encode()]]
    wires[0].run("DROP TYPE meaning")


def test_statement_that_can_not_be_parsed_elsewhere_fails_as_alone(pool: Pooler, direct: Wire) -> None:
    wire, other = pool.wire(), pool.wire()
    described(wire, SELECT)
    direct.run("DROP TABLE meant")
    with elsewhere(other):
        assert error_in(bound(wire))["C"] == "42P01"
        direct.run("CREATE TABLE meant (v int)")
        assert kinds(bound(wire)) == "2CZ"


def test_statement_prepared_without_a_server_is_parsed_when_it_is_used(pool: Pooler, direct: Wire) -> None:
    first, holders, wire = pool.wire(), [pool.wire(), pool.wire()], pool.wire()
    assert described(first, INSERT) == [INT4]
    for holder in holders:
        holder.run("BEGIN")
    assert kinds(say(wire, m.parse("s", INSERT))) == "1Z"
    for holder in holders:
        holder.run("COMMIT")
    direct.run("ALTER TABLE meant ALTER v TYPE text")
    body = next(one.body for one in say(wire, m.describe_statement("s")) if one.kind == "t")
    assert body[2:] == TEXT.to_bytes(4, "big")
    assert kinds(bound(wire, b"said")) == "2CZ"
