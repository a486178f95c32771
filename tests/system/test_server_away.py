"""A server that is away for a moment: clients wait in line and are served when it is back; what lasts is told."""

import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile, together
from harness.fake import AUTHENTICATION_OK, WELCOME, FakeServer, Peer, columns, complete, error, parameter, row
from harness.pooler import Pooler
from harness.proxy import packet
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire, error_in, kinds

# Seconds between two attempts at most: as PgBouncer's default. Harness poolers have less.
PATIENT = {"server_login_retry": 15, "log_level": "debug"}


# PostgreSQL is stopped and started again.


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("backend", ["epoll", "io_uring"])
def test_restart_is_noticed_by_nobody(
    pooler: MakePooler, own_cluster: Cluster, backend: str, workers: int, mode: str
) -> None:
    pool = pooler(own_cluster, event_backend=backend, workers=workers, default_pool_size=4, **PATIENT)
    idle = [pool.wire() for _ in range(12)]
    assert together(12, lambda number: idle[number].one("SELECT 1")) == ["1"] * 12
    own_cluster.server.stop(mode)  # type: ignore[arg-type]
    for wire in idle:
        wire.send(m.query("SELECT 'served'"))
    with (
        # Some say what others have said before, some what is to be tried on a server first.
        Meanwhile(lambda: together(6, lambda number: pool.wire().one("SELECT 'let in'"))) as known,
        Meanwhile(lambda: together(6, lambda number: pool.wire(timezone=f"Etc/GMT+{number}"))) as new,
    ):
        # By then attempts are further apart than those of a busy loop, and all of them wait still.
        eventually(lambda: refused(pool, 8 * workers), within=20)
        assert not known.done
        assert not new.done
        assert all(wire.silent() for wire in idle)
        own_cluster.server.launch()
        assert [wire.until()[1].row for wire in idle] == [[b"served"]] * 12
        assert known.result() == ["let in"] * 6
        assert len(new.result()) == 6
    assert "query_wait_timeout" not in pool.log


def test_transactions_go_on_after_a_restart(pooler: MakePooler, own_cluster: Cluster) -> None:
    """Under load: what is met is the end of a transaction that was open, as without a pooler, and nothing else."""
    pool = pooler(own_cluster, default_pool_size=3, workers=2, **PATIENT)
    over = False
    told: list[tuple[str, str]] = []

    def work(number: int) -> int:
        wire, done = pool.wire(), 0
        while not over:
            try:
                assert wire.one("SELECT 1") == "1"
            except Closed as closed:
                said = error_in(closed.read)
                told.append((said["C"], said["M"]))
                wire = pool.wire()
            done += 1
        return done

    with Meanwhile(lambda: together(8, work)) as crowd:
        for number, mode in enumerate(("fast", "immediate"), 1):
            eventually(partial(at_work, pool, 200 * number), within=20)
            own_cluster.server.stop(mode)  # type: ignore[arg-type]
            eventually(partial(refused, pool, 8 * number), within=20)
            own_cluster.server.launch()
            assert pool.wire().one("SELECT 1") == "1"
        over = True
        assert min(crowd.result()) > 0
    # The server's own words, or that it was killed in the middle; never that none can be had.
    assert {sqlstate for sqlstate, _ in told} <= {"57P01", "57P02", "08P01"}, told
    assert not [text for _, text in told if "login" in text or "timeout" in text]


def at_work(pool: Pooler, count: int) -> bool:
    """Have so many queries been served?"""
    return sum(int(row["total_query_count"] or 0) for row in pool.console("SHOW STATS")) > count


def refused(pool: Pooler, count: int) -> bool:
    """Was so often tried in vain to open a server?"""
    return pool.log.count("can't connect") >= count


# What passes is waited out, at whichever step of a login it is met.


def reset(peer: Peer) -> None:
    """End the connection by RST."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def after(step: bytes, trouble: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """Say `step` in answer to the startup packet, then make trouble."""

    def act(peer: Peer) -> None:
        peer.startup()
        peer.send(step)
        trouble(peer)

    return act


def says(data: bytes) -> Callable[[Peer], None]:
    """Say this and close."""
    return lambda peer: peer.send(data)


def silent(peer: Peer) -> None:
    """Say nothing until the pooler gives up."""
    peer.sock.recv(1)


def nothing(peer: Peer) -> None:
    """Just close."""


PLACES = {"startup": b"", "authentication": AUTHENTICATION_OK, "parameters": WELCOME[:60], "ready": WELCOME[:-6]}
PASSING = {
    "cannot_connect_now": ("57P03", "the database system is starting up"),
    "too_many_connections": ("53300", "sorry, too many clients already"),
    "out_of_memory": ("53200", "out of memory"),
    "admin_shutdown": ("57P01", "terminating connection due to administrator command"),
    "crash_shutdown": ("57P02", "terminating connection because of crash of another server process"),
    "io_error": ("58030", "could not read file"),
    "config_file_error": ("F0000", "could not load pg_hba.conf"),
    "internal_error": ("XX000", "cache lookup failed"),
}
TROUBLES: dict[str, dict[str, Callable[[Peer], None]]] = {
    "ends": {
        "before a word": nothing,
        **{f"{end.__name__} at {place}": after(PLACES[place], end) for place in PLACES for end in (nothing, reset)},
    },
    "silence": {"before a word": silent, **{place: after(said, silent) for place, said in PLACES.items()}},
    "errors": {
        **{name: after(b"", says(error("FATAL", *what))) for name, what in PASSING.items()},
        "after authentication": after(AUTHENTICATION_OK, says(error("FATAL", *PASSING["admin_shutdown"]))),
        "of a postmaster that can't fork": after(b"", says(b"Ecould not fork new process for connection: memory\n\0")),
        "without fields": after(b"", says(m.message("E", b"\0"))),
        "of no code": after(b"", says(error("FATAL", "\u2168" * 5, "x" * 100_000))),
    },
    "garbage": {
        "instead of TLS": says(b"?"),
        **{place: after(said, says(b"HTTP/1.1 503 no\r\n\r\n" + bytes(30))) for place, said in PLACES.items()},
        "ParameterStatus": after(AUTHENTICATION_OK, says(parameter("a", "b")[:-1] + b"x")),
        "ParameterStatus that is no text": after(AUTHENTICATION_OK, says(m.message("S", b"\xff\xfe\0x\0"))),
        "BackendKeyData": after(AUTHENTICATION_OK, says(m.message("K", b"\0"))),
        "ReadyForQuery": after(AUTHENTICATION_OK, says(m.message("Z", b"T"))),
        "a row": after(AUTHENTICATION_OK, says(row("x"))),
        "authentication step": after(b"", says(m.message("R", struct.pack("!i", 11) + b"x"))),
        "authentication cut": after(b"", says(m.message("R", b"\0"))),
    },
}


class Away:
    """A fake server that can be made to have `trouble` with everybody, and to be well again."""

    def __init__(self) -> None:
        self.trouble: Callable[[Peer], None] | None = None
        self.peers: list[Peer] = []

    def script(self, peer: Peer) -> None:
        """One connection."""
        if self.trouble is not None:
            self.trouble(peer)
        elif peer.welcome():
            self.peers.append(peer)
            peer.serve()

    def leave(self, trouble: Callable[[Peer], None]) -> None:
        """All connections end, and new ones meet this."""
        self.trouble = trouble
        while self.peers:
            self.peers.pop().sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("backend", ["epoll", "io_uring"])
@pytest.mark.parametrize("kind", TROUBLES)
def test_what_passes_is_waited_out(pooler: MakePooler, kind: str, backend: str) -> None:
    away = Away()
    with FakeServer(away.script) as fake:
        short = {"server_connect_timeout": 0.3, "server_login_retry": 0.05, "log_level": "debug"}
        pool = pooler(fake, event_backend=backend, workers=1, **short)
        idle = pool.wire()
        for number, (name, trouble) in enumerate(TROUBLES[kind].items()):
            assert idle.one("SELECT 1") == "fake"
            away.leave(trouble)
            eventually(lambda: pool.pool()["sv_idle"] == 0, what=name)
            idle.send(m.query("SELECT 1"))
            newcomer = login_of(pool, timezone=f"Etc/GMT+{number}")
            eventually(partial(refused, pool, pool.log.count("can't connect") + 3), what=name)
            assert newcomer.silent(), name
            assert idle.silent(), name
            away.trouble = None
            assert kinds(idle.until()) == "TDCZ", name
            assert kinds(newcomer.until())[-1] == "Z", name
        assert "bug:" not in pool.log


def half_of(*parts: bytes) -> Callable[[Peer], None]:
    """Take part in a TLS handshake up to here, and say nothing more until the pooler gives up."""

    def act(peer: Peer) -> None:
        assert packet(peer.sock) == m.SSL_REQUEST
        peer.send(b"S", *parts)
        while peer.sock.recv(4096):
            pass

    return act


# A record of a handshake: a ServerHello, of which the beginning is there.
HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(20)


@pytest.mark.parametrize("backend", ["epoll", "io_uring"])
@pytest.mark.parametrize("parts", [(), (HELLO,), (b"HTTP/1.1 400 Bad Request\r\n",)], ids=["S", "half", "garbage"])
def test_half_a_handshake_is_waited_out(pooler: MakePooler, backend: str, parts: tuple[bytes, ...]) -> None:
    away = Away()
    with FakeServer(away.script) as fake:
        short = {"server_connect_timeout": 0.3, "server_login_retry": 0.05, "log_level": "debug"}
        pool = pooler(fake, event_backend=backend, workers=1, server_tls_sslmode="prefer", **short)
        idle = pool.wire()
        assert idle.one("SELECT 1") == "fake"
        away.leave(half_of(*parts))
        eventually(lambda: pool.pool()["sv_idle"] == 0)
        idle.send(m.query("SELECT 1"))
        newcomer = login_of(pool, timezone="Etc/GMT+1")
        eventually(partial(refused, pool, pool.log.count("can't connect") + 3))
        assert newcomer.silent()
        assert idle.silent()
        away.trouble = None
        assert kinds(idle.until()) == "TDCZ"
        assert kinds(newcomer.until())[-1] == "Z"
        assert "bug:" not in pool.log


class Unreachable(FakeServer):
    """A server whose host can be made to answer no SYN: its queue is full then, and nobody takes anything from it."""

    def __init__(self, script: Callable[[Peer], None]) -> None:
        self.reachable = threading.Event()
        self.reachable.set()
        self.fillers: list[socket.socket] = []
        super().__init__(script)

    def _await_turn(self) -> None:
        self.reachable.wait()

    def vanish(self) -> None:
        """From now on nobody gets through."""
        self.reachable.clear()
        self._listener.listen(0)
        # The first is taken by who waits for one already, and more are in the queue than it is long.
        for _ in range(6):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(filler)

    def return_(self) -> None:
        """The host is there again."""
        for filler in self.fillers:
            filler.close()
        self._listener.listen(512)
        self.reachable.set()


@pytest.mark.parametrize("backend", ["epoll", "io_uring"])
def test_host_that_does_not_answer_is_waited_for(pooler: MakePooler, backend: str) -> None:
    away = Away()
    with Unreachable(away.script) as fake:
        short = {"server_connect_timeout": 0.3, "server_login_retry": 0.05, "log_level": "debug"}
        pool = pooler(fake, event_backend=backend, workers=1, **short)
        idle = pool.wire()
        assert idle.one("SELECT 1") == "fake"
        fake.vanish()
        away.leave(nothing)
        away.trouble = None
        eventually(lambda: pool.pool()["sv_idle"] == 0)
        idle.send(m.query("SELECT 1"))
        newcomer = login_of(pool, timezone="Etc/GMT+1")
        eventually(partial(refused, pool, pool.log.count("can't connect") + 3))
        pool.logs("can't connect.*(timed out|time)")
        assert newcomer.silent()
        assert idle.silent()
        fake.return_()
        assert kinds(idle.until()) == "TDCZ"
        assert kinds(newcomer.until())[-1] == "Z"


LASTING = {
    "invalid_password": ("28P01", 'password authentication failed for user "app"'),
    "no pg_hba.conf entry": ("28000", 'no pg_hba.conf entry for host "127.0.0.1"'),
    "no database": ("3D000", 'database "app" does not exist'),
    "no right to connect": ("42501", 'permission denied for database "app"'),
    "no connections allowed": ("55000", 'database "app" is not currently accepting connections'),
    "protocol": ("0A000", "unsupported frontend protocol"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_told_at_once(pooler: MakePooler, name: str) -> None:
    sqlstate, text = LASTING[name]
    away = Away()
    with FakeServer(away.script) as fake:
        pool = pooler(fake, workers=1, **PATIENT)
        idle = pool.wire()
        assert idle.one("SELECT 1") == "fake"
        away.leave(after(b"", says(error("FATAL", sqlstate, text))))
        eventually(lambda: pool.pool()["sv_idle"] == 0)
        idle.send(m.query("SELECT 1"))
        said = error_in(idle.rest())
        assert (said["S"], said["C"]) == ("FATAL", sqlstate)
        assert said["M"].endswith(text)
        # A pool that is known to fail lets nobody in, nor asks its server each time.
        tries = fake.accepted
        told = []
        for _ in range(20):
            with pytest.raises(ServerError) as refused:
                pool.wire()
            assert refused.value.sqlstate == sqlstate
            told.append(refused.value.text)
        assert fake.accepted - tries <= 10
        cached = [one for one in told if one.startswith("server login has been failing, cached error: ")]
        assert cached
        assert all(one.endswith(f"{text} (server_login_retry)") for one in cached)
        away.trouble = None
        eventually(lambda: is_served(pool))


def is_served(pool: Pooler) -> bool:
    """Does a new client get in now?"""
    try:
        return pool.wire().one("SELECT 1") == "fake"
    except ServerError:
        return False


def test_query_wait_timeout_says_what_the_server_said(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, workers=1, query_wait_timeout=1)
    idle = pool.wire()
    own_cluster.server.stop()
    idle.send(m.query("SELECT 1"))
    said = error_in(idle.rest())
    assert (said["S"], said["C"], said["M"]) == ("FATAL", "08P01", "query_wait_timeout")
    assert "last error: could not connect to server" in said["D"]
    assert "Connection refused" in said["D"]
    # Who is not let in yet is told that in the first place.
    said = error_in(login_of(pool, timezone="Etc/GMT+1").rest())
    assert (said["S"], said["C"]) == ("FATAL", "08001")
    assert "Connection refused" in said["M"]
    assert "query_wait_timeout" in said["D"]
    pool.logs("query_wait_timeout, last error: could not connect to server")


def login_of(pool: Pooler, **parameters: str) -> Wire:
    """A connection that has said who it is, and waits."""
    wire = pool.dial()
    wire.hello("app", "app", **parameters)
    return wire


def test_query_wait_timeout_of_a_full_pool_says_no_more(pooler: MakePooler) -> None:
    pool = pooler(workers=1, default_pool_size=1, query_wait_timeout=0.5)
    holder, waiting = pool.wire(), pool.wire()
    holder.run("BEGIN")
    waiting.send(m.query("SELECT 1"))
    assert "last error" not in error_in(waiting.rest())["D"]


def test_login_that_takes_too_long_is_told_that_the_server_is_down(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, workers=1, client_login_timeout=1)
    assert pool.wire().one("SELECT 1") == "1"
    own_cluster.server.stop()
    said = error_in(login_of(pool, timezone="Etc/GMT+1").rest())
    assert (said["C"], said["M"]) == ("08P01", "client_login_timeout (server down)")
    assert "Connection refused" in said["D"]


def test_logins_are_told_once_the_server_is_away_for_long(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, workers=1, query_wait_notify=0)
    idle = pool.wire()
    own_cluster.server.stop()
    idle.send(m.query("SELECT 1"))
    # The first waits as long as a restart may take.
    said = error_in(login_of(pool, timezone="Etc/GMT+1").rest())
    assert (said["S"], said["C"]) == ("FATAL", "08001")
    assert "Connection refused" in said["M"]
    # From now on all are told, whatever they ask for.
    for more in ({}, {"timezone": "Etc/GMT+2"}):
        said = error_in(login_of(pool, **more).rest())
        assert said["C"] == "08001"
        assert said["M"].startswith("server login has been failing, cached error: could not connect to server")
        assert said["M"].endswith("Connection refused (server_login_retry)")
    # But who was let in before waits on.
    assert idle.silent()
    own_cluster.server.launch()
    assert idle.until()[1].row == [b"1"]
    assert pool.wire().one("SELECT 1") == "1"


def test_many_wait_while_one_server_lives_and_are_told_by_notice(pooler: MakePooler) -> None:
    full = error("FATAL", "53300", "sorry, too many clients already")

    def script(peer: Peer) -> None:
        peer.startup()
        if peer.number > 1:
            peer.send(full)
            return
        peer.send(WELCOME)
        status = b"I"
        while True:
            kind, body = peer.message()
            if not kind:
                return
            status = b"T" if b"BEGIN" in body else b"I" if b"COMMIT" in body else status
            peer.send(columns("fake"), row("fake"), complete("SELECT 1"), m.message("Z", status))

    with FakeServer(script) as fake:
        pool = pooler(fake, workers=1, default_pool_size=5, query_wait_notify=0.3)
        holder, *others = [pool.wire() for _ in range(6)]
        holder.run("BEGIN")
        for wire in others:
            wire.send(m.query("SELECT 1"))
        for wire in others:
            notice = wire.message()
            assert notice.kind == "N"
            assert notice.fields["M"].startswith("No server connection available in postgres backend")
            assert notice.fields["D"] == "last error: sorry, too many clients already"
        with Meanwhile(lambda: pool.wire(timezone="Etc/GMT+1").one("SELECT 1")) as login:
            eventually(lambda: pool.pool()["cl_waiting"] >= 5)
            holder.run("COMMIT")
            assert [kinds(wire.until()) for wire in others] == ["TDCZ"] * 5
            assert login.result() == "fake"


def test_login_whose_server_is_lost_meanwhile_gets_another(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        if not peer.welcome():
            return
        if peer.number > 2:
            peer.serve()
        else:
            peer.until("Q")  # the client's startup parameters are tried, and this server dies of it

    with FakeServer(script) as fake:
        pool = pooler(fake, workers=1, default_pool_size=1)
        assert pool.wire(timezone="Etc/GMT+1").one("SELECT 1") == "fake"


def test_login_whose_servers_are_all_lost_is_told(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        if peer.welcome():
            peer.until("Q")

    with FakeServer(script) as fake:
        pool = pooler(fake, workers=1, default_pool_size=1)
        with pytest.raises(ServerError, match="08006: server conn crashed"):
            pool.wire(timezone="Etc/GMT+1")


@pytest.mark.parametrize(
    "answer",
    [m.message("D", body) for body in (b"", b"\0\5\0\0", b"\0\1\0\0\0\x09x")] + [b"D\xff\xff\xff\xff", bytes(5)],
)
def test_malformed_answer_during_a_login_is_the_servers_fault(pooler: MakePooler, answer: bytes) -> None:
    def script(peer: Peer) -> None:
        if peer.welcome():
            while peer.until("Q"):
                peer.send(answer, complete("SELECT 1"), m.message("Z", b"I"))

    with FakeServer(script) as fake:
        pool = pooler(fake, workers=1)
        with pytest.raises(ServerError, match="08P01: server sent a malformed message"):
            pool.wire(timezone="Etc/GMT+1")
        pool.logs("warning.*server sent a malformed message")
        assert "bug:" not in pool.log


# Its name can't be resolved yet, as where a pooler starts before the name servers that it needs.

RESOLVER = """
import pathlib
import socket

asked = socket.getaddrinfo


def getaddrinfo(host, *rest, **more):
    told = pathlib.Path({hosts!r}).read_text() if host == "db.example" else host
    if told.startswith("EAI_"):
        raise socket.gaierror(getattr(socket, told), "no address yet")
    return asked(told, *rest, **more)


socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.parametrize("problem", ["EAI_NONAME", "EAI_AGAIN"])
def test_host_name_that_is_known_later_needs_no_restart(
    pooler: MakePooler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Who logs in before is told why; who does afterwards is served, and neither is anything reloaded."""
    hosts = tmp_path / "hosts"
    hosts.write_text(problem)
    (tmp_path / "sitecustomize.py").write_text(RESOLVER.format(hosts=str(hosts)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = pooler(databases={"app": {"host": "db.example"}}, dns_nxdomain_ttl=0.1, workers=2)
    for _ in range(4):
        with pytest.raises(ServerError) as refused:
            pool.wire()
        assert refused.value.sqlstate == "08001"
        assert 'could not translate host name "db.example" to address: no address yet' in str(refused.value)
    known = tmp_path / "known"
    known.write_text("127.0.0.1")
    known.rename(hosts)

    def served() -> bool:
        try:
            return pool.wire().one("SELECT 1") == "1"
        except ServerError:
            return False

    # In each worker after its next attempt.
    eventually(lambda: all(served() for _ in range(8)))
    assert "bug:" not in pool.log
