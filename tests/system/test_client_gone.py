"""A client that vanishes: its query is cancelled, its transaction rolled back, and the server is kept."""

import socket
import struct
from collections.abc import Callable

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually, wait_until_read
from harness.wire import Wire, kinds


def polite(wire: Wire) -> None:
    """Say Terminate."""
    wire.bye()


def closed(wire: Wire) -> None:
    """Just close."""
    wire.close()


def reset(wire: Wire) -> None:
    """Close with a TCP reset."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def hung_up(wire: Wire) -> None:
    """End the own side of the connection only."""
    wire.sock.shutdown(socket.SHUT_WR)


WAYS = [polite, closed, reset]
MANY_ROWS = "SELECT repeat('x', 1000) FROM generate_series(1, 300000)"
Leave = Callable[[Wire], None]


@pytest.fixture
def one_server(shared_pooler: MakePooler, cluster: Cluster) -> Pooler:
    """A pool with one server, so that what a client leaves behind meets the next one; the table `notes` is empty."""
    cluster.admin("TRUNCATE notes", "app")
    pool: Pooler = shared_pooler(cluster, default_pool_size=1, workers=1)
    return pool


def pid_of(wire: Wire) -> str | None:
    """The server that answers."""
    return wire.one("SELECT pg_backend_pid()")


def is_clean(pool: Pooler, cluster: Cluster, pid: str | None) -> None:
    """The next client gets the same server, outside any transaction, and soon; `pid` None allows another one."""
    with pool.wire() as wire:
        assert pid is None or pid_of(wire) == pid
        assert wire.one("SELECT now() = statement_timestamp()") == "t"
        assert wire.one("SELECT count(*) FROM notes") == "0"
        wire.bye()
    assert cluster.backends("state LIKE 'idle in transaction%'") == []


@pytest.mark.parametrize("leave", [closed, reset])
def test_running_query_is_cancelled(one_server: Pooler, cluster: Cluster, leave: Leave) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.send(m.query("SELECT pg_sleep(60)"))
    cluster.settles(1, "state = 'active' AND query LIKE '%sleep%'")
    leave(wire)
    cluster.settles(0, "state = 'active' AND query LIKE '%sleep%'")
    is_clean(one_server, cluster, pid)


@pytest.mark.parametrize("leave", WAYS)
def test_transaction_is_rolled_back(one_server: Pooler, cluster: Cluster, leave: Leave) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.run("BEGIN; INSERT INTO notes VALUES (1, 'gone'); LOCK TABLE notes")
    leave(wire)
    is_clean(one_server, cluster, pid)


@pytest.mark.parametrize("leave", WAYS)
def test_failed_transaction_is_rolled_back(one_server: Pooler, cluster: Cluster, leave: Leave) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.ask("BEGIN; SELECT 1/0")
    leave(wire)
    is_clean(one_server, cluster, pid)


@pytest.mark.parametrize("leave", [closed, reset])
def test_query_inside_a_transaction_is_cancelled_and_rolled_back(
    one_server: Pooler, cluster: Cluster, leave: Leave
) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.run("BEGIN; INSERT INTO notes VALUES (1, 'gone')")
    wire.send(m.query("SELECT pg_sleep(60)"), m.query("COMMIT"))
    cluster.settles(1, "state = 'active' AND query LIKE '%sleep%'")
    leave(wire)
    is_clean(one_server, cluster, pid)


@pytest.mark.parametrize("before", ["", "DEALLOCATE ALL; "])
@pytest.mark.parametrize("leave", WAYS)
def test_copy_in_is_given_up(one_server: Pooler, cluster: Cluster, leave: Leave, before: str) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.send(m.query(f"{before}COPY notes FROM STDIN"))
    wire.until("G")
    wire.send(m.copy_data(b"1\tone\n"))
    leave(wire)
    is_clean(one_server, cluster, pid)


@pytest.mark.parametrize("leave", WAYS)
def test_extended_copy_in_is_given_up(one_server: Pooler, cluster: Cluster, leave: Leave) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.send(m.parse("", "COPY notes FROM STDIN"), m.bind("", ""), m.execute(), m.SYNC)
    wire.until("G")
    wire.send(m.copy_data(b"1\tone\n"))
    leave(wire)
    is_clean(one_server, cluster, pid)


@pytest.mark.parametrize("leave", [closed, reset])
def test_message_cut_in_the_middle(one_server: Pooler, cluster: Cluster, leave: Leave) -> None:
    for data in (
        m.query("SELECT 1")[:8],
        m.parse("s", "SELECT 1")[:-3],
        m.query("BEGIN") + m.bind("", "")[:6],
    ):
        wire = one_server.wire()
        pid = pid_of(wire)
        wire.send(data)
        leave(wire)
        is_clean(one_server, cluster, pid)


def test_long_message_cut_in_the_middle(one_server: Pooler, cluster: Cluster) -> None:
    wire = one_server.wire()
    wire.send(m.query("SELECT '" + "x" * 1_000_000 + "'")[:700_000])
    wire.close()
    is_clean(one_server, cluster, None)  # the server has got half of it by then: nothing can save that connection


def test_copy_data_cut_in_the_middle(one_server: Pooler, cluster: Cluster) -> None:
    wire = one_server.wire()
    wire.send(m.query("COPY notes FROM STDIN"))
    wire.until("G")
    wire.send(m.copy_data(b"1\tone\n" * 100_000)[:300_000])
    wire.close()
    is_clean(one_server, cluster, None)


@pytest.mark.parametrize("leave", [closed, reset])
@pytest.mark.parametrize("sql", [MANY_ROWS, f"COPY ({MANY_ROWS}) TO STDOUT"])
def test_rows_nobody_reads_any_more(one_server: Pooler, cluster: Cluster, sql: str, leave: Leave) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.send(m.query(sql))
    wire.until("Dd", 3)
    leave(wire)
    is_clean(one_server, cluster, pid)


def test_pipeline_without_sync(one_server: Pooler, cluster: Cluster) -> None:
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.send(m.parse("", "INSERT INTO notes VALUES (1, 'x')"), m.bind("", ""), m.execute(), m.FLUSH)
    wire.until("C")
    wire.close()
    is_clean(one_server, cluster, pid)


ROW = m.copy_data(b"1\tone\n")
WAITING_FOR_MORE = {
    "query behind an error": m.parse("", "SELEC") + m.query("INSERT INTO notes VALUES (1, 'never')"),
    "copy whose Sync came too early": (
        m.parse("", "COPY notes FROM STDIN") + m.bind("", "") + m.execute() + m.SYNC + ROW + m.COPY_DONE
    ),
}


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("said", WAITING_FOR_MORE)
def test_what_makes_the_server_wait_for_more(one_server: Pooler, cluster: Cluster, said: str, leave: Leave) -> None:
    """All in one write, so that pglido learns from the answers what PostgreSQL waits for."""
    wire = one_server.wire()
    pid = pid_of(wire)
    wire.send(WAITING_FOR_MORE[said])
    leave(wire)
    is_clean(one_server, cluster, pid)


def test_waiting_client_leaves_the_queue(one_server: Pooler) -> None:
    holder, waiting = one_server.wire(), one_server.wire()
    holder.run("BEGIN")
    waiting.send(m.query("INSERT INTO notes VALUES (1, 'never')"))
    eventually(lambda: one_server.pool()["cl_waiting"] == 1)
    waiting.close()
    eventually(lambda: one_server.pool()["cl_waiting"] == 0)
    holder.run("COMMIT")
    assert holder.one("SELECT count(*) FROM notes") == "0"


def test_goodbye_does_not_outrun_the_query_before_it(one_server: Pooler, cluster: Cluster) -> None:
    wire = one_server.wire()
    wire.send(m.query("INSERT INTO notes VALUES (77, 'kept')"), m.TERMINATE)
    wire.rest()
    try:
        eventually(lambda: cluster.admin("SELECT id FROM notes", "app") == [["77"]])
    finally:
        cluster.admin("DELETE FROM notes", "app")


@pytest.mark.parametrize("backend", ["epoll", "auto"])
def test_who_said_goodbye_and_hung_up_costs_nothing_while_its_query_runs(
    shared_pooler: MakePooler, cluster: Cluster, backend: str
) -> None:
    pool: Pooler = shared_pooler(cluster, default_pool_size=1, workers=1, event_backend=backend)
    (worker,) = pool.workers()
    wire = pool.wire()
    wire.send(m.query("SELECT pg_sleep(1)"), m.TERMINATE)
    hung_up(wire)
    before = sum(worker.cpu_times()[:2])
    assert kinds(wire.rest()) == "TDCZ"
    assert sum(worker.cpu_times()[:2]) - before < 0.2


@pytest.mark.parametrize("backend", ["epoll", "auto"])
@pytest.mark.parametrize("leave", [closed, reset, hung_up])
def test_who_said_goodbye_keeps_its_place_in_line(
    shared_pooler: MakePooler, cluster: Cluster, leave: Leave, backend: str
) -> None:
    """What it asked for before is done, as by PostgreSQL, which reads on to the Terminate."""
    cluster.admin("TRUNCATE notes", "app")
    pool: Pooler = shared_pooler(cluster, default_pool_size=1, workers=1, event_backend=backend)
    holder, waiting = pool.wire(), pool.wire()
    holder.run("BEGIN")
    waiting.send(m.query("INSERT INTO notes VALUES (78, 'kept')"), m.query("SELECT 78"), m.TERMINATE)
    leave(waiting)
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    holder.run("COMMIT")
    if leave is hung_up:
        assert kinds(waiting.rest()) == "CZTDCZ"
    try:
        eventually(lambda: cluster.admin("SELECT id FROM notes", "app") == [["78"]])
    finally:
        cluster.admin("DELETE FROM notes", "app")
    assert holder.one("SELECT 1") == "1"


@pytest.mark.parametrize("backend", ["epoll", "auto"])
@pytest.mark.parametrize("first", ["DO 'BEGIN PERFORM pg_sleep(0.1); END'", "DEALLOCATE ALL", "LISTEN here"])
def test_goodbye_behind_what_waits_for_an_answer(
    shared_pooler: MakePooler, cluster: Cluster, first: str, backend: str
) -> None:
    pool: Pooler = shared_pooler(cluster, default_pool_size=1, workers=1, event_backend=backend)
    wire = pool.wire()
    wire.send(m.query(first), m.query("SELECT 1"), m.query("SELECT 2"), m.TERMINATE)
    hung_up(wire)
    assert kinds(wire.rest()) == "CZTDCZTDCZ"


@pytest.mark.parametrize("behind", [m.TERMINATE[:-1], m.query("SELECT 1"), m.copy_data(m.TERMINATE)])
def test_what_only_looks_like_a_goodbye_is_none(one_server: Pooler, behind: bytes) -> None:
    holder, waiting = one_server.wire(), one_server.wire()
    holder.run("BEGIN")
    waiting.send(m.query("INSERT INTO notes VALUES (1, 'never')"))
    eventually(lambda: one_server.pool()["cl_waiting"] == 1)
    waiting.send(behind)
    waiting.close()
    eventually(lambda: one_server.pool()["cl_waiting"] == 0)
    holder.run("COMMIT")
    assert holder.one("SELECT count(*) FROM notes") == "0"


def test_session_mode_rolls_back_too(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(pool_mode="session", default_pool_size=1, workers=1)
    for _ in range(3):
        wire = pool.wire()
        pid = pid_of(wire)
        wire.run("BEGIN; INSERT INTO notes VALUES (1, 'gone')")
        wire.send(m.query("SELECT pg_sleep(60)"))
        cluster.settles(1, "state = 'active' AND query LIKE '%sleep%'")
        wire.close()
        is_clean(pool, cluster, pid)


def test_many_vanish_at_once(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5)
    wires = [pool.wire() for _ in range(30)]
    for wire in wires:
        wire.send(m.query("BEGIN; INSERT INTO notes VALUES (1, 'x'); SELECT pg_sleep(60)"))
    cluster.settles(5, "state = 'active'")
    for wire in wires:
        wire.close()
    cluster.settles(0, "state <> 'idle'")
    eventually(lambda: (pool.pool()["cl_waiting"], pool.pool()["sv_active"]) == (0, 0))
    with pool.wire() as wire:
        assert wire.one("SELECT count(*) FROM notes") == "0"


@pytest.mark.parametrize("leave", WAYS)
def test_in_the_second_copy_of_a_query(one_server: Pooler, cluster: Cluster, leave: Leave) -> None:
    """What ended the first COPY does not end the second."""
    with one_server.wire() as wire:
        pid = pid_of(wire)
        copies(wire)
        leave(wire)
    is_clean(one_server, cluster, pid)


def test_a_sync_in_the_second_copy_of_a_query_is_ignored(one_server: Pooler, cluster: Cluster) -> None:
    """As PostgreSQL ignores it (protocol chapter "COPY Operations"): nothing is owed for it."""
    with one_server.wire() as wire:
        pid = pid_of(wire)
        copies(wire)
        wire.send(m.SYNC, m.copy_fail("enough"))
        assert wire.until("Z")[-1].kind == "Z"
        assert wire.one("SELECT 5") == "5"
        wire.bye()
    is_clean(one_server, cluster, pid)


def copies(wire: Wire) -> None:
    """Be in the second of two COPYs of one Query."""
    wire.send(m.query("COPY notes FROM STDIN; COPY notes FROM STDIN"))
    wire.until("G")
    wire.send(m.copy_data(b"1\tone\n"), m.COPY_DONE)
    wire.until("G")
    wire.send(m.copy_data(b"2\ttwo\n"))


@pytest.mark.parametrize("leave", WAYS)
def test_in_a_statement_that_is_refused(pooler: MakePooler, cluster: Cluster, leave: Leave) -> None:
    """Nothing of it has come to the server, which is kept."""
    pool = pooler(default_pool_size=1, workers=1, max_client_held_bytes="64kB")
    with pool.wire() as wire:
        pid = pid_of(wire)
        wire.run("BEGIN")
        wire.send(m.parse("s", "SELECT '" + "x" * 100_000 + "'")[:90_000])
        assert wait_until_read(wire.sock, 5.0)
        leave(wire)
    is_clean(pool, cluster, pid)
