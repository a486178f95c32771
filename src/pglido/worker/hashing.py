"""Passwords are checked beside the loop: a key derivation takes from a millisecond to a third of a second.

Rules:
1. One at a time, in a thread of its own: hashlib lets go of the interpreter meanwhile, and a storm of logins leaves the
   processors to those who work.
2. Addresses take turns, so that whoever tries many passwords from one of them keeps nobody else waiting for more than
   one. Of each address so many may wait; login timeouts hold for them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ..auth.errors import AuthError

T = TypeVar("T")
Job = tuple["asyncio.Future[Any]", Callable[[], Any]]

# How many of one address may wait at once: as many clients as a large application connects with, all with passwords
# that were not seen yet.
MOST = 1000


class Hashing:
    """The checks of one worker; `waiting` has those of each address that are still to be done, in turn."""

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Job]] = {}
        self._thread = ThreadPoolExecutor(1, "hashing")
        self._busy = False

    async def run(self, address: str, work: Callable[[], T]) -> T:
        """What `work` returns or raises, which may take long, and does nothing but arithmetic. Raises AuthError."""
        queue = self.waiting.setdefault(address, deque())
        if len(queue) >= MOST:
            text = "too many passwords are being checked"
            raise AuthError("53300", text, f"{text}: {MOST} of this address wait")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.append((future, work))
        if not self._busy:
            self._next()
        return await future

    def _next(self) -> None:
        """Begin with the next one that anybody still waits for."""
        self._busy = False
        while self.waiting and not self._busy:
            address = next(iter(self.waiting))
            queue = self.waiting.pop(address)
            future, work = queue.popleft()
            if queue:
                # Behind all others.
                self.waiting[address] = queue
            if not future.done():
                self._begin(future, work)

    def _begin(self, future: "asyncio.Future[Any]", work: Callable[[], Any]) -> None:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:
            # There is no memory, or no process number, for the thread; the next one tries again.
            future.set_exception(AuthError("53000", "passwords can't be checked now", f"no thread: {error}"))
            return
        self._busy = True
        running.add_done_callback(partial(self._done, future))

    def _done(self, future: "asyncio.Future[Any]", running: "asyncio.Future[Any]") -> None:
        error = None if running.cancelled() else running.exception()
        if not future.done():
            if running.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(running.result())
        self._next()
