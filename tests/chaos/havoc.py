"""Kills workers and server connections at random, as long as a predicate holds."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import psutil

from chaos.bank import DATABASE
from harness.cluster import Cluster
from harness.pooler import Pooler

_POOLED = f"SELECT pid FROM pg_stat_activity WHERE datname = '{DATABASE}' AND usename = 'app' ORDER BY pid"
KILLS_PER_SECOND = 0.25
TERMINATIONS_PER_SECOND = 5.0


class Havoc:
    """What was done is counted in `counts`; `most` is the largest number of server connections seen at once."""

    def __init__(self, pool: Pooler, cluster: Cluster, rng: random.Random) -> None:
        self.pool = pool
        self.cluster = cluster
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.most = 0

    def wreak(self, pause: Callable[[float], bool]) -> None:
        """Go on until `pause`, which waits for so many seconds, says that it is enough."""
        kill_at = monotonic() + self.rng.uniform(0.5, 2) / KILLS_PER_SECOND
        with self.cluster.wire("postgres", DATABASE) as admin:
            while pause(self.rng.expovariate(TERMINATIONS_PER_SECOND)):
                if monotonic() > kill_at:
                    kill_at = monotonic() + self.rng.uniform(0.5, 1.5) / KILLS_PER_SECOND
                    self._kill_worker()
                    continue
                pids = [pid for (pid,) in admin.run(_POOLED)]
                self.most = max(self.most, len(pids))
                if pids:
                    admin.run(f"SELECT pg_terminate_backend({self.rng.choice(pids)})")
                    self.counts["servers terminated"] += 1
            admin.bye()

    def _kill_worker(self) -> None:
        workers = self.pool.workers()
        if workers:
            with suppress(psutil.NoSuchProcess):
                self.rng.choice(workers).kill()
                self.counts["workers killed"] += 1
