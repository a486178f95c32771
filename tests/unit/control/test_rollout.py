"""A reload is in force in all processes or in none: with workers that refuse, die, hang, or begin in between."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from itertools import pairwise

import pytest

from harness.control import Running, running, write_config
from pglido.config.errors import ConfigError
from pglido.control import supervisor as supervisor_module


def pool_size(it: Running) -> int:
    found = it.pooler.config.pool("app", "alice")
    assert found is not None
    return found.pool_size


async def told(it: Running, worker: int) -> str:
    line = await it.line_to(worker)
    return await line.say("told")


async def test_what_one_worker_cannot_take_no_worker_takes(tmp_path, fake_mode, caplog):
    fake_mode("refuses")
    async with running(tmp_path) as it:
        write_config(it.config, it.port, pool_size=9)
        with caplog.at_level(logging.INFO), pytest.raises(ConfigError) as refused:
            await it.pooler.reload()
        pid = it.pooler.supervisor.workers[1].pid
        assert f"worker 1 (process {pid}): the moon is in the wrong phase" in str(refused.value)
        assert pool_size(it) == 4
        for worker in range(2):
            assert (await told(it, worker)).split(",")[1:] == ["Prepare", "Abort:1"]
        assert "pool_size" not in caplog.text
        assert "reload failed, the old configuration stays in force" in caplog.text


async def test_a_worker_that_dies_over_it_is_not_waited_for(tmp_path, fake_mode, monkeypatch):
    fake_mode("one dies")
    async with running(tmp_path) as it:
        write_config(it.config, it.port, pool_size=9)
        assert (await it.pooler.reload()).hung == set()
        assert pool_size(it) == 9
        await it.until(lambda: it.pooler.supervisor.ready)
        assert (await told(it, 0)).split(",")[0] == "Configure"


async def test_what_all_workers_die_of_does_not_come_into_force(tmp_path, fake_mode, monkeypatch):
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE", 0.5)
    fake_mode("dies")
    async with running(tmp_path) as it:
        write_config(it.config, it.port, pool_size=9)
        with pytest.raises(ConfigError, match=r"worker 0 .*ended while it prepared"):
            await it.pooler.reload()
        assert pool_size(it) == 4
        await it.until(lambda: it.pooler.supervisor.ready)


async def test_a_worker_that_hangs_over_it_is_not_waited_for_and_named(tmp_path, fake_mode):
    fake_mode("frozen")
    async with running(tmp_path) as it:
        other = await it.line_to(1)
        write_config(it.config, it.port, pool_size=9)
        assert 0 in (await it.pooler.reload()).hung
        assert pool_size(it) == 9
        await other.until("told", lambda told: "Prepare" in told.partition("Commit:1")[0] and "Commit:1" in told)


async def test_a_stopped_worker_takes_it_when_it_moves_again(it: Running):
    lines = [await it.line_to(worker) for worker in range(2)]
    pid = int(await lines[0].say("pid"))
    os.kill(pid, signal.SIGSTOP)
    write_config(it.config, it.port, pool_size=9)
    # The other one may be late, too, if the machine is busy, and is told so.
    assert 0 in (await it.pooler.reload()).hung
    assert pool_size(it) == 9
    os.kill(pid, signal.SIGCONT)
    for line in lines:
        await line.until("told", lambda told: "Prepare" in told.partition("Commit:1")[0] and "Commit:1" in told)


async def test_a_worker_that_begins_between_the_phases_takes_what_is_decided(it: Running):
    other = await it.line_to(1)
    victim = await it.line_to(0)
    stopped = int(await other.say("pid"))
    os.kill(stopped, signal.SIGSTOP)  # so that the first phase lasts
    write_config(it.config, it.port, pool_size=9)
    reloading = asyncio.create_task(it.pooler.reload())
    await victim.until("told", lambda told: "Prepare" in told)
    await victim.say("crash")
    await it.until(lambda: it.pooler.supervisor.workers[0].restarts == 1)
    await it.until(lambda: it.pooler.supervisor.workers[0].state == "ready")
    assert not reloading.done()
    os.kill(stopped, signal.SIGCONT)
    assert (await reloading).hung == set()
    for worker in range(2):
        assert "Configure,Prepare,Commit:1" in await told(it, worker)


async def test_reloads_wait_for_each_other(it: Running):
    for size in (5, 6, 7):
        write_config(it.config, it.port, pool_size=size)
        first = asyncio.create_task(it.pooler.reload())
        await asyncio.sleep(0)
        write_config(it.config, it.port, pool_size=size + 10)
        await asyncio.gather(first, it.pooler.reload())
        assert pool_size(it) == size + 10
    heard = (await told(it, 0)).split(",")
    numbers = []
    for before, after in pairwise(heard):
        if after.startswith("Commit"):
            numbers.append(int(after.partition(":")[2]))
            assert before == "Prepare"
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 6


async def test_a_configuration_that_changes_is_told_of_when_it_is_in_force(it: Running, capsys):
    write_config(it.config, it.port, pool_size=9)
    await it.pooler.reload()
    assert "databases.app.pool_size: 4 -> 9" in capsys.readouterr().err
    await it.pooler.reload()
    assert "nothing has changed" in capsys.readouterr().err


async def test_a_worker_that_cannot_boot_any_more_is_tried_again_and_again(it: Running, fake_mode, caplog, monkeypatch):
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE", 0.01)
    line = await it.line_to(0)
    fake_mode("fail")
    await line.say("crash")
    await it.until(lambda: it.pooler.supervisor.workers[0].restarts >= 3)
    assert it.pooler.failure is None
    assert caplog.text.count("the moon is in the wrong phase") >= 2
    pauses = [float(record.args[-1]) for record in caplog.records if "restart in" in record.msg]
    assert pauses[:3] == sorted(pauses[:3])
    fake_mode("")
    await it.until(lambda: it.pooler.supervisor.ready)


async def test_a_process_that_cannot_be_started_any_more_is_tried_again_and_again(it: Running, monkeypatch, caplog):
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE", 0.01)
    supervisor = it.pooler.supervisor
    command = supervisor._command
    line = await it.line_to(0)
    monkeypatch.setattr(supervisor, "_command", ("/no/such/program",))
    await line.say("crash")
    await it.until(lambda: supervisor.workers[0].restarts >= 3)
    assert it.pooler.failure is None
    assert "worker 0 cannot be started" in caplog.text
    monkeypatch.setattr(supervisor, "_command", command)
    await it.until(lambda: supervisor.ready)
