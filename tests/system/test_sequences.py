"""currval() and lastval() are of the client's own session, whoever used the server before it."""

from collections.abc import Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, error_in, kinds, rows_in

UNDEFINED = "55000"
ASKS = ["SELECT lastval()", "SELECT currval('numbered_id_seq')", "SELECT CURRVAL('public.numbered_id_seq'::regclass)"]


@pytest.fixture(autouse=True)
def table(cluster: Cluster) -> Iterator[None]:
    """A table with numbers of its own, and a second sequence."""
    with cluster.wire() as wire:
        wire.run("CREATE TABLE numbered (id serial, body text); CREATE SEQUENCE second START 1000")
    yield
    with cluster.wire() as wire:
        wire.run("DROP TABLE numbered; DROP SEQUENCE second")


@pytest.fixture
def pool(pooler: MakePooler) -> Pooler:
    """Two servers, of which one may be pinned."""
    return pooler(default_pool_size=2, workers=1)


def insert(wire: Wire) -> str:
    """A new row's number."""
    number = wire.one("INSERT INTO numbered (body) VALUES ('x') RETURNING id")
    assert number
    return number


def pins(pool: Pooler) -> int:
    """How many servers are kept for their clients."""
    return sum(bool(row["pinned"]) for row in pool.console("SHOW SERVERS"))


@pytest.mark.parametrize("asks", ASKS)
def test_never_the_value_of_another(asks: str, pool: Pooler) -> None:
    writers = [pool.wire() for _ in range(3)]
    for _ in range(2):
        for writer in writers:
            insert(writer)
        fresh = pool.wire()
        assert error_in(fresh.ask(asks))["C"] == UNDEFINED
        fresh.send(m.parse("", asks), m.bind("", ""), m.execute(), m.SYNC)
        read = fresh.until()
        assert error_in(read)["C"] == UNDEFINED
        fresh.bye()


@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.parametrize("protocol", ["simple", "extended", "named"])
def test_own_value_in_the_transaction_that_took_it(asks: str, protocol: str, pool: Pooler) -> None:
    clients = [pool.wire() for _ in range(4)]
    if protocol == "named":
        for wire in clients:
            wire.send(m.parse("asks", asks), m.SYNC)
            assert kinds(wire.until()) == "1Z"
    for _ in range(2):
        for wire in clients:
            wire.run("BEGIN")
            number = insert(wire)
            if protocol == "simple":
                assert wire.one(asks) == number
            else:
                name = "asks" if protocol == "named" else ""
                parse = b"" if protocol == "named" else m.parse("", asks)
                wire.send(parse, m.bind("", name), m.execute(), m.SYNC)
                assert rows_in(wire.until()) == [[number.encode()]]
            wire.run("COMMIT")
            wire.run("DISCARD ALL") if protocol != "named" else wire.run("DISCARD SEQUENCES")
            if protocol == "named":
                # What was asked for once may be asked for again.
                wire.send(m.bind("", "asks"), m.execute(), m.SYNC)
                assert error_in(wire.until())["C"] == UNDEFINED
                wire.run("DISCARD ALL")
                wire.send(m.parse("asks", asks), m.SYNC)
                assert kinds(wire.until()) == "1Z"


def test_who_has_asked_once_keeps_its_values_from_then_on(pool: Pooler) -> None:
    client, other = pool.wire(), pool.wire()
    number = insert(client)
    first = client.ask("SELECT lastval()")
    assert rows_in(first) == [[number.encode()]] or error_in(first)["C"] == UNDEFINED
    for _ in range(3):
        number = insert(client)
        insert(other)
        assert client.one("SELECT lastval()") == number
        assert client.one("SELECT currval('numbered_id_seq')") == number
    assert pins(pool) == 1
    client.run("SELECT nextval('second')")
    insert(other)
    assert client.one("SELECT lastval()") == client.one("SELECT currval('second')") == "1000"
    assert client.one("SELECT currval('numbered_id_seq')") == number
    client.run("SELECT setval('second', 2000)")
    insert(other)
    assert client.one("SELECT lastval()") == "2000"


def test_discard_all_gives_the_server_back(pool: Pooler) -> None:
    client, other = pool.wire(), pool.wire()
    assert error_in(client.ask("SELECT lastval()"))["C"] == UNDEFINED
    insert(client)
    insert(other)
    eventually(lambda: pins(pool) == 1)
    client.run("DISCARD ALL")
    eventually(lambda: pins(pool) == 0)
    insert(other)
    assert error_in(client.ask("SELECT lastval()"))["C"] == UNDEFINED


def test_client_that_never_asks_keeps_nothing(pool: Pooler) -> None:
    clients = [pool.wire() for _ in range(4)]
    for _ in range(3):
        for wire in clients:
            insert(wire)
            wire.run("SELECT nextval('second')")
    assert pins(pool) == 0


def test_server_of_a_client_that_left_tells_nothing(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    client = pool.wire()
    client.ask("SELECT lastval()")
    insert(client)
    eventually(lambda: pins(pool) == 1)
    client.close()
    fresh = pool.wire()
    for asks in ASKS:
        assert error_in(fresh.ask(asks))["C"] == UNDEFINED


def test_two_who_ask_never_meet(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=3, workers=1)
    clients = [pool.wire() for _ in range(2)]
    for wire in clients:
        assert error_in(wire.ask("SELECT lastval()"))["C"] == UNDEFINED
    for _ in range(5):
        numbers = [insert(wire) for wire in clients]
        assert [wire.one("SELECT lastval()") for wire in clients] == numbers
