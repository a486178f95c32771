"""Clients that send anything: nobody else notices, nothing of theirs stays, no worker ends, no bug is logged."""

import contextlib
import socket
from random import Random

import psutil
import pytest

import harness.messages as m
from conftest import MakePooler
from fuzz.mutation import SEED, TIMES, mutated, pieces
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Wire

ROUNDS = 250 * TIMES
LONG = "x" * 3000

# What clients say, each a list of messages.
STORIES: list[list[bytes]] = [
    [
        m.query("SELECT 1"),
        m.query("SELECT n FROM numbers LIMIT 3; SELECT 'two'"),
        m.query(""),
        m.query(f"SELECT '{LONG}'"),
    ],
    [m.parse("", "SELECT $1::int", 23), m.bind("", "", "1"), m.describe_portal(), m.execute(), m.SYNC],
    [
        m.parse("s", "SELECT 1"),
        m.describe_statement("s"),
        m.SYNC,
        m.bind("p", "s"),
        m.execute("p", 1),
        m.close_portal("p"),
        m.SYNC,
    ],
    [
        m.parse("s", "SELECT 2"),
        m.close_statement("s"),
        m.FLUSH,
        m.SYNC,
        m.query("DEALLOCATE ALL"),
        m.query("DISCARD ALL"),
    ],
    [m.query("BEGIN"), m.query("CREATE TEMP TABLE mine AS SELECT 1"), m.query("SELECT 1/0"), m.query("ROLLBACK")],
    [
        m.query("SET app.mine = 'x'"),
        m.query("SET TimeZone = 'Asia/Tokyo'"),
        m.query("RESET ALL"),
        m.query("SHOW TimeZone"),
    ],
    [
        m.query("CREATE TEMP TABLE t (a text)"),
        m.query("COPY t FROM STDIN"),
        m.copy_data(b"a\n"),
        m.copy_data(b"b\n"),
        m.COPY_DONE,
    ],
    [m.query("COPY numbers TO STDOUT"), m.query("COPY notes FROM STDIN"), m.copy_fail("no")],
    [m.query("LISTEN fuzz"), m.query("NOTIFY fuzz, 'one'"), m.query("UNLISTEN *")],
    [
        m.query("PREPARE q AS SELECT 1"),
        m.query("EXECUTE q"),
        m.query("DEALLOCATE q"),
        m.query("EXPLAIN (COSTS off) SELECT 1"),
    ],
    [
        m.function_call(1598),
        m.function_call(0),
        m.query("SELECT pg_advisory_lock(4711)"),
        m.query("DO 'BEGIN PERFORM 1; END'"),
    ],
    [m.query("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), m.query("FETCH c"), m.query("CLOSE c")],
    [m.password("guess"), m.sasl_initial("SCRAM-SHA-256", "n,,n=,r=abc"), m.TERMINATE],
]
STARTUPS: list[list[bytes]] = [
    [m.startup([("user", "app"), ("database", "app"), ("options", "-c app.mine=1 -c extra_float_digits=2")])],
    [m.startup([("user", "app"), ("database", "other"), ("_pq_.test", "1")], m.PROTOCOL_3_2)],
    [m.startup([("user", "rep"), ("database", "app"), ("replication", "database")]), m.query("IDENTIFY_SYSTEM")],
    [
        m.startup([("user", "postgres"), ("database", "pglido")]),
        m.query("SHOW POOLS"),
        m.parse("", "SHOW STATS"),
        m.SYNC,
    ],
    [m.SSL_REQUEST, m.GSSENC_REQUEST, m.startup([("user", "app")])],
    [m.cancel_request(8388609, b"abcd"), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"],
]
GREETING = m.startup([("user", "app"), ("database", "app")])


def attack(pool: Pooler, random: Random) -> None:
    """One connection: says what it says, in pieces, and leaves in one of several ways."""
    if random.random() < 0.3:
        data = mutated(random, random.choice(STARTUPS))
    else:
        data = GREETING + mutated(random, random.choice(STORIES) + random.choice(STORIES))
    sock = socket.create_connection(pool.address, timeout=10)
    with sock, contextlib.suppress(OSError):
        for piece in pieces(random, data):
            sock.sendall(piece)
        match random.randrange(4):
            case 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            case 1:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            case 2:
                sock.recv(65536)


def at_rest(pool: Pooler, kept: int) -> bool:
    """All who attacked are gone, and every server is free but so many."""
    rows = [row for row in pool.console("SHOW CLIENTS") if row["database"] in ("app", "other")]
    servers = [row for row in pool.console("SHOW SERVERS") if row["state"] not in ("idle", "used", "tested")]
    return len(rows) == 1 and len(servers) == kept


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
def test_hostile_clients_disturb_nobody(pooler: MakePooler, cluster: Cluster, mode: str) -> None:
    pool = pooler(pool_mode=mode, default_pool_size=4, log_connections=False, log_disconnections=False)
    before = [worker.pid for worker in pool.workers()]
    bystander = pool.wire("app2", "app", application_name="bystander")
    random = Random(SEED)
    for number in range(ROUNDS):
        attack(pool, random)
        if number % 10 == 0:
            row = bystander.run(
                "SELECT current_user, current_setting('app.mine', true), current_setting('application_name')"
            )
            assert row in ([["app2", None, "bystander"]], [["app2", "", "bystander"]]), f"round {number} of seed {SEED}"
    eventually(lambda: at_rest(pool, kept=int(mode == "session")), 30, "all at rest")
    assert [worker.pid for worker in pool.workers()] == before
    assert "bug" not in pool.log
    memory = sum(psutil.Process(pid).memory_info().rss for pid in before)
    assert memory < 400 << 20, "workers that keep what clients sent"
    with pool.wire() as fresh:
        assert fresh.one("SELECT 1") == "1"


def test_hostile_logins_with_passwords(pooler: MakePooler, cluster: Cluster) -> None:
    users = {"u_scram": {"password": "scram secret"}, "u_md5": {"password": "md5 secret"}}
    pool = pooler(auth_type="scram-sha-256", users=users, log_connections=False, log_disconnections=False)
    before = [worker.pid for worker in pool.workers()]
    random = Random(SEED)
    first = "n,,n=,r=rOprNGfwEbeRWgbNEkqO"
    talk = [m.sasl_initial("SCRAM-SHA-256", first), m.password("c=biws,r=x,p=dHJ1dGg="), m.query("SELECT 1")]
    for _ in range(ROUNDS):
        hello = m.startup([("user", random.choice(("u_scram", "u_md5", "nobody"))), ("database", "app")])
        sock = socket.create_connection(pool.address, timeout=10)
        with sock, contextlib.suppress(OSError):
            sock.sendall(hello + mutated(random, talk))
            sock.recv(65536)
    with Wire.dial(pool.address) as honest:
        honest.login("u_scram", "app", password="scram secret")
        assert honest.one("SELECT current_user") == "u_scram"
    assert [worker.pid for worker in pool.workers()] == before
    assert "bug" not in pool.log
