"""What happens because time has passed; which limits clients have: see `test_timers`."""

import asyncio
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from harness.worker_scene import DONE, Scene, scene_of
from pglido.ipc.shared_counters import SharedCounter
from pglido.pooling.states import SHUT
from pglido.protocol import messages
from pglido.worker import timers
from pglido.worker.connections import ClientConnection
from pglido.worker.dispatch import LINGER
from pglido.worker.timers import Timers


class Worker:
    """A worker as its timers see it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.parent = os.getppid()
        self.counters = scene.counters
        self.lifecycle = scene.lifecycle
        self.database_releases: Any = SimpleNamespace(look=lambda now: None)
        self.operations: Any = SimpleNamespace(look=lambda: False)
        self.fast_login: Any = SimpleNamespace(forget=lambda: self.forgot.append(True))
        self.forgot: list[bool] = []
        self.leaving: float | None = None
        self.wait_for_clients = False
        self.ended = asyncio.Event()
        self.timers = Timers(self)

    @property
    def config(self) -> Any:
        return self.scene.config

    def goodbye(self, client: ClientConnection) -> None:
        self.lifecycle.kill(client, "57P01", "goodbye")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How far the clock is ahead, in the last place."""
    ahead = [0.0]
    now = timers.time.monotonic
    monkeypatch.setattr(timers, "time", SimpleNamespace(monotonic=lambda: now() + ahead[-1]))
    return ahead


async def test_each_look_says_that_the_worker_serves_and_the_next_one_comes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(scene)
    later: list[tuple[float, Any]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda delay, call: later.append((delay, call)))
    worker.timers.tick()
    # Whatever goes wrong in one.
    monkeypatch.setattr(scene.lifecycle, "pools", None)
    worker.timers.tick()
    assert scene.counters.total(SharedCounter.BEATS) == 2
    assert [(delay, call.__name__) for delay, call in later] == [(timers.TICK, "tick")] * 2
    assert "bug: a look at the clock failed" in caplog.text
    worker.ended.set()
    worker.timers.tick()
    assert len(later) == 2


async def test_without_a_control_process_the_worker_ends(scene: Scene) -> None:
    worker = Worker(scene)
    worker.timers.tick()
    assert not worker.ended.is_set()
    worker.parent = 1 if os.getppid() != 1 else 2
    worker.timers.tick()
    assert worker.ended.is_set()


async def test_a_server_that_does_not_answer_in_time_is_closed(scene: Scene, times: list[float]) -> None:
    worker = Worker(scene)
    server, _ = scene.server()
    server.deadline = scene.transport.now + 5.0
    worker.timers.tick()
    assert not server.closed
    times.append(6.0)
    worker.timers.tick()
    assert server.closed


async def test_a_client_that_does_not_take_its_last_words_is_let_go(scene: Scene, times: list[float]) -> None:
    worker = Worker(scene)
    client, _ = scene.client()
    scene.lifecycle.end(client, "because", bytes(1 << 22))
    worker.timers.tick()
    assert not client.closed
    times.append(LINGER + 1)
    worker.timers.tick()
    assert client.closed
    assert scene.lifecycle.lingering == {}


async def test_a_login_that_takes_too_long_is_ended(scene: Scene, times: list[float]) -> None:
    worker = Worker(scene)
    client, far = scene.stranger()
    worker.timers.tick()
    assert not client.closed
    times.append(scene.config.settings.client_login_timeout + 1)
    worker.timers.tick()
    await scene.turn()
    fields = messages.report_fields(far.heard()[5:])
    assert (fields["C"], fields["M"]) == ("08P01", "client_login_timeout")
    assert far.ended()


@pytest.mark.parametrize(("part", "looks", "left"), [(3, 30, [6, 3, 0]), (1, 3, [6, 4, 3])])
async def test_of_many_clients_a_part_is_looked_at_each_time(
    scene: Scene, times: list[float], monkeypatch: pytest.MonkeyPatch, part: int, looks: int, left: list[int]
) -> None:
    """So many, or as many as have all looked at in so many looks; here each one is over its time, and goes."""
    monkeypatch.setattr(timers, "PART", part)
    monkeypatch.setattr(timers, "LOOKS", looks)
    worker = Worker(scene)
    for _ in range(9):
        scene.stranger()
    times.append(scene.config.settings.client_login_timeout + 1)
    found = []
    for _ in left:
        worker.timers.tick()
        found.append(len(scene.lifecycle.clients))
        times.append(times[-1] + timers.TICK)
    assert found == left


# Memory.


async def test_where_memory_is_short_what_can_be_is_given_back(scene: Scene, times: list[float]) -> None:
    worker = Worker(scene)
    worker.timers.tick()
    assert (scene.lifecycle.budget.tight, worker.forgot) == (False, [])
    assert scene.counters.total(SharedCounter.MEMORY) > 1 << 20
    scene.board.put(SharedCounter.SHORT, 0, 1)
    worker.timers.tick()
    worker.timers.tick()
    assert (scene.lifecycle.budget.tight, worker.forgot) == (True, [True])
    times.append(timers.TRIM_PAUSE + 0.1)
    worker.timers.tick()
    assert worker.forgot == [True, True]


async def test_statements_that_were_refused_are_told_of_now_and_then(
    scene: Scene, times: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(scene)
    said = []
    for ahead in (0.0, 1.0, timers.REFUSALS_PAUSE + 0.1):
        times.append(ahead)
        scene.lifecycle.budget.refused = 3
        scene.lifecycle.budget.reason = "memory"
        worker.timers.tick()
        said.append(len([record for record in caplog.records if "3 statements refused" in record.getMessage()]))
    assert said == [1, 1, 2]


# Pools.


@pytest.mark.parametrize("why", ["idle", "vain", "gone"])
async def test_a_pool_that_nobody_uses_any_more_is_forgotten(scene: Scene, times: list[float], why: str) -> None:
    worker = Worker(scene)
    runtime = scene.runtime()
    timeout = scene.config.settings.autodb_idle_timeout
    if why == "gone":
        runtime.pool.set_gate(SHUT)
    else:
        # It is one of those that `*` makes.
        scene.config = replace(scene.config, databases={})
    if why == "vain":
        runtime.pool.outage.problem = ("3D000", "no such database")
    runtime.pool.clients = 1
    worker.timers.tick()
    assert scene.lifecycle.pools
    runtime.pool.clients = 0
    worker.timers.tick()
    assert bool(scene.lifecycle.pools) == (why == "idle")
    times.append(timeout + 1)
    worker.timers.tick()
    assert scene.lifecycle.pools == {}
    assert worker.forgot == [True]


async def test_a_pool_of_the_configuration_is_kept(scene: Scene, times: list[float]) -> None:
    worker = Worker(scene)
    runtime = scene.runtime()
    worker.timers.tick()
    times.append(scene.config.settings.autodb_idle_timeout + 1)
    worker.timers.tick()
    assert scene.lifecycle.pools == {runtime.key: runtime}
    assert worker.forgot == []


# The end of a drain.


async def test_clients_that_rest_are_told_goodbye_and_the_others_when_they_do(scene: Scene) -> None:
    worker = Worker(scene)
    _, backend = scene.server()
    busy, working = scene.client()
    _, resting = scene.client()
    working.say(messages.query("SELECT 1"))
    await scene.turn()
    scene.lifecycle.draining = True
    worker.timers.tick()
    await scene.turn()
    assert messages.report_fields(resting.heard()[5:])["C"] == "57P01"
    assert (busy.closed, worker.ended.is_set()) == (False, False)
    backend.say(DONE)
    await scene.turn()
    worker.timers.tick()
    await scene.turn()
    said = working.heard()
    assert said.startswith(DONE)
    assert b"57P01" in said
    worker.timers.tick()
    assert worker.ended.is_set()


@pytest.mark.parametrize("late", [False, True])
async def test_a_drain_may_wait_for_clients_and_has_an_end(scene: Scene, times: list[float], late: bool) -> None:
    worker = Worker(scene)
    client, far = scene.client()
    scene.lifecycle.draining = True
    worker.wait_for_clients = True
    worker.leaving = scene.transport.now + 60.0
    worker.timers.tick()
    assert not worker.ended.is_set()
    assert not client.closed
    if late:
        times.append(61.0)
    else:
        far.say(messages.TERMINATE)
        await scene.turn()
    worker.timers.tick()
    assert worker.ended.is_set()
