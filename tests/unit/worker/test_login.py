"""The long way in: who gets what, who is told why not, and what holds when the configuration changes meanwhile."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from harness.worker_scene import CLIENTS, DONE, Far, Scene, scene_of
from pglido.auth.errors import refused
from pglido.config.enums import AuthType
from pglido.config.model import Config
from pglido.ipc.messages import Gates
from pglido.ipc.shared_counters import SharedCounter, SharedCounters
from pglido.protocol import codes, messages
from pglido.protocol.errors import PgError
from pglido.protocol.startup import Startup
from pglido.relay.stage import LISTENS
from pglido.session.state import parameters as _parameters
from pglido.session.transitions import IllegalTransition
from pglido.transport.stream import Gone, Unsafe
from pglido.worker.connections import ClientConnection
from pglido.worker.defaults import Welcome
from pglido.worker.listener_security import ListenerSecurity
from pglido.worker.login.credentials import UserDirectory
from pglido.worker.login.fast_path import FastLogin
from pglido.worker.login.login import Login

CODE = 196608
PLAIN = {False: ListenerSecurity(False, None, None), True: ListenerSecurity(True, None, None)}
WELCOME = Welcome(_parameters.EMPTY, _parameters.EMPTY, messages.parameter_status("server_version", "18.1"), None, 0)


def packet(user: str = "joe", database: str = "app", code: int = CODE, **more: str) -> bytes:
    """A StartupMessage."""
    return messages.startup(code, [("user", user), ("database", database), *more.items()])


def password(text: str) -> bytes:
    """A PasswordMessage."""
    return messages.message(codes.PASSWORD, text.encode() + b"\0")


class World:
    """A login, with a scene around it; the welcome of who asks for nothing particular is known."""

    def __init__(self, scene: Scene, **secrets: str) -> None:
        self.scene = scene
        self.asked: list[tuple[Any, ...]] = []
        self.hashed: list[str] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.users = UserDirectory(scene.lifecycle, scene, self.asked.append)
        self.secrets = {"joe": "", "boss": "", "watch": "", **secrets}
        self.fast_login = FastLogin(scene.lifecycle)
        self.login = Login(scene.lifecycle, self.fast_login, scene, self.users, self, self, self)
        self.fast_login.logins = self.login
        self.adopt(scene.config)
        runtime = scene.runtime()
        runtime.remember(_parameters.EMPTY, WELCOME)

    def adopt(self, config: Config) -> None:
        """A configuration comes into force."""
        self.scene.config = config
        self.users.adopt(config, {name: text.encode() for name, text in self.secrets.items()}, bytes(32))
        self.fast_login.adopt(config.settings, PLAIN, self.users)

    def request(self, pid: int, key: bytes, fd: int) -> None:
        self.asked.append(("cancel", pid, key))

    def open_console(self, client: ClientConnection, start: Startup, admin: bool) -> None:
        self.asked.append(("console", start.user, start.database, admin))

    async def run(self, address: str, work: Callable[[], Any]) -> Any:
        """As `Hashing`; whatever is to happen meanwhile happens."""
        self.hashed.append(address)
        for happens in self.meanwhile:
            happens()
        return work()

    async def arrives(self, data: bytes) -> tuple[ClientConnection, Far]:
        """A client that says this."""
        client, far = self.scene.stranger()
        client.listener = PLAIN[False]
        self.fast_login.wait(client)
        far.say(data)
        await self.scene.turn()
        return client, far


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of({"auth_type": AuthType.TRUST, "admin_users": ("boss",), "stats_users": ("watch",)}) as made:
        yield made


@pytest.fixture
def guarded() -> Iterator[Scene]:
    """One in which clients prove who they are by their passwords."""
    with scene_of({"auth_type": AuthType.PASSWORD, "admin_users": ("boss",)}) as made:
        yield made


def split(data: bytes) -> list[tuple[str, bytes]]:
    """Types and bodies of the messages in it."""
    found = []
    while data:
        size = 1 + int.from_bytes(data[1:5], "big")
        found.append((chr(data[0]), data[5:size]))
        data = data[size:]
    return found


def bad_certificate() -> ssl.SSLError:
    """A failed handshake, as OpenSSL tells of it."""
    error = ssl.SSLError(1, "[SSL: BAD_CERTIFICATE] no")
    error.reason = "BAD_CERTIFICATE"
    return error


def refusal(far: Far) -> tuple[str, str]:
    """SQLSTATE and text of the one thing that a client was told, at the end of its connection."""
    ((kind, body),) = split(far.heard())
    assert kind == "E"
    assert far.ended()
    fields = messages.report_fields(body)
    assert fields["S"] == "FATAL"
    return fields["C"], fields["M"]


# Welcome.


async def test_a_client_is_greeted_and_served_and_the_next_goes_the_fast_way(scene: Scene) -> None:
    world = World(scene)
    client, far = await world.arrives(packet())
    assert [kind for kind, _ in split(far.heard())] == ["R", "S", "K", "Z"]
    assert (client.user, client.login, client.runtime) == ("joe", None, scene.runtime())
    assert scene.runtime().pool.clients == 1
    assert list(world.fast_login.templates) == [packet()]
    _, backend = scene.server()
    far.say(messages.query("SELECT 1"))
    await scene.turn()
    assert backend.heard() == messages.query("SELECT 1")
    backend.say(DONE)
    await scene.turn()
    assert far.heard() == DONE


async def test_a_query_that_did_not_wait_for_the_welcome_is_served(scene: Scene) -> None:
    world = World(scene)
    _, backend = scene.server()
    await world.arrives(packet() + messages.query("SELECT 1"))
    assert backend.heard() == messages.query("SELECT 1")


@pytest.mark.parametrize("code", [CODE + 3, CODE + 2])
async def test_a_newer_protocol_is_negotiated_and_leaves_no_template(scene: Scene, code: int) -> None:
    world = World(scene)
    client, far = await world.arrives(packet(code=code))
    assert (split(far.heard())[0][0] == "v") == (code > CODE + 2)
    assert client.minor == 2
    assert bool(world.fast_login.templates) == (code == CODE + 2)


async def test_a_client_with_a_limit_of_its_own_leaves_no_template() -> None:
    """It is to be counted each time."""
    with scene_of({"auth_type": AuthType.TRUST}, max_db_client_connections=5) as scene:
        world = World(scene)
        client, _ = await world.arrives(packet())
        assert client.runtime is scene.runtime()
        assert len(client.claims) == 2
        assert scene.counters.count("db:app") == 1
        assert not world.fast_login.templates


@pytest.mark.parametrize("reloaded", [False, True])
async def test_a_client_let_in_during_a_reload_leaves_no_template(scene: Scene, reloaded: bool) -> None:
    """What it was let in on may be no more."""
    world = World(scene)
    _, backend = scene.server()
    said = packet(timezone="UTC")
    _, far = await world.arrives(said)
    assert b"timezone" in backend.heard()
    if reloaded:
        world.adopt(replace(scene.config))
    backend.say(DONE)
    await scene.turn()
    assert split(far.heard())[0][0] == "R"
    assert list(world.fast_login.templates) == ([] if reloaded else [said])


async def test_who_is_looked_up_during_a_reload_is_looked_up_again(
    guarded: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(guarded, joe="old")
    look_up = world.users.look_up
    looked: list[str] = []

    async def slowly(user: str, *more: Any) -> Any:
        found = await look_up(user, *more)
        looked.append(user)
        if len(looked) == 1:
            world.secrets["joe"] = "new"
            world.adopt(replace(guarded.config))
        return found

    monkeypatch.setattr(world.users, "look_up", slowly)
    _, far = await world.arrives(packet())
    far.heard()
    far.say(password("new"))
    await guarded.turn()
    assert split(far.heard())[-1][0] == "Z"
    assert looked == ["joe", "joe"]


async def test_a_client_that_hangs_up_meanwhile_takes_nothing_with_it(guarded: Scene) -> None:
    world = World(guarded, joe="secret")
    _, far = await world.arrives(packet())
    far.sock.close()
    await guarded.turn()
    assert guarded.lifecycle.clients == {}
    assert guarded.counters.total(CLIENTS) == 0


# Refusals.


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (packet(database="nowhere"), ("3D000", "no such database: nowhere")),
        (packet("joe", "pglido"), ("08P01", "not allowed")),
        (
            messages.startup(CODE, [("database", "app")]),
            ("28000", "no PostgreSQL user name specified in startup packet"),
        ),
        (packet(code=2 << 16), ("0A000", "unsupported frontend protocol 2.0: server supports 3.0 to 3.2")),
    ],
)
async def test_who_cannot_come_in_is_told_why(scene: Scene, said: bytes, told: tuple[str, str]) -> None:
    _, far = await World(scene).arrives(said)
    assert refusal(far) == told
    assert scene.lifecycle.clients == {}
    assert scene.counters.total(CLIENTS) == 0


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4\0\0\0\0", b"\0\0\0\7\0\3\0"])
async def test_what_is_no_postgresql_gets_no_word(scene: Scene, said: bytes) -> None:
    _, far = await World(scene).arrives(said)
    assert far.heard() == b""
    assert far.ended()


async def test_no_more_than_so_many_clients_of_a_database() -> None:
    with scene_of({"auth_type": AuthType.TRUST}, max_db_client_connections=2) as scene:
        other = SharedCounters.attach(scene.board.fd, 1)
        claims = other.claim([("db:app", 2)])
        world = World(scene)
        await world.arrives(packet())
        _, far = await world.arrives(packet())
        assert refusal(far) == ("08P01", "client connections exceeded (max_db_client_connections)")
        other.release(claims)
        other.leave()
        client, _ = await world.arrives(packet())
        assert client.runtime is scene.runtime()


async def test_a_disabled_database_lets_nobody_in() -> None:
    with scene_of({"auth_type": AuthType.TRUST}) as scene:
        world = World(scene)
        scene.gates = Gates(disabled=frozenset({"app"}))
        for _ in range(2):
            _, far = await world.arrives(packet())
            assert refusal(far) == ("55000", "database does not allow connections: app")
        assert scene.runtime().pool.clients == 0
        scene.gates = Gates(paused=frozenset({"app"}), disabled=frozenset({"other"}))
        client, _ = await world.arrives(packet())
        assert client.runtime is scene.runtime()


async def test_while_the_worker_drains_nobody_comes_in(scene: Scene) -> None:
    world = World(scene)
    scene.lifecycle.draining = True
    _, far = await world.arrives(packet())
    assert refusal(far) == ("57P03", "the database system is shutting down")


@pytest.mark.parametrize("logs", [True, False])
@pytest.mark.parametrize(
    ("error", "told", "line"),
    [
        (Gone("gone"), None, ""),
        (OSError(5, "no"), None, ""),
        (bad_certificate(), None, "TLS handshake failed: BAD_CERTIFICATE"),
        (Unsafe("invalid message length 3"), ("08P01", "invalid message length 3"), "invalid message length 3"),
        (
            refused("joe", "it is not the password"),
            ("28P01", 'password authentication failed for user "joe"'),
            "it is not the password",
        ),
        (PgError("53300", "full", "of 3"), ("53300", "full"), "full, of 3"),
        (KeyError("a bug"), ("XX000", "internal error of the pooler"), "internal error"),
    ],
)
async def test_what_a_client_is_told_and_what_the_log_says(
    error: Exception, told: tuple[str, str] | None, line: str, logs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with scene_of({"log_pooler_errors": logs}) as scene:
        client, far = scene.stranger()
        World(scene).login.turn_away(client, error)
        await scene.turn()
        assert (refusal(far) if told else None) == told
        assert far.ended()
        said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("login refused")]
        assert said == ([f"login refused: {line}"] if line and logs else [])


async def test_a_bug_in_a_login_is_counted(scene: Scene) -> None:
    """One among them: what can't happen at the stage that the connection is at."""
    client, far = scene.stranger()
    with pytest.raises(IllegalTransition) as bug:
        client.on_stage(LISTENS)
    World(scene).login.turn_away(client, bug.value)
    await scene.turn()
    assert refusal(far) == ("XX000", "internal error of the pooler")
    assert scene.lifecycle.counters.total(SharedCounter.BUGS) == 1


async def test_the_detail_names_the_client(scene: Scene) -> None:
    client, far = scene.stranger()
    World(scene).login.turn_away(client, PgError("53300", "full", "of 3"))
    await scene.turn()
    ((_, body),) = split(far.heard())
    assert messages.report_fields(body)["D"] == f"of 3; client {client.uuid}"


# Others than clients of a pool.


async def test_a_cancel_request_is_passed_on_and_gets_no_word(scene: Scene) -> None:
    world = World(scene)
    _, far = await world.arrives(messages.cancel_request(-5, b"12345678"))
    assert world.asked == [("cancel", -5, b"12345678")]
    assert far.heard() == b""
    assert far.ended()


@pytest.mark.parametrize(("user", "admin"), [("boss", True), ("watch", False)])
async def test_the_console_is_opened_for_its_users(scene: Scene, user: str, admin: bool) -> None:
    world = World(scene)
    await world.arrives(packet(user, "pglido"))
    assert world.asked == [("console", user, "pglido", admin)]


@pytest.mark.parametrize("user", ["boss", "watch"])
async def test_only_an_admin_gets_more_than_there_is_room_for(scene: Scene, user: str) -> None:
    world = World(scene)
    scene.stranger()
    scene.lifecycle.most = 1
    _, far = await world.arrives(packet(user, "pglido"))
    if user == "boss":
        assert world.asked == [("console", "boss", "pglido", True)]
    else:
        assert refusal(far) == ("08P01", "no more connections allowed (max_client_conn)")


# Proofs.


async def test_a_password_is_asked_for_and_judged_beside_the_loop(guarded: Scene) -> None:
    world = World(guarded, joe="secret")
    client, far = await world.arrives(packet())
    assert split(far.heard()) == [("R", (3).to_bytes(4, "big"))]
    assert client.runtime is None
    far.say(password("secret"))
    await guarded.turn()
    assert [kind for kind, _ in split(far.heard())] == ["R", "S", "K", "Z"]
    assert client.runtime is guarded.runtime()


@pytest.mark.parametrize("user", ["joe", "nobody"])
async def test_a_wrong_password_and_an_unknown_user_are_told_the_same(guarded: Scene, user: str) -> None:
    world = World(guarded, joe="secret")
    _, far = await world.arrives(packet(user))
    far.heard()
    far.say(password("guess"))
    await guarded.turn()
    assert refusal(far) == ("28P01", f'password authentication failed for user "{user}"')


async def test_what_is_no_password_is_a_violation(guarded: Scene) -> None:
    world = World(guarded, joe="secret")
    _, far = await world.arrives(packet())
    far.heard()
    far.say(messages.query("SELECT 1"))
    await guarded.turn()
    assert refusal(far) == ("08P01", "expected password response, got message type 81")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("nothing that matters", None),
        ("secret", "28P01"),
        ("auth_type", "28P01"),
        ("trust", None),
        ("database", "3D000"),
        ("drain", "57P03"),
    ],
)
async def test_a_login_counts_if_it_would_under_the_configuration_of_now(
    guarded: Scene, change: str, told: str | None
) -> None:
    """A reload between the question for the password and the answer."""
    world = World(guarded, joe="secret")
    _, far = await world.arrives(packet())
    far.heard()
    config = guarded.config
    match change:
        case "secret":
            world.secrets["joe"] = "another"
        case "auth_type":
            config = replace(config, settings=replace(config.settings, auth_type=AuthType.SCRAM_SHA_256))
        case "trust":
            config = replace(config, settings=replace(config.settings, auth_type=AuthType.TRUST))
        case "database":
            config = replace(config, databases={})
        case "drain":
            guarded.lifecycle.draining = True
    world.adopt(replace(config))
    far.say(password("secret"))
    await guarded.turn()
    if told is None:
        assert [kind for kind, _ in split(far.heard())] == ["R", "S", "K", "Z"]
    else:
        assert refusal(far)[0] == told


class Judge:
    """A fast path that judges a proof when it is told to."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self.answer = answer
        self.told: list[Any] = []

    def weigh_at_length(self, proving: Any) -> bytes:
        return self.answer()

    def weighed(self, client: ClientConnection, proving: Any, answer: bytes) -> None:
        self.told.append((client, proving, answer))


def wrong() -> bytes:
    """A proof that does not hold."""
    raise refused("joe", "it does not hold")


@pytest.mark.parametrize("answer", [lambda: b"said", wrong])
@pytest.mark.parametrize("gone", [False, True])
async def test_a_proof_that_takes_long_is_told_of_unless_its_client_is_gone(
    scene: Scene, answer: Callable[[], bytes], gone: bool
) -> None:
    world = World(scene)
    judge: Any = Judge(answer)
    world.login.fast_login = judge
    client, far = scene.stranger()
    proving: Any = object()

    def leaves() -> None:
        # Its end cancels its login, but the answer is there already.
        client.login = None
        scene.lifecycle.end(client, "client unexpected eof")

    world.meanwhile = [leaves] if gone else []
    world.login.weigh(client, proving)
    await scene.turn()
    assert world.hashed == [client.address]
    assert judge.told == ([(client, proving, b"said")] if answer is not wrong and not gone else [])
    assert client.login is None or answer is wrong
    if gone:
        assert far.heard() == b""
    elif answer is wrong:
        assert refusal(far)[0] == "28P01"
