"""Workers are started, watched, restarted and ended; leases and cancels find their way between them."""

from __future__ import annotations

import asyncio
import os
import signal

from harness.control import Running, running
from pglido.control import supervisor as supervisor_module
from pglido.control.commands import Patience
from pglido.ipc.shared_counters import SharedCounter
from pglido.ipc.snapshot import Subject


async def test_every_worker_has_a_listening_socket_and_gets_its_configuration_first(it: Running):
    for index in range(2):
        line = await it.line_to(index)
        assert (await line.say("told")).startswith("Configure")


async def test_a_dead_worker_is_replaced_and_its_clients_alone_are_dropped(it: Running):
    victim, other = await it.line_to(0), await it.line_to(1)
    before = await victim.say("pid")
    assert await victim.say("crash") == ""
    await it.until(lambda: it.pooler.supervisor.workers[0].restarts == 1 and it.pooler.supervisor.ready)
    assert await other.say("index") == "1"
    assert await (await it.line_to(0)).say("pid") != before
    assert it.pooler.counters.get(SharedCounter.CRASHES, 0) == 1


async def test_connections_in_the_queue_outlive_their_worker(it: Running):
    victim = await it.line_to(0)
    await victim.say("crash")
    waiting = [await it.line() for _ in range(32)]  # some go to the socket of the dead worker
    answers = [await line.say("index") for line in waiting]
    assert set(answers) == {"0", "1"}


async def test_leases_of_a_dead_worker_go_to_those_who_wait(it: Running):
    first, second = await it.line_to(0), await it.line_to(1)
    await first.say("want app alice 4")
    await first.until("held", lambda held: held == "4")
    os.kill(int(await first.say("pid")), signal.SIGSTOP)
    await second.say("want app alice 4")
    os.kill(it.pooler.supervisor.workers[0].pid, signal.SIGKILL)
    await second.until("held", lambda held: held == "4")
    assert it.pooler.broker.held(("app", "alice")) == 4


async def test_the_board_forgets_a_dead_worker(it: Running):
    victim, _ = await it.line_to(0), await it.line_to(1)
    assert it.pooler.counters.get(SharedCounter.CLIENTS, 0) >= 1
    await victim.say("crash")
    await it.until(lambda: it.pooler.counters.get(SharedCounter.CLIENTS, 0) == 0)
    assert it.pooler.counters.get(SharedCounter.CLIENTS, 1) >= 1


async def test_idle_leases_move_between_workers(it: Running):
    first, second = await it.line_to(0), await it.line_to(1)
    await first.say("want app alice 4")
    await first.until("held", lambda held: held == "4")
    await first.say("want app alice 0")
    await second.say("want app alice 4")
    await second.until("held", lambda held: held == "4")
    assert await first.say("held") == "0"


async def test_a_database_that_does_not_exist_gets_no_lease(it: Running):
    line = await it.line_to(0)
    await line.say("want nowhere alice 4")
    await line.say("want app alice 1")
    await line.until("held", lambda held: held == "1")
    assert it.pooler.broker.held(("nowhere", "alice")) == 0


async def test_a_cancel_reaches_the_worker_that_has_the_client(it: Running):
    first, second = await it.line_to(0), await it.line_to(1)
    await first.say("cancel 1 4711 32")
    await second.until("told", lambda told: "CancelHere:4711:32" in told)
    await first.say("cancel 77 4711 32")
    assert await first.say("index") == "0"


async def test_a_worker_that_breaks_the_channel_is_replaced(it: Running, monkeypatch):
    monkeypatch.setattr(supervisor_module, "GRACE", 0.2)
    victim = await it.line_to(0)
    await victim.say("break")
    await it.until(lambda: it.pooler.supervisor.workers[0].restarts == 1 and it.pooler.supervisor.ready)


async def test_a_worker_that_cannot_boot_stops_everything_with_its_text(tmp_path, fake_mode):
    fake_mode("fail")
    async with running(tmp_path, wait=False) as it:
        await it.until(lambda: it.pooler.failure is not None)
        assert it.pooler.failure.endswith("the moon is in the wrong phase")
        assert all(worker.restarts == 0 for worker in it.pooler.supervisor.workers)


async def test_workers_that_crash_before_any_was_ready_make_no_crash_loop(tmp_path, fake_mode, monkeypatch):
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE", 0.001)
    fake_mode("crash")
    async with running(tmp_path, workers=1, wait=False) as it:
        await it.until(lambda: it.pooler.failure is not None)
        assert "ended with status 9" in it.pooler.failure


async def test_the_pause_grows_from_crash_to_crash(it: Running, monkeypatch, caplog):
    monkeypatch.setattr(supervisor_module, "LONGEST_PAUSE_READY", 0.3)
    for number in range(1, 4):
        line = await it.line_to(0)
        await line.say("crash")
        await it.until(
            lambda number=number: (
                it.pooler.supervisor.workers[0].restarts == number and it.pooler.supervisor.ready
            )
        )
    pauses = [record.args[-1] for record in caplog.records if "restart in" in record.msg]
    assert pauses == [0.1, 0.2, 0.3]


async def test_a_worker_that_does_not_stop_is_killed(tmp_path, fake_mode, monkeypatch):
    monkeypatch.setattr(supervisor_module, "GRACE", 0.2)
    fake_mode("deaf")
    async with running(tmp_path, workers=1) as it:
        pid = it.pooler.supervisor.workers[0].pid
    assert not os.path.exists(f"/proc/{pid}")


async def test_a_worker_that_does_not_answer_is_left_out(tmp_path, fake_mode, monkeypatch):
    monkeypatch.setattr("pglido.control.pooler.TELLING", Patience(timeout=0.1, silence=1.0))
    fake_mode("mute")
    async with running(tmp_path, workers=1) as it:
        assert await it.pooler.ask(Subject.POOLS) == {}


async def test_a_worker_that_dies_while_it_is_asked_is_left_out(it: Running):
    os.kill(it.pooler.supervisor.workers[0].pid, signal.SIGSTOP)
    asking = asyncio.create_task(it.pooler.ask(Subject.POOLS))
    await asyncio.sleep(0)
    os.kill(it.pooler.supervisor.workers[0].pid, signal.SIGKILL)
    assert list(await asking) == [1]
