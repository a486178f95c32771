"""pgbench runs through transaction mode with more clients than servers, and its books balance afterwards."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import MakePooler
from drivers.conftest import DATABASE, SERVERS, at_rest
from harness.cluster import Cluster
from harness.pooler import Pooler
from pglido.embedded import clean_environ

SCALE = 10
BOOKS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),
       (SELECT sum(tbalance) FROM pgbench_tellers), coalesce(sum(delta), 0), count(*) FROM pgbench_history
"""


@pytest.fixture(scope="module")
def tables(database: Cluster) -> Iterator[Cluster]:
    """pgbench's tables, filled directly."""
    run(database, database.port, "--initialize", "--init-steps=dtGvp", f"--scale={SCALE}")
    yield database
    run(database, database.port, "--initialize", "--init-steps=d")


def run(cluster: Cluster, port: int, *options: str) -> str:
    """What pgbench said; it must end well."""
    done = subprocess.run(
        [cluster.binary("pgbench"), f"--port={port}", "--host=127.0.0.1", "--username=app", *options, DATABASE],
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def processed(report: str) -> int:
    """How many transactions a report tells of, none of them failed."""
    assert "number of failed transactions: 0 (0.000%)" in report
    found = re.search(r"transactions actually processed: (\d+)/(\d+)", report)
    assert found
    assert found[1] == found[2]
    return int(found[1])


def books(cluster: Cluster) -> int:
    """Check that all sums are equal; returns the number of transactions in the books."""
    ((accounts, branches, tellers, history, count),) = cluster.admin(BOOKS, DATABASE)
    assert accounts == branches == tellers == history
    return int(count or 0)


MODES = ("simple", "extended", "prepared")


@pytest.mark.parametrize("mode", MODES)
def test_tpcb(pool: Pooler, tables: Cluster, mode: str) -> None:
    before = books(tables)
    report = run(tables, pool.port, "-n", f"--protocol={mode}", "-c", "200", "-j", "4", "-t", "15")
    assert processed(report) == 3000
    assert books(tables) == before + 3000


@pytest.mark.parametrize("mode", MODES)
def test_select_only(pool: Pooler, tables: Cluster, mode: str) -> None:
    report = run(tables, pool.port, "-n", "-S", f"--protocol={mode}", "-c", "200", "-j", "4", "-t", "50")
    assert processed(report) == 10_000


@pytest.mark.parametrize("mode", MODES)
def test_new_connection_for_each_transaction(pool: Pooler, tables: Cluster, mode: str) -> None:
    before = books(tables)
    report = run(tables, pool.port, "-n", "-C", f"--protocol={mode}", "-c", "200", "-j", "4", "-t", "5")
    assert processed(report) == 1000
    assert books(tables) == before + 1000


def test_tpcb_prepared_over_a_pool_of_ten(tables: Cluster, pooler: MakePooler) -> None:
    pool = pooler(tables, databases={DATABASE: {}}, default_pool_size=10, workers=2)
    before = books(tables)
    report = run(tables, pool.port, "-n", "--protocol=prepared", "-c", "50", "-j", "4", "-t", "100")
    assert processed(report) == 5000
    assert books(tables) == before + 5000
    at_rest(pool, tables, 10 + SERVERS)  # the shared pooler has its own


PIPELINE = r"""
\set n random(1, 1000)
\startpipeline
BEGIN;
SELECT :n AS mine;
UPDATE pgbench_branches SET bbalance = bbalance + :n WHERE bid = 1 + :n % 10;
UPDATE pgbench_branches SET bbalance = bbalance - :n WHERE bid = 1 + :n % 10;
COMMIT;
\syncpipeline
SELECT :n + 1 AS next;
\endpipeline
"""


@pytest.mark.parametrize("mode", MODES[1:])
def test_pipelines(pool: Pooler, tables: Cluster, mode: str, tmp_path: Path) -> None:
    script = tmp_path / "pipeline.sql"
    script.write_text(PIPELINE)
    before = books(tables)
    report = run(tables, pool.port, "-n", f"--protocol={mode}", "-f", str(script), "-c", "200", "-j", "4", "-t", "10")
    assert processed(report) == 2000
    assert books(tables) == before

