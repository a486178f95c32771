"""Batches of any kind are answered as by PostgreSQL, message by message, however they are cut into writes.

A longer search: PGLIDO_TEST_EXAMPLES=5000. What it finds belongs among the stories.
"""

import os
import random

import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler

from .batch_steps import (
    FLUSH,
    SYNC,
    TABLES,
    Rival,
    Said,
    beginnings,
    bind,
    close,
    copied,
    describe,
    differs,
    draw,
    execute,
    parse,
    query,
)

EXAMPLES = int(os.environ.get("PGLIDO_TEST_EXAMPLES", "60"))
DATA, DONE = copied("1\n"), copied(None)


def run(sql: str) -> list[Said]:
    """A text run by the extended protocol."""
    return [parse("", sql), bind("", ""), execute("")]


def use(name: str) -> list[Said]:
    """A prepared statement run, and the end of the batch."""
    return [bind("", name), execute(""), SYNC]


SHOWN = "SELECT name FROM pg_prepared_statements ORDER BY name"
STORIES = {
    "shown behind a Query in a batch": [
        *[parse("s", "SELECT 1"), SYNC, *use("s"), *run("SELECT 1"), query("SELECT 2"), query(SHOWN), SYNC, *use("s")]
    ],
    "shown behind a Query in a batch that fails": [
        *[parse("s", "SELECT 1"), SYNC, *use("s"), *run("INSERT INTO copied VALUES (77)"), query("SELECT 2")],
        *[query(SHOWN), query("SELECT 1/0"), SYNC, query("DELETE FROM copied WHERE n = 77")],
    ],
    "executed by SQL behind a Query in a batch that fails": [
        *[parse("s", "SELECT 1"), SYNC, *run("INSERT INTO copied VALUES (77)"), query("SELECT 2")],
        *[query("EXECUTE s"), *run("SELECT 1/0"), SYNC, query("DELETE FROM copied WHERE n = 77"), *use("s")],
    ],
    "bound and executed by SQL behind a Query in a batch that fails": [
        *[parse("s", "SELECT 1"), SYNC, *run("INSERT INTO copied VALUES (77)"), query("SELECT 2")],
        *[*run("EXECUTE s"), *run("SELECT 1/0"), SYNC, query("DELETE FROM copied WHERE n = 77"), *use("s")],
    ],
    "DEALLOCATE ALL, and an error": [
        *[parse("s", "SELECT 1"), SYNC, *run("DEALLOCATE ALL"), *run("SELECT 1/0"), SYNC, *use("s")]
    ],
    "DISCARD ALL, and an error": [parse("s", "SELECT 1"), SYNC, *run("DISCARD ALL"), *run("SELEC"), SYNC, *use("s")],
    "DEALLOCATE ALL in the batch that prepares": [parse("s", "SELECT 1"), *run("DEALLOCATE ALL"), *use("s")],
    "DISCARD ALL refused": [
        *[parse("s", "SELECT 1"), SYNC, parse("t", "SELECT 2"), *run("DISCARD ALL"), parse("s", "SELECT 2"), SYNC],
        *use("s"),
    ],
    "DEALLOCATE ALL by a portal of an earlier batch": [
        *[query("BEGIN"), parse("s", "SELECT 1"), parse("t", "DEALLOCATE ALL"), bind("p", "t"), SYNC],
        *[bind("q", "s"), SYNC, execute("p"), bind("", "s"), SYNC, query("ROLLBACK"), *use("s")],
    ],
    "DEALLOCATE that is bound only": [parse("s", "SELECT 1"), parse("", "DEALLOCATE s"), bind("p", ""), *use("s")],
    "DEALLOCATE that is run later": [
        *[parse("s", "SELECT 1"), parse("", "DEALLOCATE s"), bind("p", ""), bind("", "s"), execute(""), execute("p")],
        *use("s"),
    ],
    "COPY with a Close behind": [parse("s", "SELECT 1"), SYNC, query("COPY copied FROM STDIN"), close("S", "s")],
    "COPY with a Close of nothing behind": [query("COPY copied FROM STDIN"), close("S", "s"), DATA, DONE, SYNC],
    "COPY, and a Close in it": [parse("s", "SELECT 1"), SYNC, *run("COPY copied FROM STDIN"), close("S", "s"), SYNC],
    "COPY, and a Query in it": [*run("COPY copied FROM STDIN"), query("SELECT 1"), SYNC],
    "COPY that ends, and a Close": [
        *[parse("s", "SELECT 1"), SYNC, *run("COPY copied FROM STDIN"), DATA, DONE, close("S", "s"), SYNC, *use("s")]
    ],
    "PREPARE, and a Parse": [*run("PREPARE s AS SELECT 3"), parse("s", "SELECT 1"), SYNC, query("EXECUTE s")],
    "PREPARE in a Query, and a Parse": [query("PREPARE s AS SELECT 3"), parse("s", "SELECT 1"), SYNC, *use("s")],
    "PREPARE in a block, and a Parse": [
        *[query("BEGIN"), query("PREPARE s AS SELECT 3"), parse("s", "SELECT 1"), SYNC, query("COMMIT"), *use("s")]
    ],
    "PREPARE that is bound, and a Parse": [
        *[parse("", "PREPARE s AS SELECT 3"), bind("p", ""), parse("s", "SELECT 1"), execute("p"), SYNC, *use("s")]
    ],
    "PREPARE, DEALLOCATE and a Parse": [
        *[query("PREPARE s AS SELECT 3"), query("DEALLOCATE s"), parse("s", "SELECT 1"), SYNC, *use("s")]
    ],
    "Parse, and a PREPARE in a Query of the same batch": [
        *[parse("s", "BEGIN"), bind("p", "s"), execute("p"), query("PREPARE s AS SELECT 9; EXECUTE s"), SYNC]
    ],
    "an error, and a DEALLOCATE that is skipped": [
        parse("s", "SELECT 1"),
        describe("S", ""),
        query("DEALLOCATE s"),
        SYNC,
    ],
    "Close and a Parse behind EXECUTE": [
        *[parse("s", "SELECT 1"), SYNC, query("EXECUTE s"), close("S", "s"), parse("s", "SELECT 2"), SYNC],
        *[query("EXECUTE s"), *use("s")],
    ],
    "Terminate behind a Flush": [parse("s", "SELECT 1"), bind("", "s"), execute(""), FLUSH],
}


@pytest.fixture
def pool(cluster: Cluster, shared_pooler: MakePooler) -> Pooler:
    """A server for the client, and one for another that takes turns with it."""
    cluster.wire().run(TABLES)
    return shared_pooler(cluster, default_pool_size=2, workers=1)


def told(cluster: Cluster, pool: Pooler, said: list[Said], splits: list[set[int]], rng: random.Random) -> str:
    """What is different, in the first of these ways to cut a sequence into writes."""
    before = beginnings(cluster, said)
    for cuts in splits:
        with pool.wire() as other:
            wrong = differs(said, cuts, before, pool.wire(), Rival(other, rng))
        if wrong:
            return wrong
    return ""


@pytest.mark.parametrize("story", STORIES)
def test_batch_is_answered_as_by_postgresql(story: str, cluster: Cluster, pool: Pooler) -> None:
    said = STORIES[story]
    places = range(1, len(said))
    splits: list[set[int]] = [set(), set(places), *[{at} for at in places]]
    assert told(cluster, pool, said, splits, random.Random(story)) == ""


@pytest.mark.parametrize("first", range(0, EXAMPLES, 20))
def test_random_batches_are_answered_as_by_postgresql(first: int, cluster: Cluster, pool: Pooler) -> None:
    for seed in range(first, min(first + 20, EXAMPLES)):
        rng = random.Random(seed)
        said = draw(rng)
        places = range(1, len(said))
        splits = [set(), set(places), {at for at in places if rng.random() < 0.4}]
        assert told(cluster, pool, said, splits, rng) == "", f"seed {seed}"
