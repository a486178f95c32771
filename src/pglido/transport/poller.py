# cython: annotation_typing=True
"""What is asked of the kernel, without saying how: `EpollBackend` and `UringBackend` do. Compiled only (Cython).

Rules:
1. A link is closed by `close` only, and kept alive for as long as the kernel may name it.
2. A backend tells of an event by `Transport.guard`, with the bits of epoll, again and again while it lasts.
3. Bytes are taken by `receive` while EPOLLIN is dealt with, and are at `data` until that is done.
4. Bytes taken by `send_some` will be sent, in order, unless the connection breaks; `settled` tells when they are.
"""

import os
from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.libc.errno import EAGAIN, EINTR, errno
from cython.cimports.pglido.transport.kernel import (
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    MSG_NOSIGNAL,
    clock_gettime,
    close,
    recv,
    send,
    timespec,
)

from .connection import CONNECTING, Link, Watched, wake

# One receive takes at most this much: more than a page of rows.
BUFFER = 65536


def monotonic() -> float:
    """What `time.monotonic` says, without a call through Python."""
    time = cython.declare(timespec)
    clock_gettime(CLOCK_MONOTONIC, cython.address(time))
    now: float = time.tv_sec + time.tv_nsec * 1e-9
    return now


def coarse() -> float:
    """The same as of the kernel's last tick, some milliseconds ago at most: a quarter of the cost."""
    time = cython.declare(timespec)
    clock_gettime(CLOCK_MONOTONIC_COARSE, cython.address(time))
    now: float = time.tv_sec + time.tv_nsec * 1e-9
    return now


class Poller:
    """The sockets of a worker, asyncio's own included, and the buffer that is received into."""

    def __init__(self) -> None:
        self.buffer = bytearray(BUFFER)
        self.data = cython.NULL
        # Links that broke while something was sent; told of before the round is over.
        self.gone: list[Any] = []

    # The backend's part.

    def add(self, link: Link) -> None:
        """Begin to watch a link, for EPOLLIN."""
        raise NotImplementedError

    def forget(self, link: Link) -> None:
        """Watch it no more; its descriptor stays open."""
        raise NotImplementedError

    def ask_for(self, link: Link, mask: cython.uint) -> None:
        """From now on tell of these events of a watched link, and of errors."""
        raise NotImplementedError

    def send_some(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """How many bytes are taken: 0 if none can be now (EPOLLOUT tells when), -1 if never again."""
        raise NotImplementedError

    def settled(self, link: Link) -> bool:
        """Has the kernel got all that was taken for this link? If not, EPOLLOUT tells when it has."""
        raise NotImplementedError

    def receive(self, link: Link) -> cython.Py_ssize_t:
        """Bytes now at `data`, which was told of by EPOLLIN; 0 for none yet, -1 for the end of the connection."""
        raise NotImplementedError

    def watch_descriptor(self, watched: Watched, fd: cython.int, events: cython.int, known: cython.bint) -> None:
        """Watch (or, `known`, watch for other things) a descriptor of asyncio's; `events` as in `selectors`."""
        raise NotImplementedError

    def unwatch_descriptor(self, watched: Watched, fd: cython.int) -> None:
        """Watch it no more. It may be closed already."""
        raise NotImplementedError

    # What both share.

    def close(self, link: Link) -> None:
        """Close the socket; the link is dead from here on. Harmless when it is closed already."""
        if link.closed:
            return
        self.settled(link)
        self.forget(link)
        link.closed = link.eof = True
        if close(link.fd) < 0:
            raise OSError(errno, os.strerror(errno))
        link.out = None
        link.inbox = None
        wake(link)

    def release(self, link: Link) -> int:
        """Stop watching, and hand the descriptor (a plain one) to the caller, who owns it from here on.

        Bytes that came and were not dealt with are in `inbox`, those that could not be sent in `out`.
        """
        self.forget(link)
        link.closed = link.eof = True
        return link.fd

    def connecting(self, link: Link) -> None:
        """From now on the waiter is told when the socket can be written."""
        link.mode = CONNECTING
        self.ask_for(link, EPOLLOUT)

    def unmask(self, link: Link) -> None:
        """Ask for no events but errors."""
        self.ask_for(link, 0)

    def send_now(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Bytes sent by a call to the kernel, 0 if none can be now, -1 if never again."""
        sent: cython.Py_ssize_t
        sent = send(link.fd, data, size, MSG_NOSIGNAL)
        if sent < 0:
            return 0 if errno in (EAGAIN, EINTR) else -1
        return sent

    def receive_now(self, link: Link) -> cython.Py_ssize_t:
        """`receive` by a call to the kernel, into the one buffer."""
        got: cython.Py_ssize_t
        self.data = PyByteArray_AS_STRING(self.buffer)
        got = recv(link.fd, self.data, BUFFER, 0)
        if got > 0:
            return got
        if got < 0 and (errno in (EAGAIN, EINTR)):
            return 0
        return -1

    def buffers(self) -> list[int]:
        """Bytes of each buffer that all links share; of some only what was used is in memory."""
        return [len(self.buffer)]


def wanted(events: cython.int) -> cython.uint:
    """The bits of epoll for what a selector is asked for."""
    return (EPOLLIN if events & 1 else 0) | (EPOLLOUT if events & 2 else 0)


def tell(watched: Watched, bits: cython.uint, out: list[Any]) -> None:
    """Have `call` done, or put what a selector says of the bits of epoll into `out`."""
    if watched.call is not None:
        watched.call()
        return
    # An error is both, so that whoever waits for either finds out.
    found: cython.int = (
        (3 if bits & (EPOLLHUP | EPOLLERR) else 0) | (1 if bits & EPOLLIN else 0) | (2 if bits & EPOLLOUT else 0)
    )
    out.append((watched.key, found & watched.key.events))
