"""Servers are opened at the first host that has one for us; what fails is told to those whom it concerns."""

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.fake import AUTHENTICATION_OK, PARAMETERS, WELCOME, FakeServer, Peer, error
from harness.messages import message
from harness.waiting import eventually
from harness.worker_scene import DONE, Scene, scene_of
from pglido.auth.errors import LoginRefused, OtherVerifier
from pglido.config.enums import LoadBalance
from pglido.config.model import PoolSettings
from pglido.pooling.pool import ServerSlot
from pglido.pooling.states import IDLE
from pglido.protocol import messages
from pglido.session.state import parameters as _parameters
from pglido.worker.connections import ServerConnection
from pglido.worker.errors import CannotOpen
from pglido.worker.servers import connect
from pglido.worker.servers.connect import ServerConnector

Script = Callable[[Peer], None]


class World:
    """A connector, and what it asks of others."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.doubted: list[PoolSettings] = []
        self.hashed = 0
        self.connector = ServerConnector(scene.lifecycle, scene, self, self)
        self.runtime = scene.runtime()

    def doubt(self, pool: PoolSettings) -> None:
        self.doubted.append(pool)

    async def run_own(self, work: Callable[[], Any]) -> Any:
        self.hashed += 1
        return work()

    def slot(self, **startup_params: str) -> ServerSlot:
        """A place for one more server, which is to be opened with these parameters."""
        pool = self.runtime.pool
        pool.grant()
        slot = ServerSlot(pool, pool.limits.startup_params, self.scene.transport.now)
        if startup_params:
            slot.startup_params = slot.settings = _parameters.intern(startup_params)
        pool.slots[slot] = None
        pool.opening += 1
        return slot

    async def opened(self, slot: ServerSlot | None = None) -> ServerConnection:
        """A server that has logged in."""
        server = await self.scene.until(self.connector.log_in(self.runtime, slot or self.slot()))
        # In its first round it would be asked what functions there are.
        self.runtime.rules.functions.known = True
        return server


@pytest.fixture
def fakes() -> Iterator[Callable[[Script], FakeServer]]:
    """Makes servers, which end with the test."""
    made: list[FakeServer] = []

    def one(script: Script) -> FakeServer:
        made.append(FakeServer(script))
        made[-1].__enter__()
        return made[-1]

    yield one
    for fake in made:
        fake.__exit__(None, None, None)


def welcomes(peer: Peer) -> None:
    """Logs in whoever comes, and answers."""
    if peer.welcome():
        peer.serve()


def says(*parts: bytes) -> Script:
    """Says this to a StartupMessage, and hangs up."""

    def script(peer: Peer) -> None:
        peer.startup()
        peer.send(*parts)

    return script


def at(*ports: int, **options: Any) -> Any:
    """A scene whose database is at these ports."""
    return scene_of(host=("127.0.0.1",) * len(ports), port=ports, **options)


async def test_a_server_that_logged_in_is_known_by_what_it_said(fakes: Callable[[Script], FakeServer]) -> None:
    fake = fakes(welcomes)
    with at(fake.port) as scene:
        world = World(scene)
        slot = world.slot()
        server = await world.opened(slot)
        assert slot.server is server
        assert list(scene.lifecycle.servers) == [server]
        assert (server.pid, server.key, server.address) == (4711, b"abcd", f"127.0.0.1:{fake.port}")
        assert server.reported == PARAMETERS
        assert server.session.state.version == 18
        assert world.runtime.base == PARAMETERS
        assert world.hashed == 0


async def test_a_server_that_began_with_parameters_has_them_as_it_spells_them(
    fakes: Callable[[Script], FakeServer],
) -> None:
    asked: list[bytes] = []

    def script(peer: Peer) -> None:
        asked.append(peer.startup())
        peer.send(WELCOME)
        peer.serve()

    fake = fakes(script)
    with at(fake.port) as scene:
        world = World(scene)
        server = await world.opened(world.slot(timezone="utc", work_mem="1MB"))
        assert b"timezone\0utc\0work_mem\0001MB\0user\0joe\0database\0app\0" in asked[0]
        # TimeZone is reported, work_mem is not.
        assert server.session.state.home.values == {"timezone": "UTC", "work_mem": "1MB"}
        assert server.session.state.settings is server.session.state.home


# What fails.


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([error("FATAL", "3D000", "no such database")], ("3D000", "no such database")),
        ([error("FATAL", "28P01", "wrong")], ("28P01", "server login failed: wrong")),
        ([error("FATAL", "53300", "too many clients")], ("53300", "too many clients")),
        ([error("FATAL", "strange", "x" * 2000)], ("08006", "x" * 1000)),
        ([], ("08006", "server {} closed the connection during login")),
        ([AUTHENTICATION_OK], ("08006", "server {} closed the connection during login")),
        ([message("R", b"x")], ("08P01", "server {} sent a malformed message during login: authentication request")),
        (
            [message("S", b"a\0b\0")],
            ("08P01", "server {} sent a malformed message during login: type 0x53 before authentication"),
        ),
        (
            [AUTHENTICATION_OK, message("Z", b"T")],
            ("08P01", "server {} sent a malformed message during login: ReadyForQuery of a transaction"),
        ),
        (
            [AUTHENTICATION_OK, message("K", b"short")],
            ("08P01", "server {} sent a malformed message during login: BackendKeyData"),
        ),
        (
            [AUTHENTICATION_OK, message("T", b"")],
            ("08P01", "server {} sent a malformed message during login: type 0x54"),
        ),
        (
            [b"R\x7f\xff\xff\xff"],
            ("08P01", "server {} sent a malformed message during login: invalid message length 2147483647"),
        ),
        # A postmaster that can't fork, in protocol 2.0.
        ([b"Ecould not fork\n\0"], ("53000", "could not fork")),
    ],
)
async def test_what_a_server_says_instead_of_letting_us_in(
    fakes: Callable[[Script], FakeServer], said: list[bytes], told: tuple[str, str]
) -> None:
    fake = fakes(says(*said))
    with at(fake.port) as scene:
        world = World(scene)
        with pytest.raises(CannotOpen) as failed:
            await world.opened()
        assert (failed.value.sqlstate, str(failed.value)) == (told[0], told[1].format(f"127.0.0.1:{fake.port}"))
        assert scene.lifecycle.servers == {}


@pytest.mark.parametrize(
    ("sqlstate", "params", "concerns"),
    [
        ("42704", {"no_such_thing": "1"}, True),
        ("22023", {"timezone": "nowhere"}, True),
        ("42501", {}, False),
        ("3D000", {"timezone": "UTC"}, False),
        ("53300", {"timezone": "UTC"}, False),
    ],
)
async def test_what_a_client_asked_for_is_its_own_fault(
    fakes: Callable[[Script], FakeServer], sqlstate: str, params: dict[str, str], concerns: bool
) -> None:
    fake = fakes(says(error("FATAL", sqlstate, "no")))
    with at(fake.port) as scene:
        world = World(scene)
        with pytest.raises(LoginRefused if concerns else CannotOpen):
            await world.opened(world.slot(**params))


# Several hosts.


def nobody() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_the_next_host_is_tried_and_kept(fakes: Callable[[Script], FakeServer]) -> None:
    fake = fakes(welcomes)
    with at(nobody(), fake.port, load_balance_hosts=LoadBalance.DISABLE) as scene:
        world = World(scene)
        for _ in range(2):
            assert (await world.opened()).address == f"127.0.0.1:{fake.port}"
            assert world.runtime.turn == 1


async def test_hosts_take_turns(fakes: Callable[[Script], FakeServer]) -> None:
    ports = [fakes(welcomes).port, fakes(welcomes).port]
    with at(*ports, load_balance_hosts=LoadBalance.ROUND_ROBIN) as scene:
        world = World(scene)
        found = [(await world.opened()).address for _ in range(3)]
        assert found == [f"127.0.0.1:{port}" for port in (*ports, ports[0])]


async def test_what_lasts_is_not_tried_at_the_next_host(fakes: Callable[[Script], FakeServer]) -> None:
    first, second = fakes(says(error("FATAL", "3D000", "no such database"))), fakes(welcomes)
    with at(first.port, second.port) as scene:
        with pytest.raises(CannotOpen):
            await World(scene).opened()
        assert second.accepted == 0


async def test_a_host_that_says_nothing_is_given_up(fakes: Callable[[Script], FakeServer]) -> None:
    """The script ends with the connection: `until` returns at its end."""

    def silent(peer: Peer) -> None:
        peer.startup()
        peer.until("Q")

    fake = fakes(silent)
    with at(fake.port, server_connect_timeout=0.05) as scene:
        with pytest.raises(CannotOpen) as failed:
            await World(scene).opened()
        text = f"could not connect to server 127.0.0.1:{fake.port}: timeout expired"
        assert (failed.value.sqlstate, str(failed.value)) == ("08001", text)
        assert scene.lifecycle.servers == {}


async def test_a_bug_is_logged_and_told_as_one(caplog: pytest.LogCaptureFixture) -> None:
    with at(1) as scene:
        world = World(scene)
        world.runtime.names = None  # type: ignore[assignment]
        with pytest.raises(CannotOpen) as failed:
            await world.opened()
        assert failed.value.sqlstate == "XX000"
        assert "bug: opening a server failed" in caplog.text


# Passwords.


def md5(password: str, salt: bytes) -> bytes:
    """PostgreSQL's answer to an MD5 challenge, for "joe"."""
    inner = hashlib.md5(f"{password}joe".encode()).hexdigest().encode()
    return b"md5" + hashlib.md5(inner + salt).hexdigest().encode() + b"\0"


@pytest.mark.parametrize(("known", "ends"), [("secret", True), ("guess", False)])
async def test_a_password_is_proved(fakes: Callable[[Script], FakeServer], known: str, ends: bool) -> None:
    def script(peer: Peer) -> None:
        peer.startup()
        peer.send(message("R", struct.pack("!i", 5) + b"salt"))
        if peer.message() == ("p", md5("secret", b"salt")):
            peer.send(WELCOME)
            peer.serve()
        else:
            peer.send(error("FATAL", "28P01", "wrong"))

    fake = fakes(script)
    with at(fake.port) as scene:
        world = World(scene)
        world.runtime.secrets = {"joe": known}
        if ends:
            assert (await world.opened()).pid == 4711
        else:
            with pytest.raises(CannotOpen, match="server login failed: wrong"):
                await world.opened()


async def test_keys_are_derived_beside_the_loop(fakes: Callable[[Script], FakeServer]) -> None:
    """As far as the derivation; what comes then is for tests/unit/auth."""

    def script(peer: Peer) -> None:
        peer.startup()
        peer.send(message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        _, body = peer.message()
        nonce = body.partition(b",r=")[2]
        first = b"r=%bmore,s=%b,i=4096" % (nonce, os.urandom(12).hex().encode())
        peer.send(message("R", struct.pack("!i", 11) + first))
        peer.message()
        peer.send(error("FATAL", "28P01", "wrong"))

    fake = fakes(script)
    with at(fake.port) as scene:
        world = World(scene)
        world.runtime.secrets = {"joe": "secret"}
        with pytest.raises(CannotOpen, match="wrong"):
            await world.opened()
        assert world.hashed == 1


async def test_a_secret_that_is_not_the_servers_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    with at(1) as scene:
        world = World(scene)

        async def other(*args: Any) -> ServerConnection:
            raise OtherVerifier("28P01", "no", "another verifier")

        monkeypatch.setattr(world.connector, "_reach", other)
        with pytest.raises(CannotOpen, match="server login failed: another verifier"):
            await world.opened()
        assert world.doubted == [world.runtime.settings]


# What the pool is told.


async def test_an_opened_server_rests_in_its_pool(fakes: Callable[[Script], FakeServer]) -> None:
    fake = fakes(welcomes)
    with at(fake.port) as scene:
        world = World(scene)
        slot = world.slot()
        await scene.until(world.connector.open_server(world.runtime, slot))
        for _ in range(1000):
            if slot.state == IDLE:
                break
            scene.transport.turn(10)
            await asyncio.sleep(0)
        assert slot.state == IDLE
        assert world.runtime.pool.outage.problem is None


async def test_a_failure_is_told_to_the_pool_and_to_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    port = nobody()
    with at(port) as scene:
        world = World(scene)
        for _ in range(3):
            await scene.until(world.connector.open_server(world.runtime, world.slot()))
            await scene.turn()
        problem = world.runtime.pool.outage.problem
        assert problem is not None
        assert problem[0] == "08001"
        assert world.runtime.pool.slots == {}
        assert len([record for record in caplog.records if "can't connect" in record.getMessage()]) == 1


async def test_what_is_a_clients_own_fault_is_told_to_it_alone(fakes: Callable[[Script], FakeServer]) -> None:
    fake = fakes(says(error("FATAL", "22023", "invalid value for parameter")))
    with at(fake.port) as scene:
        world = World(scene)
        pool = world.runtime.pool
        slot = world.slot(timezone="nowhere")
        other, _ = scene.client()
        other.ticket = pool.wait(other, pool.limits.startup_params, _parameters.EMPTY, scene.transport.now)
        client, far = scene.client()
        client.ticket = pool.wait(client, slot.startup_params, _parameters.EMPTY, scene.transport.now)
        await scene.until(world.connector.open_server(world.runtime, slot))
        await scene.turn()
        said = far.heard()
        assert messages.report_fields(said[5:])["C"] == "22023"
        assert far.ended()
        assert not other.closed
        assert pool.outage.problem is None


# Cancels.


async def cancelled(
    fakes: Callable[[Script], FakeServer], meanwhile: Callable[[Scene, Any], None]
) -> tuple[list[bytes], ServerConnection]:
    """What is heard of a cancel, `meanwhile` something happens; and the server that it was for."""
    heard: list[bytes] = []

    def script(peer: Peer) -> None:
        heard.append(peer.sock.recv(100))

    fake = fakes(script)
    with at(fake.port) as scene:
        world = World(scene)
        server, backend = scene.server()
        client, frontend = scene.client()
        frontend.say(messages.query("SELECT 1"))
        await scene.turn()
        server.key = b"key"
        (server.place,) = await world.runtime.names.find("127.0.0.1", fake.port)
        server.cancels = 1
        job = asyncio.get_running_loop().create_task(world.connector.send_cancel(server))
        await asyncio.sleep(0)
        meanwhile(scene, client)

        async def over() -> None:
            await job

        await scene.until(over())
        assert server.cancels == 0
        assert not server.slot.doomed
        backend.say(DONE)
        await scene.turn()
        # The fake hears it in a thread of its own.
        eventually(lambda: heard)
    return heard, server


async def test_a_cancel_goes_to_the_server_that_it_is_for(fakes: Callable[[Script], FakeServer]) -> None:
    heard, _ = await cancelled(fakes, lambda scene, client: None)
    assert heard == [messages.cancel_request(4711, b"key")]


async def test_what_is_over_meanwhile_is_not_cancelled(fakes: Callable[[Script], FakeServer]) -> None:
    """The cancel would hit what the client asks next."""

    def asks_again(scene: Scene, client: Any) -> None:
        client.asked += 1.0

    heard, _ = await cancelled(fakes, asks_again)
    assert heard == [b""]


async def test_a_cancel_that_cannot_be_sent_may_still_arrive_so_nobody_else_gets_the_server() -> None:
    with at(1) as scene:
        world = World(scene)
        server, backend = scene.server()
        _, frontend = scene.client()
        frontend.say(messages.query("SELECT 1"))
        await scene.turn()
        (server.place,) = await world.runtime.names.find("127.0.0.1", nobody())
        server.cancels = 1
        await scene.until(world.connector.send_cancel(server))
        assert (server.cancels, server.slot.doomed) == (0, True)
        backend.say(DONE)
        await scene.turn()
        assert server.closed


def test_all_sockets_get_the_options_of_the_configuration() -> None:
    with scene_of({"tcp_keepidle": 1.2, "tcp_user_timeout": 0.5, "tcp_socket_buffer": 4096}) as scene:
        options = connect.keepalive_of(scene.config.settings)
        assert (options.idle, options.user_timeout, options.buffer) == (2, 500, 4096)
