"""What pgbench reports becomes numbers."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido import embedded
from pglido.cli import pgbench

REPORT = """\
transaction type: <builtin: select only>
number of failed transactions: 0 (0.000%)
tps = 20591.123456 (without initial connection time)
"""


def test_a_report_and_its_latencies_give_the_numbers() -> None:
    assert pgbench.parse(REPORT, range(1000, 101_000, 1000)) == pgbench.Measured(20591.123456, 50.0, 99.0)


@pytest.mark.parametrize(("report", "latencies"), [("", [1]), (REPORT, [])])
def test_a_run_without_numbers_is_an_error(report: str, latencies: list[int]) -> None:
    with pytest.raises(pgbench.PgbenchError):
        pgbench.parse(report, latencies)


@given(st.lists(st.integers(0, 10**6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_reached_by_its_share_and_by_no_smaller_value(
    values: list[int], share: float
) -> None:
    ordered = sorted(values)
    found = pgbench.percentile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert sum(value < found for value in ordered) < share * len(ordered)


def test_a_run_tells_each_second_and_the_whole() -> None:
    with embedded.start() as pg:
        fill = [str(pg.pgbench), "--initialize", "--quiet"]
        subprocess.run(fill, env=pg.env, check=True, capture_output=True)
        with pgbench.Run(pg.pgbench, pg.env, pgbench.Load("prepared", 2, 2)) as running:
            seconds = list(running)
            whole = running.result()
    assert seconds
    assert all(tps > 0 for tps in seconds)
    assert whole.tps > 0
    assert 0 < whole.median <= whole.p99


def test_a_server_that_is_not_there_is_an_error_with_the_words_of_pgbench() -> None:
    with embedded.start() as pg:
        env = pg.env
        pg.stop()
        with pgbench.Run(pg.pgbench, env, pgbench.Load("simple", 1, 1)) as running:
            assert not list(running)
            with pytest.raises(pgbench.PgbenchError, match="Connection refused"):
                running.result()
