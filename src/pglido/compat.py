"""What pglido asks of CPython's and asyncio's internals: all of it stands here, tested on every supported version."""

import _hashlib
import asyncio
from collections import deque
from typing import Any


def ready_queue(loop: asyncio.BaseEventLoop) -> "deque[Any]":
    """The loop's queue of callbacks that are due; the same object for the loop's whole life."""
    ready: deque[Any] = loop._ready  # type: ignore[attr-defined]
    return ready


def accept_yielded(future: "asyncio.Future[Any]") -> None:
    """Acknowledge a future that `await` has yielded; who steps a coroutine without a Task must, as Task does."""
    future._asyncio_future_blocking = False


def hashing_library() -> str | None:
    """The file of `hashlib`'s extension, which is linked to OpenSSL; None where it is part of Python itself."""
    return getattr(_hashlib, "__file__", None)
