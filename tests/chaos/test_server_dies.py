"""A server that dies at the very moment its client speaks: both are found in one turn of the worker's loop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Closed, Message, Wire, kinds

ROW = "INSERT INTO notes VALUES ({}, 'half a transaction')"


def extended(sql: str) -> bytes:
    """Parse, bind, execute; no Sync."""
    return m.parse("", sql) + m.bind("", "") + m.execute()


@contextmanager
def standing_still(pool: Pooler) -> Iterator[None]:
    """The one worker does nothing meanwhile; a signal alone does not stop it at once."""
    (worker,) = pool.workers()
    worker.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: worker.status() == psutil.STATUS_STOPPED, what="the worker standing still")
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def at_once(pool: Pooler, cluster: Cluster, client: Wire, pid: str | None, said: bytes) -> list[Message]:
    """Terminate a backend and say something while the worker stands still; all that comes until the end."""
    with standing_still(pool):
        cluster.admin(f"SELECT pg_terminate_backend({pid})")
        eventually(lambda: not cluster.backends(f"pid = {pid}"), what="the backend's end")
        client.send(said)
    read: list[Message] = []
    with suppress(Closed):
        client.sock.settimeout(5)
        read += client.until("Z")
        client.send(m.query("SELECT 'goes on'"))
        read += client.until("Z")
        pytest.fail(f"went on after {kinds(read)}")
    return read


SAID = {
    "query": m.query(ROW.format(1)),
    "batch": m.query(ROW.format(1) + ";" + ROW.format(2)),
    "extended": extended(ROW.format(1)) + m.SYNC,
    "flushed": extended(ROW.format(1)) + b"H\0\0\0\4",
    "stream": extended(ROW.format(1)) + m.SYNC + extended(ROW.format(2)) + m.SYNC + m.query("COMMIT"),
}


@pytest.mark.parametrize("said", SAID)
def test_nothing_of_a_transaction_goes_to_another_server(
    pooler: MakePooler, cluster: Cluster, said: str
) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    cluster.admin("TRUNCATE notes", "app")
    with pool.wire() as other, pool.wire() as client:
        other.run("BEGIN")
        client.run("BEGIN")
        pid = client.one("SELECT pg_backend_pid()")
        other.run("COMMIT")
        read = at_once(pool, cluster, client, pid, SAID[said])
        assert kinds(read) in ("", "E")
    assert cluster.admin("SELECT * FROM notes", "app") == []


@pytest.mark.parametrize("said", SAID)
def test_after_a_fatal_error_nothing_follows(pooler: MakePooler, cluster: Cluster, said: str) -> None:
    """A client whose server was found dead gets an answer or a FATAL error and the end, but never both."""
    pool = pooler(default_pool_size=2, workers=1)
    cluster.admin("TRUNCATE notes", "app")
    with pool.wire() as other, pool.wire() as client:
        other.run("BEGIN")
        pid = client.one("SELECT pg_backend_pid()")
        other.run("COMMIT")
        with standing_still(pool):
            cluster.admin(f"SELECT pg_terminate_backend({pid})")
            eventually(lambda: not cluster.backends(f"pid = {pid}"), what="the backend's end")
            client.send(SAID[said] + m.SYNC)
        client.sock.settimeout(5)
        read: list[Message] = []
        with suppress(Closed):
            read.append(client.message())
            while True:
                if read[-1].kind == "E" and read[-1].fields["S"] == "FATAL":
                    assert client.ends(), "more came after FATAL"
                    break
                if read[-1].kind == "Z":
                    break
                read.append(client.message())


@pytest.mark.parametrize("kind", ["query", "extended"])
def test_the_last_word_of_an_idle_server_reaches_nobody(pooler: MakePooler, cluster: Cluster, kind: str) -> None:
    """Answer, ReadyForQuery and FATAL read at once: the transaction was over, its client and the next go on."""
    pool = pooler(default_pool_size=1, workers=1)
    with pool.wire() as client, pool.wire() as other:
        pid = client.one("SELECT pg_backend_pid()")
        ask = {"query": m.query("SELECT 1"), "extended": extended("SELECT 1") + m.SYNC}[kind]
        whole = {"query": "TDCZ", "extended": "12DCZ"}[kind]
        with cluster.wire() as holder:
            holder.run("BEGIN; LOCK TABLE notes")
            client.send(m.query("SELECT count(*) FROM notes"))
            other.send(ask)
            eventually(lambda: cluster.backends(f"pid = {pid} AND wait_event_type = 'Lock'"), what="the lock's wait")
            with standing_still(pool):
                holder.run("COMMIT")
                eventually(lambda: cluster.backends(f"pid = {pid} AND state = 'idle'"), what="the answer")
                cluster.admin(f"SELECT pg_terminate_backend({pid})")
                eventually(lambda: not cluster.backends(f"pid = {pid}"), what="the backend's end")
        assert kinds(client.until("Z")) == "TDCZ"
        assert kinds(other.until("Z")) == whole, "was given a dead server"
        assert client.silent(), "heard the last word of a server that is not its own any more"
        assert client.one("SELECT 'goes on'") == "goes on"
