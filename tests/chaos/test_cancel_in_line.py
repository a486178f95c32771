"""A cancel that comes while its client waits in line holds for the query that waits, however soon it gets a server."""

import threading

import harness.messages as m
from conftest import MakePooler
from harness.fake import READY, FakeServer, Peer, complete, error
from harness.waiting import eventually
from harness.wire import Wire, error_in, kinds

TURNS = 40


def test_cancel_of_a_query_in_line(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, workers=1)
    with pool.wire() as holder, pool.wire() as client:
        client.sock.settimeout(5)
        for turn in range(TURNS):
            holder.run("BEGIN")
            sleep = "SELECT pg_sleep(60)"
            if turn % 2:
                client.send(m.query(sleep))
            else:
                client.send(m.parse("", sleep), m.bind("", ""), m.execute(), m.SYNC)
            eventually(lambda: pool.pool()["cl_waiting"] == 1, what="the client in line")
            with Wire.dial(pool.address) as cancel:
                cancel.send(m.cancel_request(client.pid, client.key))
                assert cancel.ends()
            holder.run("COMMIT")
            try:
                read = client.until("Z")
            except TimeoutError:
                raise AssertionError(f"turn {turn}: still not cancelled") from None
            assert error_in(read)["C"] == "57014", kinds(read)
            assert client.one("SELECT 'goes on'") == "goes on"


def test_cancel_in_line_is_not_for_the_next_query(pooler: MakePooler) -> None:
    """The query that waited is over before it can be cancelled: what its client asks next goes on."""
    pool = pooler(default_pool_size=1, workers=1)
    with pool.wire() as holder, pool.wire() as client:
        for _ in range(TURNS // 2):
            holder.run("BEGIN")
            client.send(m.query("SELECT 1"))
            eventually(lambda: pool.pool()["cl_waiting"] == 1, what="the client in line")
            with Wire.dial(pool.address) as cancel:
                cancel.send(m.cancel_request(client.pid, client.key))
                assert cancel.ends()
            holder.run("COMMIT")
            client.until("Z")
            assert kinds(client.ask("SELECT pg_sleep(0.05)")) == "TDCZ"


class Slow:
    """A server that reads a query so late that it ignores all that cancels it but the `heeded`-th attempt."""

    def __init__(self, heeded: int) -> None:
        self.heeded = heeded
        self.attempts = 0
        self.cancelled = threading.Event()
        self.released = threading.Event()

    def script(self, peer: Peer) -> None:
        """One connection: a login, or a CancelRequest."""
        if not peer.welcome():
            self.attempts += 1
            if self.attempts == self.heeded:
                self.cancelled.set()
            return
        while (message := peer.message())[0]:
            if b"hold" in message[1]:
                self.released.wait(30)
            if b"pg_sleep" in message[1] and self.cancelled.wait(30):
                peer.send(error("ERROR", "57014", "canceling statement due to user request"), READY)
            else:
                peer.send(complete("SELECT 0"), READY)


def test_cancel_in_line_is_repeated_until_the_query_ends(pooler: MakePooler) -> None:
    slow = Slow(heeded=3)
    with FakeServer(slow.script) as fake:
        pool = pooler(fake, default_pool_size=1, workers=1)
        with pool.wire() as holder, pool.wire() as client:
            holder.send(m.query("SELECT 'hold'"))
            eventually(lambda: pool.pool()["sv_active"] == 1, what="the holder at work")
            client.send(m.query("SELECT pg_sleep(60)"))
            eventually(lambda: pool.pool()["cl_waiting"] == 1, what="the client in line")
            with Wire.dial(pool.address) as cancel:
                cancel.send(m.cancel_request(client.pid, client.key))
                assert cancel.ends()
            slow.released.set()
            assert error_in(client.until("Z"))["C"] == "57014"
            # What is asked next is not for any of the attempts.
            assert kinds(client.ask("SELECT 1")) == "CZ"
    assert slow.attempts == 3
