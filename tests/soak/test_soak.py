"""Fifty clients of mixed work, two thirds of them as fast as they can: memory stays flat, nobody waits without cause.

`make soak` runs it, for twenty minutes; `PGLIDO_SOAK_SECONDS` says how long (20 by default), `PGLIDO_SOAK_SEED`
repeats a run's random choices.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import monotonic, sleep

import psutil

from conftest import MakePooler
from harness import messages as m
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire
from pglido.session.state import parameters, statement_cache
from pglido.sql import analysis

SECONDS = float(os.environ.get("PGLIDO_SOAK_SECONDS", "20"))
SEED = int(os.environ.get("PGLIDO_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
TESTS = Path(__file__).parents[1]
WORKERS = 2
POOL = 20
VARIOUS = 18  # clients of soak/clients.py; the other 32 are pgbench's
# Of pgbench: how it asks, how many clients, whether each transaction has a connection of its own.
BENCHES = (("simple", 10, False), ("prepared", 15, False), ("extended", 5, False), ("simple", 2, True))
# What the second half may add to a process, in bytes: pages that are first touched late, not what each client leaves.
GROWTH = 4 << 20
BATCH = 100  # Parses in one write
WAIT = 1.0  # seconds a client may wait while servers of its pool rest
TABLES = """
DROP TABLE IF EXISTS soak, notes;
CREATE TABLE soak (n int PRIMARY KEY, said text) WITH (fillfactor = 50);
CREATE TABLE notes (client int, said text);
INSERT INTO soak SELECT n, 'nothing' FROM generate_series(0, 1001) n;
"""
SCRIPT = r"""
\set n random(0, 999)
SELECT said FROM soak WHERE n = :n;
"""


@dataclass
class Watch:
    """What was seen from outside: resident bytes of each process at each look, and clients that waited for nothing."""

    pool: Pooler
    processes: list[psutil.Process] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    waits: int = 0

    def look(self) -> None:
        """Look once."""
        self.processes = self.processes or [psutil.Process(self.pool.pid), *self.pool.workers()]
        self.sizes.append([one.memory_info().rss for one in self.processes])
        now = self.pool.pool()
        waits = now["maxwait"] + now["maxwait_us"] / 1e6
        idle = now["sv_idle"] + now["sv_used"]
        self.waits = self.waits + 1 if now["cl_waiting"] and idle and waits > WAIT else 0
        if self.waits == 3:  # in a row
            self.faults.append(f"a client has waited for {waits:.1f} s while servers rest: {now}")

    def growth(self) -> list[int]:
        """Bytes that each process has grown by in the second half: the least of its last tenth to that of the tenth
        before the half.
        """
        half, tenth = len(self.sizes) // 2, max(1, len(self.sizes) // 10)

        def least(sizes: list[list[int]]) -> list[int]:
            return [min(one) for one in zip(*sizes, strict=True)]

        before, after = least(self.sizes[half - tenth : half]), least(self.sizes[-tenth:])
        return [now - then for now, then in zip(after, before, strict=True)]


def fill_caches(pool: Pooler) -> None:
    """Have each worker see as many texts, settings and statements as it remembers; the pool has `WORKERS` servers.

    Else the caches would fill all the time, and hide what else grows.
    """
    wires: dict[int, list[Wire]] = {}
    while len(wires) < WORKERS or min(map(len, wires.values())) < 2 * WORKERS:
        wire = pool.wire()
        wires.setdefault(wire.pid >> 23, []).append(wire)
    for some in wires.values():
        # At least each second of them finds no server with its own settings.
        for number, one in zip(
            range(2 * max(analysis.KEPT, parameters.KEPT)), cycle(some[: 2 * WORKERS]), strict=False
        ):
            one.run(f"SET work_mem = {1000 + number}")
    # A cache always has what came last, up to half of what it may hold.
    texts = cached(pool)
    assert texts >= WORKERS * (analysis.KEPT + parameters.KEPT) / 2, f"{texts} are known"
    for one, *_ in wires.values():
        for start in range(0, statement_cache.GOOD, BATCH):
            parses = [m.parse("s", f"SELECT {number}") for number in range(start, start + BATCH)]
            one.send(*[parse + m.close_statement("s") for parse in parses], m.message("S"))
            one.until("Z")
    known = cached(pool) - texts
    assert known >= WORKERS * statement_cache.GOOD / 2, f"{known} are known"
    for some in wires.values():
        for wire in some:
            wire.bye()


def cached(pool: Pooler) -> int:
    """How many things all workers know, of which they can forget each."""
    return sum(int(row["used"] or 0) for row in pool.console("SHOW MEM") if row["name"] == "cache")


@contextmanager
def crowd(pool: Pooler, cluster: Cluster, folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """All clients, as processes by name; each writes what it says to a file of that name. None is left at the end."""
    (folder / "soak.sql").write_text(SCRIPT)
    task = {"port": pool.port, "count": VARIOUS, "seconds": SECONDS, "seed": SEED}
    commands = {"various": [sys.executable, "-m", "soak.clients", json.dumps(task)]}
    for mode, count, connects in BENCHES:
        commands[f"pgbench {mode}{' connect' if connects else ''}"] = [
            cluster.binary("pgbench"), "-n", "-M", mode, "-c", str(count), "-T", str(int(SECONDS)),
            *(["-C"] if connects else []), "-f", str(folder / "soak.sql"), pool.conninfo(),
        ]  # fmt: skip
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (folder / name).open("wb") as out:
                processes[name] = subprocess.Popen(command, cwd=TESTS, stdout=out, stderr=out)
        yield processes
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def test_memory_stays_flat_and_nobody_waits_without_cause(pooler: MakePooler, cluster: Cluster, tmp_path: Path) -> None:
    cluster.admin(TABLES, "app")
    cluster.admin("ALTER TABLE soak OWNER TO app; ALTER TABLE notes OWNER TO app", "app")
    print(f"\nPGLIDO_SOAK_SEED={SEED} PGLIDO_SOAK_SECONDS={SECONDS:g}")
    pool = pooler(cluster, default_pool_size=WORKERS, workers=WORKERS, log_connections=False)
    fill_caches(pool)
    pool.reload(pool.path.read_text().replace(f"default_pool_size = {WORKERS}", f"default_pool_size = {POOL}"))
    watch = Watch(pool)
    with crowd(pool, cluster, tmp_path) as processes:
        until = monotonic() + SECONDS
        while monotonic() < until:
            sleep(SECONDS / 100)
            watch.look()
        for name, process in processes.items():
            said = tmp_path / name
            assert process.wait(100) == 0, f"{name}: {said.read_text()[-3000:]}"
    various = json.loads((tmp_path / "various").read_text())
    rates = {}
    for name in processes:
        if name != "various":
            said_text = (tmp_path / name).read_text()
            assert "number of failed transactions: 0 " in said_text, said_text
            rates[name] = float(re.findall(r"tps = ([\d.]+)", said_text)[0])
    report = {
        "transactions per second": rates,
        "deeds": various["counts"],
        "longest deed, seconds": various["longest"],
        "resident bytes, control and workers": watch.sizes[-1],
        "growth in the second half, bytes": watch.growth(),
        "cached": cached(pool),
    }
    for name, figures in report.items():
        print(f"  {name}: {figures}")
    faults = watch.faults + various["faults"]
    assert not faults, "\n".join(faults[:20])
    assert various["counts"]["transaction"] > VARIOUS
    assert max(watch.growth()) < GROWTH, f"{watch.growth()}: {watch.sizes}"
    assert not re.search(r"\b(ERROR|error) .*bug", pool.log)
    eventually(lambda: pool.pool()["cl_active"] + pool.pool()["sv_active"] == 0, what="nothing left at work")
