"""LISTEN in transaction mode: clients hear what they would with a server of their own, and nobody hears for another."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Message, Wire, error_in, kinds, note, rows_in

pytestmark = pytest.mark.usefixtures("patience")

EARS = "application_name = 'pglido listen'"
CHANNELS = "SELECT pg_listening_channels()"
Note = tuple[str, str]


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def pool(request: pytest.FixtureRequest, cluster: Cluster, shared_pooler: MakePooler) -> Pooler:
    """As many servers as workers: less than clients."""
    return shared_pooler(cluster, default_pool_size=request.param, workers=request.param)


@pytest.fixture
def sender(cluster: Cluster) -> Wire:
    """A connection to PostgreSQL itself, which notifies."""
    return cluster.wire()


class Ear:
    """A client that may listen: notifications are kept apart from the replies.

    They must come between two replies, or ahead of the ReadyForQuery that ends a transaction.
    """

    def __init__(self, wire: Wire, *channels: str) -> None:
        self.wire = wire
        self.notes: list[Note] = []
        for channel in channels:
            assert kinds(self.say(f"LISTEN {channel}")) == "CZ"

    def read(self, count: int = 1) -> list[Message]:
        """What is said up to so many ReadyForQuery."""
        said: list[Message] = []
        for _ in range(count):
            turn = self.wire.until("Z")
            self.notes += [note(one) for one in turn if one.kind == "A"]
            assert re.fullmatch("A*[^A]*A*Z" if turn[-1].body == b"I" else "A*[^A]*", kinds(turn))
            said += [one for one in turn if one.kind != "A"]
        return said

    def say(self, *parts: str | bytes) -> list[Message]:
        """The reply to queries, or to messages of the extended protocol and a Sync."""
        sent = [m.query(part) if isinstance(part, str) else part for part in parts]
        if isinstance(parts[-1], bytes):
            sent.append(m.SYNC)
        self.wire.send(*sent)
        return self.read(1 if isinstance(parts[-1], bytes) else len(parts))

    def channels(self) -> list[str]:
        """What it listens to, as it is told."""
        return sorted(str(name, "utf-8") for (name,) in rows_in(self.say(CHANNELS)) if name is not None)

    def heard(self, count: int = 1) -> list[Note]:
        """The next notifications, and nothing else."""
        while len(self.notes) < count:
            one = self.wire.message()
            assert one.kind == "A", one
            self.notes.append(note(one))
        first, self.notes = self.notes[:count], self.notes[count:]
        return first

    def heard_until(self, last: Note) -> list[Note]:
        """Notifications up to this one, which is left out."""
        found: list[Note] = []
        while (one := self.heard()[0]) != last:
            found.append(one)
        return found


def extended(sql: str) -> bytes:
    """A statement by the extended protocol, up to a Sync."""
    return m.parse("", sql) + m.bind("", "") + m.execute()


def figures(pool: Pooler) -> dict[str, int]:
    """SHOW LISTEN of the pool."""
    return pool.listening("app")


def terminate(cluster: Cluster) -> None:
    """End the one listening connection."""
    cluster.admin(f"SELECT pg_terminate_backend({cluster.settles(1, EARS)[0]})")


# When it takes effect.

STORIES = {
    "listen": ["LISTEN a"],
    "listen twice": ["LISTEN a", "LISTEN a"],
    "several in one query": ["LISTEN a; LISTEN b"],
    "an error undoes the query": ["LISTEN a", "LISTEN b; UNLISTEN a; SELECT 1/0"],
    "commit": ["BEGIN", "LISTEN a", "COMMIT"],
    "commit in one query": ["BEGIN; LISTEN a; LISTEN b; COMMIT"],
    "rollback": ["BEGIN", "LISTEN a", "ROLLBACK"],
    "rollback in one query": ["LISTEN c", "BEGIN; LISTEN a; ROLLBACK; LISTEN b"],
    "failed block": ["LISTEN b", "BEGIN", "LISTEN a", "SELECT 1/0", "LISTEN b", "COMMIT"],
    "rollback keeps what was": ["LISTEN a", "BEGIN", "LISTEN b", "UNLISTEN a", "ROLLBACK"],
    "savepoint": ["BEGIN", "LISTEN a", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO SAVEPOINT s", "LISTEN c", "COMMIT"],
    "savepoint released": ["BEGIN", "SAVEPOINT s", "LISTEN a", "RELEASE s", "SAVEPOINT t", "UNLISTEN *",
                           "ROLLBACK TO t", "COMMIT"],
    "error in a savepoint": ["BEGIN", "LISTEN a", "SAVEPOINT s", "LISTEN b", "SELECT 1/0", "ROLLBACK TO s", "COMMIT"],
    "unlisten": ["LISTEN a", "LISTEN b", "UNLISTEN a"],
    "unlisten what was not listened to": ["LISTEN a", "UNLISTEN b"],
    "unlisten all": ["LISTEN a", "LISTEN b", "UNLISTEN *"],
    "unlisten all, then one": ["LISTEN a", "BEGIN", "UNLISTEN *", "LISTEN b", "COMMIT"],
    "unlisten in a block": ["LISTEN a", "LISTEN b", "BEGIN", "UNLISTEN a", "COMMIT"],
    "unlisten rolled back": ["LISTEN a", "LISTEN b", "BEGIN", "UNLISTEN a", "ROLLBACK"],
    "unlisten all rolled back": ["LISTEN a", "LISTEN b", "BEGIN", "UNLISTEN *", "ROLLBACK"],
    "unlisten rolled back to a savepoint": ["LISTEN a", "BEGIN", "SAVEPOINT s", "UNLISTEN *", "ROLLBACK TO s",
                                            "LISTEN b", "COMMIT"],
    "unlisten all behind a commit": ["LISTEN a", "BEGIN", "COMMIT; UNLISTEN *"],
    "unlisten all behind a rollback": ["LISTEN a", "BEGIN", "ROLLBACK; UNLISTEN *"],
    "unlisten all in front of a commit": ["LISTEN a", "BEGIN", "UNLISTEN *; LISTEN b; COMMIT"],
    "unlisten all in front of a rollback": ["LISTEN a", "BEGIN", "UNLISTEN *; ROLLBACK"],
    "unlisten all between two blocks": ["LISTEN a", "BEGIN", "UNLISTEN *; COMMIT; BEGIN", "LISTEN b; ROLLBACK"],
    "unlisten all in the next block": ["LISTEN a", "BEGIN", "COMMIT; UNLISTEN *; BEGIN; ROLLBACK"],
    "unlisten all in the next block, later rolled back": ["LISTEN a", "BEGIN", "COMMIT; BEGIN; UNLISTEN *", "ROLLBACK"],
    "unlisten all back to a savepoint": ["LISTEN a", "BEGIN", "SAVEPOINT s; UNLISTEN *; ROLLBACK TO s; COMMIT"],
    "unlisten all in front of an error": ["LISTEN a", "BEGIN", "COMMIT; UNLISTEN *; SELECT 1/0"],
    "unlisten all behind an error": ["LISTEN a", "BEGIN", "ROLLBACK; SELECT 1/0; UNLISTEN *"],
    "unlisten all behind a failed block": ["LISTEN a", "BEGIN", "SELECT 1/0", "COMMIT; UNLISTEN *"],
    "unlisten, then others back to a savepoint": [
        "LISTEN a; LISTEN b", "BEGIN", "UNLISTEN a", "SAVEPOINT s", "UNLISTEN b", "ROLLBACK TO s", "COMMIT"],
    "unlisten again behind a savepoint": ["LISTEN a; LISTEN b", "BEGIN", "SAVEPOINT s", "UNLISTEN a; UNLISTEN b",
                                          "ROLLBACK TO s", "UNLISTEN a", "COMMIT"],
    "unlisten once more, rolled back": ["LISTEN a", "BEGIN", "UNLISTEN a", "SAVEPOINT s", "UNLISTEN a", "ROLLBACK TO s",
                                        "COMMIT"],
    "unlisten and listen in a block": ["LISTEN a", "BEGIN", "UNLISTEN a", "LISTEN a", "UNLISTEN b", "COMMIT"],
    "unlisten all behind some": ["LISTEN a; LISTEN b", "BEGIN", "UNLISTEN a", "UNLISTEN *", "COMMIT"],
    "unlisten all rolled back behind some": ["LISTEN a; LISTEN b", "BEGIN", "UNLISTEN a", "SAVEPOINT s", "UNLISTEN *",
                                             "ROLLBACK TO s", "COMMIT"],
    "unlisten all twice": ["LISTEN a", "BEGIN", "SAVEPOINT s", "UNLISTEN *", "ROLLBACK TO s", "UNLISTEN *", "LISTEN c",
                           "COMMIT"],
    "unlisten all that fails in a savepoint": ["LISTEN a", "BEGIN", "SAVEPOINT s", "UNLISTEN *; LISTEN pg_sleep(1)",
                                               "ROLLBACK TO s", "COMMIT"],
    "unlisten, then code that does": [
        "LISTEN a; LISTEN b; LISTEN c", "BEGIN", "UNLISTEN a", "DO $$ BEGIN UNLISTEN b; END $$", "COMMIT"],
    "code that unlistens, then unlisten": ["LISTEN a; LISTEN b; LISTEN c", "BEGIN", "DO $$ BEGIN UNLISTEN b; END $$",
                                           "UNLISTEN a", "COMMIT"],
    "unlisten, then other things": ["LISTEN a; LISTEN b", "UNLISTEN a; SELECT 1"],
    "other things in a block": [
        "LISTEN a; LISTEN b; LISTEN c", "UNLISTEN a; BEGIN; SELECT 1", "UNLISTEN b", "ROLLBACK"],
    "a block in one query": [
        "LISTEN a; LISTEN b; LISTEN c", "BEGIN; UNLISTEN a; SAVEPOINT s; UNLISTEN b; ROLLBACK TO s; COMMIT"],
    "unlisten by a function": ["SELECT hear('a')", "LISTEN b", "LISTEN c", "UNLISTEN c; SELECT deaf('a')"],
    "unlisten by a prepared function": [
        "LISTEN a", "LISTEN b", "PREPARE p AS SELECT deaf('a')", "UNLISTEN b; EXECUTE p"],
    "what is listened to is asked for": ["LISTEN a", "LISTEN b", "SELECT pg_listening_channels(); UNLISTEN a"],
    "unlisten in two blocks that are chained": [
        "LISTEN a; LISTEN b", "BEGIN", "UNLISTEN a", "COMMIT AND CHAIN", "UNLISTEN b", "ROLLBACK"],
    "listen and unlisten": ["BEGIN", "LISTEN a", "UNLISTEN a", "LISTEN b", "COMMIT"],
    "commit and chain": ["BEGIN", "LISTEN a", "COMMIT AND CHAIN", "LISTEN b", "ROLLBACK"],
    "rollback and chain": ["BEGIN", "LISTEN a", "ROLLBACK AND CHAIN", "LISTEN b", "COMMIT"],
    "discard all": ["LISTEN a", "LISTEN b", "DISCARD ALL"],
    "discard all, then listen": ["LISTEN a", "DISCARD ALL", "LISTEN b"],
    "discard all in a block fails": ["LISTEN a", "BEGIN", "DISCARD ALL", "ROLLBACK"],
    "reset all keeps": ["LISTEN a", "RESET ALL", "DEALLOCATE ALL", "DISCARD TEMP"],
    "a driver's reset query": ["LISTEN a", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"],
    "within code": ["DO $$ BEGIN LISTEN a; EXECUTE 'LISTEN ' || 'b'; END $$"],
    "within code, rolled back": ["LISTEN b", "BEGIN", "DO $$ BEGIN LISTEN a; UNLISTEN b; END $$", "ROLLBACK"],
    "unlisten within code": ["LISTEN a", "LISTEN b", "DO $$ BEGIN UNLISTEN a; END $$"],
    "within a function": ["SELECT hear('a')", "SELECT hear('b')"],
    "other settings besides": ["BEGIN", "SET search_path = pg_catalog", "LISTEN a", "COMMIT", "RESET search_path"],
    "read only": ["BEGIN READ ONLY", "LISTEN a", "COMMIT"],
    "two-phase": ["LISTEN b", "BEGIN", "LISTEN a", "PREPARE TRANSACTION 'never'"],
}  # fmt: skip


@pytest.fixture(scope="module")
def hear(cluster: Cluster) -> None:
    """Functions that listen, and end to."""
    with cluster.wire() as wire:
        wire.run("CREATE OR REPLACE FUNCTION hear(what text) RETURNS void LANGUAGE plpgsql AS "
                 "$f$ BEGIN EXECUTE format('LISTEN %I', what); END $f$")  # fmt: skip
        wire.run("CREATE OR REPLACE FUNCTION deaf(what text) RETURNS void LANGUAGE plpgsql AS "
                 "$f$ BEGIN EXECUTE format('UNLISTEN %I', what); END $f$")  # fmt: skip


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))
@pytest.mark.usefixtures("hear")
def test_channels_are_those_of_a_connection_of_its_own(
    story: list[str], protocol: str, pool: Pooler, cluster: Cluster, sender: Wire
) -> None:
    client, twin, other = Ear(pool.wire()), Ear(cluster.wire()), Ear(pool.wire())
    for sql in story:
        alone = "$$" in sql or ";" not in sql.rstrip(";")
        said = extended(sql) if protocol == "extended" and alone else sql
        got, expected = client.say(said), twin.say(said)
        assert [one for one in got if one.kind not in "EN"] == [one for one in expected if one.kind not in "EN"], sql
        assert kinds(got) == kinds(expected)
        if "E" in kinds(got):
            assert error_in(got)["C"] == error_in(expected)["C"]
        if got[-1].body == b"I":
            assert kinds(other.say("SELECT 1")) == "TDCZ"
    assert client.channels() == twin.channels()
    client.say("LISTEN last")
    twin.say("LISTEN last")
    assert other.channels() == []
    # What a function listens to is known a moment after.
    eventually(lambda: figures(pool).get("channels") == len(twin.channels()))
    sender.run("NOTIFY a, '1'; NOTIFY b, '2'; NOTIFY c, '3'; NOTIFY last")
    assert client.heard_until(("last", "")) == twin.heard_until(("last", ""))
    assert kinds(other.say("SELECT 1")) == "TDCZ"
    assert other.notes == []
    client.wire.bye()
    eventually(lambda: figures(pool)["channels"] == 0)


def test_what_was_sent_before_is_not_heard(pool: Pooler) -> None:
    """Though others hear it, maybe by the same connection, and later."""
    before = Ear(pool.wire(), "a")
    expected = []
    for number in range(30):
        client = Ear(pool.wire())
        for sql in (f"NOTIFY a, 'old {number}'", "LISTEN a", f"NOTIFY a, 'new {number}'"):
            assert kinds(client.say(sql)) == "CZ"
        assert client.heard() == [("a", f"new {number}")]
        expected += [("a", f"old {number}"), ("a", f"new {number}")]
        client.wire.bye()
    assert before.heard(60) == expected


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_begin_that_is_held_back_changes_nothing(end: str, pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1, workers=1, defer_begin=True)
    client = Ear(pool.wire(), "a")
    client.say("BEGIN")
    assert kinds(client.say("LISTEN b")) == "CZ"
    assert kinds(client.say("UNLISTEN a")) == "CZ"
    client.say(end)
    assert client.channels() == (["b"] if end == "COMMIT" else ["a"])


def test_statement_prepared_once_listens_each_time(pool: Pooler, sender: Wire) -> None:
    clients = [Ear(pool.wire()) for _ in range(4)]
    for client in clients:
        assert kinds(client.say(m.parse("on", "LISTEN a"), m.parse("off", "UNLISTEN a"))) == "11Z"
    for turn in range(3):
        for client in clients:
            assert kinds(client.say(m.bind("", "on"), m.execute())) == "2CZ"
        sender.run(f"NOTIFY a, '{turn}'")
        for client in clients:
            assert client.heard() == [("a", str(turn))]
            assert kinds(client.say(m.bind("", "off"), m.execute())) == "2CZ"
            assert client.channels() == []


def test_pipeline_that_listens_and_goes_on(pool: Pooler) -> None:
    client = Ear(pool.wire())
    client.wire.send(
        extended("LISTEN a"), extended("SELECT 1"), m.SYNC, m.query("NOTIFY a, '1'"),
        m.query("LISTEN b; NOTIFY b, '2'"), extended("UNLISTEN a"), extended("SELECT 1/0"), m.SYNC,
        extended("NOTIFY a, '3'"), m.SYNC,
    )  # fmt: skip
    assert kinds(client.read(5)) == "12C12DCZ" + "CZ" + "CCZ" + "12C1EZ" + "12CZ"
    assert client.heard(3) == [("a", "1"), ("b", "2"), ("a", "3")]
    assert client.channels() == ["a", "b"]


def test_listen_within_a_pipelined_block(pool: Pooler) -> None:
    client = Ear(pool.wire())
    client.wire.send(*[extended(sql) for sql in ("BEGIN", "LISTEN a", "COMMIT", "NOTIFY a, '1'")], m.SYNC)
    assert kinds(client.read()) == "12C" * 4 + "Z"
    assert client.heard() == [("a", "1")]


# What is heard.


def test_own_notifications_come_within_the_answer(pool: Pooler) -> None:
    client = Ear(pool.wire(), "a")
    for payload, *said in (
        ("alone", "NOTIFY a, 'alone'"),
        ("by function", "SELECT pg_notify('a', 'by function')"),
        ("in a block", "BEGIN", "NOTIFY a, 'in a block'", "COMMIT"),
        ("extended", extended("NOTIFY a, 'extended'")),
        ("pipelined", extended("NOTIFY a, 'pipelined'") + m.SYNC + extended("SELECT 1")),
    ):
        client.say(*said)
        if payload == "pipelined":
            client.read()
        assert client.notes == [("a", payload)]
        client.notes.clear()
    client.say("BEGIN", "NOTIFY a, 'never'", "ROLLBACK")
    assert client.notes == []


def test_first_notification_can_be_sent_in_the_query_that_listens(pool: Pooler) -> None:
    client = Ear(pool.wire())
    client.say("LISTEN early; NOTIFY early, '1'")
    client.say("BEGIN; LISTEN later; NOTIFY later, '2'; COMMIT")
    assert client.notes == [("early", "1"), ("later", "2")]
    client.say("NOTIFY early, '3'")
    assert client.notes == [("early", "1"), ("later", "2"), ("early", "3")]


def test_what_was_sent_before_comes_within_the_answer(pool: Pooler, sender: Wire) -> None:
    clients = [Ear(pool.wire(), "a") for _ in range(4)]
    for turn in range(50):
        sender.run(f"NOTIFY a, '{turn}'")
        for client in clients:
            client.wire.send(m.query("SELECT 1"))
        for client in clients:
            client.read()
            assert client.notes == [("a", str(turn))]
            client.notes.clear()


@pytest.mark.parametrize("end", ["UNLISTEN a", "UNLISTEN *", "DISCARD ALL", "LISTEN b; UNLISTEN a"])
def test_what_was_sent_before_it_ends_to_listen_comes(end: str, pool: Pooler, cluster: Cluster, sender: Wire) -> None:
    client = Ear(pool.wire(), "a")
    with silenced(cluster):
        sender.run("NOTIFY a, 'before'")
        client.wire.send(m.query(end))
        assert client.wire.silent(0.2)
    client.read()
    assert client.notes == [("a", "before")]
    sender.run("NOTIFY a, 'after'")
    client.say("SELECT 1")
    assert client.notes == [("a", "before")]


PIPELINES = {
    "notify, unlisten": ["NOTIFY a, '1'", "UNLISTEN a", "NOTIFY a, '2'"],
    "unlisten, notify, listen": ["UNLISTEN a", "NOTIFY a, '1'", "LISTEN a", "NOTIFY a, '2'"],
    "notify, listen": ["NOTIFY b, '1'", "LISTEN b", "NOTIFY b, '2'"],
    "notify, others": ["NOTIFY a, '1'", "SELECT 1", "SELECT 2", "NOTIFY a, '2'"],
    "block": ["BEGIN", "NOTIFY a, '1'", "UNLISTEN a", "COMMIT", "SELECT 1"],
    "block that listens": ["BEGIN", "LISTEN b", "NOTIFY b, '1'", "COMMIT", "NOTIFY b, '2'"],
    "rolled back": ["BEGIN", "LISTEN b", "ROLLBACK", "NOTIFY b, '1'", "NOTIFY a, '2'"],
    "failed": ["NOTIFY a, '1'", "SELECT 1/0", "NOTIFY a, '2'"],
}


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("story", PIPELINES.values(), ids=PIPELINES.keys())
def test_pipeline_hears_at_each_end_what_it_would_alone(
    story: list[str], protocol: str, pool: Pooler, cluster: Cluster
) -> None:
    said = []
    for wire in (cluster.wire(), pool.wire()):
        wire.run("LISTEN a")
        wire.send(*[m.query(sql) if protocol == "simple" else extended(sql) + m.SYNC for sql in story], m.TERMINATE)
        said.append([note(one) if one.kind == "A" else one.kind + str(one.body[:1]) for one in wire.rest()])
    assert said[0] == said[1]


def test_copy_of_a_listening_client_is_not_held_up(pool: Pooler, cluster: Cluster) -> None:
    client = Ear(pool.wire(), "a")
    client.say("CREATE TEMP TABLE t (n int)")
    rows = m.copy_data(b"1\n2\n") + m.COPY_DONE
    client.wire.send(m.query("COPY t FROM STDIN"), rows, m.query("NOTIFY a, 'copied'"))
    assert "CZCZ" in kinds(client.read(2)).replace("G", "")
    client.wire.send(m.parse("", "COPY t FROM STDIN") + m.bind("", "") + m.execute() + m.SYNC, rows, m.SYNC)
    client.read()
    assert client.notes == [("a", "copied")]
    assert rows_in(client.say("SELECT count(*) FROM t")) == [[b"4"]]


SAID_IN_VAIN = {
    "unlisten": m.query("UNLISTEN *"),
    "unlisten in vain": m.query("BEGIN; UNLISTEN *; ROLLBACK"),
    "unlisten among others": m.query("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"),
    "unlisten that fails": m.query("UNLISTEN a; SELECT 1/0"),
    "unlisten, extended": extended("UNLISTEN a") + m.SYNC,
    "unlisten, described": m.parse("", "UNLISTEN *") + m.describe_statement("") + m.SYNC,
    "listen, described": m.parse("", "LISTEN a") + m.describe_statement("") + m.SYNC,
    "do": m.query("DO 'BEGIN END'"),
    "do, described": m.parse("", "DO 'BEGIN END'") + m.describe_statement("") + m.SYNC,
    "do, prepared": m.parse("s", "DO 'BEGIN END'") + m.SYNC,
}


@pytest.mark.parametrize("said", SAID_IN_VAIN.values(), ids=SAID_IN_VAIN.keys())
def test_transactions_of_who_does_not_listen_end_at_once(said: bytes, pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    Ear(pool.wire(), "other")
    client = pool.wire()
    client.send(said)
    client.until()
    asked = f"SELECT query_start FROM pg_stat_activity WHERE {EARS}"
    before = cluster.admin(asked)
    for _ in range(3):
        client.run("SELECT 1")
    assert cluster.admin(asked) == before


@pytest.mark.parametrize(
    "failing", [m.bind("", "nowhere"), extended("SELECT 1 / (SELECT 0)")], ids=["unknown", "executed"]
)
def test_listen_that_is_skipped_holds_up_nothing(failing: bytes, pool: Pooler, cluster: Cluster) -> None:
    Ear(pool.wire(), "kept")
    for number in range(10):
        with pool.wire() as wire:
            wire.send(failing, extended(f"LISTEN skipped{number}"), m.SYNC, m.query("SELECT 1"), m.query("SELECT 2"))
            assert kinds(wire.until("Z", 3))[-8:] == "TDCZTDCZ"
            assert Ear(wire, f"next{number}").channels() == [f"next{number}"]


def test_client_that_does_not_wait_for_its_answers_hears_all_and_in_order(pool: Pooler) -> None:
    client = Ear(pool.wire(), "a")
    for turn in range(60):
        client.wire.send(m.query(f"NOTIFY a, '{turn}'"), m.query(f"SELECT {turn}"))
    assert [rows_in([one])[0][0] for one in client.read(120) if one.kind == "D"] == [b"%d" % n for n in range(60)]
    assert client.heard(60) == [("a", str(turn)) for turn in range(60)]


@contextmanager
def silenced(cluster: Cluster) -> Iterator[None]:
    """The one listening connection says nothing."""
    (pid,) = cluster.settles(1, EARS)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_answers_do_not_wait_for_a_listening_connection_that_is_silent(pool: Pooler, cluster: Cluster) -> None:
    client = Ear(pool.wire(), "a")
    with silenced(cluster):
        for _ in range(20):
            client.say("SELECT 1")
        client.say("NOTIFY a, 'late'")
    assert client.heard() == [("a", "late")]
    client.say("NOTIFY a, 'again'")
    assert client.notes == [("a", "again")]


@pytest.mark.parametrize("ends", ["pooler", "listening connection"])
def test_answer_is_whole_though_what_it_waits_for_never_comes(
    ends: str, pooler: MakePooler, own_cluster: Cluster
) -> None:
    pool = pooler(own_cluster, workers=1)
    client = Ear(pool.wire(), "a")
    with silenced(own_cluster):
        client.wire.send(m.query("SELECT 1"))
        assert kinds(client.wire.until("C")) == "TDC"
        if ends == "pooler":
            pool.signal(signal.SIGTERM)
            assert kinds(client.wire.rest()) == "ZE"
            assert pool.ended(within=20) == 0
        else:
            terminate(own_cluster)
    if ends != "pooler":
        assert kinds(client.wire.until("Z")) == "Z"


def test_order_is_kept(pool: Pooler, sender: Wire) -> None:
    clients = [Ear(pool.wire(), "a", "b") for _ in range(4)]
    expected = []
    for turn in range(40):
        expected += [("a", f"{turn}/1"), ("b", f"{turn}/2"), ("a", f"{turn}/3")]
        sender.run(f"BEGIN; NOTIFY a, '{turn}/1'; NOTIFY b, '{turn}/2'; NOTIFY a, '{turn}/3'; COMMIT")
        assert kinds(clients[turn % 4].say("SELECT 1")) == "TDCZ"
    for client in clients:
        assert client.heard(120) == expected


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_nothing_is_heard_within_a_transaction(protocol: str, pool: Pooler, sender: Wire) -> None:
    client, witness = Ear(pool.wire(), "a"), Ear(pool.wire(), "a")
    if protocol == "simple":
        client.say("BEGIN")
    else:
        client.wire.send(extended("SELECT 1"), m.FLUSH)
        assert kinds(client.wire.until("C")) == "12DC"
    for number in range(3):
        sender.run(f"NOTIFY a, '{number}'")
        assert witness.heard() == [("a", str(number))]
        if protocol == "simple":
            assert kinds(client.wire.ask("SELECT 1")) == "TDCZ"
        else:
            client.wire.send(extended("SELECT 1"), m.FLUSH)
            assert kinds(client.wire.until("C")) == "12DC"
    assert client.wire.silent()
    client.wire.send(m.query("COMMIT") if protocol == "simple" else m.SYNC)
    # As from PostgreSQL, whose libraries look for them where a reply ends.
    read = client.wire.until("Z")
    assert kinds(read) == ("CAAAZ" if protocol == "simple" else "AAAZ")
    assert [note(one)[1] for one in read if one.kind == "A"] == ["0", "1", "2"]


def test_failed_transaction_is_one_too(pool: Pooler, sender: Wire) -> None:
    client, witness = Ear(pool.wire(), "a"), Ear(pool.wire(), "a")
    client.say("BEGIN", "SELECT 1/0")
    sender.run("NOTIFY a")
    witness.heard()
    assert kinds(client.wire.ask("SELECT 1")) == "EZ"
    assert kinds(client.wire.ask("ROLLBACK")) == "CAZ"


def test_who_ends_to_listen_in_a_block_hears_nothing_of_it(pool: Pooler, sender: Wire) -> None:
    client, witness = Ear(pool.wire(), "a", "last"), Ear(pool.wire(), "a")
    client.say("BEGIN")
    sender.run("NOTIFY a, 'dropped'")
    witness.heard()
    client.say("UNLISTEN a", "COMMIT")
    sender.run("NOTIFY last")
    assert client.heard() == [("last", "")]


def test_everybody_hears_what_he_listens_to(pool: Pooler, sender: Wire) -> None:
    both, also, other, none = (Ear(pool.wire(), *channels) for channels in (("a", "b"), ("a",), ("b",), ()))
    sender.run("NOTIFY a, '1'")
    sender.run("NOTIFY b, '2'")
    assert both.heard(2) == [("a", "1"), ("b", "2")]
    assert also.heard() == [("a", "1")]
    assert other.heard() == [("b", "2")]
    also.say("UNLISTEN *")
    sender.run("NOTIFY a, '3'")
    assert both.heard() == [("a", "3")]
    for one in (also, other, none):
        assert kinds(one.wire.ask("SELECT 1")) == "TDCZ"


@pytest.mark.parametrize(
    ("said", "channel"),
    [
        ("LISTEN Folded", "folded"),
        ('LISTEN "As Is"', "As Is"),
        ('LISTEN "with ""quotes"" and ;"', 'with "quotes" and ;'),
        ("LISTEN größe /* a /* nested */ comment */ ; -- the end", "größe"),
        ('listen "select"', "select"),
        ("SELECT 1; LISTEN _a$1; SELECT 2", "_a$1"),
        ('LISTEN U&"d\\0061t\\+000061"', "data"),
        ('LISTEN "*"', "*"),
        ("LISTEN listen", "listen"),
    ],
)
def test_names_of_channels(said: str, channel: str, pool: Pooler, sender: Wire) -> None:
    client = Ear(pool.wire())
    assert kinds(client.say(said)).endswith("CZ")
    assert client.channels() == [channel]
    quoted = channel.replace('"', '""')
    sender.run(f"NOTIFY \"{quoted}\", 'here'")
    assert client.heard() == [(channel, "here")]
    assert kinds(client.say(f'UNLISTEN "{quoted}"')) == "CZ"
    assert client.channels() == []


@pytest.mark.parametrize(("name", "cut"), [("x" * 63, "x" * 63), ("x" * 70, "x" * 63), ("ä" * 40, "ä" * 31)])
def test_long_names_are_cut(name: str, cut: str, pool: Pooler, sender: Wire) -> None:
    client = Ear(pool.wire())
    assert kinds(client.say(f"LISTEN {name}")).lstrip("N") == "CZ"
    sender.run(f"NOTIFY {cut}, 'cut'")
    assert client.heard() == [(cut, "cut")]
    assert kinds(client.say(f"UNLISTEN {name}")).lstrip("N") == "CZ"
    assert client.channels() == []


def test_largest_payload(pool: Pooler, sender: Wire) -> None:
    client = Ear(pool.wire(), "big")
    for number in range(5):
        sender.run(f"NOTIFY big, '{number}{'x' * 7998}'")
    assert client.heard(5) == [("big", f"{number}{'x' * 7998}") for number in range(5)]


# Nobody hears for another.


def test_who_comes_after_hears_nothing(pooler: MakePooler, sender: Wire) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    first = Ear(pool.wire(), "a")
    first.say("NOTIFY a, 'own'")
    first.heard()
    for _ in range(3):
        fresh = Ear(pool.wire())
        sender.run("NOTIFY a, 'x'")
        first.heard()
        assert kinds(fresh.wire.ask("SELECT 1")) == "TDCZ"
        assert fresh.channels() == []
        fresh.say("NOTIFY a, 'of a stranger'")
        assert first.heard() == [("a", "of a stranger")]
        assert kinds(fresh.say("BEGIN", "NOTIFY a, 'y'", "SELECT 1", "COMMIT")) == "CZCZTDCZCZ"
        assert fresh.notes == []
        assert first.heard() == [("a", "y")]
        fresh.wire.bye()


@pytest.mark.parametrize(
    "last",
    [
        m.query("LISTEN a"),
        m.query("BEGIN") + m.query("LISTEN a"),
        m.query("LISTEN a; NOTIFY a"),
        extended("LISTEN a") + m.SYNC,
        extended("LISTEN a"),
        extended("LISTEN a") + m.FLUSH,
        m.query("DO $$ BEGIN LISTEN a; END $$"),
        m.query("LISTEN a; SELECT pg_sleep(60)"),
        m.query("BEGIN; LISTEN a; COMMIT; SELECT pg_sleep(60)"),
    ],
    ids=[
        "query", "in a block", "own notification", "extended", "without sync", "flushed", "code", "cancelled",
        "cancelled after commit",
    ],
)  # fmt: skip
def test_client_that_vanishes_while_it_listens_leaves_nothing(last: bytes, pooler: MakePooler, sender: Wire) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    for _ in range(3):
        gone = pool.wire()
        gone.send(last)
        gone.close()
        fresh = Ear(pool.wire())
        sender.run("NOTIFY a")
        assert fresh.channels() == []
        assert kinds(fresh.wire.ask("NOTIFY a")) == "CZ"
        assert fresh.notes == []
    eventually(lambda: figures(pool).get("channels", 0) == figures(pool).get("clients", 0) == 0)


def test_no_server_listens_but_the_one_that_is_for_it(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=2, workers=1)
    clients = [Ear(pool.wire(), "a", f"c{number}") for number in range(6)]
    cluster.settles(1, EARS)
    strangers = [Ear(pool.wire()) for _ in range(2)]
    for stranger in strangers:
        # Both servers are taken.
        stranger.say("BEGIN")
        assert stranger.channels() == []
    for stranger in strangers:
        stranger.say("COMMIT")
    for number, client in enumerate(clients):
        assert client.channels() == ["a", f"c{number}"]


def test_many_clients_share_one_connection_per_worker(pooler: MakePooler, cluster: Cluster, sender: Wire) -> None:
    count = 300
    pool = pooler(default_pool_size=2, workers=2, max_client_conn=1000)
    clients = [Ear(pool.wire()) for _ in range(count)]
    for number, client in enumerate(clients):
        client.wire.send(m.query("LISTEN everybody"), m.query(f"LISTEN c{number}"), m.query(f"LISTEN d{number % 10}"))
    for client in clients:
        assert kinds(client.read(3)) == "CZ" * 3
    assert len(cluster.backends(EARS)) == 2
    assert len(cluster.backends(f"NOT {EARS} AND pid <> {sender.pid}")) <= 2
    sender.run("NOTIFY everybody, 'all'")
    sender.run(f"SELECT pg_notify('c' || n, 'own') FROM generate_series(0, {count - 1}) n")
    sender.run("SELECT pg_notify('d' || n, 'tenth') FROM generate_series(0, 9) n")
    for number, client in enumerate(clients):
        assert client.heard(3) == [("everybody", "all"), (f"c{number}", "own"), (f"d{number % 10}", "tenth")]
    for client in clients:
        client.wire.bye()
    eventually(lambda: figures(pool)["channels"] == 0)


def test_channel_that_nobody_listens_to_is_given_up_at_the_server(pooler: MakePooler, sender: Wire) -> None:
    pool = pooler(workers=1)
    polite, vanishing, staying = (Ear(pool.wire(), *channels) for channels in (("a", "b"), ("b", "c"), ("c",)))
    polite.wire.bye()
    eventually(lambda: figures(pool)["unlistens"] == 1)
    vanishing.wire.close()
    eventually(lambda: figures(pool)["unlistens"] == 2)
    sender.run("NOTIFY a; NOTIFY b; NOTIFY c, 'heard'")
    assert staying.heard() == [("c", "heard")]
    assert figures(pool)["received"] == 1
    staying.say("UNLISTEN *")
    eventually(lambda: figures(pool)["unlistens"] == 3)
    assert figures(pool)["channels"] == 0


# When something breaks.


@pytest.mark.parametrize("block", [False, True], ids=["idle", "in-a-block"])
def test_lost_connection_is_told_once_all_is_listened_to_again(
    block: bool, pooler: MakePooler, cluster: Cluster, sender: Wire
) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    listening, silent = Ear(pool.wire(), "a", "b"), Ear(pool.wire())
    if block:
        listening.say("BEGIN", "SELECT 1")
    terminate(cluster)
    eventually(lambda: figures(pool)["reconnects"] == 1)
    if block:
        eventually(lambda: figures(pool)["listens"] == 4)
        assert kinds(listening.wire.ask("SELECT 1")) == "TDCZ"
        listening.wire.send(m.query("COMMIT"))
        assert kinds(listening.wire.until("C")) == "C"
    (warning,) = listening.wire.until("N")
    assert (warning.fields["S"], warning.fields["C"]) == ("WARNING", "01000")
    assert "may be missing" in warning.fields["M"]
    sender.run("NOTIFY a; NOTIFY b")
    if block:
        # What was sent meanwhile may come in front of it.
        assert kinds(listening.read()) == "Z"
    assert listening.heard(2) == [("a", ""), ("b", "")]
    assert kinds(silent.wire.ask("SELECT 1")) == "TDCZ"
    assert listening.channels() == ["a", "b"]


def test_lost_connection_disconnects_where_that_is_wanted(pooler: MakePooler, cluster: Cluster, sender: Wire) -> None:
    pool = pooler(default_pool_size=1, workers=1, listen_on_loss="disconnect")
    listening, silent = Ear(pool.wire(), "a"), Ear(pool.wire())
    terminate(cluster)
    (fatal,) = listening.wire.rest()
    assert (fatal.fields["S"], fatal.fields["C"]) == ("FATAL", "57P01")
    assert kinds(silent.say("LISTEN a")) == "CZ"
    sender.run("NOTIFY a")
    assert silent.heard() == [("a", "")]


def test_loss_while_a_listen_is_not_committed(pooler: MakePooler, cluster: Cluster, sender: Wire) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    client = Ear(pool.wire())
    client.say("BEGIN", "LISTEN a")
    terminate(cluster)
    eventually(lambda: figures(pool)["listens"] == 2)
    client.say("COMMIT")
    sender.run("NOTIFY a")
    assert client.heard() == [("a", "")]


def test_slow_client_is_disconnected_and_others_get_all(pooler: MakePooler, sender: Wire) -> None:
    pool = pooler(default_pool_size=1, workers=1, listen_buffer_size=65536, tcp_socket_buffer=16384)
    fast = Ear(pool.wire(), "a")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(pool.address)
    slow = Ear(Wire(sock).login(), "a")
    payload = "x" * 7000
    sent = 0
    while not figures(pool)["slow_clients"]:
        for number in range(sent, sent + 50):
            sender.run(f"NOTIFY a, '{number}{payload}'")
            assert fast.heard() == [("a", f"{number}{payload}")]
        sent += 50
        assert sent < 5000
    *notes, last = slow.wire.rest()
    assert [note(one)[1] for one in notes] == [f"{number}{payload}" for number in range(len(notes))]
    assert last.fields["C"] == "57A03"
    assert "listen_buffer_size" in last.fields["M"]
    assert figures(pool)["clients"] == 1


def test_client_in_a_long_transaction_is_slow_too(pooler: MakePooler, sender: Wire) -> None:
    pool = pooler(default_pool_size=2, workers=1, listen_buffer_size=65536)
    fast, slow, neighbour = Ear(pool.wire(), "a"), Ear(pool.wire(), "a"), Ear(pool.wire())
    slow.say("BEGIN", "SELECT 1")
    for number in range(12):
        sender.run(f"NOTIFY a, '{number}{'x' * 7000}'")
        fast.heard()
    *_, last = slow.wire.rest()
    assert (last.fields["C"], "listen_buffer_size" in last.fields["M"]) == ("57A03", True)
    assert kinds(neighbour.say("SELECT 1")) == "TDCZ"
    assert neighbour.channels() == []


def test_listen_waits_no_longer_than_query_wait_timeout(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, default_pool_size=1, workers=1, query_wait_timeout=0.5)
    client = pool.wire()
    client.run("SELECT 1")
    own_cluster.server.stop()
    client.send(m.query("LISTEN a"))
    last = client.rest()[-1]
    assert last.kind == "E"
    assert last.fields["S"] == "FATAL"


def test_listen_is_refused_where_the_listening_connection_can_not_be_opened(
    pooler: MakePooler, cluster: Cluster
) -> None:
    with cluster.wire("postgres") as admin:
        admin.run("DROP ROLE IF EXISTS narrow; CREATE ROLE narrow LOGIN CONNECTION LIMIT 2")
    pool = pooler(default_pool_size=2, workers=1, users={"narrow": {}})
    holder, wire = pool.wire("narrow"), pool.wire("narrow")
    wire.run("BEGIN")
    holder.run("BEGIN")
    wire.run("COMMIT")
    wire.send(m.query("LISTEN here"))
    said = error_in(wire.until("E"))
    assert said["C"] == "57P03"
    assert said["M"].startswith("can't listen to the server: ")
    assert "too many connections for role" in said["M"]
    # And the server is free for others.
    assert pool.wire("narrow").one("SELECT 1") == "1"
    holder.run("COMMIT")
