# cython: annotation_typing=True
"""The transport on epoll: one wait for all sockets, a call for each receive and send. Compiled only (Cython).

In a round all that came is received first, and what is to be sent is sent last (see `rounds`).

Rule: the kernel holds a pointer to each link that is watched; so a link is kept alive until it is forgotten, and after
that until the round is over, for the kernel may still name it.
"""

import os
from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.errno import errno
from cython.cimports.pglido.transport.kernel import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    recv,
)
from cython.cimports.pglido.transport.poller import monotonic, tell, wanted
from cython.cimports.pglido.transport.rounds import CALM

from .connection import Link, Watched
from .poller import BUFFER
from .rounds import Rounds

# Bytes that a round receives before it deals with them; only what is used of it is in memory.
ARRIVALS = 8 * BUFFER


class EpollBackend(Rounds):
    """The transport on an epoll instance of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        # Not zeroed, and so not in memory yet.
        self.arrivals = PyByteArray_FromStringAndSize(cython.NULL, ARRIVALS)
        self.graves: list[Any] = []

    def buffers(self) -> list[int]:
        return [*Rounds.buffers(self), len(self.arrivals)]

    def add(self, link: Link) -> None:
        event = cython.declare(epoll_event)
        event.events = EPOLLIN
        event.data.ptr = cython.cast(cython.p_void, link)
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, link.fd, cython.address(event)):
            raise OSError(errno, "epoll_ctl")
        link.mask = EPOLLIN
        link.watched = True
        if link.early is not None:
            self.ripe.append(link)
        # The kernel holds a pointer now.
        Py_INCREF(link)

    def forget(self, link: Link) -> None:
        if link.watched:
            link.watched = False
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, link.fd, cython.NULL)
            self.graves.append(link)
            Py_DECREF(link)

    def ask_for(self, link: Link, mask: cython.uint) -> None:
        event = cython.declare(epoll_event)
        if mask != link.mask and link.watched:
            event.events = mask
            event.data.ptr = cython.cast(cython.p_void, link)
            epoll_ctl(self.epoll, EPOLL_CTL_MOD, link.fd, cython.address(event))
            link.mask = mask
            if link.early is not None and mask & EPOLLIN:
                self.ripe.append(link)

    def watch_descriptor(self, watched: Watched, fd: cython.int, events: cython.int, known: cython.bint) -> None:
        event = cython.declare(epoll_event)
        event.events = wanted(events)
        event.data.ptr = cython.cast(cython.p_void, watched)
        if epoll_ctl(self.epoll, EPOLL_CTL_MOD if known else EPOLL_CTL_ADD, fd, cython.address(event)):
            raise OSError(errno, os.strerror(errno))

    def unwatch_descriptor(self, watched: Watched, fd: cython.int) -> None:
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, cython.NULL)
        self.graves.append(watched)

    def turn(self, timeout: cython.int) -> list[Any]:
        events = cython.declare(epoll_event[256])
        link: Link
        thing: object
        got: cython.int
        i: cython.int
        out: list[Any] = []
        if self.front is not None:
            self.flush()
        paused = self.paused
        if paused:
            self.paused = []
        if self.gone or self.ripe or paused:
            timeout = 0
        with cython.nogil:
            got = epoll_wait(self.epoll, cython.address(events[0]), 256, timeout)
        self.now = self.mark = monotonic()
        self.receive_all(events, got)
        for i in range(got):
            thing = cython.cast(object, events[i].data.ptr)
            if isinstance(thing, Link):
                link = cython.cast(Link, thing)
                self.bring(link, events[i].events)
            else:
                tell(cython.cast(Watched, thing), events[i].events, out)
        if self.ripe:
            ripe = self.ripe
            self.ripe = []
            for link in ripe:
                self.ripen(link)
        if paused:
            self.resume_paused(paused)
        while self.gone:
            self.guard(self.gone.pop(), 0)
        if self.front is not None:
            self.flush()
        if self.graves:
            self.graves.clear()
        return out

    def receive_all(self, events: cython.pointer[epoll_event], count: cython.int) -> None:
        """Receive what came, as far as it is little and there is room."""
        link: Link
        thing: object
        i: cython.int
        got: cython.Py_ssize_t
        place: cython.p_char = PyByteArray_AS_STRING(self.arrivals)
        room: cython.Py_ssize_t = ARRIVALS
        for i in range(count):
            if not events[i].events & EPOLLIN or room < BUFFER:
                continue
            thing = cython.cast(object, events[i].data.ptr)
            if not isinstance(thing, Link):
                continue
            link = cython.cast(Link, thing)
            if link.mask & EPOLLIN and not link.much and link.early is None and self.ours(link):
                got = recv(link.fd, place, BUFFER, 0)
                # Of an end it is told again, when it is the link's turn.
                if got > 0:
                    link.fresh = place
                    link.fresh_size = got
                    if got >= link.bulk:
                        link.much = CALM
                    place += got
                    room -= got

    def flush(self) -> None:
        """Send what was queued."""
        link: Link | None = self.front
        while link is not None:
            self.settled(link)
            link = link.behind
        self.landed()
