"""Tables change under prepared statements: a client alone would be told, one of many only where it can't be helped."""

from collections.abc import Iterator
from itertools import count

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.wire import Message, Wire, error_in, kinds, rows_in

CHANGES = {
    "add column": ("ALTER TABLE changing ADD COLUMN b text DEFAULT 'new'", ["a", "t", "b"]),
    "drop column": ("ALTER TABLE changing DROP COLUMN t", ["a"]),
    "rename column": ("ALTER TABLE changing RENAME COLUMN t TO u", ["a", "u"]),
    "change type": ("ALTER TABLE changing ALTER COLUMN a TYPE bigint", ["a", "t"]),
    "made anew": ("DROP TABLE changing; CREATE TABLE changing AS SELECT 'x' AS z", ["z"]),
}
# PostgreSQL notices a new name by the description, and not by the type of the result.
CACHED = {name: change for name, change in CHANGES.items() if name != "rename column"}


class Table:
    """The table `changing`, and a way to change it without the pooler; `all` is a text that no other test uses."""

    numbers = count(1)

    def __init__(self, wire: Wire) -> None:
        self.run = wire.run
        self.all = f"SELECT * FROM changing /* {next(self.numbers)} */"


@pytest.fixture
def table(cluster: Cluster) -> Iterator[Table]:
    """The table, made anew."""
    with cluster.wire() as wire:
        wire.run("DROP TABLE IF EXISTS changing; CREATE TABLE changing AS SELECT 1 AS a, 'old' AS t")
        yield Table(wire)
        wire.run("DROP TABLE IF EXISTS changing")


@pytest.fixture(params=[1, 2], ids=["1-server", "2-servers"])
def pool(request: pytest.FixtureRequest, cluster: Cluster, shared_pooler: MakePooler) -> Pooler:
    """Fewer servers than clients."""
    return shared_pooler(cluster, default_pool_size=request.param, workers=1)


def batch(name: str, *values: str, describe: bool = True, results: tuple[int, ...] = ()) -> bytes:
    """Bind, Describe, Execute, Sync."""
    parts = [m.bind("", name, *values, results=results), m.describe_portal() if describe else b"", m.execute(), m.SYNC]
    return b"".join(parts)


def say(wire: Wire, *parts: bytes, count: int = 1) -> list[Message]:
    """The reply to these messages."""
    wire.send(*parts)
    return wire.until("Z", count)


def prepared(pool: Pooler, count: int, sql: str, name: str = "s") -> list[Wire]:
    """Clients that have all executed this statement, on whichever servers there are."""
    wires = [pool.wire() for _ in range(count)]
    for wire in wires:
        assert kinds(say(wire, m.parse(name, sql), m.SYNC)) == "1Z"
    for _ in range(2):
        for wire in wires:
            wire.send(batch(name))
        for wire in wires:
            assert kinds(wire.until("Z")) == "2TDCZ"
    # Each server has it.
    held = [wires[0], wires[-1]] if pool.pool()["sv_idle"] > 1 else wires[:1]
    for wire in held:
        wire.run("BEGIN")
        assert kinds(say(wire, batch(name))) == "2TDCZ"
    for wire in held:
        wire.run("COMMIT")
    return wires


def columns(read: list[Message]) -> list[str]:
    """The names in the RowDescription."""
    return next(one for one in read if one.kind == "T").columns


@pytest.mark.parametrize("way", ["by-the-pool", "directly"])
@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=list(CHANGES))
def test_described_batch_is_healed_for_all_clients(
    change: str, expected: list[str], way: str, pool: Pooler, table: Table
) -> None:
    wires = prepared(pool, 4, table.all)
    if way == "directly":
        table.run(change)
    else:
        wires[0].run(change)
    for _ in range(3):
        for wire in wires:
            read = say(wire, batch("s"))
            assert kinds(read) == "2TDCZ"
            assert columns(read) == expected
            assert len(rows_in(read)[0]) == len(expected)
            assert read[-1].body == b"I"


@pytest.mark.parametrize(("change", "expected"), CACHED.values(), ids=list(CACHED))
def test_without_a_description_the_client_is_told_and_can_prepare_anew(
    change: str, expected: list[str], pool: Pooler, cluster: Cluster, table: Table
) -> None:
    wires = prepared(pool, 3, table.all)
    direct = cluster.wire()
    say(direct, m.parse("s", table.all), m.SYNC)
    assert kinds(say(direct, batch("s"))) == "2TDCZ"
    table.run(change)
    told = error_in(say(direct, batch("s", describe=False)))
    assert told["C"] == "0A000"
    for wire in wires:
        read = say(wire, batch("s", describe=False))
        # Who comes later may get a server to which it was prepared anew: its columns are what they are.
        assert kinds(read) in ("EZ", "2DCZ")
        if "E" in kinds(read):
            assert {key: error_in(read)[key] for key in "SCM"} == {key: told[key] for key in "SCM"}
        read = say(wire, m.parse("t", table.all), m.describe_statement("t"), batch("t", describe=False))
        assert kinds(read) == "1tT2DCZ"
        assert columns(read) == expected
        assert kinds(say(wire, m.close_statement("s"), m.parse("s", table.all), batch("s"))) == "312TDCZ"


def test_first_client_without_a_description_gets_the_error(pool: Pooler, table: Table) -> None:
    wires = prepared(pool, 3, table.all)
    table.run(CHANGES["add column"][0])
    assert error_in(say(wires[1], batch("s", describe=False)))["C"] == "0A000"


@pytest.mark.parametrize("describe", [False, True])
def test_within_a_block_the_error_ends_it_as_ever(describe: bool, pool: Pooler, cluster: Cluster, table: Table) -> None:
    wires = prepared(pool, 3, table.all)
    table.run(CHANGES["add column"][0])
    wires[0].run("BEGIN")
    read = say(wires[0], batch("s", describe=describe))
    assert kinds(read) == "EZ"
    assert error_in(read)["C"] == "0A000"
    assert read[-1].body == b"E"
    assert error_in(wires[0].ask("SELECT 1"))["C"] == "25P02"
    wires[0].run("ROLLBACK")
    assert kinds(say(wires[0], m.parse("t", table.all), batch("t"))) == "12TDCZ"
    wires[0].run("BEGIN")
    assert kinds(say(wires[0], m.parse("u", table.all), batch("u"))) == "12TDCZ"
    wires[0].run("COMMIT")
    for wire in wires:
        assert kinds(say(wire, batch("s"))) == "2TDCZ"


def test_change_within_the_block(pool: Pooler, cluster: Cluster, table: Table) -> None:
    wires = prepared(pool, 2, table.all)
    wires[0].run(f"BEGIN; {CHANGES['add column'][0]}")
    read = say(wires[0], m.parse("t", table.all), batch("t"))
    assert kinds(read) == "12TDCZ"
    wires[0].run("ROLLBACK")
    for wire in wires:
        assert columns(say(wire, batch("s"))) == ["a", "t"]


def test_dropped_table_is_missing(pool: Pooler, cluster: Cluster, table: Table) -> None:
    wires = prepared(pool, 3, table.all)
    table.run("DROP TABLE changing")
    for wire in wires:
        for describe in (True, False):
            read = say(wire, batch("s", describe=describe))
            assert kinds(read) == "EZ"
            assert error_in(read)["C"] == "42P01"
        assert error_in(say(wire, m.parse("t", table.all), batch("t")))["C"] == "42P01"
    table.run("CREATE TABLE changing AS SELECT 2 AS a, 'again' AS t")
    for wire in wires:
        assert rows_in(say(wire, batch("s"))) == [[b"2", b"again"]]


def test_batches_pipelined_behind_it_are_answered(pool: Pooler, table: Table) -> None:
    wires = prepared(pool, 3, table.all)
    table.run(CHANGES["add column"][0])
    for wire in wires:
        wire.send(batch("s"), batch("s"), m.query("SELECT 1"), m.parse("t", table.all), batch("t"), batch("s"))
        turns = [kinds(wire.until("Z")) for _ in range(5)]
        assert turns[0] in ("EZ", "2TDCZ")
        assert turns[1] in ("EZ", "2TDCZ")
        assert turns[2:4] == ["TDCZ", "12TDCZ"]
        assert turns[4] in ("EZ", "2TDCZ")
        assert kinds(say(wire, batch("s"))) == "2TDCZ"


@pytest.mark.parametrize("first", [True, False], ids=["described", "not-described"])
def test_change_after_change(first: bool, pool: Pooler, table: Table) -> None:
    wire = pool.wire()
    assert kinds(say(wire, m.parse("s", table.all), m.SYNC)) == "1Z"
    if first:
        assert kinds(say(wire, batch("s"))) == "2TDCZ"
    for number in range(4):
        table.run(f"ALTER TABLE changing ADD COLUMN c{number} int")
        for _ in range(2):
            read = say(wire, batch("s"))
            assert kinds(read) == "2TDCZ"
            assert len(rows_in(read)[0]) == 3 + number


def test_batch_that_comes_in_pieces(pool: Pooler, table: Table) -> None:
    wires = prepared(pool, 2, table.all)
    table.run(CHANGES["add column"][0])
    for part in (m.bind("", "s"), m.describe_portal(), m.execute()):
        wires[0].send(part, m.FLUSH)
        if part == m.bind("", "s"):
            assert error_in(wires[0].until("E"))["C"] == "0A000"
    assert kinds(say(wires[0], m.SYNC)) == "Z"
    assert kinds(say(wires[0], batch("s"))) == "2TDCZ"


def test_formats_for_each_column_fit_no_more(pool: Pooler, table: Table) -> None:
    """The client must be told what it would be told alone, for that is what it knows to heal."""
    wires = prepared(pool, 2, table.all)
    table.run(CHANGES["add column"][0])
    read = say(wires[0], batch("s", results=(0, 0)))
    assert kinds(read) == "EZ"
    assert error_in(read)["C"] == "0A000"


def test_values_are_not_taken_for_those_of_another_type(pool: Pooler, cluster: Cluster, table: Table) -> None:
    """What a parameter is, was said by the table as it was."""
    bind = m.bind("", "s", b"\0\0\0\1", formats=[1])
    said = bind + m.describe_portal() + m.execute() + m.SYNC
    wires = [pool.wire() for _ in range(2)]
    for wire in wires:
        assert kinds(say(wire, m.parse("s", f"{table.all} WHERE a = $1"), said)) == "12TDCZ"
    table.run("ALTER TABLE changing ALTER COLUMN a TYPE real")
    read = say(wires[0], said)
    assert kinds(read) == "EZ"
    assert error_in(read)["C"] == "0A000"


def test_declared_types_are_the_same_ever_after(pool: Pooler, table: Table) -> None:
    said = m.bind("", "s", b"\0\0\0\1", formats=[1]) + m.describe_portal() + m.execute() + m.SYNC
    wires = [pool.wire() for _ in range(2)]
    for wire in wires:
        assert kinds(say(wire, m.parse("s", f"{table.all} WHERE a = $1", 23), said)) == "12TDCZ"
    table.run("ALTER TABLE changing ALTER COLUMN a TYPE bigint")
    for wire in wires:
        assert kinds(say(wire, said)) == "2TDCZ"


def test_unnamed_statement_is_the_clients_own(pool: Pooler, table: Table) -> None:
    wires = [pool.wire() for _ in range(3)]
    for wire in wires:
        assert kinds(say(wire, m.parse("", table.all), batch(""))) == "12TDCZ"
    table.run(CHANGES["add column"][0])
    for wire in wires:
        read = say(wire, batch(""))
        assert kinds(read) in ("EZ", "2TDCZ")
        assert kinds(say(wire, m.parse("", table.all), batch(""))) == "12TDCZ"


@pytest.mark.parametrize("way", ["by-the-pool", "directly"])
def test_type_made_anew_can_be_used_after_another_parse(way: str, pool: Pooler, table: Table) -> None:
    sql = f"SELECT $1::passing /* {way} */"
    table.run("DROP TYPE IF EXISTS passing; CREATE TYPE passing AS ENUM ('x')")
    wires = [pool.wire() for _ in range(3)]
    for wire in wires:
        assert kinds(say(wire, m.parse("s", sql), batch("s", "x"))) == "12TDCZ"
    change = "DROP TYPE passing; CREATE TYPE passing AS ENUM ('y')"
    if way == "directly":
        table.run(change)
    else:
        wires[0].run(change)
    for wire in wires:
        assert kinds(say(wire, batch("s", "y"))) in ("EZ", "2TDCZ")
        read = say(wire, m.parse("t", sql), batch("t", "y"))
        assert kinds(read) == "12TDCZ"
        assert rows_in(read) == [[b"y"]]
    table.run("DROP TYPE passing")
