"""Drivers cancel and terminate each other by the process ids that they know their connections by."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest

from drivers.test_asyncpg import connect
from drivers.test_pg8000 import native
from drivers.test_psycopg import connect as connect_psycopg
from harness.pooler import Pooler
from harness.waiting import eventually

TERMINATE = "SELECT pg_terminate_backend"


def is_terminated(target: psycopg.Connection) -> None:
    """The client finds out at its next statement, or the one after: true only says that the signal was sent.

    Where libpq reads the reason behind an answer, it takes it for a notice, and then says that the connection is gone.
    """

    def finds_out() -> bool:
        try:
            target.execute("SELECT 1")
        except psycopg.OperationalError:
            return True
        return False

    eventually(finds_out, what="the end of a client that was terminated")
    assert target.closed


@pytest.mark.parametrize("how", [f"{TERMINATE}(%s)", f"{TERMINATE}(%b)", f"{TERMINATE}({{}})"])
@pytest.mark.parametrize("pipelined", [False, True])
def test_psycopg(pool: Pooler, how: str, pipelined: bool) -> None:
    with connect_psycopg(pool, autocommit=True) as asker, connect_psycopg(pool) as target:
        target.execute("SELECT 1")
        target.commit()
        pid = target.info.backend_pid
        text, parameters = how.format(pid), [pid] if "%" in how else None
        if pipelined:
            with asker.pipeline():
                asked = asker.execute(text, parameters)
        else:
            asked = asker.execute(text, parameters)
        assert asked.fetchone() == (True,)
        is_terminated(target)


ASYNCPG: dict[str, Callable[[asyncpg.Connection, int], Awaitable[object]]] = {
    "parameter": lambda asker, pid: asker.fetchval(f"{TERMINATE}($1)", pid),
    "constant": lambda asker, pid: asker.fetchval(f"{TERMINATE}({pid})"),
    "simple": lambda asker, pid: asker.execute(f"{TERMINATE}({pid})"),
}


@pytest.mark.parametrize("how", ASYNCPG)
async def test_asyncpg(pool: Pooler, how: str) -> None:
    async with connect(pool) as asker:
        for _ in range(2):
            async with connect(pool) as target:
                gone = asyncio.Event()
                target.add_termination_listener(lambda _conn, gone=gone: gone.set())
                assert await ASYNCPG[how](asker, target.get_server_pid()) in (True, "SELECT 1")
                async with asyncio.timeout(20):
                    await gone.wait()
                assert target.is_closed()


async def test_asyncpg_cancels(pool: Pooler) -> None:
    async with connect(pool) as asker, connect(pool) as target:
        task = asyncio.create_task(target.fetchval("SELECT pg_sleep(50)"))
        while not await asker.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(50)'"):
            await asyncio.sleep(0)
        assert await asker.fetchval("SELECT pg_cancel_backend($1)", target.get_server_pid())
        with pytest.raises(asyncpg.QueryCanceledError):
            await task
        assert await target.fetchval("SELECT 1") == 1


def test_pg8000(pool: Pooler) -> None:
    with native(pool) as asker, connect_psycopg(pool) as target:
        assert asker.run(f"{TERMINATE}(:pid)", pid=target.info.backend_pid) == [[True]]
        is_terminated(target)
