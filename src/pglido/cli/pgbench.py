"""Run pgbench and turn what it reports into numbers: transactions per second and latencies."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLED = 0.2  # of all transactions have their latency logged: enough for a percentile, little to write
GRACE_SECONDS = 60.0  # for connecting, and for the last transaction; then pgbench is killed


class PgbenchError(RuntimeError):
    """pgbench failed; the text is what it said."""


@dataclass(frozen=True)
class Load:
    """What pgbench is to do: SELECT by primary key, `clients` at once for `seconds`, protocol `mode`."""

    mode: str
    clients: int
    seconds: int
    threads: int = 2


@dataclass(frozen=True)
class Measured:
    """What came out; latencies in milliseconds."""

    tps: float
    median: float
    p99: float


def percentile(ordered: list[int], share: float) -> int:
    """The smallest value that at least `share` of the sorted values do not exceed (nearest rank)."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def parse(report: str, latencies: Iterable[int]) -> Measured:
    """Numbers of one run from pgbench's report and the logged latencies in microseconds."""
    found = re.search(r"^tps = ([0-9.]+)", report, re.MULTILINE)
    ordered = sorted(latencies)
    if found is None or not ordered:
        raise PgbenchError(report.strip() or "pgbench reported nothing")
    return Measured(float(found[1]), percentile(ordered, 0.5) / 1000, percentile(ordered, 0.99) / 1000)


class Run:
    """One run of pgbench against the server that `env` leads to; killed at the end of its `with` block.

    Iterating gives the transactions per second of each second while it runs; result() those of the whole.
    """

    def __init__(self, pgbench: Path, env: dict[str, str], load: Load) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="pglido-bench-")
        self.said: list[str] = []
        command = [
            *(str(pgbench), "--no-vacuum", "--select-only", f"--protocol={load.mode}", "--progress=1"),
            *(f"--client={load.clients}", f"--jobs={load.threads}", f"--time={load.seconds}"),
            *("--log", f"--log-prefix={self.folder.name}/log", f"--sampling-rate={SAMPLED}"),
        ]
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.overdue = threading.Timer(load.seconds + GRACE_SECONDS, self.process.kill)
        self.overdue.daemon = True

    def __enter__(self) -> Run:
        self.overdue.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.overdue.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.folder.cleanup()

    def __iter__(self) -> Iterator[float]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            found = re.match(r"progress: [0-9.]+ s, ([0-9.]+) tps", line)
            if found:
                yield float(found[1])

    def result(self) -> Measured:
        """Wait for its end. Raises PgbenchError when any client failed."""
        report, rest = self.process.communicate()
        if self.process.returncode != 0:
            said = "".join(self.said[-20:]) + rest
            raise PgbenchError(f"pgbench ended with status {self.process.returncode}:\n{said}")
        return parse(report, _latencies(Path(self.folder.name)))


def _latencies(folder: Path) -> Iterator[int]:
    """Third word of each line of the logs, in microseconds, where it is a number (`failed` is not)."""
    for file in folder.iterdir():
        with file.open() as lines:
            for line in lines:
                word = line.split()[2]
                if word.isdigit():
                    yield int(word)
