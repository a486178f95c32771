"""Leases go to the worker whose clients wait longer, measured between the real processes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import MakePooler
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire

SIZE = 6
CLIENTS = 12


@contextmanager
def at_work(wires: list[Wire]) -> Iterator[None]:
    """Each of these asks for something that takes 20 ms, again and again while the block runs."""
    over = threading.Event()

    def work(wire: Wire) -> None:
        while not over.is_set():
            wire.run("SELECT pg_sleep(0.02)")

    threads = [threading.Thread(target=work, args=(wire,)) for wire in wires]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def by_worker(pool: Pooler) -> list[list[Wire]]:
    """So many clients of each of two workers: the process id in a client's key says whose it is."""
    found: list[list[Wire]] = [[], []]
    while min(map(len, found)) < CLIENTS:
        wire = pool.wire()
        found[(wire.pid >> 23) - 1].append(wire)
    return [wires[:CLIENTS] for wires in found]


def leases(pool: Pooler) -> list[int]:
    """What the two workers hold of the pool."""
    rows = pool.console("SHOW LEASES")
    held = {row["worker"]: int(row["held"] or 0) for row in rows if row["user"] == "app"}
    return [held.get("0", 0), held.get("1", 0)]


def test_leases_follow_the_load_from_worker_to_worker(pooler: MakePooler) -> None:
    pool = pooler(workers=2, default_pool_size=SIZE)
    first, second = by_worker(pool)
    with at_work(first):
        eventually(lambda: leases(pool) == [SIZE, 0], within=20)
        with at_work(second):
            eventually(lambda: leases(pool) == [SIZE // 2, SIZE // 2], within=20)
    with at_work(second):
        eventually(lambda: leases(pool)[1] >= SIZE - 1, within=20)
