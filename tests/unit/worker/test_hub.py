"""The server listens to just what clients listen to, each LISTEN is answered, and nobody misses what is his."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from parity.frontend import message
from pglido.config.model import Config, Database, OnLoss, PoolMode, Settings
from pglido.pooling.states import OPEN
from pglido.worker.connections import ClientConnection
from pglido.worker.pubsub.hub import Hub
from pglido.worker.pubsub.notifications import sifted

READY = message("Z", b"I")
STATEMENT = re.compile(rb'(UNLISTEN|LISTEN) "((?:[^"]|"")*)"')


def note(channel: bytes, payload: bytes = b"") -> bytes:
    """A NotificationResponse."""
    return message("A", b"\0\0\0\1" + channel + b"\0" + payload + b"\0")


class Relay:
    """What a hub asks of the relay and of the transport, for clients that have no server."""

    now = 0.0

    def __init__(self) -> None:
        self.sent: dict[ClientConnection, list[bytes]] = {}

    def notify(self, client: ClientConnection, data: bytes) -> int:
        client.notes = (client.notes or bytearray()) + data
        self.flush_notes(client)
        return len(client.notes or b"")

    def flush_notes(self, client: ClientConnection) -> None:
        if client.notes is not None and not client.holds:
            self.sent.setdefault(client, []).append(bytes(client.notes))
            client.notes = None

    def ready(self, client: ClientConnection) -> None:
        assert client.late
        client.late = False
        self.flush_notes(client)
        self.sent.setdefault(client, []).append(READY)


class Ear:
    """A connection whose server answers when the test says so."""

    last_error = staticmethod(lambda: "")

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.server: Any = None
        self.wanted = False
        self.asked: bytes | None = None
        self.channels: set[bytes] = set()

    @property
    def ready(self) -> bool:
        return self.server is not None and self.asked is None

    def answers(self, patience: float) -> bool:
        return self.server is not None

    def open(self) -> None:
        self.wanted = self.server is None

    def close(self, why: str) -> None:
        self.server = self.asked = None

    def ask(self, sql: bytes) -> None:
        assert self.ready
        self.asked = sql

    def tick(self, now: float) -> None:
        pass

    # What the test does.

    def connect(self) -> None:
        self.server = type("Backend", (), {"reported": {}})
        self.wanted = False
        self.asked = None
        self.channels = set()
        self.hub.opened()

    def answer(self, fails: bool = False) -> None:
        asked, self.asked = self.asked, None
        assert asked is not None
        if not fails:
            for verb, name in STATEMENT.findall(asked):
                name = name.replace(b'""', b'"')
                (self.channels.add if verb == b"LISTEN" else self.channels.discard)(name)
        self.hub.answered("it will not" if fails else "")

    def lose(self) -> None:
        self.close("")
        self.hub.lost()


class World:
    """A hub, its connection, and the event loop that it runs on."""

    def __init__(self, **database: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.transport = self.relay = Relay()
        self.killed: list[tuple[ClientConnection, str]] = []
        config = Config(settings=Settings(), databases={"d": Database(**database)})
        pool = type("Pool", (), {"clients": 0, "gate": OPEN})()
        pool = {"settings": config.pool("d", "u"), "key": ("d", "u"), "pool": pool, "signer": None}
        runtime = type("PoolRuntime", (), pool)()
        self.clients: dict[int, ClientConnection] = {}
        parts = {"relay": self.relay, "transport": self.relay, "kill": self.kill, "clients": self.clients}
        lifecycle: Any = type("Lifecycle", (), parts)()
        self.hub = Hub(lifecycle, runtime)  # type: ignore[arg-type]
        self.listen_connection = Ear(self.hub)
        self.hub.listen_connection = self.listen_connection  # type: ignore[assignment]

    def kill(self, client: ClientConnection, sqlstate: str, text: str, detail: str = "") -> None:
        self.killed.append((client, sqlstate))
        self.hub.leave(client)

    def client(self) -> ClientConnection:
        client = self.clients[len(self.clients)] = ClientConnection(-1, len(self.clients), "", 0.0)
        return client

    def end(self, client: ClientConnection) -> None:
        """A transaction of the client ends, as the relay says it."""
        client.late = self.inside(self.hub.catch_up, client, self.relay.ready)

    def turn(self) -> None:
        """Have done what is scheduled."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def inside(self, call: Any, *args: Any) -> Any:
        """Call with the loop running, and have done what that schedules."""

        async def job() -> Any:
            return call(*args)

        result = self.loop.run_until_complete(job())
        self.turn()
        return result

    def settle_down(self) -> None:
        """Connect and answer until nothing more is asked."""
        self.turn()
        while self.listen_connection.wanted or self.listen_connection.asked is not None:
            self.inside(
                self.listen_connection.connect
                if self.listen_connection.server is None
                else self.listen_connection.answer
            )

    def close(self) -> None:
        self.turn()
        self.loop.close()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A hub that nobody has asked for anything."""
    made = World(**getattr(request, "param", {}))
    yield made
    made.close()


def listens(world: World, client: ClientConnection, *channels: bytes) -> None:
    """A client LISTENs, and its transaction ends."""
    world.inside(world.hub.prepare, client, channels, lambda: None)
    world.settle_down()
    world.inside(world.hub.settle, client, world.hub.channels_of(client) | set(channels))
    world.settle_down()


def test_ready_once_the_server_has_acknowledged(world: World) -> None:
    client, told = world.client(), list[int]()
    assert not world.inside(world.hub.prepare, client, [b"a", b'b"'], lambda: told.append(1))
    world.inside(world.listen_connection.connect)
    assert world.listen_connection.asked == b'LISTEN "a";LISTEN "b"""'
    assert told == []
    world.inside(world.listen_connection.answer)
    assert told == [1]
    assert world.inside(world.hub.prepare, client, [b"a"], lambda: told.append(2))
    world.inside(world.hub.settle, client, frozenset({b"a"}))
    world.settle_down()
    assert world.listen_connection.channels == {b"a"}
    assert told == [1]


def test_thousands_go_out_together(world: World) -> None:
    told = list[int]()
    for number in range(5000):
        world.hub._turning = True  # as in one round of the relay
        world.hub.prepare(world.client(), [b"c%d" % number], lambda: told.append(1))
    world.hub._turning = False
    world.inside(world.hub._turn)
    world.inside(world.listen_connection.connect)
    batches = 0
    while world.listen_connection.asked is not None:
        world.inside(world.listen_connection.answer)
        batches += 1
    assert batches == 3
    assert len(told) == len(world.listen_connection.channels) == 5000


def test_one_that_fails_does_not_keep_the_others_waiting(world: World) -> None:
    told = list[bytes]()
    for name in (b"a", b"bad", b"c"):
        world.inside(world.hub.prepare, world.client(), [name], lambda name=name: told.append(name))
    world.inside(world.listen_connection.connect)
    while world.listen_connection.asked is not None:
        world.inside(world.listen_connection.answer, b"bad" in world.listen_connection.asked)
    assert sorted(told) == [b"a", b"bad", b"c"]
    assert world.listen_connection.channels == {b"a", b"c"}


def test_what_comes_before_the_transaction_ends_is_kept_and_sifted(world: World) -> None:
    client = world.client()
    listens(world, client, b"old", b"gone")
    world.inside(world.hub.prepare, client, [b"new", b"never"], lambda: None)
    world.settle_down()
    world.hub.heard([note(b"old", b"1"), note(b"gone"), note(b"new", b"2"), note(b"never")])
    world.hub.heard([note(b"old", b"3")])
    assert client not in world.relay.sent
    world.inside(world.hub.settle, client, frozenset({b"old", b"new"}))
    assert world.relay.sent[client] == [note(b"old", b"1") + note(b"new", b"2") + note(b"old", b"3")]
    world.settle_down()
    assert world.listen_connection.channels == {b"old", b"new"}


def test_who_waits_does_not_hear_what_others_were_sent_before(world: World) -> None:
    client, other, told = world.client(), world.client(), list[int]()
    listens(world, other, b"a")
    assert not world.inside(world.hub.prepare, client, [b"a"], lambda: told.append(1))
    assert world.listen_connection.asked == b'LISTEN "a"'
    world.hub.heard([note(b"a", b"older")])
    assert told == []
    world.settle_down()
    assert told == [1]
    world.hub.heard([note(b"a", b"newer")])
    world.inside(world.hub.settle, client, frozenset({b"a"}))
    assert world.relay.sent == {other: [note(b"a", b"older"), note(b"a", b"newer")], client: [note(b"a", b"newer")]}
    assert world.hub.counts.listens == 1


def test_who_leaves_while_it_waits_holds_nobody_up(world: World) -> None:
    client, other = world.client(), world.client()
    listens(world, other, b"a")
    world.inside(world.hub.prepare, client, [b"a"], lambda: None)
    world.inside(world.hub.leave, client)
    world.inside(world.hub.leave, other)
    world.settle_down()
    assert world.listen_connection.channels == set()
    assert world.hub.channels == {}


def test_one_payload_is_one_object_for_all(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    for client in clients:
        listens(world, client, b"a")
    world.hub.heard([note(b"a", b"x")])
    assert [world.relay.sent[client] for client in clients] == [[note(b"a", b"x")]] * 3
    assert world.hub.counts.delivered == 3
    assert len({id(world.hub.channels_of(client)) for client in clients}) == 1


def test_transactions_end_when_the_server_has_answered_what_it_was_asked_then(world: World) -> None:
    first, second = world.client(), world.client()
    for client in (first, second):
        listens(world, client, b"a")
    world.end(first)
    assert world.listen_connection.asked == b""
    world.end(second)
    world.inside(world.listen_connection.answer)
    assert world.relay.sent == {first: [READY]}
    assert world.listen_connection.asked == b""
    world.inside(world.listen_connection.answer)
    assert world.relay.sent == {first: [READY], second: [READY]}
    assert world.listen_connection.asked is None


def test_one_question_serves_all_who_wait(world: World) -> None:
    clients = [world.client() for _ in range(5)]
    for client in clients:
        listens(world, client, b"a")
    world.end(clients[0])
    for client in clients[1:]:
        world.end(client)
    listen_only = world.client()
    world.inside(world.hub.prepare, listen_only, [b"b"], lambda: None)
    world.inside(world.listen_connection.answer)
    assert world.listen_connection.asked == b'LISTEN "b"'
    world.inside(world.listen_connection.answer)
    assert world.relay.sent == {client: [READY] for client in clients}
    assert world.listen_connection.asked is None


@pytest.mark.parametrize("settles_first", [True, False])
def test_transaction_that_listened_ends_when_that_is_settled_too(world: World, settles_first: bool) -> None:
    client = world.client()
    world.inside(world.hub.prepare, client, [b"a"], lambda: None)
    world.settle_down()
    world.end(client)
    world.hub.heard([note(b"a", b"its own")])
    assert client.late
    steps = [
        lambda: world.inside(world.hub.settle, client, frozenset({b"a"})),
        lambda: world.inside(world.listen_connection.answer),
    ]
    steps[not settles_first]()
    assert client.late
    steps[settles_first]()
    assert not client.late
    assert world.relay.sent == {client: [note(b"a", b"its own"), READY]}


def test_nobody_waits_for_a_server_that_is_lost_or_silent(world: World) -> None:
    client, other = world.client(), world.client()
    listens(world, client, b"a")
    listens(world, other, b"a")
    world.end(client)
    world.inside(world.hub.tick, 0.9)
    assert client.late
    world.inside(world.hub.tick, 1.1)
    assert not client.late
    world.end(client)
    world.inside(world.hub.leave, other)
    world.inside(world.listen_connection.lose)
    assert not client.late
    world.end(client)
    assert not client.late
    assert world.relay.sent == {client: [READY, READY]}


def test_who_is_gone_is_waited_for_by_nobody(world: World) -> None:
    client = world.client()
    listens(world, client, b"a")
    world.end(client)
    client.late = False
    world.inside(world.hub.leave, client)
    world.settle_down()
    assert world.relay.sent == {}


def test_a_slow_client_is_disconnected(world: World) -> None:
    client = world.client()
    world.inside(world.hub.prepare, client, [b"a"], lambda: None)
    world.settle_down()
    for _ in range(200):
        world.inside(world.hub.heard, [note(b"a", bytes(7000))])
    assert world.killed == [(client, "57A03")]
    assert client.notes is None
    assert world.hub.counts.slow == 1


def test_loss_is_told_after_all_is_back(world: World) -> None:
    client, other = world.client(), world.client()
    listens(world, client, b"a")
    world.inside(world.listen_connection.lose)
    world.inside(world.hub.prepare, other, [b"b"], lambda: None)
    world.inside(world.listen_connection.connect)
    assert client not in world.relay.sent
    world.inside(world.listen_connection.answer)
    (warning,) = world.relay.sent[client]
    assert warning.startswith(b"N")
    assert b"C01000\0" in warning
    assert other not in world.relay.sent
    assert world.hub.counts.reconnects == 1


@pytest.mark.parametrize("world", [{"listen_on_loss": OnLoss.DISCONNECT}], indirect=True)
def test_loss_disconnects_who_listened(world: World) -> None:
    client, waiting = world.client(), world.client()
    listens(world, client, b"a")
    world.inside(world.hub.prepare, waiting, [b"b"], lambda: None)
    world.inside(world.listen_connection.lose)
    assert world.killed == [(client, "57P01")]
    world.settle_down()
    assert world.listen_connection.channels == {b"b"}


@pytest.mark.parametrize("world", [{"query_wait_timeout": 3.0}], indirect=True)
def test_nobody_waits_for_ever(world: World) -> None:
    client = world.client()
    world.inside(world.hub.prepare, client, [b"a"], lambda: None)
    world.hub.tick(2.9)
    assert not world.killed
    world.hub.tick(3.1)
    assert world.killed == [(client, "08P01")]
    assert not world.hub.channels


def test_kept_for_clients_of_a_listen_only_database(world: World) -> None:
    runtime: Any = world.hub.runtime
    assert not world.hub.wanted()
    runtime.pool.clients = 1
    assert not world.hub.wanted()
    runtime.settings = Config(databases={"d": Database(pool_mode=PoolMode.LISTEN)}).pool("d", "u")
    assert world.hub.wanted()


def test_only_notifications_are_sifted() -> None:
    notes = bytearray(note(b"a") + message("N", b"\0") + note(b"b"))
    assert sifted(notes, frozenset({b"b"})) == message("N", b"\0") + note(b"b")
    assert sifted(bytearray(note(b"a")), frozenset()) is None


NAMES = st.sampled_from([b"a", b"b", b'"', b"d"])


class Crowd(RuleBasedStateMachine):
    """Clients come, listen, leave, and the server answers, fails and is lost, in any order."""

    clients = Bundle("clients")

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.failed = False
        self.waiting: dict[ClientConnection, int] = {}
        self.channels: dict[ClientConnection, frozenset[bytes]] = {}

    @rule(target=clients)
    def comes(self) -> ClientConnection:
        client = self.world.client()
        self.channels[client] = frozenset()
        self.waiting[client] = 0
        return client

    @rule(client=clients, names=st.sets(NAMES, min_size=1))
    def prepares(self, client: ClientConnection, names: set[bytes]) -> None:
        def ready() -> None:
            self.waiting[client] -= 1
            assert names <= self.world.listen_connection.channels or self.failed

        self.waiting[client] += 1
        if self.world.inside(self.world.hub.prepare, client, sorted(names), ready):
            self.waiting[client] -= 1
            assert names <= self.world.listen_connection.channels or self.failed

    @rule(client=clients, names=st.sets(NAMES))
    def settles(self, client: ClientConnection, names: set[bytes]) -> None:
        self.waiting[client] = 0
        self.channels[client] = frozenset(names)
        self.world.inside(self.world.hub.settle, client, frozenset(names))

    @rule(client=consumes(clients))
    def leaves(self, client: ClientConnection) -> None:
        client.late = False
        self.world.inside(self.world.hub.leave, client)
        del self.channels[client]
        del self.waiting[client]

    @precondition(lambda self: self.world.listen_connection.wanted)
    @rule()
    def connects(self) -> None:
        self.world.inside(self.world.listen_connection.connect)

    @precondition(lambda self: self.world.listen_connection.asked is not None)
    @rule()
    def answers(self) -> None:
        self.world.inside(self.world.listen_connection.answer)

    @precondition(lambda self: self.world.listen_connection.asked is not None)
    @rule()
    def refuses(self) -> None:
        self.failed = True
        self.world.inside(self.world.listen_connection.answer, True)

    @precondition(lambda self: self.world.listen_connection.server is not None)
    @rule()
    def loses(self) -> None:
        self.world.inside(self.world.listen_connection.lose)

    @rule(client=clients)
    def ends(self, client: ClientConnection) -> None:
        if not client.late:
            self.world.end(client)

    @rule()
    def waits(self) -> None:
        self.world.transport.now += 0.4
        self.world.inside(self.world.hub.tick, self.world.transport.now)

    @rule(name=NAMES)
    def notifies(self, name: bytes) -> None:
        world = self.world
        world.relay.sent.clear()
        holding = {client: client.notes for client in self.channels if client.holds}
        world.hub.heard([note(name)])
        for client, channels in self.channels.items():
            if client in holding:
                assert client not in world.relay.sent
            else:
                assert (client in world.relay.sent) == (name in channels)

    @invariant()
    def nobody_is_known_who_does_not_listen(self) -> None:
        hub = self.world.hub
        for client, channels in self.channels.items():
            assert hub.channels_of(client) == channels
            assert client.listens >= bool(channels)
        assert set(hub.clients) == {client for client, channels in self.channels.items() if channels}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.comes_to_rest()
            finally:
                self.world.close()

    def comes_to_rest(self) -> None:
        """In the end everybody has an answer, and the server listens to what is wanted."""
        self.world.settle_down()
        assert not any(self.waiting.values())
        assert not [client for client in self.channels if client.late and not client.holds]
        if not self.failed:
            wanted = {name for channels in self.channels.values() for name in channels}
            held = {channel.name for channels in self.world.hub.held.values() for channel in channels}
            assert self.world.listen_connection.channels >= wanted | held
            assert set(self.world.hub.channels) == wanted | held


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
