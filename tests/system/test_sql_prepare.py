"""PREPARE by SQL and Parse by protocol share their names as in PostgreSQL: the same steps there are answered alike."""

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.dialogue import types_of
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Message, Wire, error_in, kinds, rows_in

NAMES = "SELECT name FROM pg_prepared_statements WHERE from_sql ORDER BY name"
Step = str | bytes


@pytest.fixture(params=[(1, 1), (2, 2)], ids=["1-server", "2-servers"])
def pool(request: pytest.FixtureRequest, cluster: Cluster, shared_pooler: MakePooler) -> Pooler:
    """Fewer servers than clients, as many workers."""
    servers, workers = request.param
    return shared_pooler(cluster, default_pool_size=servers, workers=workers)


def parse(name: str, sql: str, *types: int) -> bytes:
    """Parse and Sync."""
    return m.parse(name, sql, *types) + m.SYNC


def bound(name: str, *values: str) -> bytes:
    """Bind, Describe, Execute and Sync."""
    return m.bind("", name, *values) + m.describe_portal() + m.execute() + m.SYNC


def ran(name: str) -> bytes:
    """Bind and Execute."""
    return m.bind("", name) + m.execute()


def batch(*parts: Step) -> bytes:
    """Messages, and texts that are parsed and run, up to a Sync."""
    return b"".join([m.parse("", one) + ran("") if isinstance(one, str) else one for one in parts]) + m.SYNC


def close(name: str) -> bytes:
    """Close and Sync."""
    return m.close_statement(name) + m.SYNC


def describe(name: str) -> bytes:
    """Describe and Sync."""
    return m.describe_statement(name) + m.SYNC


def said(wire: Wire, step: Step) -> list[str]:
    """The reply to one step, as far as it must be the same everywhere."""
    data = m.query(step) if isinstance(step, str) else step
    wire.send(data)
    if data.endswith(m.FLUSH):
        return [shown(one) for one in wire.until("1")]
    turns = sum(kind in "QS" for kind in types_of(data))
    return [shown(one) for one in wire.until("Z", turns)]


def shown(one: Message) -> str:
    """A message without what may differ: places in the source, and what surrounds an error's text."""
    if one.kind in "EN":
        return f"{one.kind} {one.fields['V']} {one.fields['C']} {one.fields['M']}"
    if one.kind == "D":
        return f"D {one.row}"
    if one.kind == "T":
        return f"T {one.columns}"
    return f"{one.kind} {one.body!r}"


STORIES: dict[str, list[Step]] = {
    "dropped by code": [
        parse("x", "SELECT 1"), "DO $$ BEGIN EXECUTE 'DEALLOCATE x'; END $$", bound("x"), parse("x", "SELECT 2"),
        bound("x")],
    "dropped by code's own": [parse("x", "SELECT 1"), "DO $$ BEGIN DEALLOCATE x; END $$", bound("x"), "EXECUTE x"],
    "dropped by code in a batch": [
        parse("x", "SELECT 1"), batch("DO $$ BEGIN EXECUTE 'DEALLOCATE x'; END $$"), bound("x")],
    "dropped by code in a block": [
        parse("x", "SELECT 1"), "BEGIN", "DO $$ BEGIN EXECUTE 'DEALLOCATE x'; END $$", "ROLLBACK", bound("x")],
    "dropped by code that fails": [
        parse("x", "SELECT 1"), "DO $$ BEGIN EXECUTE 'DEALLOCATE x'; RAISE 'no'; END $$", bound("x")],
    "what SQL has prepared, by code": [
        "PREPARE x AS SELECT 1", "DO $$ BEGIN EXECUTE 'DEALLOCATE x'; END $$", "EXECUTE x"],
    "all, by code": [
        parse("x", "SELECT 1"), parse("y", "SELECT 2"), "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", bound("x"),
        bound("y"), parse("x", "SELECT 3"), bound("x")],
    "all, by code in a block": [
        parse("x", "SELECT 1"), "BEGIN", "DO $$ BEGIN DEALLOCATE ALL; END $$", "ROLLBACK", bound("x")],
    "a name that code puts together": [
        parse("xyz", "SELECT 1"), "DO $$ BEGIN EXECUTE format('DEALLOCATE %I', 'x' || 'yz'); END $$", bound("xyz")],
    "one of two, by code": [
        parse("x", "SELECT 1"), parse("y", "SELECT 2"), "DO $$ BEGIN DEALLOCATE y; END $$", bound("x"), bound("y")],
    "nothing of that name, by code": [parse("x", "SELECT 1"), "DO $$ BEGIN DEALLOCATE y; END $$", bound("x")],
    "executed by code": [parse("x", "SELECT 1"), "DO $$ BEGIN EXECUTE 'EXECUTE x'; END $$", bound("x")],
    "prepared by code": ["DO $$ BEGIN EXECUTE 'PREPARE x AS SELECT 1'; END $$", "EXECUTE x", bound("x")],
    "a name that is taken, by code": [
        parse("x", "SELECT 1"), "DO $$ BEGIN EXECUTE 'PREPARE x AS SELECT 2'; END $$", bound("x")],
    "made anew by code": [
        parse("x", "SELECT 1"), "DO $$ BEGIN DEALLOCATE x; EXECUTE 'PREPARE x AS SELECT 2'; END $$", bound("x"),
        "EXECUTE x"],
    "not dropped, for something before failed": [parse("s", "SELECT 1"), "SELECT 1/0; DEALLOCATE s", bound("s")],
    "not dropped in a failed block": [parse("s", "SELECT 1"), "BEGIN", "SELECT 1/0", "DEALLOCATE s", "ROLLBACK",
                                      bound("s")],
    "not dropped, for it was only bound": [parse("s", "SELECT 1"),
                                           m.parse("", "DEALLOCATE s") + m.bind("", "") + m.SYNC, bound("s")],
    "not dropped in a batch that failed": [parse("s", "SELECT 1"), batch("SELECT 1/0", "DEALLOCATE s"), bound("s")],
    "one of two is dropped": [parse("s", "SELECT 1"), parse("t", "SELECT 2"), "PREPARE u AS SELECT 3",
                              "DEALLOCATE u; DEALLOCATE t; SELECT 1/0; DEALLOCATE s", bound("s"), bound("t"),
                              bound("u")],
    "dropped, and what follows in one write": [parse("s", "SELECT 1"), m.query("DEALLOCATE s") + parse("s", "SELECT 2")
                                               + bound("s"), bound("s")],
    "not dropped, and what follows in one write": [parse("s", "SELECT 1"),
                                                   m.query("SELECT 1/0; DEALLOCATE s") + bound("s")
                                                   + batch("SELECT 1/0", "DEALLOCATE s") + bound("s")],
    "a failed block in one write": [parse("s", "SELECT 1"), m.query("BEGIN") + m.query("SELECT 1/0")
                                    + m.query("EXECUTE s") + m.query("DEALLOCATE s") + m.query("ROLLBACK"),
                                    "EXECUTE s"],
    "a failed batch in front in one write": [parse("s", "SELECT 1"),
                                             batch("SELECT 1/0", "EXECUTE s") + m.query("EXECUTE s")],
    "described by what it executes": [parse("t", "SELECT 1 AS one, 2 AS two"), parse("e", "EXECUTE t"), describe("e"),
                                      bound("e"), describe("e"), bound("e"), parse("", "EXECUTE t"), describe(""),
                                      bound("")],
    "dropped twice at once": [parse("s", "SELECT 1"), "DEALLOCATE ALL; DEALLOCATE s", bound("s"),
                              parse("s", "SELECT 2"), bound("s")],
    "dropped by a statement that was described": [parse("s", "SELECT 1"), parse("d", "DEALLOCATE s"), describe("d"),
                                                  bound("d"), bound("s")],
    "sql keeps its name in one write": ["PREPARE s AS SELECT 5", parse("s", "SELECT 6") + bound("s"), bound("s"),
                                        "BEGIN; SAVEPOINT a", parse("s", "SELECT 6"), "ROLLBACK TO a", bound("s"),
                                        "EXECUTE s", "ROLLBACK"],
    "parse keeps its name in one write": [parse("s", "SELECT 5"), parse("s", "SELECT 6") + close("s") + describe("s"),
                                          bound("s")],
    "the unnamed one of a later turn": [parse("", "SELECT 'old'"), m.bind("", "nowhere") + parse("", "SELECT 'mid'")
                                        + parse("", "SELECT 'new'"), m.query(";"), parse("", "SELECT 'old'"),
                                        m.bind("", "nowhere") + parse("", "SELECT 'mid'") + parse("", "SELECT 'new'"),
                                        bound("")],
    "prepared and executed": ["PREPARE s AS SELECT 1 AS one", "EXECUTE s", "EXECUTE s", "DEALLOCATE s", "EXECUTE s"],
    "with parameters": ["PREPARE s (int, text) AS SELECT $1 + 1 AS n, $2 AS t", "EXECUTE s(1, 'a')", "EXECUTE s(2)"],
    "the name is taken": ["PREPARE s AS SELECT 1", "PREPARE s AS SELECT 2", "EXECUTE s"],
    "nothing of this name": ["EXECUTE s", "DEALLOCATE s", bound("s"), close("s"), describe("s")],
    "sql, then protocol": ["PREPARE s AS SELECT 1", bound("s"), describe("s"), close("s"), "EXECUTE s", bound("s")],
    "sql takes the name from parse": ["PREPARE s AS SELECT 1", parse("s", "SELECT 2"), "EXECUTE s", bound("s")],
    "parse takes the name from sql": [parse("s", "SELECT 1"), "PREPARE s AS SELECT 2", bound("s"), "EXECUTE s"],
    "parse, then sql": [parse("s", "SELECT 1 AS one"), "EXECUTE s", "DEALLOCATE s", bound("s"), "EXECUTE s"],
    "parse, deallocate, parse": [parse("s", "SELECT 1"), "DEALLOCATE s", parse("s", "SELECT 2"), bound("s"),
                                 "EXECUTE s"],
    "parse, deallocate, prepare": [parse("s", "SELECT 1"), "DEALLOCATE s", "PREPARE s AS SELECT 2", bound("s")],
    "prepare, close, parse": ["PREPARE s AS SELECT 1", close("s"), parse("s", "SELECT 2"), "EXECUTE s", bound("s")],
    "executed with parameters": [parse("s", "SELECT $1 AS x", 23), "EXECUTE s(7)", bound("s", "8"), "EXECUTE s"],
    "deallocate all": ["PREPARE s AS SELECT 1", parse("t", "SELECT 2"), "DEALLOCATE ALL", "EXECUTE s", "EXECUTE t",
                       bound("s"), bound("t"), parse("t", "SELECT 3"), bound("t"), "PREPARE s AS SELECT 4", bound("s")],
    "deallocate prepare all": ["PREPARE s AS SELECT 1", "DEALLOCATE PREPARE ALL", "EXECUTE s"],
    "deallocate prepare": ["PREPARE s AS SELECT 1", "DEALLOCATE PREPARE s", bound("s")],
    "discard all": ["PREPARE s AS SELECT 1", parse("t", "SELECT 2"), "DISCARD ALL", "EXECUTE s", bound("t")],
    "discard plans keeps": ["PREPARE s AS SELECT 1", "DISCARD PLANS", "EXECUTE s", "RESET ALL", "EXECUTE s"],
    "block": ["BEGIN", "PREPARE s AS SELECT 1", "EXECUTE s", "COMMIT", "EXECUTE s", bound("s")],
    "rollback keeps": ["BEGIN", "PREPARE s AS SELECT 1", "ROLLBACK", "EXECUTE s", "DEALLOCATE s"],
    "rollback does not bring back": ["PREPARE s AS SELECT 1", "BEGIN", "DEALLOCATE s", "ROLLBACK", "EXECUTE s"],
    "parse in a block": ["BEGIN", parse("s", "SELECT 1"), "EXECUTE s", "DEALLOCATE s", "ROLLBACK", bound("s")],
    "failed block": ["PREPARE s AS SELECT 1", "BEGIN", "SELECT 1/0", "EXECUTE s", "DEALLOCATE s", "ROLLBACK",
                     "EXECUTE s"],
    "closed in a batch that fails": ["PREPARE s AS SELECT 1", m.parse("", "SELECT 1/0") + bound("")[:-5] + close("s"),
                                     "EXECUTE s", m.close_statement("s") + m.parse("s", "SELECT 2") + bound("s"),
                                     "EXECUTE s"],
    "closed in a block": ["PREPARE s AS SELECT 1", "BEGIN", close("s"), "ROLLBACK", "EXECUTE s", parse("s",
                          "SELECT 2"), bound("s")],
    "failing statement": ["PREPARE s AS SELECT 1/0", "EXECUTE s", bound("s"), "EXECUTE s", "DEALLOCATE s"],
    "text that is refused": ["PREPARE s AS SELECT nothing_there", "EXECUTE s", parse("s", "SELECT 1"), bound("s")],
    "several at once": ["PREPARE s AS SELECT 1; PREPARE t AS SELECT 2; EXECUTE t; EXECUTE s", "EXECUTE t", bound("s")],
    "several, the last fails": ["PREPARE s AS SELECT 1; PREPARE t AS SELECT 2; SELECT 1/0", "EXECUTE s", "EXECUTE t"],
    "several, one before fails": ["SELECT 1/0; PREPARE s AS SELECT 1", "EXECUTE s"],
    "prepared and dropped at once": ["PREPARE s AS SELECT 1; DEALLOCATE s", "EXECUTE s"],
    "dropped and prepared at once": ["PREPARE s AS SELECT 1", "DEALLOCATE s; PREPARE s AS SELECT 2; EXECUTE s",
                                     bound("s")],
    "all dropped, one prepared at once": [parse("t", "SELECT 0"), "PREPARE s AS SELECT 1",
                                          "DEALLOCATE ALL; PREPARE s AS SELECT 2; EXECUTE s", "EXECUTE s", bound("t")],
    "prepared and rolled back at once": ["BEGIN; PREPARE s AS SELECT 1; ROLLBACK; EXECUTE s", "EXECUTE s"],
    "quoted names": ['PREPARE "A ""b" AS SELECT 1', 'EXECUTE "A ""b"', 'DEALLOCATE "A ""b"', 'EXECUTE "A ""b"'],
    "folded names": ["PREPARE Stmt AS SELECT 1", "EXECUTE STMT", bound("stmt"), 'EXECUTE "Stmt"', bound("Stmt")],
    "long names": [f"PREPARE {'n' * 70} AS SELECT 1", f"EXECUTE {'n' * 63}", bound("n" * 63), f"DEALLOCATE {'n' * 66}"],
    "a cursor of it": ["PREPARE s AS SELECT 1 AS n", "BEGIN", "EXPLAIN (COSTS OFF) EXECUTE s",
                       "CREATE TEMP TABLE made AS EXECUTE s",
                       "SELECT * FROM made", "ROLLBACK"],
    "another search path": ["PREPARE s AS SELECT current_setting('search_path')", "SET search_path = pg_catalog",
                            "EXECUTE s",
                            "RESET search_path", "EXECUTE s"],
    "what writes": ["BEGIN", "CREATE TEMP TABLE written (n int)",
                    "PREPARE s (int) AS INSERT INTO written VALUES ($1) RETURNING n",
                    "EXECUTE s(1)", bound("s", "2"), "SELECT * FROM written ORDER BY n", "DEALLOCATE s", "ROLLBACK"],
    "prepare by the extended protocol": [m.parse("", "PREPARE s AS SELECT 1") + bound(""), "EXECUTE s", bound("s"),
                                         m.parse("", "DEALLOCATE s") + bound(""), bound("s")],
    "execute by the extended protocol": ["PREPARE s AS SELECT 1 AS n", m.parse("", "EXECUTE s") + bound(""),
                                         parse("x", "EXECUTE s"), bound("x"), bound("x"), "DEALLOCATE s", bound("x")],
    "deallocate by a statement of its own": [parse("d", "DEALLOCATE s"), "PREPARE s AS SELECT 1", bound("d"),
                                             "EXECUTE s",
                                             parse("s", "SELECT 2"), bound("d"), bound("s"), bound("d")],
    "deallocate itself": [parse("d", "DEALLOCATE d"), bound("d"), bound("d")],
    "within code": ["DO $$ BEGIN EXECUTE 'PREPARE s AS SELECT 1'; END $$", "EXECUTE s", bound("s"),
                    "DO $$ BEGIN EXECUTE 'DEALLOCATE s'; END $$", "EXECUTE s"],
    "executed in the batch that prepared it": [batch(m.parse("s", "SELECT 1"), "EXECUTE s"), "EXECUTE s", bound("s")],
    "prepared anew in one batch": [batch(m.parse("s", "SELECT 1"), "EXECUTE s", m.close_statement("s"),
                                         m.parse("s", "SELECT 2"), "EXECUTE s"), "EXECUTE s"],
    "bound where its statement is prepared anew": [parse("x", "EXECUTE s"), batch(m.parse("s", "SELECT 1"), ran("x")),
                                                   batch(m.close_statement("s"), m.parse("s", "SELECT 1"), ran("x"),
                                                         m.close_statement("s"), m.parse("s", "SELECT 2"), ran("x"))],
    "query behind a parse without sync": [m.parse("s", "SELECT 1") + m.FLUSH + m.query("EXECUTE s"),
                                          m.parse("t", "SELECT $1::int") + m.query("EXECUTE t(2); DEALLOCATE t"),
                                          bound("t")],
    "query takes a name without sync": [m.parse("s", "SELECT 1") + m.query("PREPARE s AS SELECT 2"), "EXECUTE s",
                                        m.parse("t", "SELECT 1") + m.query("DEALLOCATE t"), "PREPARE t AS SELECT 3",
                                        bound("t")],
    "without sync in a block": ["BEGIN", m.parse("s", "SELECT 1") + m.query("EXECUTE s"), "COMMIT", "EXECUTE s"],
    "batch that fails before": [batch(m.parse("s", "SELECT 1"), "SELECT 1/0", "EXECUTE s"), "EXECUTE s",
                                batch(m.parse("s", "SELECT 2"), "EXECUTE s")],
    "batch that fails behind": [batch(m.parse("s", "SELECT 1"), "EXECUTE s", "SELECT 1/0", "EXECUTE s"), "EXECUTE s"],
    "all deallocated in a batch with a pause": [parse("s", "SELECT 1"), m.parse("d", "DEALLOCATE ALL") + m.FLUSH,
                                                batch(ran("d"), m.parse("s", "SELECT 2"), ran("s")), bound("s")],
    "all deallocated by a statement prepared before": [parse("d", "DEALLOCATE ALL"), parse("s", "SELECT 1"),
                                                       batch(ran("d"), m.parse("s", "SELECT 2"), ran("s")), bound("s"),
                                                       bound("d")],
    "deallocated in its batch": [batch(m.parse("s", "SELECT 1"), "EXECUTE s", "DEALLOCATE s", m.parse("s", "SELECT 1"),
                                       "EXECUTE s"), "EXECUTE s"],
    "a pipeline of both": [m.parse("a", "SELECT 1") + m.bind("", "a") + m.execute() + m.parse("",
                           "PREPARE b AS SELECT 2")
                           + m.bind("", "") + m.execute() + m.bind("", "b") + m.execute() + m.SYNC, "EXECUTE a",
                           "EXECUTE b"],
    "all deallocated behind a comment": [parse("s", "SELECT 1"), m.query("/* x */ DEALLOCATE ALL")
                                         + m.parse("s", "SELECT 2") + bound("s"), bound("s")],
    "all discarded behind a comment": [parse("s", "SELECT 1"), m.query("-- x\nDISCARD ALL") + m.parse("s", "SELECT 2")
                                       + bound("s"), bound("s")],
    "all deallocated behind another": [parse("s", "SELECT 1"), m.query("SELECT 1; DEALLOCATE ALL")
                                       + m.parse("s", "SELECT 2") + bound("s"), bound("s")],
    "all deallocated behind a comment, in a batch": [parse("s", "SELECT 1"),
                                                     m.parse("", "/**/ DEALLOCATE ALL") + ran("")
                                                     + m.parse("s", "SELECT 2") + bound("s"), bound("s")],
    "parsed in what was skipped behind DEALLOCATE ALL": [parse("s", "SELECT 1"), parse("d", "DEALLOCATE ALL"),
                                                         m.bind("", "x") + ran("d") + parse("s", "SELECT 2"),
                                                         bound("s")],
    "unnamed, parsed in what was skipped": [parse("", "SELECT 'own'"), m.bind("", "x") + parse("", "SELECT 2")
                                            + bound(""), bound("")],
    "unnamed, parsed only in what was skipped": ["SELECT 1", m.bind("", "x") + parse("", "SELECT 2") + bound("")],
    "unnamed, closed in what was skipped": [parse("", "SELECT 'own'"), m.bind("", "x") + close("") + bound(""),
                                            bound("")],
    "unnamed, parsed in what was skipped, and a query behind it": [m.parse("", "SELECT 1") + m.bind("", "x")
                                                                   + parse("", "SELECT 2") + m.query("SELECT 3"),
                                                                   bound("")],
    "dropped in the batch that could not parse it": [batch(m.parse("s", "SELECT * FROM nowhere"), "DEALLOCATE s"),
                                                     parse("s", "SELECT 2"), bound("s")],
    "dropped in a batch that did not parse it anew": [parse("s", "SELECT 1"), batch(m.bind("", "x"), "DEALLOCATE s",
                                                      m.parse("s", "SELECT 1"), "DEALLOCATE s"), bound("s")],
    "parsed anew in what was skipped, and executed behind it": [parse("s", "SELECT 1"), batch(m.bind("", "x"),
                                                                m.close_statement("s"), m.parse("s", "SELECT 2"))
                                                                + m.query("EXECUTE s"), "EXECUTE s"],
    "parsed in what was skipped, and described behind it": [parse("s", "SELECT 1"), parse("e", "EXECUTE s"),
                                                            batch(m.bind("", "x"), m.close_statement("s"),
                                                                  m.parse("s", "SELECT 2 AS two")) + describe("e")],
    "executed in the batch that dropped it": [parse("s", "SELECT 1"), batch("DEALLOCATE s", "EXECUTE s"), bound("s")],
    "executed in the batch that dropped all": [batch(m.parse("s", "SELECT 1"), "DEALLOCATE ALL", "EXECUTE s"),
                                               bound("s")],
    "executed behind the batch that dropped all": [batch(m.parse("s", "SELECT 1"), "DEALLOCATE ALL")
                                                   + m.query("EXECUTE s"), bound("s")],
    "executed behind a batch that dropped all in vain": [parse("s", "SELECT 1"), batch(m.bind("", "x"),
                                                         "DEALLOCATE ALL") + m.query("EXECUTE s"), bound("s")],
    "prepared in the batch that dropped all": [batch(m.parse("s", "SELECT 1"), "DEALLOCATE ALL",
                                                     "PREPARE s AS SELECT 2"), "EXECUTE s"],
    "unnamed, in a pipeline": [parse("", "SELECT 1") + bound("") + parse("", "SELECT 2") + bound("") + bound("")],
}  # fmt: skip


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))
def test_same_answers_as_by_postgresql(story: list[Step], turns: int, pool: Pooler, cluster: Cluster) -> None:
    client, other, direct = pool.wire(), pool.wire(), cluster.wire()
    # It uses the same names for something else.
    said(other, "PREPARE s AS SELECT 'another''s'")
    said(other, parse("t", "SELECT 'another''s'"))
    said(other, parse("e", "EXECUTE t"))
    for number, step in enumerate(story):
        expected, got = said(direct, step), said(client, step)
        assert got == expected, f"step {number}: {step!r}"
        # Now and then its server serves another meanwhile.
        if number % 2 == turns and got[-1] == "Z b'I'":
            assert 'D [b"another\'s"]' in said(other, "EXECUTE s")
            assert 'D [b"another\'s"]' in said(other, bound("t"))
            assert "T ['?column?']" in said(other, describe("e"))
            assert 'D [b"another\'s"]' in said(other, batch("SELECT 'another''s'"))
    assert said(client, NAMES) == said(direct, NAMES)
    assert said(other, NAMES) == ["T ['name']", "D [b's']", "C b'SELECT 1\\x00'", "Z b'I'"]


def test_its_table_is_gone(pool: Pooler, cluster: Cluster) -> None:
    client, other, direct = pool.wire(), pool.wire(), cluster.wire()
    for number in range(2):
        cluster.admin("CREATE TABLE going (v int); GRANT ALL ON going TO PUBLIC")
        steps = [parse("s", f"SELECT v FROM going -- {number}")]
        assert said(client, steps[0]) == said(direct, steps[0])
        cluster.admin("DROP TABLE going")
        if number:
            other.run("BEGIN; SELECT 1") if pool.pool()["sv_idle"] > 1 else None
        for step in ("EXECUTE s", "BEGIN", "EXECUTE s", "ROLLBACK", "EXECUTE nothing", "DEALLOCATE nothing; EXECUTE s",
                     "PREPARE s AS SELECT 1", "DEALLOCATE s", "EXECUTE s"):  # fmt: skip
            assert said(client, step) == said(direct, step), step


def test_two_clients_have_a_name_each(pool: Pooler) -> None:
    clients = [pool.wire() for _ in range(4)]
    for number, wire in enumerate(clients):
        if number % 2:
            wire.run(f"PREPARE s AS SELECT {number}")
        else:
            said(wire, parse("s", f"SELECT {number}"))
    for _ in range(3):
        for number, wire in enumerate(clients):
            assert wire.one("EXECUTE s") == str(number)
            wire.send(bound("s"))
            assert rows_in(wire.until("Z")) == [[str(number).encode()]]
    clients[1].run("DEALLOCATE s")
    clients[2].run("DEALLOCATE ALL")
    assert error_in(clients[1].ask("EXECUTE s"))["C"] == "26000"
    assert error_in(clients[2].ask("EXECUTE s"))["C"] == "26000"
    assert clients[0].one("EXECUTE s") == "0"
    assert clients[3].one("EXECUTE s") == "3"


def test_fresh_client_finds_nothing(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first = pool.wire()
    for number in range(10):
        first.run(f"PREPARE s{number} AS SELECT {number}")
    said(first, parse("t", "SELECT 1"))
    fresh = pool.wire()
    assert fresh.run(NAMES) == []
    assert error_in(fresh.ask("EXECUTE t"))["C"] == "26000"
    fresh.run("PREPARE s1 AS SELECT 'mine'")
    assert first.one("EXECUTE s1") == "1"
    first.close()
    assert fresh.one("EXECUTE s1") == "mine"
    assert len(fresh.run(NAMES)) == 1


def pinned(pool: Pooler) -> list[str | None]:
    """What servers are kept for."""
    return [row["pinned"] for row in pool.console("SHOW SERVERS") if row["pinned"]]


@pytest.mark.parametrize("together", [False, True])
def test_more_than_can_be_taken_along_keep_the_server(together: bool, pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    many, other = pool.wire(), pool.wire()
    texts = [f"PREPARE s{number} AS SELECT {number}" for number in range(65)]
    if together:
        many.run(";".join(texts))
    else:
        for number, text in enumerate(texts):
            many.run(text)
            assert many.one(f"EXECUTE s{number}") == str(number)
    assert many.one("EXECUTE s64") == "64"
    eventually(lambda: len(pinned(pool)) == 1)
    assert other.run(NAMES) == []
    many.run("DEALLOCATE s7")
    eventually(lambda: not pinned(pool))
    assert many.one("EXECUTE s64") == "64"
    assert error_in(many.ask("EXECUTE s7"))["C"] == "26000"
    many.run("PREPARE s7 AS SELECT 7")
    eventually(lambda: len(pinned(pool)) == 1)
    many.run("DEALLOCATE ALL")
    eventually(lambda: not pinned(pool))
    assert many.run(NAMES) == []


def test_as_many_names_for_one_text(pool: Pooler) -> None:
    """A driver may name by counting, another by content; all reach the same statement."""
    text = "SELECT 1 AS same"
    clients = [pool.wire() for _ in range(4)]
    for at, wire in enumerate(clients):
        said(wire, parse(f"n{at}", text))
        wire.run(f"PREPARE m{at} AS {text}")
    for at, wire in enumerate(clients):
        assert wire.one(f"EXECUTE n{at}") == wire.one(f"EXECUTE m{at}") == "1"
        assert kinds(wire.ask(f"EXECUTE n{at + 1}")) == "EZ"


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "UTF8"])
def test_name_beyond_ascii_by_its_escape(pooler: MakePooler, cluster: Cluster, encoding: str) -> None:
    """In a database that isn't UTF8 it has bytes of its own, which may be no text as clients have it."""
    cluster.admin("DROP DATABASE IF EXISTS old")
    cluster.admin(f"CREATE DATABASE old OWNER app ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    pool = pooler(databases={"old": {}}, default_pool_size=1, workers=1)
    wire = pool.wire(database="old")
    wire.run('PREPARE U&"\\00e9" AS SELECT 5')
    assert wire.one('EXECUTE U&"\\00e9"') == "5"
    wire.run('DEALLOCATE U&"\\00e9"')
    wire.bye()
    with pool.wire(database="old") as other:
        assert other.one("SELECT count(*) FROM pg_prepared_statements") == "0"
        other.bye()
    cluster.admin("DROP DATABASE old WITH (FORCE)")
