"""What processes used, read from /proc: processor time and memory of a process and all below it."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

PROC = Path("/proc")
NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.02  # a sample takes some ten microseconds


class Sample(NamedTuple):
    """Nanoseconds of processor time used until `at`, in seconds of the monotonic clock."""

    at: float
    cpu: int


def family(*roots: int) -> tuple[int, ...]:
    """Those of `roots` that are there, and all processes that descend from them."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            stat = _read(entry / "stat")
            if stat:
                # the name in parentheses may itself hold spaces and parentheses; the parent is the 2nd word after it
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [root for root in roots if root in parents]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return tuple(found)


def cpu_ns(pids: Sequence[int]) -> int:
    """Processor time these processes have used, in nanoseconds; 0 for one that is gone.

    It is that of the threads they have: what a thread that has ended used is not in it.
    """
    return sum(_cpu_of(PROC / str(pid)) for pid in pids)


def _cpu_of(process: Path) -> int:
    """Exact from the scheduler where the kernel keeps that, else to a hundredth of a second (proc(5), stat)."""
    try:
        threads = os.listdir(process / "task")
    except OSError:
        return 0
    exact = sum(_first_number(process / "task" / thread / "schedstat") for thread in threads)
    if exact:
        return exact
    words = _read(process / "stat").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * NS_PER_TICK if words else 0


def _first_number(file: Path) -> int:
    words = _read(file).split()
    return int(words[0]) if words else 0


def pss(pids: Sequence[int]) -> int:
    """Bytes of memory of these processes; a page that n processes share counts 1/n for each of them."""
    total = 0
    for pid in pids:
        for line in _read(PROC / str(pid) / "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def holds_io_uring(pids: Sequence[int]) -> bool:
    """Has one of these processes an io_uring open?"""
    for pid in pids:
        folder = PROC / str(pid) / "fd"
        try:
            if any("io_uring" in os.readlink(folder / name) for name in os.listdir(folder)):
                return True
        except OSError:
            continue
    return False


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def used(samples: Sequence[Sample], begin: float, end: float) -> int:
    """Processor time between two moments, interpolated; what lies outside of the samples counts as idle."""
    return _at(samples, end) - _at(samples, begin)


def _at(samples: Sequence[Sample], moment: float) -> int:
    after = bisect_left(samples, moment, key=lambda sample: sample.at)
    if after == 0:
        return samples[0].cpu
    if after == len(samples):
        return samples[-1].cpu
    (t0, c0), (t1, c1) = samples[after - 1], samples[after]
    return c0 + round((c1 - c0) * (moment - t0) / (t1 - t0))


class Watch:
    """Samples of the processor time of some processes while its `with` block runs."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = pids
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._take()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._take()

    def _take(self) -> None:
        self.samples.append(Sample(time.monotonic(), cpu_ns(self.pids)))
