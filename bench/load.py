"""One measurement: make the load of a scenario on one instance, and read what that cost the instance."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pglido.cli.pgbench import percentile

from .contestants import Instance
from .database import LINE, NAME, Database
from .measure import Watch, cpu_ns, family, pss, used
from .results import Latency, Measurement
from .scenarios import Copy, Logins, Scenario, Transactions

TOP = Path(__file__).resolve().parent.parent  # where `bench` is imported from
GRACE_SECONDS = 30.0  # for logging in and for the last transaction; then the load is ended
COPY_SECONDS = 180.0
SPARE_FILES = 500  # that a process opens besides the connections of idle clients
WARM = Transactions(clients=16)
WARM_TRANSACTIONS = 50  # of each of the clients
MB = 1_000_000
BLOCK_LINES = 10_000


class LoadError(RuntimeError):
    """The load failed; the text says why, in one line if the program said so little."""


@dataclass(frozen=True)
class Size:
    """How long to measure, and how much to copy."""

    seconds: int
    copied: int  # bytes

    @property
    def copied_lines(self) -> int:
        return self.copied // (len(LINE) + 1)


@dataclass(frozen=True)
class Report:
    """What pgbench printed: transactions, their rate, seconds of connecting before the first or, on average and
    with a connection per transaction, of each."""

    transactions: int
    rate: float
    connecting: float


def parse(text: str) -> Report:
    """Numbers from pgbench's report. Raises LoadError when they are not all there."""
    done = re.search(r"^number of transactions actually processed: (\d+)", text, re.MULTILINE)
    rate = re.search(r"^tps = ([0-9.]+)", text, re.MULTILINE)
    connecting = re.search(r"^(?:initial|average) connection time = ([0-9.]+) ms", text, re.MULTILINE)
    if not (done and rate and connecting) or int(done[1]) == 0:
        raise LoadError(f"pgbench reported no transactions:\n{text.strip()}")
    return Report(int(done[1]), float(rate[1]), float(connecting[1]) / 1000)


def latencies(lines: Iterable[str]) -> list[int]:
    """Third word of each line of pgbench's log, in microseconds, sorted; `failed` and `skipped` are left out.

    With a pace the seventh says how much later than planned the transaction began, which is part of the third.
    """
    words = (line.split() for line in lines)
    return sorted(int(word[2]) - sum(map(int, word[6:7])) for word in words if len(word) > 2 and word[2].isdigit())


def cycles(lines: Iterable[str]) -> list[int]:
    """Microseconds from the end of a client's transaction to the end of its next, sorted.

    With a connection per transaction this is what a client waits: what pgbench logs as latency begins after
    connecting. A line is client, number, latency, script, and the end in seconds and microseconds.
    """
    before: dict[str, int] = {}
    found = []
    for line in lines:
        client, _, _, _, seconds, micros = line.split()[:6]
        end = int(seconds) * 1_000_000 + int(micros)
        if client in before:
            found.append(end - before[client])
        before[client] = end
    return sorted(found)


def percentiles(ordered: list[int]) -> Latency | None:
    """The 50th, 99th and 99.9th in milliseconds, of sorted microseconds; None where there are too few values."""
    if not ordered:
        return None
    p99 = percentile(ordered, 0.99) / 1000 if len(ordered) >= 100 else None
    return percentile(ordered, 0.5) / 1000, p99, percentile(ordered, 0.999) / 1000 if len(ordered) >= 1000 else None


def measure(scenario: Scenario, instance: Instance, database: Database, size: Size) -> Measurement:
    """Run the scenario once. Raises LoadError."""
    if isinstance(scenario.load, Copy):
        return _copy(scenario.load, instance, database, size)
    if isinstance(scenario.load, Logins):
        return _logins(scenario.load, instance, size)
    if not scenario.load.idle:
        return _transactions(scenario, scenario.load, instance, database, size)
    pids = family(*instance.pids)
    before = pss(pids)
    with crowd(instance.port, count := idle_clients(scenario.load.idle)):
        per_idle = (pss(pids) - before) / count
        one = _transactions(scenario, scenario.load, instance, database, size)
    return Measurement(one.rate, one.cpu, one.latency, one.memory, per_idle)


def warm(instance: Instance, database: Database, scenario: Scenario) -> None:
    """Have an instance open its server connections and touch its memory. Raises LoadError."""
    _pgbench(database, instance, scenario, WARM, ["--transactions", str(WARM_TRANSACTIONS)], GRACE_SECONDS)


def _transactions(
    scenario: Scenario, load: Transactions, instance: Instance, database: Database, size: Size
) -> Measurement:
    pids = family(*instance.pids)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        logged = ["--log", f"--log-prefix={name}/log"]
        if load.sampled < 1:
            logged.append(f"--sampling-rate={load.sampled}")
        with Watch(pids) as watch:
            paced = [f"--rate={load.pace}"] if load.pace else []
            arguments = [f"--time={size.seconds}", *logged, *paced]
            printed = _pgbench(database, instance, scenario, load, arguments, size.seconds + GRACE_SECONDS)
        report = parse(printed)
        ordered = (cycles if load.reconnect else latencies)(_lines(Path(name)))
    first, last = watch.samples[0], watch.samples[-1]
    if load.reconnect:
        spent = last.cpu - first.cpu
    else:  # logging in and out is not what is measured here
        begin = first.at + report.connecting
        spent = used(watch.samples, begin, begin + size.seconds)
    return Measurement(
        report.rate,
        spent / 1000 / report.transactions,
        percentiles(ordered),
        pss(pids),
        connecting=report.connecting * 1000 if load.reconnect else None,
    )


def _lines(folder: Path) -> Iterator[str]:
    for file in folder.iterdir():
        with file.open() as lines:
            yield from lines


def _pgbench(
    database: Database,
    instance: Instance,
    scenario: Scenario,
    load: Transactions,
    arguments: Sequence[str],
    within: float,
) -> str:
    """Run pgbench and return what it printed."""
    program = database.pgbench(tls=scenario.door.tls)
    if program is None:
        raise LoadError("not possible: there is no pgbench that speaks TLS")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        script = Path(name) / "script.sql"
        script.write_text(load.script)
        command = [
            *(str(program), "--no-vacuum", f"--protocol={load.mode}", f"--client={load.clients}"),
            f"--jobs={load.threads}",
            *((f"--file={script}",) if load.script else ("--select-only",)),
            *(("--connect",) if load.reconnect else ()),
            *arguments,
        ]
        env = database.env(instance.port, tls=scenario.door.tls)
        with _running(command, env, within) as process:
            out, err = process.communicate()
    if process.returncode != 0:
        raise LoadError(_told("pgbench", process.returncode, err.decode(errors="replace")))
    return out.decode(errors="replace")


def _logins(load: Logins, instance: Instance, size: Size) -> Measurement:
    """Waves of logins; what is measured is one of them, with its query."""
    pids = family(*instance.pids)
    command = [sys.executable, "-m", "bench.storm", str(instance.port), str(load.clients), str(size.seconds), NAME]
    before = cpu_ns(pids)
    with _running(command, dict(os.environ), size.seconds + GRACE_SECONDS) as process:
        out, err = process.communicate()
    spent = cpu_ns(pids) - before
    if process.returncode != 0:
        raise LoadError(_told("logging in", process.returncode, err.decode(errors="replace")))
    took, *waited = out.split()
    ordered = sorted(map(int, waited))
    return Measurement(len(ordered) / float(took), spent / 1000 / len(ordered), percentiles(ordered), pss(pids))


def _copy(copy: Copy, instance: Instance, database: Database, size: Size) -> Measurement:
    """Copy so many lines; the rate is in MB/s, the processor time per MB."""
    lines = size.copied_lines
    rows = f"SELECT '{LINE}' FROM generate_series(1, {lines})"
    # the server reads and splits each line, and keeps none
    into = "COPY copied FROM STDIN WHERE length(line) = 0"
    sql = f"COPY ({rows}) TO STDOUT" if copy.direction == "out" else into
    command = [str(database.server.psql), "-Xq", "-v", "ON_ERROR_STOP=1", "-c", sql]
    pids = family(*instance.pids)
    before, begin = cpu_ns(pids), time.monotonic()
    with _running(command, database.env(instance.port), COPY_SECONDS, out=subprocess.DEVNULL) as process:
        if copy.direction == "in":
            _feed(process, lines)
        _, err = process.communicate()
    took, spent = time.monotonic() - begin, cpu_ns(pids) - before
    if process.returncode != 0:
        raise LoadError(_told("psql", process.returncode, err.decode(errors="replace")))
    megabytes = lines * (len(LINE) + 1) / MB
    return Measurement(megabytes / took, spent / 1000 / megabytes, memory=pss(pids))


def _feed(process: subprocess.Popen[bytes], lines: int) -> None:
    """Write so many lines to its standard input; what it says of an error tells more than a broken pipe."""
    assert process.stdin is not None
    block = (LINE + "\n").encode() * BLOCK_LINES
    try:
        for _ in range(lines // BLOCK_LINES):
            process.stdin.write(block)
        process.stdin.write(block[: lines % BLOCK_LINES * (len(LINE) + 1)])
    except BrokenPipeError:
        pass


@contextmanager
def _running(
    command: Sequence[str], env: dict[str, str], within: float, out: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended after `within` seconds, and at the end of the block."""
    process = subprocess.Popen(
        command,
        cwd=TOP,
        env=env,
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for us alone
    )
    overdue = threading.Timer(within, process.kill)
    overdue.daemon = True
    overdue.start()
    try:
        yield process
    finally:
        overdue.cancel()
        if process.poll() is None:
            process.kill()
            process.communicate()


def _told(program: str, status: int, said: str) -> str:
    """A reason from what a program said: its first complaint."""
    if status < 0:
        return f"{program} was ended after taking too long"
    complaints = [line.strip() for line in said.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
    return f"{program}: {complaints[0] if complaints else said.strip() or f'status {status}'}"


def idle_clients(wanted: int) -> int:
    """As many as are wanted, if a process may open so many files."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if limit == resource.RLIM_INFINITY else max(1, min(wanted, limit - SPARE_FILES))


@contextmanager
def crowd(port: int, count: int) -> Iterator[None]:
    """Idle clients, while the block runs."""
    command = [sys.executable, "-m", "bench.crowd", str(port), str(count), NAME, NAME]
    process = subprocess.Popen(
        command,
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":  # it gives up by itself when it takes too long
            _, said = process.communicate()
            raise LoadError(f"the idle clients: {said.strip().splitlines()[-1:] or 'ended'}")
        yield
    finally:
        try:
            process.communicate(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
