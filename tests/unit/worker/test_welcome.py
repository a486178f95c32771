"""Startup parameters are tried on a server once, and what they come to is remembered as long as it holds."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from harness.worker_scene import DONE, Far, Scene, scene_of
from pglido.pooling.states import IDLE
from pglido.protocol import messages
from pglido.session.state.parameters import SessionParameters, intern
from pglido.worker.defaults import Welcome
from pglido.worker.errors import PoolRefused
from pglido.worker.login.welcome import welcome_of

HOME = intern({"timezone": "utc"})
REFUSED = messages.error("ERROR", "22023", 'invalid value for parameter "TimeZone"', "")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


class Asked:
    """A client that waits for its welcome."""

    def __init__(self, scene: Scene, home: SessionParameters = HOME) -> None:
        self.scene = scene
        self.task = asyncio.get_running_loop().create_task(welcome_of(scene.lifecycle, scene.runtime(), home))

    async def answered(self, backend: Far, *answers: bytes) -> list[bytes]:
        """The server gives these answers; returns what it was asked."""
        heard = []
        for answer in answers:
            await self.scene.turn()
            heard.append(backend.heard())
            backend.say(answer)
        await self.scene.turn()
        return heard


async def test_parameters_are_tried_once_and_told_as_the_server_spells_them(scene: Scene) -> None:
    server, backend = scene.server()
    server.reported = {"server_version": "18.1", "TimeZone": "Asia/Tokyo"}
    asked = Asked(scene)
    (heard,) = await asked.answered(backend, messages.parameter_status("TimeZone", "UTC") + DONE)
    assert b"set_config('timezone','utc',false)" in heard
    welcome: Welcome = await asked.task
    assert welcome.settings.values == {"timezone": "UTC"}
    assert server.session.state.settings is welcome.settings
    told = [messages.parameter_status(*pair) for pair in {"server_version": "18.1", "TimeZone": "UTC"}.items()]
    assert welcome.welcome == b"".join(told)
    assert server.slot.state == IDLE
    # The next one asks nobody.
    assert await welcome_of(scene.lifecycle, scene.runtime(), HOME) is welcome
    assert backend.heard() == b""


async def test_the_server_is_brought_to_its_defaults_first(scene: Scene) -> None:
    """A value may be relative to the one before."""
    server, backend = scene.server()
    server.session.state.settings = intern({"datestyle": "German"})
    asked = Asked(scene)
    first, second = await asked.answered(backend, DONE, DONE)
    assert b"set_config('datestyle',NULL,false)" in first
    assert b"timezone" not in first
    assert b"set_config('timezone','utc',false)" in second
    assert (await asked.task).settings.values == {"timezone": "utc"}


async def test_nobody_begins_as_somebody_else(scene: Scene) -> None:
    """PostgreSQL looks whether the session may, but it does not."""
    server, backend = scene.server()
    asked = Asked(scene, intern({"session_authorization": "other"}))
    first, second = await asked.answered(backend, DONE, DONE)
    assert b"'session_authorization','other'" in first
    assert b"'session_authorization',NULL" in second
    assert (await asked.task).settings.values == {}
    assert server.session.state.settings.values == {}


async def test_what_the_server_refuses_is_told_and_not_remembered(scene: Scene) -> None:
    server, backend = scene.server()
    asked = Asked(scene)
    await asked.answered(backend, REFUSED + messages.READY_IDLE)
    with pytest.raises(PoolRefused) as refused:
        await asked.task
    assert (refused.value.sqlstate, refused.value.text) == ("22023", 'invalid value for parameter "TimeZone"')
    assert scene.runtime().welcomes.get(HOME) is None
    assert server.slot.state == IDLE
    assert server.session.state.settings.values == {}


@pytest.mark.parametrize("change", ["settings", "generation"])
async def test_what_is_stale_by_then_is_not_remembered(scene: Scene, change: str) -> None:
    _, backend = scene.server()
    runtime = scene.runtime()
    asked = Asked(scene)
    await scene.turn()
    if change == "settings":
        runtime.settings = replace(runtime.settings, pool_size=3)
    else:
        runtime.pool.generation += 1
    await asked.answered(backend, DONE)
    assert (await asked.task).settings.values == {"timezone": "utc"}
    assert runtime.welcomes.get(HOME) is None


async def test_a_server_that_is_lost_meanwhile_is_made_up_for_by_another(scene: Scene) -> None:
    _, first = scene.server()
    asked = Asked(scene)
    await scene.turn()
    first.heard()
    first.sock.close()
    await scene.turn()
    assert not asked.task.done()
    _, second = scene.server()
    (heard,) = await asked.answered(second, DONE)
    assert b"timezone" in heard
    assert (await asked.task).settings.values == {"timezone": "utc"}


async def test_without_hope_of_a_server_nobody_is_let_in_by_memory(scene: Scene) -> None:
    """A lasting error is told at once, though the welcome is known."""
    runtime = scene.runtime()
    runtime.remember(HOME, Welcome(HOME, HOME, b"", None, 0))
    runtime.pool.outage.failed(0.0, scene.transport.now, ("3D000", "no such database"), 15.0, 0.5)
    with pytest.raises(PoolRefused) as refused:
        await scene.until(welcome_of(scene.lifecycle, runtime, HOME))
    assert refused.value.sqlstate == "3D000"


async def test_a_client_that_leaves_while_it_waits_leaves_the_line(scene: Scene) -> None:
    asked = Asked(scene)
    await scene.turn()
    pool: Any = scene.runtime().pool
    assert pool.line.size == 1
    asked.task.cancel()
    await scene.turn()
    assert asked.task.cancelled()
    assert pool.line.size == 0
