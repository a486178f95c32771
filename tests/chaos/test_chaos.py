"""Money moves through 200 clients and 20 servers while workers, servers and clients are killed: nothing is lost.

`PGLIDO_CHAOS_SECONDS` says how long (15 by default), `PGLIDO_CHAOS_SEED` repeats a run's random choices.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest

import harness.messages as m
from chaos.bank import DATABASE, Books, audit, open_bank
from chaos.havoc import Havoc
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, rows_in

SECONDS = float(os.environ.get("PGLIDO_CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("PGLIDO_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
CLIENTS = 200
PROCESSES = 2
POOL = 20
RECOVERY = 15.0  # seconds in which the pool has to be whole again
TESTS = Path(__file__).parents[1]
MINE = f"datname = '{DATABASE}' AND usename = 'app'"


class Crowd:
    """The processes full of clients."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.processes = []
        for index in range(PROCESSES):
            count = CLIENTS // PROCESSES
            task = {"port": port, "first": index * count, "count": count, "seconds": SECONDS, "seed": SEED}
            with (folder / f"{index}.out").open("w") as out, (folder / f"{index}.err").open("w") as err:
                command = [sys.executable, "-m", "chaos.clients", json.dumps(task)]
                self.processes.append(subprocess.Popen(command, cwd=TESTS, stdout=out, stderr=err))

    def pause(self, seconds: float) -> bool:
        """Wait so long; False once the clients' time is over or a process of theirs has ended."""
        try:
            self.processes[0].wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def results(self) -> list[dict[str, dict[str, object]]]:
        """What the clients saw, when all have ended."""
        deadline = monotonic() + SECONDS + 100
        for index, process in enumerate(self.processes):
            status = process.wait(max(1, deadline - monotonic()))
            assert status == 0, (self.folder / f"{index}.err").read_text()[-5000:]
        return [json.loads((self.folder / f"{index}.out").read_text()) for index in range(PROCESSES)]

    def stop(self) -> None:
        """End those that are left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def whole_again(pool: Pooler) -> float:
    """Seconds until as many clients as the pool has servers are each in a transaction at the same time."""
    begin = monotonic()
    wires = [_wire(pool) for _ in range(POOL)]
    for wire in wires:
        wire.send(m.query("BEGIN; SELECT pg_backend_pid()"))
    servers = set()
    for wire in wires:
        wire.sock.settimeout(max(0.1, begin + RECOVERY - monotonic()))
        servers.add(rows_in(wire.until())[0][0])
    assert len(servers) == POOL
    waiting = _wire(pool)
    waiting.send(m.query("SELECT 'served'"))
    eventually(lambda: pool.pool(DATABASE)["cl_waiting"] == 1, what="one client too many to wait")
    assert waiting.silent()
    for wire in wires:
        wire.run("COMMIT")
        wire.bye()
    assert rows_in(waiting.until()) == [[b"served"]]
    waiting.bye()
    return monotonic() - begin


def _wire(pool: Pooler) -> Wire:
    return Wire.dial(pool.address).login("app", DATABASE)


def at_rest(pool: Pooler, cluster: Cluster) -> None:
    """No client waits, no server is lent or in a transaction, all workers are up, and not too many servers."""

    def rests() -> bool:
        now = pool.pool(DATABASE)
        return not any(now[name] for name in ("cl_active", "cl_waiting", "sv_active"))

    def few() -> bool:
        states = cluster.admin(f"SELECT state FROM pg_stat_activity WHERE {MINE}")
        return len(states) <= POOL and all(state == "idle" for (state,) in states)

    eventually(rests, RECOVERY, "a pool at rest")
    eventually(few, RECOVERY, f"not more than {POOL} idle servers")
    eventually(lambda: len(pool.workers()) == 2, RECOVERY, "both workers")


def report(counts: Counter[str], more: dict[str, object]) -> None:
    """Print the figures of the run."""
    for name, value in sorted(more.items()) + sorted(counts.items()):
        print(f"  {name}: {value}")


@pytest.fixture
def bank(cluster: Cluster) -> Cluster:
    """PostgreSQL 18 with the bank's database."""
    open_bank(cluster)
    return cluster


def test_nothing_is_lost_in_chaos(pooler: MakePooler, bank: Cluster, tmp_path: Path) -> None:
    pool = pooler(
        bank, databases={DATABASE: {}}, default_pool_size=POOL, workers=2, max_prepared_statements=30,
        log_connections=False, log_disconnections=False,
    )  # fmt: skip
    print(f"\nPGLIDO_CHAOS_SEED={SEED} PGLIDO_CHAOS_SECONDS={SECONDS:g}")
    havoc = Havoc(pool, bank, random.Random(f"{SEED} havoc"))
    crowd = Crowd(tmp_path, pool.port)
    try:
        havoc.wreak(crowd.pause)
        results = crowd.results()
    finally:
        crowd.stop()
    counts = havoc.counts
    books = Books(set(), set(), set())
    faults: list[str] = []
    for result in results:
        counts.update(result["counts"])
        faults += result["faults"]
        for client, own in result["books"].items():
            for name, which in (("done", books.done), ("never", books.never), ("unknown", books.unknown)):
                which.update((int(client), seq) for seq in own[name])
    at_rest(pool, bank)
    took = whole_again(pool)
    at_rest(pool, bank)
    wrong = audit(bank, books)
    report(counts, {
        "most servers seen at once": havoc.most,
        "seconds until the pool served all of its size": f"{took:.2f}",
        "transfers acknowledged": len(books.done),
        "transfers never committed": len(books.never),
        "transfers of unknown end": len(books.unknown),
        "faults": len(faults),
    })  # fmt: skip
    assert not wrong + faults, f"{len(wrong)} wrong, {len(faults)} faults:\n" + "\n".join(wrong[:10] + faults[:15])
    assert not re.search(r"\b(ERROR|error) .*bug", pool.log)
    assert len(books.done) > 20 * SECONDS
    for what in ("workers killed", "servers terminated", "cancels", "cut off from outside", "cut off in a transaction"):
        assert counts[what], what
