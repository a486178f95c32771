"""Cancel reaches the client's own query, by any worker, and never another's."""

import os
import signal
import struct
import threading

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile
from harness.pooler import Pooler
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import Wire, alive, error_in, kinds


def cancel(pool: Pooler, pid: int, key: bytes) -> None:
    """Send one CancelRequest; it is answered by closing and nothing else."""
    with pool.dial() as wire:
        wire.send(m.cancel_request(pid, key))
        assert wire.ends()


def running(cluster: Cluster, count: int = 1) -> None:
    """Wait until so many clients sleep."""
    cluster.settles(count, "state = 'active' AND query LIKE '%pg_sleep(60%'")


@pytest.mark.parametrize("version", [m.PROTOCOL_3_0, m.PROTOCOL_3_2])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_cancel_by_any_worker(pooler: MakePooler, cluster: Cluster, mode: str, version: int) -> None:
    pool = pooler(workers=3, pool_mode=mode)
    wire = pool.wire(version=version)
    assert len(wire.key) == (32 if version == m.PROTOCOL_3_2 else 4)
    for _ in range(8):
        wire.send(m.query("SELECT pg_sleep(60)"))
        running(cluster)
        cancel(pool, wire.pid, wire.key)
        assert error_in(wire.until())["C"] == "57014"
        assert wire.one("SELECT 1") == "1"


def test_cancel_key_is_matched_at_its_full_length(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    short, long = pool.wire(), pool.wire(version=m.PROTOCOL_3_2)
    serial = (long.pid & ((1 << 23) - 1)).to_bytes(8, "big")
    for wire in (short, long):
        wire.send(m.query("SELECT pg_sleep(60)"))
    running(cluster, 2)
    for key in (long.key[:4], long.key[:31], long.key + b"x", long.key + bytes(224), serial[-4:], b"", bytes(300)):
        cancel(pool, long.pid, key)
    for key in (short.key[:3], short.key + b"x", short.key * 8, short.key + bytes(28)):
        cancel(pool, short.pid, key)
    running(cluster, 2)
    for wire in (short, long):
        cancel(pool, wire.pid, wire.key)
        assert error_in(wire.until())["C"] == "57014"


def test_cancel_inside_a_transaction(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    wire = pool.wire()
    wire.run("BEGIN")
    wire.send(m.query("SELECT pg_sleep(60)"))
    running(cluster)
    cancel(pool, wire.pid, wire.key)
    read = wire.until()
    assert (error_in(read)["C"], read[-1].body) == ("57014", b"E")
    wire.run("ROLLBACK")


def test_cancel_over_tls(pooler: MakePooler, cluster: Cluster, certificates: Certificates) -> None:
    pair = certificates.server
    pool = pooler(client_tls_sslmode="require", client_tls_cert_file=pair.certificate, client_tls_key_file=pair.key)
    context = certificates.client_context()
    wire = pool.dial()
    wire.start_tls(context)
    wire.login()
    for _ in range(4):
        wire.send(m.query("SELECT pg_sleep(60)"))
        running(cluster)
        with pool.dial() as other:
            other.start_tls(context)
            other.send(m.cancel_request(wire.pid, wire.key))
            assert other.ends()
        assert error_in(wire.until())["C"] == "57014"


def test_cancel_to_a_tls_server(pooler: MakePooler, tls_cluster: Cluster) -> None:
    pool = pooler(tls_cluster, server_tls_sslmode="require")
    wire = pool.wire()
    wire.send(m.query("SELECT pg_sleep(60)"))
    running(tls_cluster)
    cancel(pool, wire.pid, wire.key)
    assert error_in(wire.until())["C"] == "57014"


def test_wrong_key_cancels_nothing(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    wire = pool.wire()
    wire.send(m.query("SELECT pg_sleep(60)"))
    running(cluster)
    (number,) = struct.unpack("!i", wire.key)
    for key in (struct.pack("!i", number ^ 1), bytes(4), b"\xff" * 4, wire.key + bytes(28), wire.key[:3], bytes(32)):
        for pid in (wire.pid, wire.pid ^ 1, 0, -1, 1):
            if (pid, key) != (wire.pid, wire.key):
                cancel(pool, pid, key)
    assert wire.silent()
    cancel(pool, wire.pid, wire.key)
    assert error_in(wire.until())["C"] == "57014"


def test_cancel_of_an_idle_client_does_nothing(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    idle, busy = pool.wire(), pool.wire()
    idle.run("SELECT 1")  # it has used the server, last
    busy.send(m.query("SELECT pg_sleep(0.3)"))
    for _ in range(20):
        cancel(pool, idle.pid, idle.key)
    assert kinds(busy.until()) == "TDCZ"


def test_late_cancel_never_hits_the_next_client(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=2)
    hasty, victim = pool.wire(), pool.wire()
    over = threading.Event()
    hit = 0

    def cancel_all_the_time() -> None:
        while not over.is_set():
            cancel(pool, hasty.pid, hasty.key)

    def short_queries() -> None:
        nonlocal hit
        while not over.is_set():
            hit += "E" in kinds(hasty.ask("SELECT pg_sleep(0.002)"))

    with Meanwhile(cancel_all_the_time) as cancelling, Meanwhile(short_queries) as asking:
        try:
            asked = 0
            while asked < 200 or hit < 20:
                assert kinds(victim.ask("SELECT pg_sleep(0.003)")) == "TDCZ"
                assert not cancelling.done
                assert not asking.done
                asked += 1
                assert asked < 20_000, "hardly a cancel ever hit: the test shows nothing"
        finally:
            over.set()
        cancelling.result()
        asking.result()


@pytest.mark.parametrize("keeps", ["BEGIN", "CREATE TEMP TABLE kept ()", "SELECT pg_advisory_lock(1)"])
def test_what_is_asked_once_the_cancel_is_over_is_not_hit(
    keeps: str, pooler: MakePooler, own_cluster: Cluster
) -> None:
    """Drivers wait till the connection of their CancelRequest is closed."""
    pool = pooler(own_cluster, default_pool_size=4, workers=2)
    for _ in range(4):
        wire = pool.wire()
        wire.run(keeps.replace("lock(1)", f"lock({wire.pid})"))
        wire.send(m.query("SELECT pg_sleep(0.1)"))
        with pool.dial() as other:
            # The server is slow to take the request in.
            os.kill(own_cluster.server.pid, signal.SIGSTOP)
            again = threading.Timer(0.3, os.kill, (own_cluster.server.pid, signal.SIGCONT))
            again.start()
            other.send(m.cancel_request(wire.pid, wire.key))
            assert other.ends()
        again.join()
        wire.until()
        assert kinds(wire.ask("SELECT pg_sleep(0.1)")) == "TDCZ"
        wire.run("ROLLBACK")
        wire.bye()


def test_cancel_leaves_the_pool_as_it_was(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2)
    wire = pool.wire()
    for _ in range(10):
        wire.send(m.query("SELECT pg_sleep(60)"))
        running(cluster)
        cancel(pool, wire.pid, wire.key)
        wire.until()
    assert len(cluster.backends()) <= 2
    eventually(lambda: pool.pool()["sv_active"] == 0)
    others = [pool.wire() for _ in range(4)]
    assert [other.one("SELECT 1") for other in others] == ["1"] * 4


def test_cancel_of_each_of_many(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=10, workers=3)
    wires = [pool.wire() for _ in range(10)]
    for wire in wires:
        wire.send(m.query("SELECT pg_sleep(60)"))
    running(cluster, 10)
    for done, wire in enumerate(wires, 1):
        cancel(pool, wire.pid, wire.key)
        assert error_in(wire.until())["C"] == "57014"
        running(cluster, 10 - done)
    assert all(wire.one("SELECT 1") == "1" for wire in wires)


def test_keys_of_clients_differ(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    wires = [pool.wire() for _ in range(50)]
    assert len({wire.pid for wire in wires}) == 50
    assert len({wire.key for wire in wires}) == 50


def test_cancel_is_fast_although_all_servers_are_busy(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, max_db_connections=1)
    wire = pool.wire()
    waiting = pool.wire()
    wire.send(m.query("SELECT pg_sleep(60)"))
    running(cluster)
    with Meanwhile(lambda: waiting.one("SELECT 2")) as queued:
        cancel(pool, wire.pid, wire.key)
        assert error_in(wire.until())["C"] == "57014"
        assert queued.result() == "2"


def test_psql_cancel_request_with_trailing_garbage_is_harmless(pooler: MakePooler) -> None:
    pool = pooler()
    wire = pool.wire()
    with Wire.dial(pool.address) as other:
        other.send(m.cancel_request(wire.pid, wire.key) + b"garbage after it")
        assert other.ends()
    assert wire.one("SELECT 1") == "1"


@pytest.mark.parametrize("version", [m.PROTOCOL_3_0, m.PROTOCOL_3_2])
def test_keys_of_a_worker_that_died_are_nobodys_and_those_of_others_go_on(
    pooler: MakePooler, cluster: Cluster, version: int
) -> None:
    pool = pooler(workers=2, default_pool_size=50)
    old = [pool.wire(version=version) for _ in range(30)]
    victim = pool.workers()[0]
    victim.kill()
    eventually(lambda: len(pool.workers()) == 2 and victim.pid not in [worker.pid for worker in pool.workers()])
    eventually(lambda: pool.log.count("is ready (process") == 3)
    kept = [wire for wire in old if alive(wire)]
    gone = [wire for wire in old if wire not in kept]
    assert gone
    new = [pool.wire(version=version) for _ in range(20)]
    assert {wire.pid for wire in new}.isdisjoint(wire.pid for wire in old)
    for wire in kept + new:
        wire.send(m.query("SELECT pg_sleep(60)"))
    running(cluster, len(kept + new))
    for wire in gone:
        for _ in range(4):
            cancel(pool, wire.pid, wire.key)
    running(cluster, len(kept + new))
    for wire in kept + new:
        cancel(pool, wire.pid, wire.key)
        assert error_in(wire.until())["C"] == "57014"
