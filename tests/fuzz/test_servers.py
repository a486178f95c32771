"""Servers that answer anything: their clients get an error or what was answered, others notice nothing."""

import contextlib
from random import Random

import pytest

import harness.messages as m
from conftest import MakePooler
from fuzz.mutation import SEED, TIMES, mutated
from harness import fake
from harness.crowd import together
from harness.fake import FakeServer, Peer
from harness.wire import Closed, ServerError, Wire

ROUNDS = 20 * TIMES
TOGETHER = 8

LOGIN = [
    fake.AUTHENTICATION_OK,
    *(fake.parameter(*pair) for pair in fake.PARAMETERS.items()),
    fake.key_data(),
    fake.READY,
]
ANSWERS = [
    [fake.columns("fake"), fake.row("fake"), fake.complete("SELECT 1"), fake.READY],
    [fake.error("ERROR", "22012", "division by zero"), fake.READY],
    [fake.parameter("TimeZone", "Asia/Tokyo"), fake.complete("SET"), fake.READY],
    [m.message("G", b"\0\0\0"), m.message("E", b"\0"), fake.READY],
    [m.message("H", b"\0\0\0"), m.message("d", b"1\n"), m.message("c"), fake.complete("COPY 1"), fake.READY],
    [m.message("A", b"\0\0\0\1channel\0payload\0"), m.message("N", b"SNOTICE\0C00000\0Mhello\0\0"), fake.READY],
    [
        m.message("1"),
        m.message("2"),
        m.message("n"),
        m.message("t", b"\0\0"),
        m.message("I"),
        m.message("3"),
        fake.READY,
    ],
]


class Liar:
    """A script for FakeServer: what it says is right but for a few bytes; a seed decides which."""

    def __init__(self, seed: int, login: bool) -> None:
        self.random = Random(seed)
        self.login = login

    def __call__(self, peer: Peer) -> None:
        if not peer.startup():
            return
        peer.send(mutated(self.random, LOGIN) if self.login else b"".join(LOGIN))
        while peer.until("QS"):
            peer.send(mutated(self.random, self.random.choice(ANSWERS)))


@pytest.mark.parametrize("login", [True, False], ids=["login", "answers"])
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_hostile_servers_disturb_nobody(pooler: MakePooler, login: bool, protocol: str) -> None:
    with FakeServer(Liar(SEED, login)) as server:
        pool = pooler(
            databases={"app": {"port": server.port}, "other": {}},
            default_pool_size=TOGETHER,
            query_timeout=1,
            query_wait_timeout=1,
            server_connect_timeout=1,
            server_login_retry=0.05,
            client_login_timeout=2,
            log_connections=False,
            log_disconnections=False,
        )
        before = [worker.pid for worker in pool.workers()]
        said = m.query("SELECT 1")
        if protocol == "extended":
            said = m.parse("s", "SELECT 1") + m.describe_statement("s") + m.bind("", "s") + m.execute() + m.SYNC

        def client(number: int) -> None:
            with contextlib.suppress(Closed, ServerError, OSError), Wire.dial(pool.address, patience=5) as wire:
                wire.login("app", "app")
                for _ in range(3):
                    wire.send(said)
                    wire.until()

        bystander = pool.wire("app2", "other")
        for _ in range(ROUNDS):
            together(TOGETHER, client)
            assert bystander.one("SELECT 'mine'") == "mine"
        assert [worker.pid for worker in pool.workers()] == before
        assert "bug" not in pool.log
