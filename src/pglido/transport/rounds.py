# cython: annotation_typing=True
"""What both backends do alike: a round first receives, then deals with what came, then sends. Compiled only (Cython).

So one kind of work follows on itself, and finds its code in the processor's caches: on epoll this saved a fifteenth.

Rules:
1. What is to be sent to handled and raw links is copied to `outgoing`, and goes when all has been dealt with. What the
   kernel does not take then becomes the link's `out`; while there is one, nothing is queued.
2. What was received before its link's turn is `fresh`, and dealt with in this round. If it is not wanted then, it is
   kept in `early`, and told of before anything else when it is. That is bounded by what one round can bring.
3. Links that carry much are received and sent by calls when it is their turn: a call per 64 KiB costs less than a copy
   of it, and what a peer sends ahead stays with the kernel.
"""

from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.string import memcpy
from cython.cimports.pglido.transport.kernel import EPOLLIN

from .connection import HANDLED, RAW, Link
from .transport import Transport

# Receives in a row that would have been little, after which a link that carried much no longer counts as such.
CALM = 8
# From here on bytes are sent by a call.
MUCH = 32768
# Bytes that can be queued in one round, of all links; only what is used of it is in memory.
OUTGOING = 1 << 20
# Of `early`, at most this much at once is dealt with.
SLICE = 65536


class Rounds(Transport):
    """The transport, without the calls to the kernel.

    From `front` to `back` goes the chain of links with something in `outgoing`, of which `filled` bytes are in use.
    `ripe` are those of which something is to be told without the kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        # Not zeroed, and so not in memory yet.
        self.outgoing = PyByteArray_FromStringAndSize(cython.NULL, OUTGOING)
        self.filled = 0
        self.front: Link | None = None
        self.back: Link | None = None
        self.ripe: list[Any] = []
        self.told = b""

    def buffers(self) -> list[int]:
        return [*Transport.buffers(self), len(self.outgoing)]

    def ours(self, link: Link) -> bool:
        """Does this link do as its round does? All others are read and written by calls, when it is their turn."""
        return link.mode == HANDLED or link.mode == RAW

    # Sending.

    def send_some(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        queue: cython.p_char = PyByteArray_AS_STRING(self.outgoing)
        held: cython.Py_ssize_t = link.queued
        if held + size < MUCH and self.filled + held + size <= OUTGOING and self.ours(link):
            if not link.flying:
                link.flying = True
                if self.back is None:
                    self.front = link
                else:
                    self.back.behind = link
                self.back = link
            if held and link.queued_at + held != self.filled:
                # Another link's bytes are behind it.
                memcpy(queue + self.filled, queue + link.queued_at, held)
                self.filled += held
            memcpy(queue + self.filled, data, size)
            self.filled += size
            link.queued = held + size
            link.queued_at = self.filled - link.queued
            return size
        if held and not self.settled(link):
            return 0
        if link.broken:
            return -1
        return self.send_now(link, data, size)

    def settled(self, link: Link) -> bool:
        data: cython.p_char
        size: cython.Py_ssize_t = link.queued
        if size == 0:
            return True
        data = PyByteArray_AS_STRING(self.outgoing) + link.queued_at
        link.queued = 0
        return self.went(link, data, size, self.send_now(link, data, size))

    def went(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t, sent: cython.Py_ssize_t) -> bool:
        """Of these queued bytes `sent` are with the kernel (-1: it takes no more); returns whether all is done."""
        if sent < 0:
            self.snap(link)
            return True
        if sent < size:
            link.out = bytearray(data[sent:size])
            self.out_changed(link)
            return False
        return True

    def landed(self) -> None:
        """All that was queued has been sent, or is in `out`."""
        link: Link | None = self.front
        behind: Link | None
        while link is not None:
            behind = link.behind
            link.behind = None
            link.flying = False
            link.queued = 0
            link = behind
        self.front = self.back = None
        self.filled = 0

    # Receiving.

    def receive(self, link: Link) -> cython.Py_ssize_t:
        got: cython.Py_ssize_t
        data: bytes
        if link.early is not None:
            data = link.early
            link.early = None
            if len(data) > SLICE:
                link.early = data[SLICE:]
                data = data[:SLICE]
                self.ripe.append(link)
            # It must stay until it is dealt with.
            self.told = data
            self.data = PyBytes_AS_STRING(data)
            return len(data)
        if link.fresh_size:
            self.data = link.fresh
            got = link.fresh_size
            link.fresh_size = 0
            return got
        got = self.receive_now(link)
        if link.much:
            link.much = link.much - 1 if got < link.bulk else CALM
        return got

    def bring(self, link: Link, events: cython.uint) -> None:
        """Tell of these events; `fresh` bytes that are not wanted now are kept for later."""
        if link.watched:
            self.guard(link, events)
        if link.fresh_size:
            if not link.closed:
                data: bytes = link.fresh[: link.fresh_size]
                link.early = data if link.early is None else link.early + data
                if link.mask & EPOLLIN:
                    self.ripe.append(link)
            link.fresh_size = 0

    def ripen(self, link: Link) -> None:
        """Tell of what was received earlier, or that it ended, if it is wanted now."""
        if (link.early is not None or link.ended) and link.watched and link.mask & EPOLLIN:
            self.guard(link, EPOLLIN)

    # The end of a link.

    def close(self, link: Link) -> None:
        if not link.closed:
            Transport.close(self, link)
            link.early = None

    def release(self, link: Link) -> int:
        self.settled(link)
        if link.fresh_size or link.early is not None:
            data: bytes = (link.early or b"") + link.fresh[: link.fresh_size]
            link.fresh_size = 0
            link.early = None
            link.inbox = data if link.inbox is None else link.inbox + data
        return Transport.release(self, link)
