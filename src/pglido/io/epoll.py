# cython: annotation_typing=True
"""The pump on epoll: one wait for all sockets, a call for each receive and send. Compiled only (Cython).

Rule: the kernel holds a pointer to each link that is watched; so a link is kept alive until it is forgotten, and after
that until the round is over, for the kernel may still name it.
"""

import os
from typing import Any

import cython
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.errno import errno
from cython.cimports.pglido.io.kernel import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
)
from cython.cimports.pglido.io.poller import monotonic, tell, wanted

from .links import Link, Watched
from .pump import Pump


class EpollPump(Pump):
    """The pump on an epoll instance of its own."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        self.graves: list[Any] = []

    def add(self, link: Link) -> None:
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

    def send_some(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        return self.send_now(link, data, size)

    def settled(self, link: Link) -> bool:
        return True

    def receive(self, link: Link) -> cython.Py_ssize_t:
        return self.receive_now(link)

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
        with cython.nogil:
            got = epoll_wait(self.epoll, cython.address(events[0]), 256, timeout)
        self.now = monotonic()
        for i in range(got):
            thing = cython.cast(object, events[i].data.ptr)
            if isinstance(thing, Link):
                link = cython.cast(Link, thing)
                if not link.closed:
                    self.guard(link, events[i].events)
            else:
                tell(cython.cast(Watched, thing), events[i].events, out)
        while self.gone:
            self.guard(self.gone.pop(), 0)
        if self.graves:
            self.graves.clear()
        return out
