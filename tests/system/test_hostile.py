"""Hostile clients: a clear error or a close, bounded memory, and the others unharmed."""

import os
import random
import resource
import socket
import struct
from collections.abc import Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile, together
from harness.pooler import Pooler
from harness.waiting import eventually, wait_until_read
from harness.wire import Closed, ServerError, Wire, error_in, kinds

MB = 1 << 20
LENGTHS = [0, 1, 3, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 0xFFFFFFFC, 0x7FFFFFFC]


@pytest.fixture
def victim(shared_pooler: MakePooler, cluster: Cluster) -> Iterator[Pooler]:
    """A pooler with a client at work before, during and after what a test does; its workers must not die or grow."""
    pool = shared_pooler(cluster, client_login_timeout=3)
    workers, before = [worker.pid for worker in pool.workers()], pool.worker_memory()
    witnesses = [pool.wire() for _ in range(4)]
    for wire in witnesses:
        assert wire.one("SELECT 1") == "1"
    yield pool
    for number, wire in enumerate(witnesses):
        assert wire.one(f"SELECT {number}") == str(number)
    assert pool.wire().one("SELECT 1") == "1"
    assert [worker.pid for worker in pool.workers()] == workers
    assert pool.worker_memory() - before < 64 * MB


def end_of(wire: Wire) -> str:
    """The types of what is said until the connection ends."""
    return kinds(wire.rest())


def next_of(wire: Wire) -> str:
    """The type of the next message; empty at the end of the connection."""
    try:
        return wire.message().kind
    except Closed:
        return ""


def throw(wire: Wire, data: bytes) -> None:
    """Send without minding that the other side may close meanwhile."""
    try:
        wire.send(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


# --- before login ---


@pytest.mark.parametrize("length", [*range(8), *LENGTHS, 10001, 100_000])
def test_length_of_the_first_packet(victim: Pooler, length: int) -> None:
    wire = victim.dial()
    throw(wire, struct.pack("!I", length) + struct.pack("!i", m.PROTOCOL_3_0) + b"user\0app\0\0" + b"\0" * 100)
    assert end_of(wire) in ("E", "")


@pytest.mark.parametrize("version", [0, 1, 0x00010000, 0x00020000, 0x00040000, 0x03000000, 0xFFFFFFFF, 80877105])
def test_unknown_protocol_versions(victim: Pooler, version: int) -> None:
    wire = victim.dial()
    body = b"user\0app\0database\0app\0\0"
    throw(wire, struct.pack("!II", len(body) + 8, version) + body)
    assert end_of(wire) in ("E", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"user",
        b"user\0",
        b"user\0app",
        b"user\0app\0",
        b"user\0\0\0",
        b"database\0app\0\0",
        b"\0user\0app\0\0",
        b"user\0app\0\0\0",
        b"user\0app\0\0more",
        b"user\0app\0database\0",
        b"user\0" + b"x" * 9000 + b"\0\0",
        b"user\0app\0database\0" + b"d" * 9000 + b"\0\0",
        b"user\0app\0" + b"k\0v\0" * 2000 + b"\0",
        b"\xff\0\xfe\0user\0app\0\0",
        b"user\0\xff\xfe\0database\0app\0\0",
        b"user\0app\0options\0" + b"-c " * 2000 + b"\0\0",
        b"user\0app\0options\0-c a=\\\0\0",
        b"user\0app\0replication\0nonsense\0\0",
    ],
)
def test_malformed_startup_packets(victim: Pooler, body: bytes) -> None:
    wire = victim.dial()
    throw(wire, struct.pack("!Ii", len(body) + 8, m.PROTOCOL_3_0) + body)
    assert end_of(wire)[-1:] in ("E", "")


def test_half_a_startup_packet(victim: Pooler) -> None:
    whole = m.startup([("user", "app"), ("database", "app")])
    for size in range(1, len(whole)):
        with victim.dial() as wire:
            wire.send(whole[:size])
            wait_until_read(wire.sock)
            wire.sock.shutdown(socket.SHUT_WR)
            assert end_of(wire) in ("E", "")


def test_startup_packet_cut_anywhere_is_read_all_the_same(victim: Pooler) -> None:
    whole = m.startup([("user", "app"), ("database", "app"), ("application_name", "cut")])
    for size in range(1, len(whole)):
        with victim.dial() as wire:
            wire.send(whole[:size])
            wait_until_read(wire.sock)
            wire.send(whole[size:])
            wire.until("Z")
            assert wire.one("SHOW application_name") == "cut"
            wire.bye()


def test_login_and_queries_in_one_packet(victim: Pooler) -> None:
    wire = victim.dial()
    wire.send(m.startup([("user", "app"), ("database", "app")]), m.query("SELECT 'early'"), m.query("SELECT 2"))
    read = wire.until("Z", 3)
    assert [one.row[0] for one in read if one.kind == "D"] == [b"early", b"2"]


def test_slow_drip(victim: Pooler) -> None:
    drips = [victim.dial() for _ in range(5)]
    whole = m.startup([("user", "app"), ("database", "app"), ("application_name", "x" * 500)])
    for byte in whole:  # the login timeout counts from the connect, however often a byte comes
        for wire in drips:
            throw(wire, bytes([byte]))
        if not drips[0].silent(0.05):
            break
    else:
        pytest.fail("half a minute of bytes, one by one")
    for wire in drips:
        assert end_of(wire) in ("E", "")


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"\0" * 5000, b"\xff" * 5000],
)
def test_other_protocols(victim: Pooler, data: bytes) -> None:
    wire = victim.dial()
    throw(wire, data)
    assert end_of(wire) in ("E", "")


def test_random_bytes_before_login(victim: Pooler) -> None:
    rng = random.Random(1)
    for _ in range(150):
        with victim.dial() as wire:
            throw(wire, rng.randbytes(rng.choice([1, 4, 8, 9, 50, 500, 5000])))
            try:
                wire.sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            assert end_of(wire)[-1:] in ("E", "")


@pytest.mark.parametrize("size", [0, 8, 9, 15, 17, 268, 300, 5000])
def test_cancel_requests_of_any_size(victim: Pooler, size: int) -> None:
    wire = victim.dial()
    throw(wire, struct.pack("!Ii", max(size, 8), 80877102) + os.urandom(max(size - 8, 0)))
    wire.sock.shutdown(socket.SHUT_WR)
    assert end_of(wire) in ("E", "")


# --- after login ---


@pytest.mark.parametrize("length", LENGTHS)
def test_length_of_a_message(victim: Pooler, length: int) -> None:
    for kind in "QPBDECSHFXdcfp":
        wire = victim.wire()
        throw(wire, kind.encode() + struct.pack("!I", length))
        if 4 <= length < 1 << 31:
            assert wire.silent(0.01) or next_of(wire) in ("E", ""), kind  # it may come yet
        else:
            assert end_of(wire) in ("E", ""), kind


def test_unknown_types(victim: Pooler) -> None:
    for code in range(256):
        if chr(code) not in "QPBDECSHFXdcf":
            wire = victim.wire()
            wire.send(bytes([code]) + struct.pack("!i", 8) + b"abcd")
            fields = error_in(wire.rest())
            assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
            assert fields["M"].startswith(f"invalid frontend message type {code}")


def test_random_bytes_after_login(victim: Pooler) -> None:
    rng = random.Random(2)
    for _ in range(150):
        with victim.wire() as wire:
            throw(wire, rng.randbytes(rng.choice([1, 4, 5, 9, 50, 500, 5000])))
            try:
                wire.sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            end_of(wire)


def test_random_changes_to_good_messages(victim: Pooler) -> None:
    rng = random.Random(3)
    good = b"".join(
        [
            m.parse("s", "SELECT $1::int"),
            m.bind("p", "s", "1"),
            m.describe_portal("p"),
            m.execute("p"),
            m.close_statement("s"),
            m.SYNC,
            m.query("SELECT 1"),
            m.function_call(177, "1", "2"),
        ]
    )
    for _ in range(250):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with victim.wire() as wire:
            throw(wire, bytes(data))
            try:
                wire.sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            end_of(wire)


def test_random_messages_of_known_types(victim: Pooler) -> None:
    rng = random.Random(4)
    for _ in range(100):
        with victim.wire() as wire:
            parts = [m.message(rng.choice("PBDECSHFdcf"), rng.randbytes(rng.randint(0, 40))) for _ in range(8)]
            throw(wire, b"".join(parts) + m.SYNC)
            try:
                wire.sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            end_of(wire)


def test_message_that_never_ends(victim: Pooler) -> None:
    wires = [victim.wire() for _ in range(20)]
    for wire, kind in zip(wires, "QPBDECFQPBDECFQPBDEC", strict=True):
        wire.send(kind.encode() + struct.pack("!i", 1 << 30) + b"x" * 1000)
        wait_until_read(wire.sock)
    assert victim.wire().one("SELECT 1") == "1"
    for wire in wires:
        wire.close()


def test_endless_pipeline_without_reading(victim: Pooler) -> None:
    wire = victim.wire()
    wire.sock.settimeout(1)
    # Nobody takes the answers, so the questions must be held up at some point.
    with pytest.raises(TimeoutError):
        wire.sock.sendall(m.query("SELECT repeat('x', 1000)") * 8_000_000)
    assert victim.worker_memory() < 400 * MB
    wire.close()


def test_many_statements_that_nobody_closes(victim: Pooler) -> None:
    wire = victim.wire()
    for start in range(0, 5000, 500):
        wire.send(*(m.parse(f"s{n}", f"SELECT {n}") for n in range(start, start + 500)), m.SYNC)
        assert kinds(wire.until()) == "1" * 500 + "Z"
    wire.send(m.bind("", "s7"), m.execute(), m.SYNC)
    assert wire.until()[1].row == [b"7"]
    wire.close()


# --- crowds ---


def test_flood_of_connections_that_say_nothing(victim: Pooler) -> None:
    with Meanwhile(lambda: [victim.wire().one("SELECT 1") for _ in range(20)]) as work:
        silent = [socket.create_connection(victim.address) for _ in range(500)]
        assert work.result() == ["1"] * 20
    for sock in silent:
        sock.close()


def test_flood_of_logins_that_fail(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users={"app": {"password": "right"}})
    good = pool.wire(password="right")

    def guess(number: int) -> int:
        refused = 0
        for turn in range(8):
            with pool.dial() as wire:
                wire.hello(("app", f"nobody{number}")[turn % 2], "app")
                try:
                    wire.authenticate("app", f"guess {turn}")
                except (ServerError, Closed):
                    refused += 1
        return refused

    with Meanwhile(lambda: together(40, guess)) as flood:
        served = 0
        while not flood.done:
            assert good.one("SELECT 1") == "1"
            served += 1
        assert flood.result() == [8] * 40
    # Its turn comes again and again: it is not behind all of the 320.
    assert served > 40


def test_flood_of_logins_that_work(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5, max_client_conn=2000)

    def come_and_go(number: int) -> None:
        for _ in range(10):
            with pool.wire() as wire:
                assert wire.one(f"SELECT {number}") == str(number)
                wire.bye()

    together(60, come_and_go, within=90)
    assert len(cluster.backends()) <= 5
    eventually(lambda: pool.pool()["cl_active"] == 0)


def test_out_of_descriptors_is_survived(pooler: MakePooler) -> None:
    pool = pooler(workers=1, default_pool_size=2)
    (worker,) = pool.workers()
    first = pool.wire()
    first.run("SELECT 1")
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (worker.num_fds() + 20, 20000))
    crowd = []
    for _ in range(60):
        sock = socket.create_connection(pool.address)
        sock.settimeout(0.5)
        sock.sendall(m.startup([("user", "app"), ("database", "app")]))
        crowd.append(sock)
    assert first.one("SELECT 'still served'") == "still served"
    for sock in crowd:
        sock.close()
    eventually(lambda: comes_in(pool))


def test_out_of_descriptors_there_is_a_place_for_an_admin(pooler: MakePooler) -> None:
    pool = pooler(workers=1, default_pool_size=2)
    (worker,) = pool.workers()
    first = pool.wire()
    first.run("SELECT 1")
    soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (worker.num_fds() + 10, hard))

    def enter(user: str, database: str) -> str:
        """The last type of message that the client is sent, or the SQLSTATE of its refusal."""
        wire = pool.dial()
        wire.hello(user, database)
        last = wire.until("ZE")[-1]
        return last.fields["C"] if last.kind == "E" else last.kind

    came = [enter("app", "app") for _ in range(20)]
    assert came == sorted(came, reverse=True)
    assert came[0] == "Z"
    # Others are told at once, again and again.
    assert came[-5:] == ["53300"] * 5
    for _ in range(3):
        assert enter("app2", "pglido") == "53300"
        assert pool.console("SHOW CLIENTS")
    assert first.one("SELECT 'still served'") == "still served"
    # Who says nothing does not keep the place.
    pool.dial()
    assert pool.console("SHOW VERSION")
    # While an admin has the place, others come in again as soon as there is room for them.
    admin = pool.wire("postgres", "pglido")
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: comes_in(pool))
    assert admin.table("SHOW VERSION")
    pool.logs("can't accept, but for an admin")


def comes_in(pool: Pooler) -> bool:
    """Whether a new client is served."""
    try:
        with pool.dial() as wire:
            wire.sock.settimeout(1)
            wire.login()
            return wire.one("SELECT 1") == "1"
    except (OSError, Closed, ServerError):
        return False
