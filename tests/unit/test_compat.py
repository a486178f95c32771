"""What pglido asks of Python's internals is there, and means what it is taken for, on the Python that runs this."""

import asyncio
import ctypes

import pytest

from pglido import compat


def test_ready_queue_has_what_is_due() -> None:
    loop = asyncio.SelectorEventLoop()
    ready = compat.ready_queue(loop)
    assert not ready
    loop.call_soon(loop.stop)
    assert len(ready) == 1
    loop.call_later(60, loop.stop)
    assert len(ready) == 1
    loop.run_forever()
    assert not ready
    assert compat.ready_queue(loop) is ready
    loop.close()


def test_coroutine_is_stepped_through_a_future_without_a_task() -> None:
    loop = asyncio.SelectorEventLoop()
    future: asyncio.Future[str] = loop.create_future()

    async def job() -> str:
        return await future

    steps = job()
    awaited = steps.send(None)
    assert awaited is future
    compat.accept_yielded(future)
    future.set_result("done")
    with pytest.raises(StopIteration) as stop:
        steps.send(None)
    assert stop.value.value == "done"
    loop.close()


def test_acknowledged_future_can_be_awaited_by_a_task_too() -> None:
    async def both() -> list[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def job() -> str:
            return await future

        steps = job()
        compat.accept_yielded(steps.send(None))
        task = asyncio.create_task(job())
        await asyncio.sleep(0)
        future.set_result("done")
        steps.close()
        return [await task]

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(both()) == ["done"]


def test_hashing_library_has_openssl() -> None:
    assert ctypes.CDLL(compat.hashing_library()).SHA256_Init
