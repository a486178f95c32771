"""Who is let in without a coroutine, and who is not: a template lets in nobody who would not be let in otherwise."""

import hashlib
import hmac
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from harness.worker_scene import CLIENTS, DONE, Far, Scene, scene_of
from pglido.auth import log_in_to_server
from pglido.auth.decoys import SecretPopulation
from pglido.auth.errors import AuthError
from pglido.auth.scram_server import ScramTerms
from pglido.auth.secrets import Plain, Secret, Verifier
from pglido.config.enums import AuthType, SslMode
from pglido.config.model import Settings
from pglido.pooling.states import SHUT
from pglido.protocol import messages
from pglido.session.state import parameters as _parameters
from pglido.worker.connections import ClientConnection
from pglido.worker.defaults import Welcome
from pglido.worker.listener_security import ListenerSecurity
from pglido.worker.login.fast_path import FastLogin
from pglido.worker.login.login_template import LoginTemplate
from pglido.worker.login.refusals import FULL, NOT_ENCRYPTED, SHORT_OF_MEMORY, SHUTTING_DOWN, TOO_MANY

PACKET = messages.startup(196608, [("user", "joe"), ("database", "app")])
CODE = 196608
# So many first packets are remembered, of so many bytes at most.
PACKETS, LONGEST = 1024, 512
SSL = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
PLAIN = {False: ListenerSecurity(False, None, None), True: ListenerSecurity(True, None, None)}
WELCOME = Welcome(_parameters.EMPTY, _parameters.EMPTY, messages.parameter_status("server_version", "18.1"), None, 0)


def verifier(password: str) -> Verifier:
    """A verifier as PostgreSQL makes it."""
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client_key, server_key = (hmac.digest(salted, b"%b Key" % side, "sha256") for side in (b"Client", b"Server"))
    return Verifier(4096, salt, hashlib.sha256(client_key).digest(), server_key)


class Users:
    """Who is known."""

    def __init__(self, asks: bool = False, **secrets: Secret) -> None:
        self.secrets = secrets
        self.terms = ScramTerms(SecretPopulation(), 4096, os.urandom, bytes(32))
        self.asks = asks


class LongWay:
    """What is not decided on the fast path."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.asks_for: set[str] = set()

    def enter(self, client: ClientConnection) -> None:
        self.asked.append(("enter", client.inbox))

    def go_on(self, client: ClientConnection, packet: bytes, start: Any, proof: Any) -> None:
        self.asked.append(("go on", packet, start.user, type(proof.credentials).__name__, proof.last != b""))

    def weigh(self, client: ClientConnection, proving: Any) -> None:
        self.asked.append(("weigh", proving.start.user))

    def turn_away(self, client: ClientConnection, error: Exception) -> None:
        assert isinstance(error, AuthError)
        self.asked.append(("turn away", error.sqlstate, str(error)))

    def is_asked_for(self, start: Any) -> bool:
        return start.user in self.asks_for


class Entry:
    """A fast path, with whom it leaves others to."""

    def __init__(self, scene: Scene, auth_type: AuthType = AuthType.TRUST, **secrets: Secret) -> None:
        self.scene = scene
        self.users = Users(**secrets)
        self.fast_login = FastLogin(scene.lifecycle)
        self.fast_login.logins = self.others = LongWay()
        self.adopt(auth_type=auth_type)

    def adopt(self, **settings: Any) -> None:
        """A configuration comes into force."""
        self.fast_login.adopt(Settings(**settings), PLAIN, self.users)

    async def arrives(self, data: bytes = PACKET) -> tuple[ClientConnection, Far]:
        """A client that says this first; the packet is known already."""
        self.fast_login.read(PACKET, CODE)
        client, far = self.scene.stranger()
        client.listener = PLAIN[False]
        self.fast_login.wait(client)
        far.say(data)
        await self.scene.turn()
        return client, far

    def template(self) -> LoginTemplate:
        """As if a client had been let in on `PACKET`."""
        self.fast_login.read(PACKET, CODE)
        client, _ = self.scene.stranger()
        client.user = "joe"
        client.runtime = self.scene.runtime()
        template = LoginTemplate(client, self.scene.runtime(), WELCOME)
        client.runtime = None
        self.scene.lifecycle.end(client, "")
        self.fast_login.remember(PACKET, template)
        return template


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


def kinds(data: bytes) -> str:
    """The types of the messages in it."""
    found = ""
    while data:
        found += chr(data[0])
        data = data[1 + int.from_bytes(data[1:5], "big") :]
    return found


def body(data: bytes) -> tuple[int, bytes]:
    """Code and rest of the authentication request at its end, or of the only one."""
    assert data[:1] == b"R"
    return int.from_bytes(data[5:9], "big"), data[9 : 1 + int.from_bytes(data[1:5], "big")]


# Templates.


async def test_who_says_what_nobody_was_let_in_on_goes_the_long_way(scene: Scene) -> None:
    entry = Entry(scene)
    await entry.arrives()
    assert entry.others.asked == [("enter", PACKET)]


async def test_who_says_the_same_is_greeted_at_once_and_served(scene: Scene) -> None:
    entry = Entry(scene)
    entry.template()
    client, far = await entry.arrives()
    assert entry.others.asked == []
    said = far.heard()
    assert kinds(said) == "RSKZ"
    assert WELCOME.welcome in said
    assert said.endswith(scene.lifecycle.cancel_keys.key_and_ready(client.serial, 0))
    runtime = scene.runtime()
    assert (client.user, client.runtime, runtime.pool.clients, runtime.stats.logins) == ("joe", runtime, 1, 1)
    _, backend = scene.server()
    far.say(messages.query("SELECT 1"))
    await scene.turn()
    backend.say(DONE)
    await scene.turn()
    assert far.heard() == DONE


async def test_a_query_that_came_with_the_packet_is_answered(scene: Scene) -> None:
    """The packet alone is looked up: what comes with it makes it another, which goes the long way."""
    entry = Entry(scene)
    entry.template()
    await entry.arrives(PACKET + messages.query("SELECT 1"))
    assert entry.others.asked == [("enter", PACKET + messages.query("SELECT 1"))]


@pytest.mark.parametrize("change", ["version", "closed", "outage", "defaults", "forgotten", "another configuration"])
async def test_a_template_of_what_is_no_more_lets_nobody_in(scene: Scene, change: str) -> None:
    entry = Entry(scene)
    entry.template()
    runtime = scene.runtime()
    match change:
        case "version":
            runtime.forget_welcomes()
        case "closed":
            runtime.pool.set_gate(SHUT)
        case "outage":
            runtime.pool.outage.problem = ("08006", "down")
        case "defaults":
            runtime.changes += 1
        case "forgotten":
            entry.fast_login.forget()
        case _:
            entry.adopt(auth_type=AuthType.TRUST)
    await entry.arrives()
    assert entry.others.asked == [("enter", PACKET)]


def test_first_packets_are_remembered_up_to_a_number_and_a_length(scene: Scene) -> None:
    fast_login = FastLogin(scene.lifecycle)
    for number in range(PACKETS + 10):
        fast_login.read(messages.startup(CODE, [("user", f"joe{number}")]), CODE)
    assert len(fast_login.packets) == PACKETS
    long = messages.startup(CODE, [("user", "joe"), ("application_name", "x" * LONGEST)])
    start = fast_login.read(long, CODE)
    assert start.user == "joe"
    assert long not in fast_login.packets


def test_a_packet_that_is_known_is_not_read_again(scene: Scene) -> None:
    fast_login = FastLogin(scene.lifecycle)
    assert fast_login.read(PACKET, CODE) is fast_login.read(PACKET, CODE)


def test_parameters_that_are_ignored_are_left_out(scene: Scene) -> None:
    entry = Entry(scene)
    entry.adopt(ignore_startup_parameters=("Extra_Float_Digits",))
    packet = messages.startup(CODE, [("user", "joe"), ("extra_float_digits", "2"), ("work_mem", "1")])
    assert entry.fast_login.read(packet, CODE).settings == (("work_mem", "1"),)


# Refusals.


@pytest.mark.parametrize(
    ("why", "refusal"),
    [
        ("nothing", None),
        ("sslmode", NOT_ENCRYPTED),
        ("drain", SHUTTING_DOWN),
        ("spare", FULL),
        ("memory", SHORT_OF_MEMORY),
        ("limit", TOO_MANY),
    ],
)
@pytest.mark.parametrize("database", ["app", "pglido"])
def test_why_a_client_cannot_come_in(scene: Scene, why: str, refusal: tuple[str, str] | None, database: str) -> None:
    entry = Entry(scene)
    client, _ = scene.stranger()
    scene.stranger()
    client.listener = PLAIN[False]
    start = entry.fast_login.read(messages.startup(CODE, [("user", "joe"), ("database", database)]), CODE)
    match why:
        case "sslmode":
            entry.adopt(client_tls_sslmode=SslMode.REQUIRE)
        case "drain":
            scene.lifecycle.draining = True
        case "spare":
            entry.fast_login.spare = client.serial
        case "memory":
            scene.lifecycle.budget.tight = True
        case "limit":
            scene.lifecycle.most = 1
    # To the console an admin comes in whatever there is too little of.
    expected = refusal if database == "app" or why in ("sslmode", "drain") else None
    assert entry.fast_login.refusal_reason(client, start) == expected


async def test_who_is_refused_is_told_the_long_way_though_there_is_a_template(scene: Scene) -> None:
    entry = Entry(scene)
    entry.template()
    scene.lifecycle.draining = True
    await entry.arrives()
    assert entry.others.asked == [("enter", PACKET)]


async def test_who_asks_for_tls_where_there_is_none_is_told_so_and_let_in(scene: Scene) -> None:
    entry = Entry(scene)
    entry.template()
    _, far = await entry.arrives(SSL)
    assert far.heard() == b"N"
    far.say(PACKET)
    await scene.turn()
    assert kinds(far.heard()) == "RSKZ"


async def test_who_asks_for_tls_twice_goes_the_long_way(scene: Scene) -> None:
    entry = Entry(scene)
    _, far = await entry.arrives(SSL)
    far.say(SSL)
    await scene.turn()
    assert entry.others.asked == [("enter", SSL)]


async def test_who_hangs_up_is_gone(scene: Scene) -> None:
    entry = Entry(scene)
    client, far = scene.stranger()
    client.listener = PLAIN[False]
    entry.fast_login.wait(client)
    far.sock.close()
    await scene.turn()
    assert scene.lifecycle.clients == {}
    assert scene.counters.total(CLIENTS) == 0
    assert entry.others.asked == []


# Proofs.


async def proves(scene: Scene, far: Far, password: str, user: str = "joe") -> bytes:
    """What is said to who proves to know this password, after its last message."""
    dialogue = log_in_to_server.answer(user, Plain(password), binding=None, rng=os.urandom)
    next(dialogue)
    for _ in range(2):
        said = far.heard()
        answer = dialogue.send(body(said))
        assert answer is not None
        far.say(answer)
        await scene.turn()
    return far.heard()


async def test_a_proof_lets_in_by_a_template(scene: Scene) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    entry.template()
    client, far = await entry.arrives()
    said = await proves(scene, far, "secret")
    assert kinds(said) == "RRSKZ"
    assert body(said)[0] == 12
    assert entry.others.asked == []
    assert client.runtime is scene.runtime()
    assert client.proving is None


async def test_who_proved_itself_lends_that_to_the_servers_where_they_want_it(scene: Scene) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    for lends in (False, True):
        entry.template().lends = lends
        _, far = await entry.arrives()
        await proves(scene, far, "secret")
        assert (scene.runtime().credentials is not None) == lends


async def test_the_first_of_a_kind_goes_on_the_long_way_with_its_proof(scene: Scene) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    _, far = await entry.arrives()
    assert await proves(scene, far, "secret") == b""
    assert entry.others.asked == [("go on", PACKET, "joe", "Keys", True)]


@pytest.mark.parametrize("known", [True, False])
async def test_a_wrong_proof_lets_nobody_in(scene: Scene, known: bool) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, **({"joe": verifier("secret")} if known else {}))
    entry.template()
    _, far = await entry.arrives()
    assert await proves(scene, far, "guess") == b""
    assert [what[:2] for what in entry.others.asked] == [("turn away", "28P01")]
    assert scene.runtime().pool.clients == 0


async def test_a_proof_that_takes_a_derivation_is_judged_elsewhere(scene: Scene) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=Plain(f"never derived {os.urandom(4).hex()}"))
    client, far = await entry.arrives()
    await proves(scene, far, "guess")
    assert entry.others.asked == [("weigh", "joe")]
    with pytest.raises(AuthError) as refused:
        entry.fast_login.weigh_at_length(client.proving)
    assert refused.value.sqlstate == "28P01"


@pytest.mark.parametrize("change", ["secret", "auth_type", "draining", "nothing"])
async def test_a_proof_under_another_configuration_counts_if_it_would_now(scene: Scene, change: str) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    entry.template()
    _, far = await entry.arrives()
    if change == "secret":
        entry.users.secrets["joe"] = verifier("another")
    scene.lifecycle.draining = change == "draining"
    entry.adopt(auth_type=AuthType.MD5 if change == "auth_type" else AuthType.SCRAM_SHA_256)
    await proves(scene, far, "secret")
    (asked,) = entry.others.asked
    expected = {
        "secret": ("turn away", "28P01", "its secret was changed meanwhile"),
        "auth_type": ("turn away", "28P01", "auth_type was changed meanwhile"),
        "draining": ("turn away", *SHUTTING_DOWN),
        "nothing": ("go on", PACKET, "joe", "Keys", True),
    }
    assert asked == expected[change]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"Q\0\0\0\5\0", "expected password response, got message type 81"),
        (b"p\0\0\0\3", "invalid message length 3"),
        (b"p\xff\xff\xff\xff", "invalid message length 4294967295"),
        (b"p\0\2\0\0", "invalid message length 131072"),
    ],
)
async def test_what_is_no_proof_is_a_violation(scene: Scene, sent: bytes, told: str) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    _, far = await entry.arrives()
    far.say(sent)
    await scene.turn()
    assert entry.others.asked == [("turn away", "08P01", told)]


async def test_a_proof_may_come_in_pieces(scene: Scene) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    entry.template()
    _, far = await entry.arrives()
    dialogue = log_in_to_server.answer("joe", Plain("secret"), binding=None, rng=os.urandom)
    next(dialogue)
    for _ in range(2):
        answer = dialogue.send(body(far.heard()))
        assert answer is not None
        for at in range(0, len(answer), 7):
            far.say(answer[at : at + 7])
            await scene.turn()
    assert kinds(far.heard()) == "RRSKZ"


@pytest.mark.parametrize("asks", [True, False])
async def test_whom_a_server_may_know_is_asked_for_the_long_way(scene: Scene, asks: bool) -> None:
    entry = Entry(scene, AuthType.SCRAM_SHA_256, joe=verifier("secret"))
    entry.users.asks = asks
    entry.others.asks_for = {"joe"}
    entry.adopt(auth_type=AuthType.SCRAM_SHA_256)
    _, far = await entry.arrives()
    assert bool(entry.others.asked) == asks
    assert kinds(far.heard()) == ("" if asks else "R")


# Listening sockets.


async def test_who_stands_at_a_socket_is_taken(scene: Scene) -> None:
    fast_login = Entry(scene).fast_login
    rests: list[OSError] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        callers = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        for _ in range(4):
            fast_login.open(listener.fileno(), False, rests.append)
        assert [client.address for client in scene.lifecycle.clients.values()] == [
            "{}:{}".format(*caller.getsockname()) for caller in callers
        ]
        assert scene.counters.total(CLIENTS) == 5
        for caller in callers:
            caller.close()
    fd = os.open(os.devnull, os.O_RDONLY)
    fast_login.open(fd, False, rests.append)
    os.close(fd)
    assert [type(error) for error in rests] == [OSError]


async def test_one_that_takes_the_reserved_place_is_known(scene: Scene) -> None:
    fast_login = Entry(scene).fast_login
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        fast_login.take_spare(listener.fileno(), False)
        assert fast_login.spare == 0
        with socket.create_connection(listener.getsockname()):
            fast_login.take_spare(listener.fileno(), False)
        assert list(scene.lifecycle.clients) == [fast_login.spare]
