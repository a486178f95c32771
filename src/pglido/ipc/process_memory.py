"""What memory this process has, and how its allocator gives back what is freed."""

from __future__ import annotations

import ctypes
import os

PAGE = os.sysconf("SC_PAGE_SIZE")
# Values from this size on have pages of their own, which go back to the kernel as soon as they are freed.
OWN_PAGES = 128 * 1024
# Of mallopt(3).
M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None)
# Opened when the process starts: out of descriptors, it is still to be read.
_STATM = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def resident() -> int:
    """Bytes of this process in memory, shared ones included."""
    return _statm()[1] * PAGE


def private() -> int:
    """Bytes of this process in memory that are no file's and not shared, so that sums count nothing twice."""
    pages = _statm()
    return (pages[1] - pages[2]) * PAGE


def _statm() -> list[int]:
    """Pages: all, resident, and of these of files or shared (see proc(5))."""
    return [int(word) for word in os.pread(_STATM, 256, 0).split()]


def give_back_large() -> None:
    """Have large values go back to the kernel when they are freed; nothing where the C library is another than glibc.

    By itself glibc does so only until the first one is freed: from then on those of its size, up to 32 MB, come from
    the heap, of which small values behind them keep the pages.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, OWN_PAGES)


def trim() -> None:
    """Give back to the kernel what is free in the heap; it takes a millisecond for ten megabytes, or less."""
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
