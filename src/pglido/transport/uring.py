# cython: annotation_typing=True
"""The transport on io_uring: one call to the kernel per round says all that is new and takes all that happened.

Compiled only (Cython), and only where liburing is.

Rules:
1. A link has up to two requests that wait with the kernel: `coming` (a receive that goes on and on, or a poll) and
   `going` (a poll). What is wanted of a link is changed at any time, and told to the kernel before the next wait
   (`say`): a request that no longer fits is cancelled, and a new one is made when its end has been heard.
2. A request that waits holds a reference to its link, until its end.
3. Handled and raw links are received by the ring. All others are polled, as are those that carry much.
4. What is queued goes with the next wait. A send never waits with the kernel: it is over when that call returns, and
   has a result only if not all was taken. (Sends that wait are heard of in a second call per round: a 1,000-row result
   cost a quarter more.)
5. After reading was switched off at most what one round can bring still comes, for the receive is cancelled then.
"""

from collections import deque
from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.ref import Py_DECREF
from cython.cimports.libc.errno import EAGAIN, EINTR, ENOBUFS
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.pglido.transport.kernel import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from cython.cimports.pglido.transport.poller import monotonic, tell
from cython.cimports.pglido.transport.rounds import CALM
from cython.cimports.pglido.transport.uring_library import (
    ECANCELED,
    IORING_CQE_BUFFER_SHIFT,
    IORING_CQE_F_BUFFER,
    IORING_CQE_F_MORE,
    io_uring_cqe,
)
from cython.cimports.pglido.transport.uring_requests import COMING, GOING, NOTHING, POLL, SENT, named, which, whose

from .connection import Link, Watched
from .rounds import Rounds
from .uring_requests import UringRequests


class UringBackend(UringRequests):
    """The transport on an io_uring of its own. Raises OSError where the kernel does not allow it, or is too old."""

    def __init__(self) -> None:
        super().__init__()
        # Results that wait for the next round.
        self.aside: deque[Any] = deque()

    def buffers(self) -> list[int]:
        return [*Rounds.buffers(self), self.ring.lent_bytes()]

    # What happened.

    def enter(self, timeout: cython.int) -> None:
        """Say all that is new, then wait up to `timeout` ms (-1: for ever) for a result."""
        self.say_all()
        if self.ripe or self.gone or self.aside or self.paused:
            timeout = 0
        try:
            self.ring.wait(timeout)
        finally:
            if self.front is not None:
                self.land()

    def turn(self, timeout: cython.int) -> list[Any]:
        link: Link
        out: list[Any] = []
        self.enter(timeout)
        self.now = self.mark = monotonic()
        paused = self.paused
        if paused:
            self.paused = []
        while self.aside:
            name, result, flags = self.aside.popleft()
            self.done(name, result, flags, out)
        self.reap(out)
        if self.ripe:
            ripe = self.ripe
            self.ripe = []
            for link in ripe:
                self.ripen(link)
        if paused:
            self.resume_paused(paused)
        while self.gone:
            self.guard(self.gone.pop(), 0)
        return out

    def land(self) -> None:
        """What the sends of this call came to: each has a result by now, or has gone out."""
        number: cython.int
        cqe: cython.pointer[io_uring_cqe]
        for number in range(self.ring.look()):
            cqe = self.ring.results[number]
            if which(cqe.user_data) == SENT:
                self.fell_short(cython.cast(Link, whose(cqe.user_data)), cqe.res)
                # The rest of the round passes it by.
                cqe.user_data = 0
        self.landed()

    def fell_short(self, link: Link, result: cython.int) -> None:
        """The kernel took `result` bytes of what is queued, or refused with an error (below 0)."""
        if result == -EAGAIN or result == -EINTR:
            result = 0
        self.went(link, PyByteArray_AS_STRING(self.outgoing) + link.queued_at, link.queued, max(result, -1))

    def reap(self, out: list[Any]) -> None:
        """Deal with the results that are there."""
        cqe: cython.pointer[io_uring_cqe] = self.ring.first()
        name: uint64_t
        result: cython.int
        flags: cython.uint
        while cqe != cython.NULL:
            name = cqe.user_data
            result = cqe.res
            flags = cqe.flags
            self.ring.seen(cqe)
            self.done(name, result, flags, out)
            cqe = self.ring.first()

    def done(self, name: uint64_t, result: cython.int, flags: cython.uint, out: list[Any]) -> None:
        """A request ended, or has more (IORING_CQE_F_MORE)."""
        kind: cython.int = which(name)
        if name == 0:
            return
        thing: object = whose(name)
        if kind == COMING:
            self.done_in(cython.cast(Link, thing), result, flags)
        elif kind == GOING:
            self.done_out(cython.cast(Link, thing), result, flags)
        elif kind == SENT:
            # Too many results for one call: it can't be told any more what of this link has gone out.
            self.fell_short(cython.cast(Link, thing), -ENOBUFS)
            return
        else:
            self.done_watched(cython.cast(Watched, thing), result, out)
        if not flags & IORING_CQE_F_MORE:
            Py_DECREF(thing)

    def done_in(self, link: Link, result: cython.int, flags: cython.uint) -> None:
        number: cython.int
        kind: cython.int = link.coming
        if not flags & IORING_CQE_F_MORE:
            link.coming = NOTHING
            if link.watched:
                self.change(link)
        if flags & IORING_CQE_F_BUFFER:
            number = flags >> IORING_CQE_BUFFER_SHIFT
            if result > 0 and not link.closed:
                self.received(link, self.ring.buffer(number), result)
            self.ring.lend(number)
        elif link.closed or result in (-ECANCELED, -ENOBUFS, -EAGAIN, -EINTR):
            return
        elif kind == POLL:
            bits: cython.uint = EPOLLERR if result < 0 else result
            link.half = link.half or bits & EPOLLRDHUP != 0
            bits &= link.mask | EPOLLHUP | EPOLLERR
            if bits and link.watched:
                self.guard(link, bits)
        else:
            link.ended = True
            self.ripen(link)

    def received(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> None:
        """Bytes of a link are in a buffer, that goes back to the kernel afterwards."""
        if size >= link.bulk:
            if not link.much:
                self.change(link)
            link.much = CALM
        link.fresh = data
        link.fresh_size = size
        self.bring(link, EPOLLIN)

    def ripen(self, link: Link) -> None:
        if not link.closed:
            self.change(link)
        Rounds.ripen(self, link)

    def done_out(self, link: Link, result: cython.int, flags: cython.uint) -> None:
        bits: cython.uint = EPOLLERR if result < 0 else result
        link.half = link.half or bits & EPOLLRDHUP != 0
        bits &= EPOLLOUT | EPOLLHUP | EPOLLERR
        if not flags & IORING_CQE_F_MORE:
            link.going = False
        elif bits and not link.going_ends:
            link.going_ends = True
            self.ring.cancel(named(link, GOING))
        if not link.watched:
            return
        self.change(link)
        if result == -ECANCELED or not bits:
            return
        bits &= link.mask | EPOLLHUP | EPOLLERR
        if bits:
            self.guard(link, bits)

    def done_watched(self, watched: Watched, result: cython.int, out: list[Any]) -> None:
        watched.polled = False
        if watched.fd < 0:
            return
        self.changed.append(watched)
        if result == -ECANCELED:
            return
        bits: cython.uint = EPOLLERR if result < 0 else result
        bits &= watched.mask | EPOLLHUP | EPOLLERR
        if bits:
            tell(watched, bits, out)

    # The end of a link.

    def release(self, link: Link) -> int:
        out: list[Any] = []
        cqe: cython.pointer[io_uring_cqe]
        self.settled(link)
        self.forget(link)
        while True:
            self.enter(0)
            # What is meant for others waits for the next round.
            cqe = self.ring.first()
            while cqe != cython.NULL:
                found = (cqe.user_data, cqe.res, cqe.flags)
                self.ring.seen(cqe)
                if found[0] and whose(found[0]) is link:
                    self.done(found[0], found[1], found[2], out)
                else:
                    self.aside.append(found)
                cqe = self.ring.first()
            if link.coming == NOTHING and not link.going:
                break
        return Rounds.release(self, link)
