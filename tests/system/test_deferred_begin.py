"""`defer_begin`: a transaction takes its server with its first statement."""

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, error_in, kinds


def status(wire: Wire, sql: str) -> str:
    """The transaction status after a query."""
    return wire.ask(sql)[-1].body.decode()


def assignments(pool: Pooler) -> str | None:
    """How often a server was given to a client."""
    [row] = [row for row in pool.console("SHOW STATS") if row["database"] == "app"]
    return row["total_server_assignment_count"]


def test_a_begin_alone_takes_no_server(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, defer_begin=True)
    thinking, working = pool.wire(), pool.wire()
    assert status(thinking, "BEGIN") == "T"
    # There is one server only.
    assert working.one("SELECT 1") == "1"
    assert thinking.one("SELECT 2") == "2"
    assert status(thinking, "SELECT 3") == "T"
    assert status(thinking, "COMMIT") == "I"


def test_without_it_a_begin_holds_its_server(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    holding, waiting = pool.wire(), pool.wire()
    holding.run("BEGIN")
    waiting.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    holding.run("COMMIT")
    assert kinds(waiting.until()) == "TDCZ"


@pytest.mark.parametrize("begin", ["BEGIN", "begin;", " START  TRANSACTION ;", "BEGIN WORK"])
@pytest.mark.parametrize(("end", "tag"), [("COMMIT", b"COMMIT\0"), ("END;", b"COMMIT\0"), ("rollback", b"ROLLBACK\0")])
def test_an_empty_transaction_asks_no_server(pooler: MakePooler, begin: str, end: str, tag: bytes) -> None:
    pool = pooler(defer_begin=True)
    wire = pool.wire()
    before = assignments(pool)
    assert status(wire, begin) == "T"
    done, ready = wire.ask(end)
    assert (done.body, ready.body) == (tag, b"I")
    assert assignments(pool) == before


def test_what_follows_is_in_the_transaction(pooler: MakePooler) -> None:
    wire = pooler(defer_begin=True).wire()
    wire.run("CREATE TABLE deferred (n int)")
    wire.run("BEGIN")
    wire.send(m.parse("", "INSERT INTO deferred VALUES (1)"), m.bind("", ""), m.execute(), m.SYNC)
    assert kinds(wire.until()) == "12CZ"
    wire.run("ROLLBACK")
    assert wire.one("SELECT count(*) FROM deferred") == "0"


def test_an_error_fails_the_transaction(pooler: MakePooler) -> None:
    wire = pooler(defer_begin=True).wire()
    wire.run("BEGIN")
    assert status(wire, "SELECT 1/0") == "E"
    assert error_in(wire.ask("SELECT 1"))["C"] == "25P02"
    assert status(wire, "ROLLBACK") == "I"


def test_a_second_begin_is_the_servers(pooler: MakePooler) -> None:
    wire = pooler(defer_begin=True).wire()
    wire.run("BEGIN")
    assert kinds(wire.ask("BEGIN")) == "NCZ"
    assert status(wire, "ROLLBACK") == "I"


def test_a_sync_after_it_says_that_a_transaction_is_open(pooler: MakePooler) -> None:
    wire = pooler(defer_begin=True).wire()
    wire.run("BEGIN")
    wire.send(m.SYNC)
    assert wire.until()[-1].body == b"T"


def test_options_of_a_transaction_go_to_the_server(pooler: MakePooler) -> None:
    wire = pooler(defer_begin=True).wire()
    wire.run("BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert wire.one("SHOW transaction_isolation") == "serializable"
    wire.run("COMMIT")


def test_a_client_that_leaves_after_it_leaves_nothing(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1, defer_begin=True)
    first = pool.wire()
    first.run("BEGIN")
    first.bye()
    assert status(pool.wire(), "SELECT 1") == "I"
