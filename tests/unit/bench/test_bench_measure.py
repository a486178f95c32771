"""What /proc and pgbench tell becomes numbers; the order turns; a real run measures."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from bench import contestants, load, machine, measure
from bench.__main__ import arguments
from bench.crowd import startup
from bench.measure import Sample
from bench.rounds import rotated
from pglido import embedded

ROOT = Path(__file__).parents[3]

REPORT = """\
pgbench (18.0)
number of transactions actually processed: 104
number of failed transactions: 0 (0.000%)
latency average = 0.050 ms
initial connection time = 250.500 ms
tps = 20591.123456 (without initial connection time)
"""


def test_a_report_of_pgbench_is_read() -> None:
    assert load.parse(REPORT) == load.Report(104, 20591.123456, 0.2505)
    reconnecting = REPORT.replace("initial connection", "average connection")
    assert load.parse(reconnecting).connecting == 0.2505


@pytest.mark.parametrize("text", ["", REPORT.replace("104", "0"), REPORT.replace("tps", "cps")])
def test_a_report_without_transactions_is_an_error(text: str) -> None:
    with pytest.raises(load.LoadError):
        load.parse(text)


def test_latencies_are_sorted_and_failures_left_out() -> None:
    assert load.latencies(["0 1 900 0 17 5", "1 1 failed 0 17 6", "0 2 300 0 17 7", ""]) == [300, 900]


def test_a_late_begin_is_no_latency() -> None:
    assert load.latencies(["0 1 900 0 17 5 850", "1 1 skipped 0 17 6 40"]) == [50]


def test_with_a_connection_per_transaction_a_client_waits_from_end_to_end() -> None:
    lines = ["0 1 90 0 17 999000", "1 1 90 0 17 999500", "0 2 90 0 18 1000", "1 2 90 0 18 500"]
    assert load.cycles(lines) == [1000, 2000]


def test_a_percentile_of_too_few_values_is_none() -> None:
    assert load.percentiles([]) is None
    assert load.percentiles([1000] * 50) == (1.0, None, None)
    assert load.percentiles([1000] * 500) == (1.0, 1.0, None)
    assert load.percentiles([*range(1000, 1_001_000, 1000)]) == (500.0, 990.0, 999.0)


def test_the_first_complaint_is_the_reason() -> None:
    said = "pgbench: notice\npgbench: error: connection failed: no\nError again"
    assert load._told("pgbench", 1, said) == "pgbench: pgbench: error: connection failed: no"
    assert "too long" in load._told("pgbench", -9, "")


def test_processor_time_between_two_moments_is_interpolated() -> None:
    samples = [Sample(1.0, 0), Sample(2.0, 100), Sample(4.0, 500)]
    assert measure.used(samples, 1.5, 3.0) == 250
    assert measure.used(samples, 0.0, 9.0) == 500


def test_the_processor_time_of_a_process_grows_when_it_works() -> None:
    work = "import time\nwhile time.process_time() < 0.1: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        with measure.Watch((child.pid,)) as watch:
            child.stdout.readline()
        assert measure.cpu_ns((child.pid,)) >= 80_000_000
        child.kill()
    assert all(a.at <= b.at and a.cpu <= b.cpu for a, b in pairwise(watch.samples))


def test_without_schedstat_processor_time_is_counted_in_ticks(tmp_path: Path) -> None:
    (tmp_path / "task" / "1").mkdir(parents=True)
    words = ["S", "1", *["0"] * 9, "7", "3", *["0"] * 20]
    (tmp_path / "stat").write_text(f"42 (a (strange) name) {' '.join(words)}")
    assert measure._cpu_of(tmp_path) == 10 * measure.NS_PER_TICK


def test_a_process_that_is_gone_has_used_nothing() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert measure.family(gone.pid) == ()
    assert measure.cpu_ns((gone.pid,)) == 0
    assert measure.pss((gone.pid,)) == 0


def test_a_family_has_the_children_and_memory() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            assert {os.getpid(), child.pid} <= set(measure.family(os.getpid()))
        finally:
            child.kill()
    assert measure.pss((os.getpid(),)) > 1_000_000


def test_everybody_is_first_in_turn() -> None:
    names = ["a", "b", "c"]
    assert [rotated(names, number) for number in (1, 2, 3, 4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotated([], 3) == []


def test_peers_are_given_by_name_port_and_process() -> None:
    assert contestants.peer("odd-yssey=6000:42") == contestants.Peer("odd-yssey", 6000, 42)
    for wrong in ("x=6000", "=1:2", "x=a:b"):
        with pytest.raises(ValueError, match="name=port:pid"):
            contestants.peer(wrong)


@pytest.mark.parametrize(("said", "version"), [("PgBouncer 1.18.0\nlibevent", (1, 18, 0)), ("PgBouncer 1.25", (1, 25))])
def test_the_version_of_pgbouncer_is_read(said: str, version: tuple[int, ...]) -> None:
    assert contestants.version_of(said) == version


def test_the_machine_is_described() -> None:
    assert machine.processor("processor : 0\nmodel name\t: Some  CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"
    assert machine.memory("MemTotal:       16000000 kB\n") == "16 GB"


def test_quick_is_short_unless_told() -> None:
    quick = arguments(["--quick"])
    assert (quick.seconds, quick.rounds) == (1, 2)
    told = arguments(["--quick", "--rounds", "4"])
    assert (told.seconds, told.rounds) == (1, 4)
    assert arguments([]).rounds == 5


@pytest.mark.parametrize("wrong", [["--only", "nothing"], ["--rounds", "0"], ["--peer", "x"]])
def test_what_is_not_understood_ends_before_anything_starts(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(wrong)


def test_a_startup_message_has_its_length_in_front() -> None:
    message = startup("me", "mine")
    assert int.from_bytes(message[:4], "big") == len(message)
    assert message.endswith(b"user\0me\0database\0mine\0\0")


@pytest.mark.skipif(not embedded.available(18), reason="no embedded PostgreSQL 18")
def test_a_short_run_measures_and_writes(tmp_path: Path) -> None:
    files = [f"--{kind}={tmp_path / kind}" for kind in ("json", "svg", "markdown")]
    some = ["--quick", "--only=simple-1,storm-scram", "--rounds=1", "--no-pgbouncer", "--pgbouncer=/no/program"]
    command = [sys.executable, "-m", "bench", *some, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads((tmp_path / "json").read_text())
    for scenario in ("simple-1", "storm-scram"):
        rounds = read["scenarios"][scenario]["rounds"]
        assert "pglido-all" in rounds
        for each in rounds.values():
            assert each["1"]["rate"] > 0
            assert each["1"]["cpu"] > 0
            assert each["1"]["memory"] > 0
    assert read["notes"] == ["Without PgBouncer: can't run /no/program: No such file or directory"]
    assert (tmp_path / "svg").read_text().startswith("<svg")
    assert "simple-1" in (tmp_path / "markdown").read_text()
