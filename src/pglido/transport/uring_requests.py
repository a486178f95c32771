# cython: annotation_typing=True
"""What is wanted of links, and how that is said to an io_uring: the rules are in `uring`. Compiled only (Cython)."""

from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.pglido.transport.kernel import EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_NOSIGNAL
from cython.cimports.pglido.transport.poller import wanted
from cython.cimports.pglido.transport.uring_library import (
    IOSQE_BUFFER_SELECT,
    IOSQE_CQE_SKIP_SUCCESS,
    MSG_DONTWAIT,
    MSG_WAITALL,
    io_uring_prep_poll_add,
    io_uring_prep_poll_multishot,
    io_uring_prep_recv_multishot,
    io_uring_prep_send,
    io_uring_sqe,
    io_uring_sqe_set_data64,
)
from cython.cimports.pglido.transport.uring_requests import COMING, GOING, NOTHING, OTHER, POLL, RECEIVE, SENT, named

from .connection import Link, Watched
from .rounds import Rounds
from .uring_kernel import UringKernel


class UringRequests(Rounds):
    """The transport on an io_uring, as far as it speaks; `UringBackend` listens.

    `changed` are links about which something is to be said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[Any] = []
        self.ring = UringKernel()

    # What is wanted.

    def add(self, link: Link) -> None:
        link.mask = EPOLLIN
        link.watched = True
        self.change(link)

    def forget(self, link: Link) -> None:
        if link.watched:
            link.watched = False
            self.change(link)

    def ask_for(self, link: Link, mask: cython.uint) -> None:
        if mask != link.mask and link.watched:
            link.mask = mask
            self.change(link)

    def change(self, link: Link) -> None:
        """Something about this link is to be told to the kernel before the next wait."""
        if not link.changed:
            link.changed = True
            self.changed.append(link)

    def watch_descriptor(self, watched: Watched, fd: cython.int, events: cython.int, known: cython.bint) -> None:
        watched.fd = fd
        watched.mask = wanted(events)
        self.changed.append(watched)

    def unwatch_descriptor(self, watched: Watched, fd: cython.int) -> None:
        watched.fd = -1
        self.changed.append(watched)

    # Saying it.

    def say(self, link: Link) -> None:
        """Tell the kernel what is new about a link."""
        link.changed = False
        self.say_out(link)
        self.say_in(link)

    def say_in(self, link: Link) -> None:
        want: cython.int = NOTHING
        mask: cython.uint = link.mask & ~EPOLLOUT
        sqe: cython.pointer[io_uring_sqe]
        if link.watched:
            if mask & EPOLLIN and (link.early is not None or link.ended):
                self.ripe.append(link)
            elif mask & EPOLLIN and not link.much and self.ours(link):
                want = RECEIVE
            else:
                want = POLL
        if link.coming != NOTHING:
            # A poll that tells of more than is wanted does no harm, once; nor does one that tells of what is to be
            # received by the ring from then on.
            if want == link.coming and (want == RECEIVE or not mask & ~link.coming_mask):
                return
            if want == RECEIVE and link.coming == POLL and link.coming_mask & EPOLLIN:
                return
            if not link.coming_ends:
                link.coming_ends = True
                self.ring.cancel(named(link, COMING))
            return
        if want == NOTHING:
            return
        if want == RECEIVE:
            sqe = self.ring.entry()
            io_uring_prep_recv_multishot(sqe, link.fd, cython.NULL, 0, 0)
            sqe.flags |= IOSQE_BUFFER_SELECT
            sqe.buf_group = 0
            io_uring_sqe_set_data64(sqe, named(link, COMING))
            Py_INCREF(link)
        else:
            self.poll(link, mask, COMING)
        link.coming = want
        link.coming_mask = mask
        link.coming_ends = False

    def say_out(self, link: Link) -> None:
        if not link.watched:
            if link.going and not link.going_ends:
                link.going_ends = True
                self.ring.cancel(named(link, GOING))
        elif not link.going and link.mask & EPOLLOUT:
            self.poll(link, EPOLLOUT, GOING)
            link.going = True
            link.going_ends = False

    def poll(self, link: Link, mask: cython.uint, kind: cython.int) -> None:
        """Ask for events. That the peer has ended its side is told unasked, as errors are (Linux: IO_POLL_UNMASK).

        Once that is known, what waits for anything else is a poll that goes on: it tells of what is new only.
        """
        sqe: cython.pointer[io_uring_sqe] = self.ring.entry()
        if link.half and not mask & (EPOLLIN | EPOLLRDHUP):
            io_uring_prep_poll_multishot(sqe, link.fd, mask)
        else:
            io_uring_prep_poll_add(sqe, link.fd, mask)
        io_uring_sqe_set_data64(sqe, named(link, kind))
        Py_INCREF(link)

    def say_watched(self, watched: Watched) -> None:
        sqe: cython.pointer[io_uring_sqe]
        if watched.polled:
            # Another mask is told when the end of the first has been heard.
            if watched.fd < 0 or watched.mask & ~watched.polled_mask:
                self.ring.cancel(named(watched, OTHER))
            return
        if watched.fd < 0:
            return
        sqe = self.ring.entry()
        io_uring_prep_poll_add(sqe, watched.fd, watched.mask)
        io_uring_sqe_set_data64(sqe, named(watched, OTHER))
        watched.polled = True
        watched.polled_mask = watched.mask
        Py_INCREF(watched)

    def say_all(self) -> None:
        """Tell the kernel all that is new, and have it send what is queued."""
        thing: object
        link: Link | None = self.front
        sqe: cython.pointer[io_uring_sqe]
        data: cython.p_char = PyByteArray_AS_STRING(self.outgoing)
        for thing in self.changed:
            if isinstance(thing, Link):
                self.say(cython.cast(Link, thing))
            else:
                self.say_watched(cython.cast(Watched, thing))
        self.changed.clear()
        while link is not None:
            if link.queued:
                sqe = self.ring.entry()
                io_uring_prep_send(
                    sqe, link.fd, data + link.queued_at, link.queued, MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT
                )
                sqe.flags |= IOSQE_CQE_SKIP_SUCCESS
                io_uring_sqe_set_data64(sqe, named(link, SENT))
            link = link.behind
