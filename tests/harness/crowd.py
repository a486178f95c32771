"""Work for many clients at once: threads that report the first failure."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


def together(count: int, work: Callable[[int], T], within: float = 60.0) -> list[T]:
    """Run `work(number)` in `count` threads that start together; their results in order, or the first failure."""
    gate = threading.Barrier(count)

    def one(number: int) -> T:
        gate.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(one, number) for number in range(count)]
        return [each.result(within) for each in waiting]


class Meanwhile(Generic[T]):
    """Run `work` in a thread during a `with` block; `result()` waits for what it gave or raised."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    @property
    def done(self) -> bool:
        """True once it has ended, well or badly."""
        return self._future.done()

    def result(self, within: float = 30.0) -> T:
        """What it gave; raises what it raised."""
        return self._future.result(within)
