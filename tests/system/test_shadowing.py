"""A temporary object comes in front of what a prepared statement is about: then that means what it does alone."""

from collections.abc import Callable, Iterator
from itertools import cycle, product

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, error_in, rows_in

COUNT = "SELECT count(*) FROM seen"


def say(wire: Wire, *parts: bytes) -> list[list[bytes | None]]:
    """Rows in the reply to these messages and Sync."""
    wire.send(*parts, m.SYNC)
    return rows_in(wire.until("Z"))


class Talk:
    """A client's session, over the pooler or directly, as words of a script; `saw` is what its statements counted."""

    def __init__(self, wire: Wire, others: list[Wire]) -> None:
        self.wire = wire
        self.others = others
        self.saw: list[object] = []

    def play(self, script: str) -> list[object]:
        """Each line is said; returns what was seen."""
        words: dict[str, Callable[[], object]] = {
            "prepare": lambda: say(self.wire, m.parse("s", COUNT)),
            "use": lambda: self.saw.append(say(self.wire, m.bind("", "s"), m.execute())),
            "move": self.move,
            "back": self.back,
        }
        for line in script.strip().splitlines():
            word = line.strip()
            if word in words:
                words[word]()
            elif word.startswith("extended "):
                say(self.wire, m.parse("", word.removeprefix("extended ")), m.bind("", ""), m.execute())
            else:
                self.wire.run(word)
        return self.saw

    def back(self) -> None:
        """From now on it is served by the server that it was moved from."""
        if self.others:
            self.others[1].run("BEGIN")
            self.others[0].run("COMMIT")

    def move(self) -> None:
        """From now on the client is served by the other of two servers."""
        if self.others:
            self.others[0].run("COMMIT")
            self.wire.run("SELECT 1")
            self.others[0].run("BEGIN")


@pytest.fixture
def table(cluster: Cluster) -> Iterator[None]:
    """A table of one row."""
    cluster.admin("DROP TABLE IF EXISTS seen; CREATE TABLE seen AS SELECT 1 AS v; GRANT ALL ON seen TO PUBLIC", "app")
    yield
    cluster.admin("DROP TABLE seen", "app")


# What the client's session had before: nothing, or temporary objects that are gone.
HISTORIES = {
    "none": "SELECT 1",
    "dropped": "CREATE TEMP TABLE before ()\nDROP TABLE before",
    "discarded": "CREATE TEMP VIEW before AS SELECT 1\nDISCARD TEMP",
    "on commit": "BEGIN\nCREATE TEMP TABLE before () ON COMMIT DROP\nCOMMIT",
    "at once": "BEGIN; SELECT 1 AS v INTO TEMP before; DROP TABLE before; COMMIT",
    "rolled back": "BEGIN\nCREATE TEMP TABLE before ()\nROLLBACK",
}
MAKERS = {
    "table": "CREATE TEMP TABLE seen (v int)",
    "view": "CREATE TEMP VIEW seen AS SELECT generate_series(1, 3) AS v",
    "select into": "SELECT generate_series(1, 3) AS v INTO TEMP seen",
    "block": "BEGIN\nCREATE TEMP TABLE seen (v int)\nuse\nCOMMIT",
    "extended": "extended CREATE TEMP TABLE seen (v int)",
    "function": "DO $$ BEGIN CREATE TEMP TABLE seen (v int); END $$",
}
WAYS = {
    "prepared before it": "prepare\n{history}\nmove\n{maker}\nuse",
    "prepared after it": "{history}\nprepare\nmove\n{maker}\nuse",
    "prepared before it and used after it": "prepare\n{history}\nmove\nuse\nmove\n{maker}\nuse",
    "on the same server": "{history}\nprepare\nuse\n{maker}\nuse",
    "back where it was not used": "prepare\n{history}\nmove\nuse\nback\n{maker}\nuse",
    "with another before": "{history}\nprepare\nmove\nCREATE TEMP TABLE other ()\n{maker}\nuse",
    "with another used before": "{history}\nprepare\nmove\nCREATE TEMP TABLE other ()\nuse\n{maker}\nuse",
    "gone again": "{history}\nprepare\nmove\n" + 2 * "{maker}\nuse\nDISCARD TEMP\nuse\nmove\nuse\n",
}




@pytest.fixture
def pool(cluster: Cluster, shared_pooler: MakePooler) -> Pooler:
    """Two servers that nobody has used before."""
    pool = shared_pooler(cluster, default_pool_size=2, workers=1)
    for row in pool.console("SHOW SERVERS"):
        cluster.admin(f"SELECT pg_terminate_backend({row['remote_pid']}, 5000)")
    eventually(lambda: not pool.console("SHOW SERVERS"))
    return pool


def use_all(others: list[Wire]) -> None:
    """All servers have had temporary objects."""
    for one in others:
        one.run("BEGIN; CREATE TEMP TABLE before () ON COMMIT DROP")
    for one in others:
        one.run("COMMIT")


def _cases() -> Iterator[tuple[str, str, str, bool]]:
    """Each way with each history, on servers of both kinds; of makers each in turn."""
    makers = cycle(MAKERS)
    for way, history, used in product(WAYS, HISTORIES, (False, True)):
        yield way, history, next(makers), used
    for maker in MAKERS:
        yield "prepared after it", "dropped", maker, True


@pytest.mark.parametrize(("way", "history", "maker", "used"), list(_cases()))
def test_statement_means_what_it_means_alone(
    way: str, history: str, maker: str, used: bool, pool: Pooler, cluster: Cluster, table: None
) -> None:
    script = WAYS[way].format(history=HISTORIES[history], maker=MAKERS[maker])
    with cluster.wire() as twin:
        expected = Talk(twin, []).play(script)
    others = [pool.wire(), pool.wire()]
    if used:
        use_all(others)
    assert Talk(pool.wire(), others).play(script) == expected


@pytest.mark.parametrize("begin", ["BEGIN", "SELECT 1"], ids=["in a block", "alone"])
def test_statement_that_can_not_be_parsed_hinders_no_temporary_table(
    begin: str, pool: Pooler, cluster: Cluster, table: None
) -> None:
    cluster.admin("DROP TABLE IF EXISTS gone; CREATE TABLE gone (); GRANT ALL ON gone TO PUBLIC", "app")
    others = [pool.wire(), pool.wire()]
    talk = Talk(pool.wire(), others)
    talk.play(HISTORIES["dropped"] + "\nprepare")
    say(talk.wire, m.parse("t", "TABLE gone"))
    cluster.admin("DROP TABLE gone", "app")
    talk.move()
    assert talk.play(f"{begin}\nCREATE TEMP TABLE seen ()\nuse\nCOMMIT\nuse") == [[[b"1"]]] * 2
    talk.wire.send(m.bind("", "t"), m.execute(), m.SYNC)
    assert error_in(talk.wire.until())["C"] == "42P01"


def test_more_statements_than_a_server_may_have(pooler: MakePooler, cluster: Cluster, table: None) -> None:
    pool = pooler(default_pool_size=2, workers=1, max_prepared_statements=4)
    wire, other = pool.wire(), pool.wire()
    wire.run("CREATE TEMP TABLE before (); DROP TABLE before")
    names = [f"s{number}" for number in range(8)]
    for name in names:
        say(wire, m.parse(name, f"{COUNT} -- {name}"))
    other.run("BEGIN")
    wire.run("CREATE TEMP TABLE seen ()")
    # The four that were used last are there, and stay.
    for _ in range(2):
        counted = [say(wire, m.bind("", name), m.execute()) for name in reversed(names)]
        assert counted == [[[b"1"]]] * 4 + [[[b"0"]]] * 4
