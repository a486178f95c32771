"""Passwords are checked beside the loop: a key derivation takes from a millisecond to a third of a second.

Rules:
1. One at a time, in a thread of its own: hashlib lets go of the interpreter meanwhile, and a storm of logins leaves the
   processors to those who work.
2. Networks take turns, so that whoever tries many passwords from one of them keeps nobody else waiting for more than
   one. Of each network so many may wait; login timeouts hold for them.
3. Every other turn is for logins to servers, where any wait: many networks can't keep servers from being opened.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ...auth.errors import AuthError
from .networks import MOST, network_of

T = TypeVar("T")
Job = tuple["asyncio.Future[Any]", Callable[[], Any]]


class Hashing:
    """The checks of one worker: `waiting` has those of each network that are still to be done, in turn, `own` those of
    logins to servers.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Job]] = {}
        self.own: deque[Job] = deque()
        self._was_own = False
        self._thread = ThreadPoolExecutor(1, "hashing")
        self._busy = False

    async def run(self, address: str, work: Callable[[], T]) -> T:
        """What `work` returns or raises, which may take long, and does nothing but arithmetic. Raises AuthError.

        `address` is the client's, ``host:port`` or ``unix``.
        """
        network = network_of(address)
        queue = self.waiting.get(network)
        if queue is None:
            queue = self.waiting[network] = deque()
        if len(queue) >= MOST:
            text = "too many passwords are being checked"
            raise AuthError("53300", text, f"{text}: {MOST} of this network wait")
        return await self._turn(queue, work)

    async def run_own(self, work: Callable[[], T]) -> T:
        """The same for a login to a server."""
        return await self._turn(self.own, work)

    async def _turn(self, queue: deque[Job], work: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.append((future, work))
        if not self._busy:
            self._next()
        return await future

    def _next(self) -> None:
        """Begin with the next one that anybody still waits for."""
        self._busy = False
        while not self._busy and (self.own or self.waiting):
            future, work = self._taken()
            if not future.done():
                self._begin(future, work)

    def _taken(self) -> Job:
        """Whose turn it is."""
        self._was_own = bool(self.own) and not (self._was_own and self.waiting)
        if self._was_own:
            return self.own.popleft()
        network = next(iter(self.waiting))
        queue = self.waiting.pop(network)
        job = queue.popleft()
        if queue:
            # Behind all others.
            self.waiting[network] = queue
        return job

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
