"""A coroutine that goes on in the very round in which its link has something for it.

A task of asyncio's would be woken by way of a future, the loop's queue and a handle, each time. A login waits two or
three times, and a storm of logins is what a pooler is there for.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

from .. import compat
from .connection import Link


@coroutine
def news(link: Link) -> Generator[Link, None, None]:
    """Wait until something happens on `link`; only inside of an `InlineTask`."""
    yield link


class InlineTask:
    """Runs `job`, which reports its own errors; it may await `news` and futures, but not what needs a task.

    `failed` is told of an exception that got out, which is a bug. `_awaited`: None while the job runs, and at the end.
    """

    __slots__ = ("_awaited", "_failed", "_job")

    def __init__(self, job: Coroutine[Any, Any, None], failed: Callable[[BaseException], None]) -> None:
        self._job = job
        self._failed = failed
        self._awaited: asyncio.Future[Any] | Link | None = None

    def step(self, link: Link | None = None) -> None:
        """Go on until the next wait; `link` is what has news."""
        self._go(self._job.send, None)

    def cancel(self) -> None:
        """Raise CancelledError where it waits; nothing happens where the job itself says so, or has ended."""
        awaited = self._awaited
        if isinstance(awaited, Link):
            awaited.waiter = None
            self._go(self._job.throw, asyncio.CancelledError())
        elif awaited is not None:
            awaited.cancel()

    def _go(self, resume: Callable[[Any], Any], value: BaseException | None) -> None:
        self._awaited = None
        try:
            awaited = resume(value)
        except (StopIteration, asyncio.CancelledError):
            return
        except BaseException as error:
            self._failed(error)
            return
        self._awaited = awaited
        if isinstance(awaited, Link):
            awaited.waiter = self.step
        else:
            compat.accept_yielded(awaited)
            awaited.add_done_callback(self._done)

    def _done(self, future: "asyncio.Future[Any]") -> None:
        self.step()
