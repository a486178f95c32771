# cython: annotation_typing=True
"""One wait in the kernel for all sockets, asyncio's own included, by epoll. Compiled only (Cython).

Rules:
1. The kernel holds a pointer to each link that is watched; so a link is kept alive until it is forgotten, and after
   that until the round is over, for the kernel may still name it.
2. A link is closed by `close` only.
3. What an event means is the pump's business (`guard`).
"""

import os
import ssl
from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.errno import EAGAIN, EINTR, errno
from cython.cimports.pglido.io.kernel import (
    CLOCK_MONOTONIC,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    clock_gettime,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    recv,
    send,
    timespec,
)

from .links import HANDSHAKE, Link, Watched, wake

# One receive takes at most this much: the size of a large TLS flight, and more than a page of rows.
BUFFER = 65536


def monotonic() -> float:
    """What `time.monotonic` says, without a call through Python."""
    time = cython.declare(timespec)
    clock_gettime(CLOCK_MONOTONIC, cython.address(time))
    now: float = time.tv_sec + time.tv_nsec * 1e-9
    return now


class Poller:
    """The epoll instance of a worker, and the buffer that everything is received into."""

    def __init__(self) -> None:
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.graves: list[Any] = []
        self.gone: list[Any] = []
        self.now = monotonic()

    def guard(self, link: Link, events: cython.uint) -> None:
        """Deal with an event of a link (none: the connection broke)."""
        raise AssertionError("the pump deals with events")

    def add(self, link: Link) -> None:
        """Begin to watch a link."""
        event = cython.declare(epoll_event)
        event.events = EPOLLIN
        event.data.ptr = cython.cast(cython.p_void, link)
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, link.fd, cython.address(event)):
            raise OSError(errno, "epoll_ctl")
        link.mask = EPOLLIN
        link.watched = True
        # The kernel holds a pointer now.
        Py_INCREF(link)

    def forget(self, link: Link) -> None:
        """Watch it no more; its descriptor stays open."""
        if link.watched:
            link.watched = False
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, link.fd, cython.NULL)
            self.graves.append(link)
            Py_DECREF(link)

    def close(self, link: Link) -> None:
        """Close the socket; the link is dead from here on. Harmless when it is closed already."""
        if link.closed:
            return
        self.forget(link)
        link.closed = link.eof = True
        if link.tls is not None:
            link.tls.close()
        else:
            os.close(link.fd)
        link.out = None
        link.inbox = None
        wake(link)

    def release(self, link: Link) -> int:
        """Stop watching, and hand the descriptor (a plain one) to the caller, who owns it from here on."""
        self.forget(link)
        link.closed = link.eof = True
        return link.fd

    def peek(self, link: Link) -> int:
        """The first byte that came, which stays to be read; -1 when none is there."""
        byte: cython.uchar = 0
        got: cython.int = recv(link.fd, cython.address(byte), 1, MSG_PEEK)
        found: int = byte if got == 1 else -1
        return found

    def ask_for(self, link: Link, mask: cython.uint) -> None:
        """Tell the kernel for which events to wake us, if it does not know."""
        event = cython.declare(epoll_event)
        if mask != link.mask and link.watched:
            event.events = mask
            event.data.ptr = cython.cast(cython.p_void, link)
            epoll_ctl(self.epoll, EPOLL_CTL_MOD, link.fd, cython.address(event))
            link.mask = mask

    def handshake(self, link: Link, writing: cython.bint) -> None:
        """From now on the waiter is told when the socket can be read (or written, if that is what TLS needs)."""
        link.mode = HANDSHAKE
        self.ask_for(link, EPOLLOUT if writing else EPOLLIN)

    def unmask(self, link: Link) -> None:
        """Ask for no events but errors."""
        self.ask_for(link, 0)

    def send_some(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Bytes sent, 0 if none can be now, -1 if never again."""
        sent: cython.Py_ssize_t
        if link.tls is not None:
            try:
                return link.tls.send(data[:size])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return 0
            except OSError:
                return -1
        sent = send(link.fd, data, size, MSG_NOSIGNAL)
        if sent < 0:
            return 0 if errno in (EAGAIN, EINTR) else -1
        return sent

    def receive(self, link: Link) -> cython.Py_ssize_t:
        """Bytes now in the buffer; 0 for none yet, -1 for the end of the connection."""
        got: cython.Py_ssize_t
        if link.tls is not None:
            try:
                got = link.tls.recv_into(self.view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return 0
            except OSError:
                return -1
            return got if got else -1
        got = recv(link.fd, PyByteArray_AS_STRING(self.buffer), BUFFER, 0)
        if got > 0:
            return got
        if got < 0 and (errno in (EAGAIN, EINTR)):
            return 0
        return -1

    def watch_descriptor(self, watched: Watched, fd: cython.int, events: cython.int, known: cython.bint) -> None:
        """Watch (or, `known`, watch for other things) a descriptor of asyncio's; `events` as in `selectors`."""
        event = cython.declare(epoll_event)
        event.events = (EPOLLIN if events & 1 else 0) | (EPOLLOUT if events & 2 else 0)
        event.data.ptr = cython.cast(cython.p_void, watched)
        if epoll_ctl(self.epoll, EPOLL_CTL_MOD if known else EPOLL_CTL_ADD, fd, cython.address(event)):
            raise OSError(errno, os.strerror(errno))

    def unwatch_descriptor(self, watched: Watched, fd: cython.int) -> None:
        """Watch it no more. It may be closed already."""
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, cython.NULL)
        self.graves.append(watched)

    def serve(self, timeout: cython.double, ready: Any) -> list[Any]:
        """Serve the links for up to `timeout` seconds (below 0: for ever), until asyncio has something to do.

        That is: events of its own descriptors, which are returned, or callbacks in `ready`, its own queue.
        """
        end: cython.double = monotonic() + timeout
        wait: cython.double = timeout
        while True:
            out = self.turn(-1 if timeout < 0 else int(wait * 1000 + 0.999))
            if out or ready or (timeout >= 0 and self.now >= end):
                return out
            wait = end - self.now

    def turn(self, timeout: cython.int) -> list[Any]:
        """One round: wait up to `timeout` ms (-1: for ever), serve the links, return asyncio's events."""
        events = cython.declare(epoll_event[256])
        link: Link
        watched: Watched
        thing: object
        got: cython.int
        i: cython.int
        bits: cython.uint
        out: list[Any] = []
        with cython.nogil:
            got = epoll_wait(self.epoll, cython.address(events[0]), 256, timeout)
        self.now = monotonic()
        for i in range(got):
            thing = cython.cast(object, events[i].data.ptr)
            bits = events[i].events
            if isinstance(thing, Link):
                link = cython.cast(Link, thing)
                if not link.closed:
                    self.guard(link, bits)
            else:
                watched = cython.cast(Watched, thing)
                if watched.call is not None:
                    watched.call()
                    continue
                # An error is both, so that whoever waits for either finds out.
                bits = (
                    (3 if bits & (EPOLLHUP | EPOLLERR) else 0)
                    | (1 if bits & EPOLLIN else 0)
                    | (2 if bits & EPOLLOUT else 0)
                )
                out.append((watched.key, bits & watched.key.events))
        while self.gone:
            self.guard(self.gone.pop(), 0)
        if self.graves:
            self.graves.clear()
        return out
