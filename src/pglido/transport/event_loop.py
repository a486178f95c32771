"""The transport as asyncio's selector: one wait in the kernel serves clients, servers and every coroutine."""

import asyncio
import selectors
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from .. import compat
from .connection import Watched
from .transport import Transport


class KeyMap(Mapping[Any, selectors.SelectorKey]):
    """What `get_map` returns: keys by file object, where a file object is a descriptor or has one."""

    def __init__(self, reactor: "Reactor") -> None:
        self._reactor = reactor

    def __len__(self) -> int:
        return len(self._reactor.keys)

    def __iter__(self) -> Iterator[Any]:
        return iter([key.fileobj for key in self._reactor.keys.values()])

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._reactor.get_key(fileobj)


class Reactor(selectors.BaseSelector):
    """A selector whose `select` serves the transport's links, and returns for asyncio's sake only."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.ready: deque[Any] = deque()
        self.keys: dict[int, selectors.SelectorKey] = {}  # by descriptor
        self._watched: dict[int, Watched] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As in `selectors`."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd in self.keys:
            raise KeyError(f"{fileobj!r} is already registered")
        return self._put(fileobj, fd, events, data, False)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As in `selectors`."""
        key = self.get_key(fileobj)
        return self._put(key.fileobj, key.fd, events, data, True)

    def _put(self, fileobj: Any, fd: int, events: int, data: Any, known: bool) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fd, events, data)
        watched = self._watched.get(fd) or Watched(key)
        watched.key = key
        self.transport.watch_descriptor(watched, fd, events, known)
        self._watched[fd] = watched
        self.keys[fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As in `selectors`."""
        key = self.get_key(fileobj)
        del self.keys[key.fd]
        self.transport.unwatch_descriptor(self._watched.pop(key.fd), key.fd)
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """As in `selectors`; also finds a file object that was closed meanwhile."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd in self.keys:
            return self.keys[fd]
        for key in self.keys.values():
            if key.fileobj is fileobj:
                return key
        raise KeyError(f"{fileobj!r} is not registered")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As in `selectors`; asyncio asks it for sockets (3.13) and for descriptors."""
        return KeyMap(self)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve links until asyncio has something to do: an event, a callback, or `timeout` seconds gone by."""
        events: list[tuple[selectors.SelectorKey, int]] = self.transport.serve(
            -1.0 if timeout is None else max(0.0, timeout), self.ready
        )
        return events

    def close(self) -> None:
        """As in `selectors`."""
        self.keys.clear()
        self._watched.clear()


def new_loop(transport: Transport) -> asyncio.AbstractEventLoop:
    """An asyncio event loop that runs on the transport."""
    reactor = Reactor(transport)
    loop = asyncio.SelectorEventLoop(reactor)
    # The transport returns to asyncio as soon as a link's event has scheduled a callback: the queue says whether so.
    reactor.ready = compat.ready_queue(loop)
    return loop
