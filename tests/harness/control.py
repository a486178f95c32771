"""A control process in this process, with fake workers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.waiting import free_port
from pglido.cli.child import own_user
from pglido.control.pooler import Pooler
from pglido.control.reload import read
from pglido.control.sockets import Listeners
from pglido.ipc.shared_counters import SharedCounters

FAKE = (sys.executable, str(Path(__file__).parent / "fake_worker.py"))

CONFIG = """
[pglido]
user = "{user}"
listen_port = {port}
unix_socket_dir = ""
admin_users = ["admin"]
shutdown_timeout = {shutdown_timeout}
stats_period = {stats_period}

[databases.app]
host = "127.0.0.1"
port = 5432
pool_size = {pool_size}

[users.alice]
password = "secret"
"""


def write_config(
    path: Path, port: int, pool_size: int = 4, shutdown_timeout: int = 30, stats_period: float = 60, more: str = ""
) -> Path:
    given = {"pool_size": pool_size, "shutdown_timeout": shutdown_timeout, "stats_period": stats_period}
    path.write_text(CONFIG.format(user=own_user(), port=port, **given) + more)
    return path


class Line:
    """A connection to a fake worker that speaks in lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\n")
        return (await self.reader.readline()).decode().strip()

    async def until(self, text: str, wanted: Callable[[str], bool]) -> str:
        """Ask the same again until the answer is right."""
        answer = "nothing"
        try:
            async with asyncio.timeout(20):
                while not wanted(answer := await self.say(text)):
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{text}: the last answer was {answer!r}") from None
        return answer


class Running:
    """The pooler under test."""

    def __init__(self, pooler: Pooler, port: int, config: Path) -> None:
        self.pooler = pooler
        self.port = port
        self.config = config
        self.lines: list[Line] = []

    async def line(self) -> Line:
        line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        self.lines.append(line)
        return line

    async def line_to(self, worker: int) -> Line:
        """The kernel chooses a worker by hash: connect until it is the right one."""
        while True:
            line = await self.line()
            if await line.say("index") == str(worker):
                return line

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def running(
    tmp_path: Path, workers: int = 2, wait: bool = True, **settings: object
) -> AsyncIterator[Running]:
    port = free_port()
    path = write_config(tmp_path / "pglido.toml", port, **settings)  # type: ignore[arg-type]
    loaded = read(str(path))
    listeners = Listeners.open(loaded.config.settings, workers)
    counters = SharedCounters.create(workers)
    pooler = Pooler(loaded, workers, listeners, counters, command=FAKE)
    task = asyncio.create_task(pooler.run())
    it = Running(pooler, port, path)
    try:
        if wait:
            async with asyncio.timeout(30):
                await pooler.up.wait()
        yield it
    finally:
        for line in it.lines:
            line.writer.close()
        pooler.shutdown("now")
        await task
        listeners.close()
        counters.close()


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as found:
        yield found


@pytest.fixture
def fake_mode(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def choose(mode: str) -> None:
        monkeypatch.setitem(os.environ, "FAKE_WORKER", mode)

    return choose
