"""Databases for LISTEN only: what clients may say, who gets which notification, and what happens when things break."""

import asyncio
import os
import re
import select
import signal
import socket
import threading
import time

import asyncpg
import psutil
import psycopg
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile
from harness.pooler import Pooler, default_config
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import ServerError, Wire, error_in, kinds, note

pytestmark = pytest.mark.usefixtures("patience")

HUBS = "application_name = 'pglido listen'"
PLACE = {"host": "127.0.0.1"}


@pytest.fixture
def listening(pooler: MakePooler, cluster: Cluster) -> MakePooler:
    """A pooler whose database `ears` is for LISTEN only; `app` is the same one for all else."""

    def make(server: Cluster = cluster, more: dict[str, object] | None = None, **settings: object) -> Pooler:
        ears = {"dbname": "app", "pool_mode": "listen", **(more or {})}
        return pooler(server, **{"databases": {"ears": ears, "app": {}}, "workers": 1, **settings})

    return make


def ears(pool: Pooler, *channels: str, **more: object) -> Wire:
    """A client that listens."""
    wire = pool.wire(database="ears", **more)
    for channel in channels:
        assert kinds(wire.ask(f"LISTEN {channel}")) == "CZ"
    return wire


def notify(cluster: Cluster, channel: str, *payloads: str) -> None:
    """Send notifications, each in a transaction of its own."""
    with cluster.wire() as wire:
        for payload in payloads:
            wire.run(f"SELECT pg_notify('{channel}', '{payload}')")
        wire.bye()


def heard(wire: Wire, count: int = 1) -> list[tuple[str, str]]:
    """The next notifications, and nothing else."""
    read = wire.until("A", count)
    assert kinds(read) == "A" * count
    return [note(one) for one in read]


def row(pool: Pooler) -> dict[str, int]:
    """The figures of SHOW LISTEN."""
    return pool.listening("ears")


def hub_pid(cluster: Cluster) -> int:
    """The process of the one listening connection."""
    return cluster.settles(1, HUBS)[0]


# What is heard.


def test_notifications_come_in_order_with_the_senders_process(listening: MakePooler, cluster: Cluster) -> None:
    wire = ears(listening(), "jobs")
    with cluster.wire() as sender:
        sender.run("BEGIN; NOTIFY jobs, 'one'; NOTIFY jobs; NOTIFY other, 'x'; NOTIFY jobs, 'three'; COMMIT")
        read = wire.until("A", 3)
        assert [note(one) for one in read] == [("jobs", "one"), ("jobs", ""), ("jobs", "three")]
        assert {int.from_bytes(one.body[:4], "big") for one in read} == {sender.pid}
    notify(cluster, "jobs", *map(str, range(200)))
    assert heard(wire, 200) == [("jobs", str(number)) for number in range(200)]
    assert wire.silent()


def test_all_clients_share_one_connection(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wires = [ears(pool, "everybody", f"only{number}") for number in range(20)]
    hub_pid(cluster)
    notify(cluster, "everybody", "a")
    for number in range(20):
        notify(cluster, f"only{number}", "b")
    for number, wire in enumerate(wires):
        assert heard(wire, 2) == [("everybody", "a"), (f"only{number}", "b")]
    assert len(cluster.backends()) == 1
    figures = row(pool)
    assert figures["channels"] == 21
    assert figures["clients"] == 20
    assert figures["received"] == 21
    assert figures["delivered"] == 40
    assert [one["state"] for one in pool.console("SHOW SERVERS")] == ["listen"]


def test_the_server_listens_to_the_union_and_no_longer_than_needed(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    first, second = ears(pool, "a", "b"), ears(pool, "b", "c")
    assert row(pool)["listens"] == 3
    first.run("UNLISTEN b")
    assert row(pool)["channels"] == 3
    second.run("UNLISTEN b")
    eventually(lambda: row(pool)["unlistens"] == 1)
    notify(cluster, "b", "nobody")
    notify(cluster, "a", "first")
    assert heard(first) == [("a", "first")]
    assert row(pool)["received"] == 1
    first.bye()
    eventually(lambda: row(pool)["unlistens"] == 2)
    second.run("UNLISTEN *")
    eventually(lambda: row(pool)["unlistens"] == 3)
    assert row(pool)["channels"] == 0


def test_largest_payload(listening: MakePooler, cluster: Cluster) -> None:
    wire = ears(listening(), "big")
    notify(cluster, "big", "x" * 7999)
    assert heard(wire) == [("big", "x" * 7999)]


@pytest.mark.parametrize(
    ("said", "channel"),
    [
        ("LISTEN Folded", "folded"),
        ('LISTEN "As Is"', "As Is"),
        ('LISTEN "with ""quotes"" and ;"', 'with "quotes" and ;'),
        ("LISTEN größe /* a /* nested */ comment */ ; -- the end", "größe"),
        ('listen "select"', "select"),
        ("LISTEN _a$1", "_a$1"),
    ],
)
def test_names_of_channels(listening: MakePooler, cluster: Cluster, said: str, channel: str) -> None:
    wire = listening().wire(database="ears")
    assert kinds(wire.ask(said)) == "CZ"
    notify(cluster, channel, "here")
    assert heard(wire) == [(channel, "here")]


def test_long_names_are_cut_as_postgresql_cuts_them(listening: MakePooler, cluster: Cluster) -> None:
    name = "ä" * 40
    wire = listening().wire(database="ears")
    with cluster.wire() as direct:
        expected, got = direct.ask(f"LISTEN {name}"), wire.ask(f"LISTEN {name}")
    assert kinds(got) == kinds(expected) == "NCZ"
    assert {key: got[0].fields[key] for key in "SCM"} == {key: expected[0].fields[key] for key in "SCM"}
    notify(cluster, "ä" * 31, "cut")
    assert heard(wire) == [("ä" * 31, "cut")]


# What may be said.


def test_same_answers_as_postgresql(listening: MakePooler, cluster: Cluster) -> None:
    wire, direct = listening().wire(database="ears"), cluster.wire()
    for sql in (
        "LISTEN a", "listen a;", "UNLISTEN a", "UNLISTEN *", "UNLISTEN never_listened", "", " ; ", "-- nothing",
        "/* nothing */", "SELECT 1", "select 1 ;", "SET application_name = 'x'", "SET application_name TO 'x'",
        "SET extra_float_digits = 3", "SET SESSION datestyle TO 'iso'", "SET client_encoding = 'utf-8'",
        "SHOW application_name", 'LISTEN ""', "SHOW server_version",
    ):  # fmt: skip
        got, expected = wire.ask(sql), direct.ask(sql)
        if expected[0].kind == "E":
            assert error_in(got)["C"] == error_in(expected)["C"]
            assert error_in(got)["M"] == error_in(expected)["M"]
        else:
            # PostgreSQL reports a changed parameter before or after the tag, as versions go.
            assert sorted(got[:-1]) == sorted(expected[:-1]), sql
        assert got[-1] == expected[-1]


def test_same_answers_in_the_extended_protocol(listening: MakePooler, cluster: Cluster) -> None:
    wire, direct = listening().wire(database="ears"), cluster.wire()
    for parts in (
        (m.parse("", "LISTEN a"), m.bind("", ""), m.describe_portal(), m.execute(), m.SYNC),
        (m.parse("s", "SELECT 1"), m.describe_statement("s"), m.bind("", "s", results=(1,)), m.describe_portal(),
         m.execute(), m.execute(), m.SYNC),
        (m.bind("p", "s"), m.execute("p", 1), m.execute("p", 1), m.SYNC),
        (m.parse("s", "SELECT 1"), m.bind("", "s"), m.SYNC),
        (m.bind("", "none"), m.execute(), m.SYNC),
        (m.bind("", ""), m.execute("none"), m.SYNC),
        (m.close_statement("s"), m.close_portal("none"), m.bind("", "s"), m.SYNC),
        (m.parse("", ""), m.bind("", ""), m.describe_statement(), m.execute(), m.SYNC),
        (m.parse("", "UNLISTEN *"), m.describe_statement(), m.bind("", ""), m.execute(), m.execute(), m.SYNC),
        (m.bind("", "", "1"), m.SYNC),
        (m.parse("s", "SELECT 1"), m.bind("", "s", results=(0, 0)), m.SYNC),
        (m.bind("", "s", results=(0,)), m.execute(), m.SYNC),
        (m.bind("p", "s"), m.bind("p", "s"), m.SYNC),
        (m.close_statement("s"), m.SYNC),
        (m.parse("", "UNLISTEN *"), m.bind("", "", results=(0, 0)), m.execute(), m.SYNC),
        (m.parse("", "UNLISTEN *"), m.parse("n" * 70, "UNLISTEN *"), m.bind("", "n" * 63), m.execute(), m.SYNC),
        (m.bind("", "n" * 70, "1"), m.SYNC),
        (m.bind("n" * 64, "n" * 63), m.execute("n" * 64, 1), m.SYNC),
        (m.message("P", b"\xff\0\0\0\0"), m.execute(), m.SYNC),
        (m.message("Q", b"SELECT '\xe4'\0"),),
        (m.message("Q", b"SELECT '\xff'\0"),),
        (m.message("Q", b"SELECT '\xf0\x9f..'\0"),),
        (m.message("Q", b"SELECT '\xed\xa0\x80'\0"),),
        (m.copy_data(b"x"), m.query("SELECT 1")),
        (m.SYNC,),
    ):  # fmt: skip
        wire.send(*parts)
        direct.send(*parts)
        got, expected = wire.until(), direct.until()
        assert kinds(got) == kinds(expected), parts
        for one, other in zip(got, expected, strict=True):
            if one.kind == "E":
                assert (one.fields["C"], one.fields["M"]) == (other.fields["C"], other.fields["M"])
            else:
                assert one == other


@pytest.mark.parametrize(
    "sql", ["NOTIFY a", "BEGIN", "COMMIT", "SELECT 2", "LISTEN a; LISTEN b", "SET work_mem = 1", "DISCARD ALL", "$1 {"]
)
def test_other_statements_are_refused_and_the_client_stays(listening: MakePooler, cluster: Cluster, sql: str) -> None:
    wire = ears(listening(), "a")
    read = wire.ask(sql)
    assert kinds(read) == "EZ"
    assert error_in(read)["C"] == "0A000"
    assert "LISTEN only" in error_in(read)["M"]
    assert "UNLISTEN" in error_in(read)["H"]
    wire.send(m.parse("", sql), m.bind("", ""), m.execute(), m.SYNC)
    assert kinds(wire.until())[-2:] == "EZ"
    notify(cluster, "a", "still here")
    assert heard(wire) == [("a", "still here")]


def test_what_fails_before_sync_is_undone(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wire = ears(pool, "kept")
    listen = (m.parse("", "LISTEN undone"), m.bind("", ""), m.execute())
    unlisten = (m.parse("", "UNLISTEN kept"), m.bind("", ""), m.execute())
    wire.send(*listen, *unlisten, m.parse("", "nonsense"), m.SYNC)
    assert kinds(wire.until()) == "12C12CEZ"
    eventually(lambda: row(pool)["channels"] == 1)
    notify(cluster, "undone", "x")
    notify(cluster, "kept", "y")
    assert heard(wire) == [("kept", "y")]


def test_what_came_before_sync_is_told_after_it(listening: MakePooler, cluster: Cluster) -> None:
    wire = ears(listening(), "a")
    wire.send(m.parse("", "LISTEN b"), m.bind("", ""), m.execute())
    assert kinds(wire.until("C")) == "12C"
    notify(cluster, "a", "1")
    notify(cluster, "b", "2")
    assert wire.silent()
    wire.send(m.SYNC)
    assert kinds(wire.until()) == "Z"
    assert heard(wire, 2) == [("a", "1"), ("b", "2")]


def test_parameters_told_at_login(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening(more={"listen_announce": ["server_version=99.1", "is_superuser=off"]})
    wire = pool.wire(database="ears", application_name="mine", TimeZone="Europe/Berlin", DateStyle="German")
    with cluster.wire() as direct:
        assert wire.parameters.keys() == direct.parameters.keys()
    assert wire.parameters["server_version"] == "99.1"
    assert wire.parameters["application_name"] == "mine"
    assert wire.parameters["TimeZone"] == "Europe/Berlin"
    assert wire.parameters["DateStyle"] == "German, MDY"
    assert wire.parameters["client_encoding"] == "UTF8"
    assert wire.pid
    shown = [one["application_name"] for one in pool.console("SHOW CLIENTS") if one["database"] == "ears"]
    assert shown == ["mine"]


def test_cancel_request_has_nothing_to_cancel(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wire = ears(pool, "a")
    with pool.dial() as other:
        other.send(m.cancel_request(wire.pid, wire.key))
        assert other.ends()
    notify(cluster, "a", "still here")
    assert heard(wire) == [("a", "still here")]


def test_replication_is_refused(listening: MakePooler) -> None:
    with pytest.raises(ServerError) as refused:
        listening().wire(user="rep", database="ears", replication="database")
    assert refused.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    "bad",
    [
        b"Q\0\0\0\3",
        b"Q\xff\xff\xff\xff",
        b"Q\0\1\0\0",
        b"Q\0\0\0\5x",
        b"P\0\0\0\4",
        b"B\0\0\0\x0a\0\0\0\1\0\0",
        b"y\0\0\0\4",
        b"D\0\0\0\6X\0",
        b"\0\0\0\0\0\0\0\0",
    ],
)
def test_what_is_no_protocol_ends_the_connection(listening: MakePooler, bad: bytes) -> None:
    pool = listening()
    wire = ears(pool, "a")
    wire.send(bad)
    read = wire.rest()
    assert kinds(read) == "E"
    assert (read[0].fields["S"], read[0].fields["C"]) == ("FATAL", "08P01")
    eventually(lambda: row(pool)["clients"] == 0)


def test_flood_that_takes_no_answers(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wire, flood = ears(pool, "a"), pool.wire(database="ears")
    before = pool.worker_memory()
    flood.sock.setblocking(False)
    junk = m.query("x") * 5000
    full = time.monotonic() + 2
    while time.monotonic() < full and select.select([], [flood.sock], [], 0.3)[1]:
        flood.sock.send(junk)
    assert pool.worker_memory() - before < 8 << 20
    notify(cluster, "a", "others go on")
    assert heard(wire) == [("a", "others go on")]


def test_listen_is_acknowledged_when_the_server_listens_however_it_is_sent(
    listening: MakePooler, own_cluster: Cluster
) -> None:
    pool = listening(own_cluster)
    ears(pool, "warm")
    for turn in range(10):
        wire = ears(pool)
        # The server is slow to say that it listens.
        os.kill(own_cluster.server.pid, signal.SIGSTOP)
        for process in psutil.Process(own_cluster.server.pid).children():
            process.send_signal(signal.SIGSTOP)
        names = [f"c{turn}_{number}" for number in range(4)]
        for name in names:
            wire.send(m.query(f"LISTEN {name}"))
            assert wire.silent()
        for process in [*psutil.Process(own_cluster.server.pid).children(), psutil.Process(own_cluster.server.pid)]:
            process.send_signal(signal.SIGCONT)
        for name in names:
            assert kinds(wire.until()) == "CZ"
            notify(own_cluster, name, "now")
        assert sorted(heard(wire, 4)) == [(name, "now") for name in names]
        wire.bye()
    assert "bug" not in pool.log


# When something breaks.


def test_lost_connection_is_told_once_all_is_listened_to_again(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wires = [ears(pool, "a", "b"), ears(pool, "b")]
    idle = pool.wire(database="ears")
    cluster.admin(f"SELECT pg_terminate_backend({hub_pid(cluster)})")
    for wire in wires:
        (warning,) = wire.until("N")
        assert (warning.fields["S"], warning.fields["C"]) == ("WARNING", "01000")
        assert "may be missing" in warning.fields["M"]
        assert warning.fields["D"].startswith("client ")
    notify(cluster, "a", "1")
    notify(cluster, "b", "2")
    assert heard(wires[0], 2) == [("a", "1"), ("b", "2")]
    assert heard(wires[1]) == [("b", "2")]
    assert idle.silent()
    assert row(pool)["reconnects"] == 1


def test_lost_connection_disconnects_where_that_is_wanted(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening(more={"listen_on_loss": "disconnect"})
    wire, idle = ears(pool, "a"), pool.wire(database="ears")
    cluster.admin(f"SELECT pg_terminate_backend({hub_pid(cluster)})")
    (fatal,) = wire.rest()
    assert (fatal.fields["S"], fatal.fields["C"]) == ("FATAL", "57P01")
    assert kinds(idle.ask("LISTEN a")) == "CZ"
    notify(cluster, "a", "again")
    assert heard(idle) == [("a", "again")]


def test_listen_waits_for_the_server_to_come_back(listening: MakePooler, own_cluster: Cluster) -> None:
    pool = listening(own_cluster)
    wire, other = ears(pool, "a"), pool.wire(database="ears")
    own_cluster.server.stop()
    pool.logs("listening connection .* was lost")
    pool.logs("can't listen to the server")
    other.send(m.query("LISTEN b"))
    eventually(lambda: row(pool)["waiting"] == 1)
    with pytest.raises(ServerError) as refused:
        pool.wire(database="ears")
    assert refused.value.sqlstate == "57P03"
    assert refused.value.text.startswith("can't listen to the server: ")
    own_cluster.server.launch()
    assert kinds(other.until()) == "CZ"
    assert kinds(wire.until("N")) == "N"
    notify(own_cluster, "a", "x")
    notify(own_cluster, "b", "y")
    assert heard(wire) == [("a", "x")]
    assert heard(other) == [("b", "y")]


def test_listen_waits_no_longer_than_query_wait_timeout(listening: MakePooler, own_cluster: Cluster) -> None:
    pool = listening(own_cluster, query_wait_timeout=0.5)
    wire = pool.wire(database="ears")
    own_cluster.server.stop()
    pool.logs("listening connection .* was lost")
    wire.send(m.query("LISTEN a"))
    (fatal,) = wire.rest()
    assert fatal.fields["M"] == "query_wait_timeout"


def test_nobody_gets_in_where_the_server_refuses(listening: MakePooler) -> None:
    pool = listening(more={"dbname": "not there"})
    for _ in range(2):
        with pytest.raises(ServerError) as refused:
            pool.wire(database="ears")
        assert refused.value.sqlstate == "57P03"
        assert 'database "not there" does not exist' in refused.value.text


def test_slow_client_is_disconnected_and_others_get_all(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening(more={"listen_buffer_size": 65536}, tcp_socket_buffer=16384)
    fast = ears(pool, "a")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(pool.address)
    slow = Wire(sock).login("app", "ears")
    slow.run("LISTEN a")
    payload = "x" * 7000
    sent = 0
    with cluster.wire() as sender:
        while not row(pool)["slow_clients"]:
            for number in range(sent, sent + 50):
                sender.run(f"NOTIFY a, '{number}{payload}'")
                assert heard(fast) == [("a", f"{number}{payload}")]
            sent += 50
            assert sent < 5000
    last = slow.rest()
    assert kinds(last[:-1]) == "A" * (len(last) - 1)
    assert [note(one)[1] for one in last[:-1]] == [f"{number}{payload}" for number in range(len(last) - 1)]
    assert last[-1].fields["C"] == "57A03"
    assert "listen_buffer_size" in last[-1].fields["M"]
    assert row(pool)["clients"] == 1


def test_connection_is_closed_when_nobody_is_left(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wire = ears(pool, "a")
    pid = hub_pid(cluster)
    wire.bye()
    cluster.settles(0, f"pid = {pid}", within=15)
    assert row(pool)["connections"] == 0
    again = ears(pool, "a")
    notify(cluster, "a", "b")
    assert heard(again) == [("a", "b")]


def test_reload_moves_the_connection(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    wire = ears(pool, "a")
    before = hub_pid(cluster)

    def config(**database: object) -> str:
        own = {"dbname": "app", "pool_mode": "listen", **database}
        return default_config(pool.port, cluster.port, databases={"ears": own, "app": {}}, workers=1)

    pool.reload(config(dbname="other"))
    assert kinds(wire.until("N")) == "N"
    ((now,),) = cluster.admin(f"SELECT pid FROM pg_stat_activity WHERE datname = 'other' AND {HUBS}")
    assert int(now or 0) != before
    with cluster.wire(database="other") as sender:
        sender.run("NOTIFY a, 'from there'")
    assert heard(wire) == [("a", "from there")]
    pool.reload(default_config(pool.port, cluster.port, workers=1))
    assert wire.rest()[-1].fields["C"] == "3D000"
    cluster.settles(0, HUBS)


@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
def test_clients_log_in_as_elsewhere(listening: MakePooler, cluster: Cluster, method: str) -> None:
    role, secret = {"md5": ("u_md5", "md5 secret"), "scram-sha-256": ("u_scram", "scram secret")}[method]
    pool = listening(auth_type=method, users={role: {"password": secret}, "postgres": {"password": "x"}})
    wire = pool.dial().login(role, "ears", password=secret)
    assert kinds(wire.ask("LISTEN a")) == "CZ"
    notify(cluster, "a", "b")
    assert heard(wire) == [("a", "b")]
    with pytest.raises(ServerError):
        pool.dial().login(role, "ears", password="wrong")


def test_several_workers_each_listen(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening(workers=2)
    wires = [ears(pool, "a") for _ in range(12)]
    notify(cluster, "a", "b")
    for wire in wires:
        assert heard(wire) == [("a", "b")]
    figures = row(pool)
    assert (figures["channels"], figures["clients"]) == (1, 12)
    assert len(cluster.backends(HUBS)) == figures["connections"] <= 2


# Drivers.


def test_over_tls(listening: MakePooler, cluster: Cluster, certificates: Certificates) -> None:
    pair = certificates.server
    tls = {"client_tls_sslmode": "require", "client_tls_cert_file": pair.certificate, "client_tls_key_file": pair.key}
    pool = listening(**tls)
    with psycopg.connect(pool.conninfo(database="ears", sslmode="require"), autocommit=True) as client:
        client.execute("LISTEN a")
        notify(cluster, "a", *(f"{number}{'x' * 7000}" for number in range(50)))
        got = [one.payload.rstrip("x") for one in client.notifies(timeout=20, stop_after=50)]
        assert got == [str(number) for number in range(50)]


def test_client_idle_timeout_counts_from_what_the_client_said(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening(client_idle_timeout=1)
    over = threading.Event()

    def go_on() -> None:
        with cluster.wire() as sender:
            while not over.wait(0.01):
                sender.run("NOTIFY a, 'b'")

    with Meanwhile(go_on) as sending:
        try:
            read = ears(pool, "a").rest()
        finally:
            over.set()
        sending.result()
    assert re.fullmatch("A+E", kinds(read))
    assert read[-1].fields["M"] == "client_idle_timeout"


def test_listening_clients_do_not_hold_up_a_stop(listening: MakePooler) -> None:
    pool = listening()
    wire = ears(pool, "a")
    pool.stop()
    assert [one.fields["C"] for one in wire.rest()] == ["57P01"]


async def test_asyncpg_add_listener(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    async with asyncio.timeout(30):
        client = await asyncpg.connect(host="127.0.0.1", port=pool.port, user="app", database="ears")
        got: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        def take(_: object, pid: int, channel: str, payload: str) -> None:
            got.put_nowait((channel, payload))

        await client.add_listener("Mixed", take)
        await client.add_listener("plain", take)
        assert await client.fetchval("SELECT 1") == 1
        await asyncio.to_thread(notify, cluster, "Mixed", "1")
        await asyncio.to_thread(notify, cluster, "plain", "2")
        assert [await got.get(), await got.get()] == [("Mixed", "1"), ("plain", "2")]
        await client.remove_listener("Mixed", take)
        await client.remove_listener("plain", take)
        await client.close()


def test_psycopg_notifies(listening: MakePooler, cluster: Cluster) -> None:
    pool = listening()
    with psycopg.connect(pool.conninfo(database="ears"), autocommit=True) as client:
        client.execute("LISTEN a")
        assert client.execute("SELECT 1").fetchone() == (1,)
        notify(cluster, "a", *"xyz")
        assert [one.payload for one in client.notifies(timeout=20, stop_after=3)] == ["x", "y", "z"]
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            client.execute("NOTIFY a")


def test_thousand_clients_with_channels_of_their_own(listening: MakePooler, cluster: Cluster) -> None:
    count = 1000
    pool = listening(max_client_conn=2000)
    wires = [pool.wire(database="ears") for _ in range(count)]
    for number, wire in enumerate(wires):
        wire.send(m.query("LISTEN everybody"), m.query(f"LISTEN c{number}"), m.query(f"LISTEN d{number % 10}"))
    for wire in wires:
        assert kinds(wire.until("Z", 3)) == "CZ" * 3
    assert row(pool)["channels"] == 1 + count + 10
    with cluster.wire() as sender:
        sender.run("NOTIFY everybody, 'all'")
        sender.run(f"SELECT pg_notify('c' || n, 'own') FROM generate_series(0, {count - 1}) n")
        sender.run("SELECT pg_notify('d' || n, 'tenth') FROM generate_series(0, 9) n")
    for number, wire in enumerate(wires):
        assert heard(wire, 3) == [("everybody", "all"), (f"c{number}", "own"), (f"d{number % 10}", "tenth")]
    for wire in wires:
        wire.bye()
    eventually(lambda: row(pool)["channels"] == 0)


def test_clients_that_vanish_leave_nothing(listening: MakePooler) -> None:
    pool = listening()
    for number in range(20):
        wire = pool.wire(database="ears")
        wire.send(m.query(f"LISTEN a{number}"))
        wire.close()
    eventually(lambda: row(pool)["channels"] == row(pool)["clients"] == row(pool)["waiting"] == 0)
    wire = pool.wire(database="ears")
    wire.send(m.TERMINATE)
    assert wire.ends()
