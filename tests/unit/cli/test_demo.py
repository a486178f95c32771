"""`pglido demo` shows what it promises, ends as it promises, and leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pglido import embedded
from pglido.cli import demo
from pglido.cli.child import Child, ChildError, free_port
from pglido.cli.pgbench import Measured

ROW = re.compile(r"^  (simple|prepared) +(direct|pooled) +[\d,]+ +[\d.]+ ms +[\d.]+ ms +(\d+)$", re.MULTILINE)
SMALL = ("--seconds", "2", "--clients", "20", "--pool", "4")


def start(*options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pglido.cli.main", "demo", *SMALL, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "MAKELEVEL"},
    )


def test_the_demo_compares_and_ends_by_itself() -> None:
    with start() as process:
        family = psutil.Process(process.pid)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert not family.is_running()
    assert re.search(r"postgresql://lido:lido@127\.0\.0\.1:\d+/lido\n", out)
    rows = ROW.findall(out)
    assert [(mode, way) for mode, way, _ in rows] == [
        ("simple", "direct"),
        ("simple", "pooled"),
        ("prepared", "direct"),
        ("prepared", "pooled"),
    ]
    connections = [int(count) for _, _, count in rows]
    assert connections[0] == connections[2] == 20
    assert 0 < connections[1] <= 4
    assert 0 < connections[3] <= 4
    assert re.search(r"^  lido +lido ", out, re.MULTILINE), "SHOW POOLS"
    assert "demo --stay" in out


def test_with_stay_it_is_up_until_it_is_interrupted() -> None:
    with start("--stay") as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Up until"):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        url = re.findall(r"postgresql://\S+/lido", "".join(lines))[-1]
        psql = embedded.bin_directory(18) / "psql"
        command = [psql, "-Atc", "select 41 + 1", url]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert asked.stdout == "42\n", asked.stderr
    assert process.returncode == 0
    assert family
    _, left = psutil.wait_procs(family, timeout=10)
    assert not left


def test_a_demo_that_is_terminated_cleans_up() -> None:
    with start() as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "postgresql://" in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 130
    _, left = psutil.wait_procs(family, timeout=10)
    assert not left


def test_a_pglido_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="no_such_key"), Child("[pglido]\nno_such_key = 1\n", tmp_path, 1):
        pass


def test_a_taken_port_is_avoided() -> None:
    with embedded.start() as pg:
        assert free_port(pg.port) != pg.port


def test_the_table_lines_up() -> None:
    rows = [
        demo.Row("simple", "direct", Measured(20591.2, 2.84, 14.31), 100),
        demo.Row("simple", "pooled", Measured(9.0, 12.0, 100.0), 10),
    ]
    assert demo.table(rows, 100).splitlines() == [
        "  protocol  100 clients  transactions/s   median  99 % within  server connections",
        "  simple    direct               20,591   2.8 ms      14.3 ms                 100",
        "  simple    pooled                    9  12.0 ms     100.0 ms                  10",
    ]


POOLS = [{"database": "lido", "user": "lido"}]
LOG = "2026-01-31 12:00:00.123 UTC info control: up\n"


def shown(connections: int = 10, pools: list[dict[str, str]] = POOLS) -> demo.Shown:
    measured = Measured(9.0, 12.0, 100.0)
    return demo.Shown(
        [demo.Row("simple", "direct", measured, 3), demo.Row("simple", "pooled", measured, connections)], pools
    )


def test_nothing_is_wrong_with_a_demo_that_went_well() -> None:
    assert demo.faults(demo.DemoOptions(), shown(), LOG) == []
    assert demo.faults(demo.DemoOptions(clients=4), shown(4), LOG) == []


@pytest.mark.parametrize(
    ("what", "log", "said"),
    [
        (shown(9), LOG, "PostgreSQL saw at most 9 server connections of a pool of 10, with 100 clients"),
        (shown(pools=[]), LOG, "SHOW POOLS did not show"),
        (shown(pools=[{"database": "pglido", "user": "pglido"}]), LOG, "SHOW POOLS did not show"),
        (shown(), LOG + "x error worker 0: bug: a task failed\n", "worker 0: bug: a task failed"),
        (shown(), LOG + "Traceback (most recent call last):\n", "Traceback"),
    ],
)
def test_what_is_wrong_is_told(what: demo.Shown, log: str, said: str) -> None:
    (fault,) = demo.faults(demo.DemoOptions(), what, log)
    assert said in fault


def test_demo_that_finds_something_wrong_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "BUG", re.compile("^.*worker 0 is ready.*$", re.MULTILINE))
    assert demo.run(demo.DemoOptions(seconds=1, clients=4, pool=2)) == 1
    assert "worker 0 is ready" in capsys.readouterr().err
