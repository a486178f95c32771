"""A worker that hangs: the log and SHOW WORKERS say so, others accept in its place, and it is replaced in the end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import together
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Closed, Wire

NEVER = 600.0


def worker_of(pool: Pooler, wire: Wire) -> int:
    """The index of the worker that serves a client (it stands in the process id of the cancel key)."""
    return (wire.pid >> 23) - 1


def wires_by_worker(pool: Pooler) -> dict[int, list[Wire]]:
    """Clients of both workers."""
    found: dict[int, list[Wire]] = {0: [], 1: []}

    def both() -> bool:
        wire = pool.wire()
        found[worker_of(pool, wire)].append(wire)
        return all(found.values())

    eventually(both)
    return found


def processes(pool: Pooler) -> dict[int, psutil.Process]:
    """The workers' processes by index."""
    return {int(row["worker"] or 0): psutil.Process(int(row["pid"] or 0)) for row in pool.console("SHOW WORKERS")}


@contextmanager
def hanging(process: psutil.Process) -> Iterator[None]:
    """The process is stopped meanwhile."""
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def state_of(pool: Pooler, index: int) -> str | None:
    return next(row["state"] for row in pool.console("SHOW WORKERS") if row["worker"] == str(index))


def served_all(pool: Pooler, count: int = 40) -> set[int]:
    """So many new clients are served, at the same time; returns by which workers."""

    def one(number: int) -> int:
        with Wire.dial(pool.address) as wire:
            wire.sock.settimeout(20)
            wire.login()
            assert wire.one("SELECT 1") == "1"
            return worker_of(pool, wire)

    return set(together(count, one))


def test_new_clients_are_served_while_a_worker_hangs(pooler: MakePooler) -> None:
    pool = pooler(workers=2, worker_timeout=NEVER)
    mine = wires_by_worker(pool)
    with hanging(processes(pool)[0]):
        assert served_all(pool) == {1}
        assert mine[1][0].one("SELECT 1") == "1"
        pool.logs(r"error control: worker 0 \(process \d+\) has not moved for \d\.\d s, the others accept in its place")
        row = next(row for row in pool.console("SHOW WORKERS") if row["worker"] == "0")
        assert row["state"] == "hanging"
        assert int(row["silent"] or 0) >= 1
    pool.logs(r"warning control: worker 0 \(process \d+\) moves again")
    eventually(lambda: state_of(pool, 0) == "ready")
    assert mine[0][0].one("SELECT 1") == "1"
    eventually(lambda: served_all(pool) == {0, 1})


def test_clients_that_wait_when_a_worker_begins_to_hang_are_served_by_another(pooler: MakePooler) -> None:
    pool = pooler(workers=2, worker_timeout=NEVER)
    victim = processes(pool)[1]
    with hanging(victim):
        # Before anybody knows that it hangs, so that some stand in its queue.
        wires = [Wire.dial(pool.address) for _ in range(40)]
        for wire in wires:
            wire.sock.settimeout(20)
            assert wire.login().one("SELECT 1") == "1"


def test_unix_socket_while_a_worker_hangs(pooler: MakePooler, tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    pool = pooler(workers=2, worker_timeout=NEVER, unix_socket_dir=folder)
    with hanging(processes(pool)[0]):
        for _ in range(20):
            assert Wire.dial(str(folder / f".s.PGSQL.{pool.port}")).login().one("SELECT 1") == "1"


def test_console_answers_while_a_worker_hangs_and_says_who_is_missing(pooler: MakePooler) -> None:
    pool = pooler(workers=2, worker_timeout=NEVER)
    wires_by_worker(pool)
    with hanging(processes(pool)[0]):
        pool.logs("worker 0 .* has not moved")
        for what in ("POOLS", "CLIENTS", "SERVERS", "STATS", "DATABASES", "MEM"):
            with Wire.dial(pool.address).login("postgres", "pglido") as console:
                console.send(m.query(f"SHOW {what}"))
                answer = console.until()
                told = [one.fields["M"] for one in answer if one.kind == "N"]
                assert len(told) == 1
                assert "worker 0 (process" in told[0]
                assert "does not answer" in told[0]
                assert any(one.kind == "D" for one in answer)
    eventually(lambda: state_of(pool, 0) == "ready")
    with Wire.dial(pool.address).login("postgres", "pglido") as console:
        console.send(m.query("SHOW POOLS"))
        assert [one for one in console.until() if one.kind == "N"] == []


@pytest.mark.parametrize("by", ["port", "unix socket"])
def test_console_is_there_before_anybody_knows_that_a_worker_hangs(
    by: str, pooler: MakePooler, tmp_path: Path
) -> None:
    """One that was open by another worker, and new ones, of which some stand in the queue of the one that hangs."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    pool = pooler(workers=2, worker_timeout=NEVER, unix_socket_dir=folder)
    address = pool.address if by == "port" else str(folder / f".s.PGSQL.{pool.port}")

    def console() -> Wire:
        wire = Wire.dial(address)
        wire.sock.settimeout(20)
        return wire.login("postgres", "pglido")

    def relayed() -> dict[str | None, str | None]:
        return {row["ptr"]: row["worker"] for row in admin.table("SHOW CLIENTS") if row["database"] == "pglido"}

    admin = console()
    by_worker: dict[str | None, Wire] = dict.fromkeys(relayed().values(), admin)

    def both() -> bool:
        before, wire = relayed(), console()
        (new,) = relayed().items() - before.items()
        by_worker[new[1]] = wire
        return len(by_worker) == 2

    eventually(both)
    with hanging(processes(pool)[0]):
        by_worker["1"].send(m.query("SHOW POOLS"))
        answer = by_worker["1"].until()
        told = [one.fields["M"] for one in answer if one.kind == "N"]
        assert len(told) == 1
        assert "worker 0 (process" in told[0]
        for new in [console() for _ in range(20)]:
            assert new.one("SHOW VERSION")
    assert by_worker["0"].one("SHOW VERSION")


def test_worker_timeout_replaces_a_worker_that_hangs(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2, worker_timeout=2, default_pool_size=4)
    mine = wires_by_worker(pool)
    for wire in [*mine[0], *mine[1]]:
        wire.run("SELECT 1")
    mine[0][0].run("BEGIN")
    victim = processes(pool)[0]
    victim.suspend()
    for wire in mine[0]:
        with suppress(ConnectionResetError):
            assert wire.rest() == []  # closed without a word
    pool.logs(r"worker 0 \(process \d+\) has not moved for [23]\.\d s: killed \(worker_timeout\)")
    pool.logs(rf"worker 0 \(process {victim.pid}\) was ended by SIGKILL; restart")
    for wire in mine[1]:
        assert wire.one("SELECT 1") == "1"
    eventually(lambda: state_of(pool, 0) == "ready")
    eventually(lambda: served_all(pool) == {0, 1})
    # Its leases came back: the whole pool can be used.
    holders = [pool.wire() for _ in range(4)]
    for wire in holders:
        wire.run("BEGIN")
    assert pool.pool()["sv_active"] == 4


def test_a_single_worker_that_hangs_is_replaced(pooler: MakePooler) -> None:
    pool = pooler(workers=1, worker_timeout=2)
    wire = pool.wire()
    pool.workers()[0].suspend()
    with pytest.raises((Closed, ConnectionResetError)):
        wire.one("SELECT 1")
    with Wire.dial(pool.address) as fresh:
        assert fresh.login().one("SELECT 1") == "1"


def test_a_worker_that_hangs_does_not_outlive_a_drain(pooler: MakePooler) -> None:
    pool = pooler(workers=2, worker_timeout=2, shutdown_timeout=600)
    processes(pool)[0].suspend()
    pool.signal(signal.SIGTERM)
    assert pool.ended(within=20) == 0
    assert "killed (worker_timeout)" in pool.log
