"""A coroutine that is stepped in its link's round is cancelled where it waits, wherever that is, and only there."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pglido.transport.connection import Link, wake
from pglido.transport.inline_task import InlineTask, news


class Job:
    """Waits for news of a link, or for a future; `said` is what became of it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.link = Link(-1)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.visit: InlineTask

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> InlineTask:
        """Step until the first wait."""
        self.visit = InlineTask(self._told(work), lambda error: self.said.append(repr(error)))
        self.visit.step()
        return self.visit

    async def _told(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
            self.said.append("done")
        except asyncio.CancelledError:
            self.said.append("cancelled")
            # As the end of its connection does.
            self.visit.cancel()
            raise

    async def link_first(self) -> None:
        await news(self.link)
        await self.future

    async def future_first(self) -> None:
        await self.future
        await news(self.link)

    async def itself(self) -> None:
        self.visit.cancel()
        await self.future


@pytest.mark.parametrize("where", ["link_first", "future_first"])
@pytest.mark.parametrize("gone_on", [False, True])
async def test_it_is_cancelled_where_it_waits(where: str, gone_on: bool) -> None:
    job = Job()
    job.begin(getattr(job, where))
    if gone_on and where == "link_first":
        wake(job.link)
    elif gone_on:
        job.future.set_result(None)
        await asyncio.sleep(0)
    job.visit.cancel()
    await asyncio.sleep(0)
    assert job.said == ["cancelled"]
    # What it waited for has nothing to say to it any more.
    assert job.link.waiter is None
    job.visit.cancel()
    await asyncio.sleep(0)
    assert job.said == ["cancelled"]


async def test_it_can_not_cancel_itself() -> None:
    job = Job()
    job.visit = InlineTask(job._told(job.itself), lambda error: job.said.append(repr(error)))
    job.visit.step()
    assert job.said == []
    job.future.set_result(None)
    await asyncio.sleep(0)
    assert job.said == ["done"]
    job.visit.cancel()
    assert job.said == ["done"]
