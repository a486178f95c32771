"""Moments that are met exactly: asyncio's timers wait by whole milliseconds from whenever the loop last had to do."""

import asyncio
import ctypes
import heapq
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_NANO = 1_000_000_000


class _Spec(ctypes.Structure):
    """An itimerspec: interval and value, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Timerfd:
    """A timerfd (timerfd_create(2)) and those who wait for it. Raises OSError where there is none to be had."""

    def __init__(self) -> None:
        self._fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._fired)

    def at(self, when: float) -> "asyncio.Future[None]":
        """Done at `when`, in seconds of the monotonic clock."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._count += 1
        heapq.heappush(self._waiting, (when, self._count, future))
        if self._waiting[0][2] is future:
            self._set()
        return future

    def close(self) -> None:
        """Nobody waits any more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _set(self) -> None:
        # A value of 0 would stop the timer.
        value = max(1, int(self._waiting[0][0] * _NANO))
        spec = _Spec(0, 0, value // _NANO, value % _NANO)
        _LIBC.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None)

    def _fired(self) -> None:
        os.read(self._fd, 8)
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
        if self._waiting:
            self._set()
