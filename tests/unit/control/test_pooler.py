"""What the control process does again and again it goes on with, whatever goes wrong with one turn."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from harness.control import Running, running, write_config
from pglido import log as logs
from pglido.config.errors import ConfigError
from pglido.control import daemon
from pglido.ipc import process_memory


class Fails:
    """Fails at the first call, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise OSError(24, "Too many open files")
        return 0


async def test_workers_are_watched_after_a_look_that_failed(it: Running, monkeypatch, caplog):
    fails = Fails()
    monkeypatch.setattr(it.pooler.supervisor, "look", fails)
    await it.until(lambda: fails.calls > 1)
    assert "a turn of _watch failed" in caplog.text


async def test_memory_is_watched_after_a_look_that_failed(it: Running, monkeypatch, caplog):
    fails = Fails()
    monkeypatch.setattr(process_memory, "private", fails)
    await it.until(lambda: fails.calls > 1)
    assert "a turn of _look_at_memory failed" in caplog.text


async def test_averages_are_kept_after_a_turn_that_failed(tmp_path, monkeypatch, caplog):
    fails = Fails()
    async with running(tmp_path, stats_period=1) as it:
        monkeypatch.setattr(it.pooler.averages, "turn", fails)
        await it.until(lambda: fails.calls > 1)
    assert "a turn of _keep_stats failed" in caplog.text


async def test_signals_are_obeyed_after_one_that_failed(it: Running, monkeypatch, caplog):
    fails = Fails()
    monkeypatch.setitem(it.pooler.HANDLERS, signal.SIGUSR1, fails)
    for number in (1, 2):
        os.kill(os.getpid(), signal.SIGUSR1)
        await it.until(lambda number=number: fails.calls == number)
    assert "a turn of _obey failed" in caplog.text


async def test_a_message_that_could_not_be_dealt_with_ends_no_worker(it: Running, monkeypatch, caplog):
    fails = Fails()
    monkeypatch.setattr(it.pooler, "received", fails)
    first = await it.line_to(0)
    pid = await first.say("pid")
    await first.say("want app alice 1")
    await first.say("want app alice 2")
    await it.until(lambda: fails.calls > 1)
    assert await first.say("pid") == pid
    assert "bug: Want of worker 0 failed" in caplog.text


async def test_a_configuration_that_cannot_be_logged_with_comes_into_force_nowhere(it: Running, monkeypatch):
    made = []
    again = logs.Outputs.again

    def runs_out(outputs: logs.Outputs) -> logs.Outputs:
        made.append(outputs)
        if len(made) > len(it.pooler.supervisor.workers):
            raise OSError(24, "Too many open files")
        return again(outputs)

    line = await it.line_to(0)
    write_config(it.config, it.port, pool_size=9)
    monkeypatch.setattr(logs.Outputs, "again", runs_out)
    with pytest.raises(ConfigError, match="Too many open files"):
        await it.pooler.reload()
    found = it.pooler.config.pool("app", "alice")
    assert found is not None
    assert found.pool_size == 4
    assert await line.until("told", lambda told: "Abort" in told) == "Configure,Prepare,Abort:1"


async def test_what_systemd_cannot_be_told_is_logged_only(monkeypatch, caplog):
    def none_left(*_: object) -> object:
        raise OSError(24, "Too many open files")

    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setattr(daemon.socket, "socket", none_left)
    await asyncio.sleep(0)
    daemon.notify("STOPPING=1")
    assert "cannot notify systemd: Too many open files" in caplog.text
