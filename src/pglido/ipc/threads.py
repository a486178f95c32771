"""Threads in a process that may run out of descriptors."""

from __future__ import annotations

import contextlib
import ctypes


def prepare() -> None:
    """Load what glibc loads when Python ends threads that still wait (pthread_exit): it aborts where it can't."""
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")
