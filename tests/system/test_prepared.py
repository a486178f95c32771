"""Prepared statements of the protocol work across servers, are shared between clients, and bounded per server."""

import random

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import together
from harness.pooler import Pooler
from harness.wire import Message, Wire, error_in, kinds, rows_in

# Through a view nobody sees that it is asked, and what the server has is shown as it is.
ON_SERVER = "SELECT count FROM on_server"
VIEW = "CREATE OR REPLACE VIEW on_server AS SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql"
SHOWN = """SELECT name, statement, parameter_types, from_sql,
        prepare_time BETWEEN now() - '1 h'::interval AND clock_timestamp()
    FROM pg_prepared_statements ORDER BY name"""


@pytest.fixture(autouse=True)
def view(cluster: Cluster) -> None:
    """Make the view that shows how many statements a server has."""
    cluster.wire().run(VIEW)


def run(wire: Wire, name: str, *values: str) -> bytes | None:
    """The only value that a prepared statement gives."""
    wire.send(m.bind("", name, *values), m.execute(), m.SYNC)
    read = wire.until()
    assert kinds(read) == "2DCZ", read
    return rows_in(read)[0][0]


def prepare(wire: Wire, name: str, sql: str) -> None:
    """Prepare a statement and see it acknowledged."""
    wire.send(m.parse(name, sql), m.SYNC)
    assert kinds(wire.until()) == "1Z"


def test_statement_works_on_another_server(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    client, other = pool.wire(), pool.wire()
    prepare(client, "s", "SELECT pg_backend_pid() + $1::int")
    seen = set()
    for _ in range(3):
        seen.add(run(client, "s", "0"))
        other.run("BEGIN")
        seen.add(run(client, "s", "0"))
        client.run("BEGIN")
        other.run("COMMIT")
        seen.add(run(client, "s", "0"))
        client.run("COMMIT")
    assert len(seen) == 2


def test_unnamed_statement_works_on_another_server(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    client, other = pool.wire(), pool.wire()
    prepare(client, "", "SELECT pg_backend_pid() + $1::int")
    first = run(client, "", "0")
    other.run("BEGIN")
    if other.one("SELECT pg_backend_pid()") == (first or b"").decode():
        prepare(client, "", "SELECT $1::text || ' elsewhere'")
    else:
        client.run("BEGIN")
        other.run("COMMIT")
        prepare(client, "", "SELECT $1::text || ' elsewhere'")
    assert run(client, "", "I am") == b"I am elsewhere"


def test_unnamed_statement_is_ended_only_by_a_query_that_is_read(pooler: MakePooler) -> None:
    """In the middle of a batch one may be skipped. What another client has parsed is never taken for it."""
    pool = pooler(default_pool_size=1, workers=1)
    client, other = pool.wire(), pool.wire()
    query = m.query("SELECT 1")

    def after(batch: bytes) -> list[Message]:
        prepare(client, "", "SELECT 'own' || $1")
        prepare(other, "", "SELECT 'another''s' || $1")
        assert run(other, "", "") == b"another's"
        client.send(batch)
        client.until("Z")
        client.send(m.bind("", "", "."), m.execute(), m.SYNC)
        return client.until("Z")

    assert rows_in(after(m.bind("", "nowhere") + query + m.SYNC)) == [[b"own."]]
    assert error_in(after(m.parse("t", "SELECT 1") + query))["C"] == "26000"


@pytest.mark.parametrize("begins_nothing", [b"", m.close_portal("p"), m.close_statement("")], ids=["", "portal", "own"])
def test_transaction_that_a_query_in_a_batch_leaves_open_is_nobody_else_s(
    pooler: MakePooler, cluster: Cluster, begins_nothing: bytes
) -> None:
    """PostgreSQL 18 says that it is idle, but answers what comes next with XX000, and rolls back."""
    pool = pooler(default_pool_size=1, workers=1)
    client, other, direct = pool.wire(), pool.wire(), cluster.wire()
    insert = m.parse("", "INSERT INTO notes VALUES (77, '') ON CONFLICT DO NOTHING") + m.bind("", "") + m.execute()
    count = m.query("SELECT count(*) FROM notes WHERE id = 77")

    def told(wire: Wire, sent: bytes, turns: int) -> list[str]:
        wire.send(sent)
        return [one.fields["C"] if one.kind == "E" else repr(one) for one in wire.until("Z", turns)]

    for wire in (direct, client):
        wire.run("DELETE FROM notes")
        assert told(wire, insert + m.query("SET app.x = 'own'") + begins_nothing + m.SYNC, 2)[-1] == repr(
            Message("Z", b"I")
        )
        if wire is client:
            other.send(m.query("SELECT 1"))
        answers = told(wire, count, 1) + told(wire, count, 1)
        if wire is direct:
            expected = answers
    assert answers == expected
    assert kinds(other.until()) == "TDCZ"
    assert other.one("SELECT coalesce(current_setting('app.x', true), '')") == ""
    direct.run("DELETE FROM notes")
    assert pool.console("SHOW PINS") == []


@pytest.mark.parametrize(
    "between", [b"", m.parse("", "SELECT 2"), m.parse("", "SELECT 2") + m.bind("", "") + m.execute()]
)
def test_batch_is_not_said_again_where_what_was_done_before_would_be_lost(
    pooler: MakePooler, cluster: Cluster, between: bytes
) -> None:
    """A Bind that is refused as a table has changed takes back what was executed before a Query of the same batch."""
    pool = pooler(default_pool_size=1, workers=1)
    client, direct, maker = pool.wire(), cluster.wire(), cluster.wire()
    insert = m.parse("", "INSERT INTO notes VALUES (78, '')") + m.bind("", "") + m.execute()
    found = []
    for wire in (direct, client):
        maker.run("DROP TABLE IF EXISTS grown")
        maker.run("CREATE TABLE grown AS SELECT 1 AS a")
        maker.run("DELETE FROM notes WHERE id = 78")
        wire.send(m.parse("grows", "SELECT * FROM grown") + m.bind("", "grows") + m.execute() + m.SYNC)
        assert kinds(wire.until()) == "12DCZ"
        maker.run("ALTER TABLE grown ADD b int")
        wire.send(insert + m.query("SELECT 1"))
        before = kinds(wire.until())
        wire.send(between + m.bind("", "grows") + m.execute() + m.SYNC)
        found.append((before, kinds(wire.until()), maker.one("SELECT count(*) FROM notes WHERE id = 78")))
    maker.run("DROP TABLE grown")
    assert found[1] == found[0]


def test_name_that_postgresql_can_not_read_troubles_nobody_else(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    client, other = pool.wire(), pool.wire()
    client.send(m.message("P", b"\xff\0SELECT 1\0\0\0"), m.SYNC)
    client.until()
    for _ in range(2):
        client.send(m.message("Q", b'PREPARE "\xff" AS SELECT 1\0'))
        assert kinds(client.until()) == "EZ"
        assert kinds(other.ask("SELECT 1")) == "TDCZ"
        assert kinds(client.ask("SELECT 1")) == "TDCZ"


@pytest.mark.parametrize("code", ["DEALLOCATE ALL", "DEALLOCATE %I"], ids=["all", "each"])
def test_code_that_deallocates_takes_nothing_from_others(code: str, pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    client, other = pool.wire(), pool.wire()
    prepare(other, "s", "SELECT 42 + $1::int")
    assert run(other, "s", "0") == b"42"
    client.run(
        "DO $$ DECLARE found name; BEGIN FOR found IN SELECT name FROM pg_prepared_statements WHERE name <> '' LOOP"
        f" EXECUTE format('{code}', found); END LOOP; END $$"
    )
    assert run(other, "s", "0") == b"42"


@pytest.mark.parametrize("how", ["simple", "unnamed", "named", "in a block", "function"])
def test_client_sees_just_its_own_statements(how: str, pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    other, holder = pool.wire(), pool.wire()
    asked = SHOWN if how != "function" else SHOWN.replace("pg_prepared_statements", "pg_prepared_statement()")

    def seen(wire: Wire) -> list[str]:
        wire.send(m.parse("a", "SELECT $1::int + $2"), m.parse("b", "SELECT 'mine'"), m.parse("c", "VALUES ($1)", 20))
        wire.send(m.parse("gone", "SELECT 0"), m.close_statement("gone"), m.SYNC, m.query("PREPARE d AS SELECT 'sql'"))
        wire.until("Z", 2)
        told = []
        for turn in range(2):
            if wire is not direct and not turn:
                holder.run("BEGIN")
            if how in ("unnamed", "named"):
                name = "e" if how == "named" else ""
                parse = b"" if turn and name else m.parse(name, asked)
                wire.send(parse, m.bind("", name), m.describe_portal(), m.execute(), m.SYNC)
                told += [repr(one) for one in wire.until() if one.kind != "T"]
            else:
                sent = ["BEGIN", asked, "COMMIT"] if how == "in a block" else [asked]
                told += [repr(one) for sql in sent for one in wire.ask(sql) if one.kind != "T"]
        return told

    with cluster.wire() as direct:
        wanted = seen(direct)
    client = pool.wire()
    prepare(other, "s", "SELECT 'another''s', $1::text")
    assert run(other, "s", "x") == b"another's"
    assert seen(client) == wanted
    holder.run("COMMIT")
    assert run(other, "s", "x") == b"another's"
    assert run(client, "b") == b"mine"
    assert len(client.run(SHOWN)) == 4 + (how == "named")


@pytest.mark.parametrize("seed", range(6))
def test_client_sees_just_its_own_statements_whatever_it_does_in_between(
    seed: int, pooler: MakePooler, cluster: Cluster
) -> None:
    """What a server shows already is not said to it again; so it must be what it has to be."""
    pool = pooler(default_pool_size=1, workers=1)
    client, other, direct = pool.wire(), pool.wire(), cluster.wire()
    chance = random.Random(seed)
    prepare(other, "a", "SELECT 'another''s'")

    def step() -> bytes:
        name = chance.choice("abcd")
        return chance.choice(
            [
                m.query(SHOWN),
                m.query(SHOWN),
                m.parse(name, f"SELECT '{name}', {chance.randrange(3)}") + m.SYNC,
                m.parse(name, "SELECT no_such") + m.SYNC,
                m.close_statement(name) + m.SYNC,
                m.bind("", name) + m.execute() + m.SYNC,
                m.parse("", SHOWN) + m.bind("", "") + m.execute() + m.close_statement(name) + m.SYNC,
                m.query(f"PREPARE {name} AS SELECT 'sql'"),
                m.query(f"EXECUTE {name}"),
                m.query(f"DEALLOCATE {name}"),
                m.query("SELECT no_such"),
                m.query(chance.choice(["BEGIN", "COMMIT"])),
                m.query(chance.choice(["SELECT 1", "SELECT 1", "SELECT 1", "DEALLOCATE ALL"])),
            ]
        )

    def said(wire: Wire, data: bytes) -> list[tuple[str, object]]:
        wire.send(data)
        read = [one for one in wire.until() if one.kind not in "TN"]
        return [(one.kind, one.fields["C"] if one.kind == "E" else one.body) for one in read]

    for number in range(60):
        data = step()
        wanted = said(direct, data)
        assert said(client, data) == wanted, f"step {number}: {data!r}"
        if chance.random() < 0.2 and wanted[-1] == ("Z", b"I"):
            assert run(other, "a") == b"another's"


def test_name_of_a_shared_statement_is_nobody_s(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    victim, rogue, direct = pool.wire(), pool.wire(), cluster.wire()
    cluster.wire().run("CREATE OR REPLACE VIEW names AS SELECT name FROM pg_prepared_statements")
    prepare(victim, "s", "SELECT 'still ' || $1")

    def says(wire: Wire, data: bytes, turns: int = 1) -> list[str]:
        wire.send(data)
        read = wire.until("Z", turns)
        return [f"{one.fields['C']} {one.fields['M']}" if one.kind == "E" else repr(one) for one in read]

    def tries(name: str) -> list[bytes]:
        return [
            m.close_statement(name) + m.SYNC,
            m.bind("", name, "x") + m.execute() + m.SYNC,
            m.describe_statement(name) + m.SYNC,
            m.query(f'DEALLOCATE "{name}"'),
            m.query(f"DEALLOCATE {name.upper()}"),
            m.query(f"EXECUTE {name}('x')"),
            m.parse("", f"DEALLOCATE {name}") + m.bind("", "") + m.execute() + m.SYNC,
            m.parse(name, "SELECT 'own'") + m.bind("", name) + m.execute() + m.SYNC,
            m.query(f"EXECUTE {name}"),
            m.close_statement(name) + m.SYNC,
        ]

    assert run(victim, "s", "there") == b"still there"
    (name,) = [name for (name,) in rogue.run("SELECT name FROM names") if name]
    for data in tries(name):
        assert says(rogue, data) == says(direct, data), data
        assert run(victim, "s", "there") == b"still there"
    # A name that is put together, in code that nobody reads.
    rogue.ask(f"DO $$ BEGIN EXECUTE 'DEALLOCATE _pg' || '{name[3:]}'; END $$")
    assert run(victim, "s", "there") == b"still there"


def test_describe_works_on_another_server(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    client, other = pool.wire(), pool.wire()
    prepare(client, "s", "SELECT n FROM numbers WHERE name = $1")
    for order in (0, 1):
        holder = (other, client)[order]
        holder.run("BEGIN")
        client.send(m.describe_statement("s"), m.SYNC)
        assert kinds(client.until()) == "tTZ"
        holder.run("COMMIT")


def test_same_text_is_prepared_once_per_server(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    clients = [pool.wire() for _ in range(5)]
    for number, client in enumerate(clients):
        prepare(client, f"name {number}", "SELECT 'shared', $1::int")
        assert run(client, f"name {number}", "1") == b"shared"
    assert clients[0].one(ON_SERVER) == "1"


def test_same_text_with_other_types_is_another_statement(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    first.send(m.parse("s", "SELECT pg_typeof($1)", 23), m.SYNC)
    second.send(m.parse("s", "SELECT pg_typeof($1)", 25), m.SYNC)
    first.until(), second.until()
    assert run(first, "s", "1") == b"integer"
    assert run(second, "s", "1") == b"text"
    assert run(first, "s", "1") == b"integer"


def test_same_name_means_each_clients_own_statement(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=2)

    def work(number: int) -> None:
        with pool.wire() as wire:
            prepare(wire, "s", f"SELECT 'client {number}: ' || $1")
            for turn in range(20):
                assert run(wire, "s", str(turn)) == f"client {number}: {turn}".encode()
            wire.bye()

    together(12, work)


def test_closing_takes_it_from_no_other(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    prepare(first, "s", "SELECT 1, $1::int")
    prepare(second, "s", "SELECT 1, $1::int")
    first.send(m.close_statement("s"), m.SYNC)
    assert kinds(first.until()) == "3Z"
    assert run(second, "s", "1") == b"1"
    first.run("DEALLOCATE ALL")
    assert run(second, "s", "1") == b"1"
    first.run("DISCARD ALL")
    assert run(second, "s", "1") == b"1"
    first.send(m.bind("", "s", "1"), m.SYNC)
    assert error_in(first.until())["C"] == "26000"


def test_max_prepared_statements_bounds_what_a_server_keeps(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, max_prepared_statements=5)
    wire = pool.wire()
    for number in range(20):
        prepare(wire, f"s{number}", f"SELECT {number}, $1::int")
    for number in (*range(20), 3, 19, 0):
        assert run(wire, f"s{number}", "1") == str(number).encode()
        assert int(wire.one(ON_SERVER) or 0) <= 5


def test_one_pipeline_may_use_more_statements_than_a_server_keeps(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, max_prepared_statements=3)
    wire = pool.wire()
    wire.send(*(m.parse(f"s{n}", f"SELECT {n}") for n in range(10)), m.SYNC)
    assert kinds(wire.until()) == "1" * 10 + "Z"
    wire.send(*(m.bind("", f"s{n}") + m.execute() for n in range(10)), m.SYNC)
    assert [row[0] for row in rows_in(wire.until())] == [str(n).encode() for n in range(10)]
    assert int(wire.one(ON_SERVER) or 0) <= 3


def test_unnamed_statement_is_its_client_s_where_none_are_shared(pooler: MakePooler) -> None:
    """With max_prepared_statements = 0, too: bound, described and closed, whoever parsed another meanwhile."""
    pool = pooler(default_pool_size=1, workers=1, max_prepared_statements=0)
    client, other, newcomer = pool.wire(), pool.wire(), pool.wire()
    prepare(client, "", "SELECT 'own' || $1")
    prepare(other, "", "SELECT 'another''s'")
    newcomer.send(m.bind("", ""), m.execute(), m.SYNC)
    assert error_in(newcomer.until())["C"] == "26000"
    client.send(m.describe_statement(""), m.SYNC)
    assert kinds(client.until()) == "tTZ"
    assert run(other, "") == b"another's"
    assert run(client, "", ".") == b"own."
    client.send(m.close_statement(""), m.SYNC)
    assert kinds(client.until()) == "3Z"
    assert run(other, "") == b"another's"
    client.send(m.bind("", "", "."), m.execute(), m.SYNC)
    assert error_in(client.until())["C"] == "26000"


def test_max_prepared_statements_of_zero_passes_all_through(pooler: MakePooler) -> None:
    wire = pooler(pool_mode="session", max_prepared_statements=0).wire()
    prepare(wire, "my_name", "SELECT 1")
    assert wire.one("SELECT name FROM pg_prepared_statements") == "my_name"


def test_statements_survive_the_loss_of_their_server(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    wire = pool.wire()
    prepare(wire, "s", "SELECT pg_backend_pid(), $1::int")
    first = run(wire, "s", "1")
    cluster.admin(f"SELECT pg_terminate_backend({int(first or 0)}, 5000)")
    assert run(wire, "s", "1") not in (first, None)


def test_failed_parse_is_forgotten_by_the_server(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first, second = pool.wire(), pool.wire()
    cluster.admin("DROP TABLE IF EXISTS later", "app")
    for wire in (first, second):
        wire.send(m.parse("s", "SELECT count(*) FROM later"), m.SYNC)
        assert error_in(wire.until())["C"] == "42P01"
    cluster.admin("CREATE TABLE later (n int); GRANT ALL ON later TO PUBLIC", "app")
    for wire in (first, second):
        prepare(wire, "s", "SELECT count(*) FROM later")
        assert run(wire, "s") == b"0"


def script(rng: random.Random, tag: str) -> list[bytes]:
    """Some pipelines, each ending in Sync or a simple query, in which statements come, go, fail and are shared."""
    names = ["", "a", "b", "c"]
    # Not foldable: a statement used often gets a generic plan, and then fails in Execute rather than in Bind.
    fails = "SELECT 1 / ($1::int + (random() * 0)::int)"
    texts = [f"SELECT '{tag}', $1::int", "SELECT 'common', $1::int", fails, "SELECT $1::int FROM nowhere"]
    pipelines = []
    for _ in range(12):
        parts = []
        for _ in range(rng.randint(1, 6)):
            name = rng.choice(names)
            parts.append(
                rng.choice(
                    [
                        m.parse(name, rng.choice(texts)),
                        m.close_statement(name) + m.parse(name, rng.choice(texts)),
                        m.bind("", name, str(rng.randint(0, 3))) + m.execute(),
                        m.bind("", name, str(rng.randint(0, 3))) + m.describe_portal() + m.execute(),
                        m.describe_statement(name),
                        m.close_statement(name),
                    ]
                )
            )
        pipelines.append(b"".join(parts) + m.SYNC)
        if rng.random() < 0.3:
            sql = rng.choice(["BEGIN", "COMMIT", "ROLLBACK", f"SELECT '{tag}'", "SELECT 1/0", "DEALLOCATE ALL"])
            pipelines.append(m.query(sql))
    return pipelines


def answers(wire: Wire, pipelines: list[bytes]) -> list[list[str]]:
    """What is answered to each pipeline, without the places in PostgreSQL's source."""
    told = []
    for pipeline in pipelines:
        wire.send(pipeline)
        told.append([f"{one.kind} {one.fields['C']}" if one.kind == "E" else repr(one) for one in wire.until()])
    return told


def test_random_pipelines_are_answered_as_on_a_private_connection(pooler: MakePooler, cluster: Cluster) -> None:
    pool: Pooler = pooler(default_pool_size=2, max_prepared_statements=4)

    def work(number: int) -> None:
        for seed in range(8):
            pipelines = script(random.Random(f"{number} {seed}"), f"{number}/{seed}")
            with cluster.wire() as direct, pool.wire() as wire:
                expected, got = answers(direct, pipelines), answers(wire, pipelines)
                for pipeline, left, right in zip(pipelines, expected, got, strict=True):
                    assert left == right, f"client {number}, seed {seed}, pipeline {pipeline!r}"
                direct.bye()
                wire.bye()

    together(8, work)
