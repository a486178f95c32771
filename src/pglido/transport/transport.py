# cython: annotation_typing=True
"""All sockets of one worker: rounds, and what an event of a link means. Compiled only (Cython).

Rules:
1. What is received is dealt with at once (see `buffering` for what can't be sent on at once).
2. Nothing here knows what the bytes say: those of HANDLED links go to the `Handler`, those of RAW links to the peer,
   and all others to `inbox`.
3. Nothing here calls the kernel: the backend does, which is a class below this one (`Poller` has what is asked of it).
"""

from typing import Any

import cython
from cython.cimports.pglido.transport.kernel import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from cython.cimports.pglido.transport.poller import coarse, monotonic

from .buffering import Buffering
from .connection import COLLECT, CONNECTING, HANDLED, RAW, Link, wake
from .handler import Handler

# A round should be over before clients notice it, in seconds; of one that takes longer the log tells.
OVERLONG = 0.1


class Transport(Buffering):
    """The links of one worker, asyncio's own descriptors included, and the rounds that serve them.

    `handler` deals with what they bring. `paused` are links that have had their share of this round, and go on in the
    next, whether or not anything comes.

    A round begins at `now`. Until `mark` it is known what its time went to; of single events `slowest` took longest,
    `worst` seconds. Between two rounds `mark` is the end of the last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handler = Handler()
        self.paused: list[Any] = []
        self.limit = OVERLONG
        self.mark = 0.0
        self.worst = 0.0
        self.slowest: Link | None = None
        self.slow_kind = 0
        self.now = monotonic()

    # Rounds.

    def turn(self, timeout: cython.int) -> list[Any]:
        """One round: wait up to `timeout` ms (-1: for ever), serve the links, return asyncio's events."""
        raise NotImplementedError

    def serve(self, timeout: cython.double, ready: Any) -> list[Any]:
        """Serve the links for up to `timeout` seconds (below 0: for ever), until asyncio has something to do.

        That is: events of its own descriptors, which are returned, or callbacks in `ready`, its own queue.
        """
        began: cython.double = monotonic()
        end: cython.double = began + timeout
        wait: cython.double = timeout
        if self.mark and began - self.mark > self.limit:
            self.overlong(began - self.mark)
        while True:
            out = self.turn(-1 if timeout < 0 else int(wait * 1000 + 0.999))
            self.mark = coarse()
            if self.mark - self.now > self.limit:
                self.overlong(self.mark - self.now)
            if self.slowest is not None:
                self.slowest = None
                self.worst = 0
            if out or ready or (timeout >= 0 and self.now >= end):
                return out
            wait = end - self.now

    def resume_paused(self, paused: list[Any]) -> None:
        """These had their share of the last round."""
        link: Link
        for link in paused:
            try:
                self.handler.go_on(link)
            except Exception:
                self.handler.failed(link)

    def overlong(self, seconds: cython.double) -> None:
        self.handler.overlong(seconds, self.slowest, self.worst, self.slow_kind)

    # Events.

    def meet(self, link: Link) -> None:
        """Begin to watch a link, and deal at once with what has come already.

        With TCP_DEFER_ACCEPT something has. This saves an event, and on a ring a poll that would be cancelled.
        """
        got: cython.Py_ssize_t = self.receive_now(link)
        self.add(link)
        if got > 0:
            self.store(link, self.data, got)
            try:
                wake(link)
            except Exception:
                self.handler.failed(link)

    def guard(self, link: Link, events: cython.uint) -> None:
        """Deal with an event (none: the connection broke). A bug met there ends this connection, not the worker."""
        try:
            if events:
                self.on_event(link, events)
            else:
                self.lost(link)
        except Exception:
            self.handler.failed(link)
        now: cython.double = coarse()
        if now != self.mark:
            # The kernel's tick has come, at most a thousand times a second.
            self.spent(link, now)

    def spent(self, link: Link, now: cython.double) -> None:
        """So much of the round went to this event."""
        took: cython.double = now - self.mark
        self.mark = now
        if took > self.worst:
            self.worst = took
            self.slowest = link
            self.slow_kind = link.doing()

    def on_event(self, link: Link, events: cython.uint) -> None:
        """Something happened on a link."""
        got: cython.Py_ssize_t
        if link.mode == CONNECTING:
            # Silent until the coroutine has looked.
            self.unmask(link)
            wake(link)
            return
        if events & EPOLLOUT:
            self.drain(link)
            if link.closed:
                return
        if not events & EPOLLIN:
            if events & EPOLLHUP and not link.mask & EPOLLIN and (link.mode == RAW or link.read_to_end):
                # It has hung up, but what it sent before is still to be read, once the other can take it.
                self.forget(link)
                link.parked = True
            elif events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP):
                self.lost(link)
            return
        if not link.mask & EPOLLIN:
            return
        got = self.receive(link)
        if got > 0 and link.tls is not None:
            got = self.open(link, link.tls, got)
        if got == 0:
            return
        if got < 0:
            self.lost(link)
        elif link.mode == HANDLED:
            self.handler.data(link, self.data, got)
        elif link.mode == RAW:
            if link.peer is not None:
                self.transmit(link.peer, self.data, got)
        else:
            self.store(link, self.data, got)
            wake(link)

    def lost(self, link: Link) -> None:
        """The peer closed the connection, or it broke."""
        if link.closed:
            return
        link.eof = True
        if link.after_close:
            self.close(link)
        elif link.mode == COLLECT or link.mode == CONNECTING:
            self.forget(link)
            if link.waiter is None:
                self.handler.lost(link)
            wake(link)
        else:
            self.handler.lost(link)
