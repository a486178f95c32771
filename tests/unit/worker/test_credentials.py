"""Questions are asked for as long as somebody waits for the answer, and no network has all the places in line."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from harness.fake import READY, columns, complete, error, row
from harness.worker_scene import DONE, Scene, scene_of
from pglido.auth.auth_query import AuthQueryAnswer, Key
from pglido.auth.decoys import MD5_SHAPE, PLAIN_SHAPE, ChallengeShape, SecretPopulation
from pglido.auth.secrets import parse as parse_secret
from pglido.config.enums import AuthType
from pglido.config.load import parse
from pglido.config.model import PoolSettings
from pglido.ipc import messages
from pglido.ipc.shared_counters import SharedCounter
from pglido.pooling.states import IDLE
from pglido.session.state.parameters import intern
from pglido.worker.errors import PoolRefused
from pglido.worker.login import networks
from pglido.worker.login.credentials import KnownUser, UserDirectory, UserLookup
from pglido.worker.login.networks import network_of

CONFIG = """
[pglido]
auth_type = "scram-sha-256"
auth_user = "reader"
[databases.app]
host = "127.0.0.1"
[users.reader]
password = "x"
[users.stored]
password = "x"
"""
HERE = "10.0.0.1:1000"


class Asking(UserDirectory):
    """`answer` is what comes of all questions; `asked` are those that went out, `dropped` those that did not last."""

    def __init__(self, sent: bool) -> None:
        lifecycle: Any = SimpleNamespace(counters=SimpleNamespace(total=lambda column: 0))
        super().__init__(lifecycle, SimpleNamespace(), lambda message: None)  # type: ignore[arg-type]
        self.sent = sent
        self.asked: list[str] = []
        self.dropped: list[str] = []
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _ask(self, key: Key, pool: PoolSettings, question: UserLookup) -> AuthQueryAnswer:
        self.asked.append(key[1])
        question.asked = self.sent
        try:
            await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.dropped.append(key[1])
            raise
        return AuthQueryAnswer(key[1], None)

    async def client(self, user: str, address: str = HERE) -> "asyncio.Task[KnownUser]":
        """A client that waits."""
        pool = config().pool("app", user)
        task = asyncio.create_task(self.look_up(user, pool, address))
        await turns()
        return task


def config() -> Any:
    return parse(CONFIG, "/nowhere/pglido.toml")


def people(sent: bool = False) -> Asking:
    found = Asking(sent)
    made = config()
    found.adopt(made, {name: secret.encode() for name, secret in made.secrets().items()}, b"seed")
    return found


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def leaves(task: "asyncio.Task[KnownUser]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns()


@pytest.mark.parametrize("user", ["unknown", "stored"])
async def test_a_question_is_dropped_with_the_last_client_that_waits_for_it(user: str) -> None:
    one = people()
    first, second = await one.client(user), await one.client(user)
    await leaves(first)
    assert one.dropped == []
    await leaves(second)
    assert one.dropped == [user]
    # Who comes then asks anew.
    third = await one.client(user)
    assert one.asked == [user, user]
    one.answer.set_result(None)
    assert (await third).name == user


async def test_who_comes_while_a_question_is_being_dropped_asks_anew() -> None:
    one = people()
    first = await one.client("unknown")
    first.cancel()
    await asyncio.sleep(0)
    second = await one.client("unknown")
    one.answer.set_result(None)
    assert (await second).name == "unknown"
    assert one.asked == ["unknown", "unknown"]


async def test_what_a_server_has_been_asked_already_is_answered() -> None:
    one = people(sent=True)
    await leaves(await one.client("unknown"))
    assert one.dropped == []
    assert (await asyncio.gather(await one.client("unknown"), _later(one)))[0].name == "unknown"
    assert one.asked == ["unknown"]


async def _later(one: Asking) -> None:
    one.answer.set_result(None)


@pytest.mark.parametrize("user", ["unknown", "stored"])
async def test_of_one_network_so_many_wait(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setattr(networks, "MOST", 2)
    one = people()
    waiting = [await one.client(f"user{port}", f"10.0.0.1:{port}") for port in range(2)]
    with pytest.raises(PoolRefused, match="too many users are being looked up") as refused:
        await (await one.client(user))
    assert refused.value.sqlstate == "53300"
    waiting.append(await one.client(user, "10.0.0.2:1"))
    await leaves(waiting.pop(0))
    waiting.append(await one.client(user))
    one.answer.set_result(None)
    assert len(await asyncio.gather(*waiting)) == 3


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1:5432", "10.0.0.1"),
        ("::ffff:10.0.0.1:5432", "10.0.0.1"),
        ("unix", "unix"),
        ("2001:db8:1:2:3:4:5:6:5432", "20010db800010002"),
        ("2001:db8:1:2::1:5432", "20010db800010002"),
        ("::1:5432", "0000000000000000"),
    ],
)
def test_an_address_of_ipv6_counts_as_its_site(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_unknown_users_look_like_those_that_auth_query_has_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MET", 3)
    one = people()
    asked, console = config().pool("app", "unknown"), None
    assert one.terms_of(console).population == SecretPopulation.counted({PLAIN_SHAPE: 2})
    # auth_user is not counted, "stored" is.
    assert one.terms_of(asked).population == SecretPopulation.counted({PLAIN_SHAPE: 1, ChallengeShape(4096): 1})
    assert one.met(messages.Met({b"a": ChallengeShape(10_000)}))
    assert not one.met(messages.Met({b"a": ChallengeShape(10_000)}))
    assert one.terms_of(asked).population == SecretPopulation.counted({PLAIN_SHAPE: 1, ChallengeShape(10_000): 1})
    assert one.met(messages.Met({b"b": MD5_SHAPE}))
    assert one.met(messages.Met({b"c": ChallengeShape(4096)}))
    assert not one.met(messages.Met({b"d": ChallengeShape(1)}))
    assert one.met(messages.Met({b"b": ChallengeShape(10_000)}))
    assert one.terms_of(asked).population == SecretPopulation.counted(
        {PLAIN_SHAPE: 1, ChallengeShape(4096): 1, ChallengeShape(10_000): 2}
    )
    assert one.terms_of(console).population == SecretPopulation.counted({PLAIN_SHAPE: 2})


# With a server.

VERIFIER = (
    "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)


def answer(*rows: tuple[str, str]) -> bytes:
    """What the server says to auth_query: names and secrets that are good for an hour."""
    found = [row(*one, "3600") for one in rows]
    return b"".join([columns("usename", "passwd", "valid"), *found, complete("SELECT 1"), READY])


class World:
    """A user directory whose questions go to a server, which is the test."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.posts: list[Any] = []
        self.users = UserDirectory(scene.lifecycle, scene, self.posts.append)
        self.users.adopt(scene.config, {}, bytes(32))
        self.pool = scene.pool_of("app", "joe")
        reader = scene.pool_of("app", "reader")
        assert reader is not None
        self.server, self.backend = scene.server(scene.runtime(reader))

    def look(self, user: str = "joe") -> "asyncio.Task[KnownUser]":
        """A client that waits."""
        return asyncio.get_running_loop().create_task(self.users.look_up(user, self.pool, HERE))

    async def asked(self) -> bytes:
        """What the server is asked."""
        await self.scene.turn()
        return self.backend.heard()

    async def known(self, task: "asyncio.Task[KnownUser]", said: bytes = b"") -> KnownUser:
        """What comes of it once the server has said this."""
        if said:
            self.backend.say(said)

        async def done() -> KnownUser:
            return await task

        return await self.scene.until(done())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with scene_of({"auth_type": AuthType.SCRAM_SHA_256, "auth_user": "reader"}) as scene:
        yield World(scene)


async def test_who_is_not_known_is_asked_for_once(world: World) -> None:
    first, second = world.look(), world.look()
    question = await world.asked()
    assert question.startswith(b"P")
    assert question.count(b"\0\3joe") == 1
    found = await world.known(first, answer(("joe", VERIFIER)))
    assert (found.name, found.secret) == ("joe", parse_secret(VERIFIER))
    assert (await world.known(second)).secret == found.secret
    assert world.server.slot.state == IDLE
    # It is remembered; other workers are told what such secrets look like.
    assert (await world.known(world.look())).secret == found.secret
    assert await world.asked() == b""
    assert [list(post.faces.values()) for post in world.posts] == [[ChallengeShape(4096)]]


async def test_nobody_of_that_name_is_an_answer(world: World) -> None:
    task = world.look()
    await world.asked()
    assert await world.known(task, answer()) == KnownUser("joe", None, task.result().began)


@pytest.mark.parametrize(
    "said",
    [
        error("ERROR", "42501", "permission denied") + READY,
        columns("one") + row("joe") + complete("SELECT 1") + READY,
        answer(("joe", "a"), ("joe", "b")),
    ],
)
async def test_a_question_that_fails_is_told_without_its_reason(
    world: World, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    task = world.look()
    await world.asked()
    with pytest.raises(PoolRefused) as refused:
        await world.known(task, said)
    assert (refused.value.sqlstate, refused.value.text) == ("08P01", "auth_query failed")
    assert caplog.records


async def test_who_fails_to_prove_what_was_remembered_is_asked_for_again(world: World) -> None:
    task = world.look()
    await world.asked()
    await world.known(task, answer(("joe", VERIFIER)))
    known = await world.known(world.look())
    fresh = asyncio.get_running_loop().create_task(world.users.look_again("joe", world.pool, known, HERE))
    assert (await world.asked()).startswith(b"P")
    found = await world.known(fresh, answer(("joe", "another")))
    assert (known.secret, found.secret) == (parse_secret(VERIFIER), parse_secret("another"))
    # All workers forget what they remember.
    assert world.scene.counters.total(SharedCounter.SECRETS) == 1
    # Not more than once in a while.
    known = await world.known(world.look())
    assert await world.known(asyncio.create_task(world.users.look_again("joe", world.pool, known, HERE))) is known
    assert await world.asked() == b""


async def test_what_another_worker_has_seen_change_is_forgotten(world: World) -> None:
    task = world.look()
    await world.asked()
    await world.known(task, answer(("joe", VERIFIER)))
    world.scene.counters.add(SharedCounter.SECRETS, 1)
    task = world.look()
    assert (await world.asked()).startswith(b"P")
    assert (await world.known(task, answer())).secret is None


async def test_the_server_is_brought_to_what_no_client_has_set(world: World) -> None:
    world.server.session.state.settings = intern({"search_path": "evil"})
    task = world.look()
    assert b"set_config('search_path',NULL,false)" in await world.asked()
    world.backend.say(DONE)
    assert (await world.asked()).startswith(b"P")
    assert (await world.known(task, answer(("joe", VERIFIER)))).name == "joe"
    assert world.server.session.state.settings is world.server.session.state.home


async def test_a_verifier_that_is_not_the_servers_is_asked_for(world: World) -> None:
    task = world.look()
    await world.asked()
    await world.known(task, answer(("joe", VERIFIER)))
    assert world.pool is not None
    world.users.doubt(world.pool)
    assert (await world.asked()).startswith(b"P")
    world.backend.say(answer(("joe", "another")))
    await world.scene.turn()
    assert world.scene.counters.total(SharedCounter.SECRETS) == 1
    world.users.doubt(world.pool)
    assert await world.asked() == b""
