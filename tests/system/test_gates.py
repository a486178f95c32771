"""What an operator orders while clients work: PAUSE and RESUME, DISABLE, RECONNECT, KILL, over all workers."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire, alive, error_in, kinds


def admin(pool: Pooler, version: int = m.PROTOCOL_3_0) -> Wire:
    """A console."""
    return pool.wire("postgres", "pglido", version=version)


def said(console: Wire, command: str) -> str:
    """The tag of a command, or the error's text."""
    read = console.ask(command)
    return error_in(read)["M"] if "E" in kinds(read) else read[-2].tag


def clients(pool: Pooler, count: int, **more: str) -> list[Wire]:
    """Clients that have had a server."""
    wires = [pool.wire(**more) for _ in range(count)]
    for wire in wires:
        wire.run("SELECT 1")
    return wires


def state(console: Wire, name: str) -> str | None:
    """A line of SHOW STATE."""
    return {row["key"]: row["value"] for row in console.table("SHOW STATE")}[name]


def shown(console: Wire, database: str) -> tuple[str | None, str | None]:
    """Whether SHOW DATABASES has it as paused, and as disabled."""
    (row,) = [row for row in console.table("SHOW DATABASES") if row["name"] == database]
    return row["paused"], row["disabled"]


def cancelled(pool: Pooler, console: Wire) -> None:
    """Send a CancelRequest for a console."""
    with pool.dial() as wire:
        wire.send(m.cancel_request(console.pid, console.key))
        wire.ends()


@pytest.mark.parametrize("database", ["", " app"])
@pytest.mark.parametrize("workers", [1, 3])
def test_paused_clients_wait_without_servers(
    pooler: MakePooler, cluster: Cluster, database: str, workers: int
) -> None:
    pool = pooler(workers=workers, default_pool_size=4, min_pool_size=1)
    # So many that each worker has some.
    old, console = clients(pool, 40), admin(pool)
    assert said(console, f"PAUSE{database}") == "PAUSE"
    cluster.settles(0)
    assert shown(console, "app") == ("1", "0")
    assert state(console, "paused") == ("no" if database else "yes")
    new = [pool.wire() for _ in range(6)]
    for wire in old + new:
        wire.send(m.query("SELECT 'served'"))
    eventually(lambda: pool.pool()["cl_waiting"] == 46)
    assert all(wire.silent(0.01) for wire in old + new)
    assert cluster.backends() == []
    assert said(console, f"RESUME{database}") == "RESUME"
    assert [kinds(wire.until()) for wire in old + new] == ["TDCZ"] * 46
    assert shown(console, "app") == ("0", "0")
    assert state(console, "active") == "yes"


def test_one_database_is_paused_and_the_other_serves(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    (other,), (one,), console = clients(pool, 1, database="other"), clients(pool, 1), admin(pool)
    assert said(console, 'PAUSE "app"') == "PAUSE"
    one.send(m.query("SELECT 1"))
    assert other.one("SELECT 2") == "2"
    assert one.silent()
    assert said(console, "resume app;") == "RESUME"
    assert kinds(one.until()) == "TDCZ"


def test_pause_waits_for_each_transaction_and_cuts_none(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2)
    busy, console = clients(pool, 4), admin(pool)
    for wire in busy:
        wire.run("BEGIN")
    console.send(m.query("PAUSE"))
    for left, wire in enumerate(busy, 1):
        assert console.silent()
        assert wire.one("SELECT 1") == "1"
        wire.run("COMMIT")
        cluster.settles(4 - left, "state = 'idle in transaction'")
    assert kinds(console.until()) == "CZ"
    cluster.settles(0)
    said(console, "RESUME")
    assert all(alive(wire) for wire in busy)


def test_pause_waits_for_sessions_that_keep_their_server(pooler: MakePooler) -> None:
    pool = pooler(pool_mode="session")
    (one,), console = clients(pool, 1), admin(pool)
    console.send(m.query("PAUSE"))
    assert one.one("SELECT 1") == "1"
    assert console.silent()
    one.bye()
    assert kinds(console.until()) == "CZ"


@pytest.mark.parametrize("version", [m.PROTOCOL_3_0, m.PROTOCOL_3_2])
@pytest.mark.parametrize("database", ["", " app"])
def test_pause_that_is_cancelled_is_undone(pooler: MakePooler, version: int, database: str) -> None:
    pool = pooler(workers=2)
    (busy, idle), console = clients(pool, 2), admin(pool, version)
    busy.run("BEGIN")
    for _ in range(3):
        console.send(m.query(f"PAUSE{database}"))
        eventually(lambda: shown(admin(pool), "app") == ("1", "0"))
        for pid, key in ((console.pid, console.key[:-1] + b"\0\1"), (console.pid + 1, console.key)):
            with pool.dial() as wire:
                wire.send(m.cancel_request(pid, key))
                assert wire.ends()
        assert console.silent()
        cancelled(pool, console)
        assert error_in(console.until())["C"] == "57014"
        assert shown(console, "app") == ("0", "0")
        assert idle.one("SELECT 1") == "1"
    busy.run("COMMIT")


def test_pause_whose_console_leaves_is_undone(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    (busy, idle), console = clients(pool, 2), admin(pool)
    busy.run("BEGIN")
    console.send(m.query("PAUSE"))
    other = admin(pool)
    eventually(lambda: state(other, "paused") == "yes")
    console.close()
    eventually(lambda: state(other, "paused") == "no")
    assert idle.one("SELECT 1") == "1"
    assert pool.logs("broken off: PAUSE")


def test_resume_ends_a_pause_that_waits(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    (busy,), console, other = clients(pool, 1), admin(pool), admin(pool)
    busy.run("BEGIN")
    console.send(m.query("PAUSE"))
    eventually(lambda: state(other, "paused") == "yes")
    assert said(other, "RESUME") == "RESUME"
    assert error_in(console.until())["M"] == "resumed before all servers were released"
    busy.run("COMMIT")


def test_pause_that_another_waits_for_too_is_not_undone_alone(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    (busy, idle), one, two = clients(pool, 2), admin(pool), admin(pool)
    busy.run("BEGIN")
    for console in (one, two):
        console.send(m.query("PAUSE app"))
        assert console.silent()
    cancelled(pool, one)
    assert error_in(one.until())["C"] == "57014"
    assert two.silent()
    assert shown(one, "app") == ("1", "0")
    busy.run("COMMIT")
    assert kinds(two.until()) == "CZ"
    # It is in force now: one that is broken off changes nothing.
    idle.send(m.query("SELECT 1"))
    assert said(one, "PAUSE app") == "PAUSE"
    assert said(two, "RESUME app") == "RESUME"
    assert kinds(idle.until()) == "TDCZ"


def test_pause_is_cancelled_while_a_worker_hangs(pooler: MakePooler) -> None:
    pool = pooler(workers=2, worker_timeout=60)
    # Of three, two are on one worker.
    by_port = {str(wire.sock.getsockname()[1]): wire for wire in [admin(pool) for _ in range(3)]}
    shown_clients = next(iter(by_port.values())).table("SHOW CLIENTS")
    places = {row["port"]: row["worker"] for row in shown_clients if row["port"] in by_port}
    ((place, _),) = Counter(places.values()).most_common(1)
    console, other = [wire for port, wire in by_port.items() if places[port] == place][:2]
    hanging = next(worker for worker in pool.workers() if worker.cmdline()[0] != f"pglido: worker {place}")
    hanging.send_signal(signal.SIGSTOP)
    try:
        console.send(m.query("PAUSE"))
        eventually(lambda: state(other, "paused") == "yes")
        # Until then the request may wait in the queue of the one that hangs.
        for _ in range(20):
            cancelled(pool, console)
            if not console.silent():
                break
        assert error_in(console.until())["C"] == "57014"
        assert state(other, "paused") == "no"
    finally:
        hanging.send_signal(signal.SIGCONT)
    assert alive(pool.wire())


def test_listen_in_a_transaction_that_a_pause_waits_for(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    (wire,), console = clients(pool, 1), admin(pool)
    wire.run("BEGIN")
    console.send(m.query("PAUSE"))
    assert console.silent()
    wire.run("LISTEN news")
    wire.run("COMMIT")
    assert kinds(console.until()) == "CZ"
    cluster.settles(0)
    said(console, "RESUME")
    # It listens again, and is told that it may have missed something.
    assert wire.message().kind == "N"
    with cluster.wire() as speaker:
        speaker.run("NOTIFY news, 'again'")
    assert b"again" in wire.message().body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_of_a_paused_pooler_waits_for_nobody_in_line(pooler: MakePooler, number: signal.Signals) -> None:
    pool = pooler(workers=2, shutdown_timeout=60)
    wires, console = clients(pool, 6), admin(pool)
    said(console, "PAUSE")
    for wire in wires:
        wire.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == 6)
    pool.signal(number)
    for wire in wires:
        assert error_in(wire.rest())["C"] == "57P01"
    assert pool.ended(10) == 0


def test_wait_close_waits_for_what_was_ordered_alone(pooler: MakePooler) -> None:
    pool = pooler(users={"rep": {}})
    wire = pool.dial()
    wire.hello("rep", "app", replication="database")
    wire.until()
    console = admin(pool)
    assert said(console, "WAIT_CLOSE") == "WAIT_CLOSE"
    said(console, "RECONNECT")
    console.send(m.query("WAIT_CLOSE"))
    assert console.silent()
    wire.close()
    assert kinds(console.until()) == "CZ"


def test_signals_to_workers_do_not_end_them(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    (wire,) = clients(pool, 1)
    eventually(lambda: pool.log.count("is ready (process") == 2)
    before = [worker.pid for worker in pool.workers()]
    for worker in pool.workers():
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            worker.send_signal(number)
    # Longer than the time that a worker has after the end of its control process.
    time.sleep(6)
    assert [worker.pid for worker in pool.workers()] == before
    assert alive(wire)


def test_successor_of_a_worker_is_paused_too(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    console = admin(pool)
    said(console, "PAUSE")
    said(console, "DISABLE other")
    pool.workers()[0].kill()
    eventually(lambda: pool.log.count("is ready (process") == 2)
    with pool.dial() as wire, pool.dial() as refused:
        # What it is to be told at login is still to be asked for.
        wire.hello("app", "app")
        assert wire.silent()
        assert cluster.backends() == []
        refused.hello("app", "other")
        assert error_in(refused.rest())["C"] == "55000"
        console = admin(pool)
        said(console, "RESUME")
        wire.until()
        assert wire.one("SELECT 1") == "1"


def test_worker_that_hangs_is_named_and_paused_when_it_moves(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2, worker_timeout=60)
    wires = clients(pool, 20)
    console = admin(pool)
    (place,) = [row["worker"] for row in console.table("SHOW CLIENTS") if row["database"] == "pglido"]
    hanging = next(worker for worker in pool.workers() if worker.cmdline()[0] != f"pglido: worker {place}")
    hanging.send_signal(signal.SIGSTOP)
    try:
        read = console.ask("PAUSE")
        assert kinds(read) == "NCZ"
        assert b"does not answer, and does it when it moves again" in read[0].body
    finally:
        hanging.send_signal(signal.SIGCONT)
    cluster.settles(0)
    for wire in wires:
        wire.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == len(wires))
    said(console, "RESUME")
    assert all(kinds(wire.until()) == "TDCZ" for wire in wires)


def test_disabled_database_lets_nobody_in_and_serves_on(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    # The same packet has let others in before.
    wires, console = clients(pool, 20), admin(pool)
    assert said(console, "DISABLE app") == "DISABLE"
    assert shown(console, "app") == ("0", "1")
    for _ in range(10):
        with pool.dial() as refused:
            refused.hello("app", "app")
            error = error_in(refused.rest())
            assert (error["S"], error["M"]) == ("FATAL", "database does not allow connections: app")
    assert all(alive(wire) for wire in wires)
    assert pool.wire(database="other").one("SELECT 1") == "1"
    assert said(console, "ENABLE app") == "ENABLE"
    assert all(alive(wire) for wire in clients(pool, 10))


@pytest.mark.parametrize("database", ["", " app"])
def test_reconnect_replaces_each_server(pooler: MakePooler, cluster: Cluster, database: str) -> None:
    pool = pooler(workers=2)
    wires, console = clients(pool, 4), admin(pool)
    wires[0].run("BEGIN")
    before = wires[0].one("SELECT pg_backend_pid()")
    old = set(cluster.backends())
    assert said(console, f"RECONNECT{database}") == "RECONNECT"
    assert wires[0].one("SELECT pg_backend_pid()") == before
    console.send(m.query(f"WAIT_CLOSE{database}"))
    assert console.silent()
    wires[0].run("COMMIT")
    assert kinds(console.until()) == "CZ"
    assert all(alive(wire) for wire in wires)
    assert old.isdisjoint(cluster.backends())


@pytest.mark.parametrize("database", ["", " app"])
def test_killed_clients_are_told_and_newcomers_wait(pooler: MakePooler, cluster: Cluster, database: str) -> None:
    pool = pooler(workers=2)
    wires, console = clients(pool, 6), admin(pool)
    (other,) = clients(pool, 1, database="other")
    wires[0].send(m.query("SELECT pg_sleep(60)"))
    wires[1].run("BEGIN")
    cluster.settles(1, "state = 'active' AND query LIKE '%pg_sleep(60%'")
    assert said(console, f"KILL{database}") == "KILL"
    for wire in wires:
        assert error_in(wire.rest())["C"] == "57P01"
    cluster.settles(0, "datname = 'app'")
    assert alive(other) is bool(database)
    new = pool.wire()
    new.send(m.query("SELECT 1"))
    assert new.silent()
    assert said(console, f"RESUME{database}") == "RESUME"
    assert kinds(new.until()) == "TDCZ"


@pytest.mark.parametrize("column", ["ptr", "id"])
def test_one_client_is_killed_by_its_id(pooler: MakePooler, column: str) -> None:
    pool = pooler(workers=3)
    wires, console = clients(pool, 12), admin(pool)
    port = str(wires[5].sock.getsockname()[1])
    (victim,) = [row[column] for row in console.table("SHOW CLIENTS") if row["port"] == port]
    assert said(console, f"KILL_CLIENT {victim}") == "KILL_CLIENT"
    assert error_in(wires[5].rest())["C"] == "57P01"
    assert said(console, f"KILL_CLIENT {victim}") == "client not found"
    assert all(alive(wire) for wire in wires if wire is not wires[5])


def test_listening_clients_hear_again_after_a_pause(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2, listen_on_loss="notice")
    wires, console = clients(pool, 4), admin(pool)
    for wire in wires:
        wire.run("LISTEN news")
    said(console, "PAUSE")
    cluster.settles(0)
    said(console, "RESUME")
    for wire in wires:
        assert wire.message().kind == "N"
    with cluster.wire() as speaker:
        speaker.run("NOTIFY news, 'again'")
    for wire in wires:
        assert b"again" in wire.message().body


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("PAUSE nope", "no such database: nope"),
        ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
        ("RESUME", "pooler is not paused/suspended"),
        ("RESUME app", "database app is not paused"),
        ("RESUME nope", "no such database: nope"),
        ("DISABLE", "a database is required"),
        ("DISABLE nope", "no such database: nope"),
        ("DISABLE pgbouncer", "cannot disable admin db: pgbouncer"),
        ("ENABLE", "a database is required"),
        ("ENABLE nope", "no such database: nope"),
        ("RECONNECT nope", "no such database: nope"),
        ("RECONNECT pgbouncer", "cannot reconnect admin db: pgbouncer"),
        ("KILL nope", "no such database: nope"),
        ("KILL pgbouncer", "cannot kill admin db: pgbouncer"),
        ("KILL_CLIENT nope", "client not found"),
        ("KILL_CLIENT", "a client is required"),
        ("WAIT_CLOSE nope", "no such database: nope"),
        ("WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer"),
        ("PAUSE app foo", "invalid command 'PAUSE app foo', use SHOW HELP;"),
        ("PAUSE App", "no such database: App"),
    ],
)
def test_what_makes_no_sense_is_refused_in_pgbouncers_words(
    shared_pooler: MakePooler, cluster: Cluster, command: str, text: str
) -> None:
    pool = shared_pooler(cluster)
    with admin(pool) as console:
        assert error_in(console.ask(command))["C"] == "08P01"
        assert said(console, command) == text
        assert shown(console, "app") == ("0", "0")


def test_what_is_paused_already(pooler: MakePooler) -> None:
    pool = pooler()
    console = admin(pool)
    script = [
        *[("PAUSE", "PAUSE"), ("PAUSE", "already suspended/paused"), ("PAUSE app", "already suspended/paused")],
        *[("KILL app", "already suspended/paused"), ("RESUME", "RESUME"), ("PAUSE app", "PAUSE")],
        *[("PAUSE app", "PAUSE"), ("PAUSE", "PAUSE"), ("RESUME app", "RESUME"), ("RESUME", "RESUME")],
        *[("DISABLE app", "DISABLE"), ("DISABLE app", "DISABLE"), ("ENABLE app", "ENABLE"), ("ENABLE app", "ENABLE")],
    ]
    assert [(command, said(console, command)) for command, _ in script] == script


COMMANDS = ["PAUSE", "RESUME", "DISABLE app", "ENABLE app", "RECONNECT", "KILL", "KILL_CLIENT x", "WAIT_CLOSE"]


@pytest.mark.parametrize("command", COMMANDS)
def test_who_may_only_look_may_not(shared_pooler: MakePooler, cluster: Cluster, command: str) -> None:
    pool = shared_pooler(cluster, stats_users=["app"])
    with pool.wire("app", "pglido") as console:
        assert said(console, command) == "admin access needed"


def test_each_action_is_logged_with_who_did_it(pooler: MakePooler) -> None:
    pool = pooler()
    console = admin(pool)
    console.run("SHOW POOLS")
    for command in ("PAUSE app", "RESUME app", "RECONNECT", "RELOAD"):
        console.ask(command)
        assert pool.logs(rf"console: {command} uuid=\S+ user=postgres database=pglido address=127.0.0.1:\d+")
    assert "console: SHOW" not in pool.log


def test_database_that_comes_back_is_not_paused(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(databases={"app": {}, "other": {}})
    console, text = admin(pool), pool.path.read_text()
    said(console, "PAUSE other")
    said(console, "DISABLE other")
    pool.reload(text.replace('[databases."other"]', '[databases."another"]'))
    pool.reload(text)
    eventually(lambda: shown(console, "other") == ("0", "0"))
    assert pool.wire(database="other").one("SELECT 1") == "1"


def test_driver_pauses_by_the_extended_protocol(pooler: MakePooler) -> None:
    pool = pooler()
    with psycopg.connect(pool.conninfo("postgres", "pglido"), autocommit=True) as console:
        assert console.execute("PAUSE").statusmessage == "PAUSE"
        assert console.execute("RESUME").statusmessage == "RESUME"
        with pytest.raises(psycopg.Error, match="not paused"):
            console.execute("RESUME")


@pytest.fixture
def working(pooler: MakePooler) -> Iterator[tuple[Pooler, list[Wire], threading.Event]]:
    """Clients to be used by a thread until the event is set."""
    # Nobody is told that it waits: one that is unlucky has no turn between many pauses.
    pool = pooler(workers=2, default_pool_size=3, query_wait_notify=0)
    over = threading.Event()
    yield pool, clients(pool, 8), over
    over.set()


def test_clients_at_work_notice_nothing_of_pauses(working: tuple[Pooler, list[Wire], threading.Event]) -> None:
    pool, wires, over = working
    console = admin(pool)

    def work() -> int:
        done = 0
        while not over.is_set():
            for wire in wires:
                wire.send(m.query(f"BEGIN; SELECT {done}; COMMIT"))
            for wire in wires:
                assert kinds(wire.until()) == "CTDCCZ"
            done += 1
        return done

    with Meanwhile(work) as working_on:
        try:
            for round_ in range(20):
                database = ("", " app")[round_ % 2]
                assert said(console, f"PAUSE{database}") == "PAUSE"
                assert said(console, f"RESUME{database}") == "RESUME"
                assert said(console, "RECONNECT") == "RECONNECT"
        finally:
            over.set()
        assert working_on.result() > 0


def test_signals_pause_and_resume(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2)
    (wire,), console = clients(pool, 1), admin(pool)
    pool.signal(signal.SIGUSR1)
    cluster.settles(0)
    assert state(console, "paused") == "yes"
    wire.send(m.query("SELECT 1"))
    assert wire.silent()
    pool.signal(signal.SIGUSR1)
    assert pool.logs("already suspended/paused")
    pool.signal(signal.SIGUSR2)
    assert kinds(wire.until()) == "TDCZ"
    pool.signal(signal.SIGUSR2)
    assert pool.logs("pooler is not paused/suspended")
    assert pool.wire().one("SELECT 1") == "1"


def test_no_server_is_opened_in_a_paused_database_for_a_signal(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2)
    (target,), (other,), console = clients(pool, 1, database="other"), clients(pool, 1), admin(pool)
    said(console, "PAUSE other")
    cluster.settles(0, "datname = 'other'")
    assert other.one(f"SELECT pg_terminate_backend({target.pid})") == "f"
    assert cluster.backends("datname = 'other'") == []
    said(console, "RESUME other")
    assert alive(target)
    assert other.one(f"SELECT pg_terminate_backend({target.pid})") == "t"
    assert error_in(target.rest())["C"] == "57P01"
