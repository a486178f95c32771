"""What the listening connection says is taken apart however it is cut, and a server that falls silent is noticed."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from parity.frontend import message
from pglido.config.model import Config, Database
from pglido.worker.pubsub.listen_connection import PING, ListenConnection
from pglido.worker.pubsub.senders import Senders


def note(text: bytes) -> bytes:
    """A NotificationResponse."""
    return message("A", b"\0\0\0\1a\0" + text + b"\0")


READY = message("Z", b"I")
FAILED = message("E", b"SERROR\0C42601\0Mno\0\0")
STATUS = message("S", b"TimeZone\0Asia/Tokyo\0")


class Backend:
    """A link as the listening connection sees it."""

    def __init__(self) -> None:
        self.inbox: bytes | None = None
        self.eof = False
        self.waiter: Any = None
        self.reported = {"TimeZone": "UTC"}


class World:
    """A `ListenConnection` with a link, and all that it tells the hub."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[bytes] = []
        self.told: list[Any] = []
        self.server = Backend()
        runtime: Any = type("Live", (), {"key": ("d", "u")})()
        runtime.settings = Config(databases={"d": Database(server_connect_timeout=5.0)}).pool("d", "u")
        self.transport = self
        self.senders = Senders(None)
        self.listen_connection = ListenConnection(self, runtime, self)  # type: ignore[arg-type]
        self.listen_connection._begin(self.server)  # type: ignore[arg-type]
        assert self.sent == [message("Q", b"LISTEN _pglido_sender\0")]
        self.say(READY)
        assert self.told == [("answered", "")]
        self.sent, self.told = [], []

    # As the lifecycle and its transport.

    def send(self, link: Any, data: bytes) -> None:
        self.sent.append(data)

    def collect(self, link: Any) -> None:
        pass

    def watch(self, link: Any) -> None:
        pass

    def close_server(self, server: Any, why: str) -> None:
        self.told.append(("closed", why))

    # As the hub.

    def opened(self) -> None:
        pass

    def heard(self, notes: list[bytes]) -> None:
        self.told += notes

    def answered(self, error: str) -> None:
        self.told.append(("answered", error))

    def lost(self) -> None:
        self.told.append("lost")

    # As the server.

    def say(self, data: bytes) -> None:
        self.server.inbox = data
        waiter, self.server.waiter = self.server.waiter, None
        waiter()


@given(st.lists(st.sampled_from([note(b"1"), note(b"x" * 50), READY, FAILED, STATUS]), max_size=12), st.data())
def test_the_same_however_it_is_cut(said: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(said)
    whole, cut = World(), World()
    whole.say(stream)
    marks = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    for start, stop in zip([0, *marks], [*marks, len(stream)], strict=True):
        cut.say(stream[start:stop])
    assert cut.told == whole.told
    assert cut.server.reported == whole.server.reported


@pytest.mark.parametrize("bad", [b"A\0\0\0\3", b"A\xff\xff\xff\xff", b"\0\0\0\0\0", b"HTTP/1.1 400"])
def test_what_is_no_postgresql_is_left(bad: bytes) -> None:
    world = World()
    world.say(note(b"1") + bad)
    assert world.told[-1] == "lost"
    assert world.listen_connection.server is None


def test_the_end_of_the_connection() -> None:
    world = World()
    world.server.eof = True
    world.say(note(b"1") + message("E", b"SFATAL\0C57P01\0Mgoodbye\0\0"))
    assert world.told == [note(b"1"), ("closed", "goodbye (SQLSTATE 57P01)"), "lost"]


def test_a_bug_in_the_hub_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.heard = None  # type: ignore[method-assign, assignment]
    world.say(note(b"1"))
    assert world.told[-1] == "lost"
    assert "bug" in caplog.text


def test_a_silent_server_is_asked_and_given_up() -> None:
    world = World()
    world.listen_connection.tick(world.now + PING)
    assert world.sent == []
    world.now += PING + 1
    world.listen_connection.tick(world.now)
    assert world.sent == [message("Q", b"\0")]
    assert not world.listen_connection.ready
    world.say(message("I") + READY)
    assert world.listen_connection.ready
    world.listen_connection.tick(world.now + PING)
    world.now += PING + 1
    world.listen_connection.tick(world.now)
    world.listen_connection.tick(world.now + 5)
    assert world.told == [("answered", "")]
    world.listen_connection.tick(world.now + 5.1)
    assert world.told[-1] == "lost"


def test_a_server_that_goes_on_talking_is_there() -> None:
    world = World()
    world.listen_connection.ask(b"LISTEN a")
    world.now += 4
    world.say(note(b"1"))
    world.listen_connection.tick(world.now + 4)
    assert world.told == [note(b"1")]
