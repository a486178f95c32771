# cython: annotation_typing=True
"""Links and the bytes that wait on either side of them: what is sent, and what is read only if it can be sent on.

Rules:
1. What the backend does not take is copied to the link it is for (`out`); the link that it came from isn't read until
   that is gone. So a connection at rest owns no buffer, and one at work holds at most about one buffer's worth.
2. A link is handled (bytes go to the handler), raw (bytes go to `peer` unseen), or it collects what comes in `inbox`
   for a coroutine that reads it (`Stream`).
3. A link's TLS seals what is sent at once, and opens what came at once: `out` is sealed, nothing waits in between.

Compiled only (Cython).
"""

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.pglido.transport.kernel import EPOLLIN, EPOLLOUT, EPOLLRDHUP

from .connection import COLLECT, CONNECTING, FLOW, KEEP, RAW, Link, wake
from .poller import BUFFER, Poller
from .tls_record import PIECE, TlsRecords

# A stream that nobody reads from (a login that floods) is read up to this many bytes.
INBOX_LIMIT = 65536


class Buffering(Poller):
    """The links of one worker."""

    def __init__(self) -> None:
        super().__init__()
        # What TLS says of one receive, and of the record before it that was cut.
        self.clear = bytearray(BUFFER + 2 * PIECE)
        self.clear_view = memoryview(self.clear)

    def buffers(self) -> list[int]:
        return [*Poller.buffers(self), len(self.clear)]

    # What they can deal with, and how they are used.

    def watch(self, link: Link) -> None:
        """Ask the kernel for just the events that this link can deal with now."""
        mask: cython.uint = 0
        reading: cython.int
        if not link.watched and not link.parked:
            return
        if link.out is not None or link.after_close:
            mask |= EPOLLOUT
        if link.after_close:
            pass
        elif link.mode == CONNECTING:
            mask |= EPOLLOUT
        elif link.mode == COLLECT:
            if not link.eof and (link.inbox is None or len(link.inbox) < INBOX_LIMIT):
                mask |= EPOLLIN
        elif link.mode == RAW:
            if link.peer is not None and link.peer.out is None:
                mask |= EPOLLIN
        else:
            reading = link.reading()
            if reading == FLOW:
                if link.peer is None or link.peer.out is None:
                    mask |= EPOLLIN
            elif reading == KEEP:
                # Rarely does more come; only then is the kernel asked not to tell.
                if link.inbox is None or len(link.inbox) < INBOX_LIMIT:
                    mask |= EPOLLIN
                else:
                    mask |= EPOLLRDHUP
        if link.parked:
            if mask & EPOLLIN and not link.closed:
                link.parked = False
                self.add(link)
            return
        self.ask_for(link, mask)

    def collect(self, link: Link) -> None:
        """From now on what comes waits in `inbox` for a coroutine."""
        link.mode = COLLECT
        self.watch(link)

    def join_raw(self, one: Link, other: Link) -> None:
        """From now on the bytes of each go to the other unseen."""
        one.mode = other.mode = RAW
        one.peer = other
        other.peer = one
        for link, peer in ((one, other), (other, one)):
            data = link.inbox
            link.inbox = None
            if data:
                self.send(peer, data)
        self.watch(one)
        self.watch(other)

    def secured(self, link: Link, tls: TlsRecords) -> None:
        """The handshake is over: from now on all is sealed, and what came behind it is in `inbox`, opened."""
        got: cython.Py_ssize_t
        link.tls = tls
        got = self.open(link, tls, 0)
        if got > 0:
            self.store(link, self.data, got)
        elif got < 0:
            self.gone.append(link)

    # Sending.

    def send(self, link: Link, data: bytes) -> None:
        """Send `data`, now or when the peer takes it. A broken connection shows in the next round."""
        if data and not link.closed:
            self.transmit(link, PyBytes_AS_STRING(data), len(data))

    def send_and_close(self, link: Link, data: bytes) -> None:
        """Send what is pending and `data`, then close; once all is taken."""
        self.send(link, data)
        if link.closed:
            return
        if link.broken or (link.out is None and self.settled(link)):
            self.close(link)
        else:
            link.after_close = True
            self.watch(link)

    def transmit(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> None:
        """Send bytes to a link, sealed where it has TLS."""
        sealed: bytes
        if link.closed:
            return
        if link.tls is None:
            self.carry(link, data, size)
            return
        try:
            sealed = link.tls.seal(data, size)
        except OSError:
            self.snap(link)
            return
        self.carry(link, PyBytes_AS_STRING(sealed), len(sealed))

    def snap(self, link: Link) -> None:
        """Nothing can be sent to this link any more; that is told of before the round is over."""
        link.broken = True
        link.out = None
        self.gone.append(link)

    def carry(self, link: Link, data: cython.p_char, size: cython.Py_ssize_t) -> None:
        """Send what the backend takes, and keep a copy of the rest for when it takes more."""
        sent: cython.Py_ssize_t = 0
        if link.broken:
            return
        if link.out is None:
            sent = self.send_some(link, data, size)
        if sent < 0:
            self.snap(link)
        elif sent < size:
            if link.out is None:
                link.out = bytearray(data[sent:size])
                self.out_changed(link)
            else:
                link.out += data[sent:size]

    def drain(self, link: Link) -> None:
        """The peer can take more."""
        size: cython.Py_ssize_t
        sent: cython.Py_ssize_t
        if link.out is None:
            if link.after_close and self.settled(link):
                self.close(link)
            else:
                self.watch(link)
            return
        size = len(link.out)
        sent = self.send_some(link, PyByteArray_AS_STRING(link.out), size)
        if sent < 0:
            self.snap(link)
            return
        if sent < size:
            del link.out[:sent]
            return
        link.out = None
        if link.after_close:
            if self.settled(link):
                self.close(link)
            return
        self.out_changed(link)
        if link.mode == COLLECT and link.waiter is not None:
            wake(link)

    def out_changed(self, link: Link) -> None:
        """`out` came or went: whoever fills it may be read, or not."""
        self.watch(link)
        if link.peer is not None:
            self.watch(link.peer)

    # Receiving.

    def open(self, link: Link, tls: TlsRecords, got: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """What `got` bytes that came by TLS say is at `data` from now on; returns how much it is, -1 for the end."""
        said: cython.Py_ssize_t = tls.open(self.data, got, self.clear_view)
        answer: bytes
        self.data = PyByteArray_AS_STRING(self.clear)
        if tls.going.pending:
            # An alert, or a new key.
            answer = tls.going.read()
            self.carry(link, PyBytes_AS_STRING(answer), len(answer))
        if said < -1:
            # The end comes behind these bytes.
            self.gone.append(link)
            said = -1 - said
        return said

    def store(self, link: Link, buf: cython.p_char, got: cython.Py_ssize_t) -> None:
        """Keep what came for later; beyond a limit, leave it with the kernel."""
        data: bytes = buf[:got]
        link.inbox = data if link.inbox is None else link.inbox + data
        if len(link.inbox) >= INBOX_LIMIT:
            self.watch(link)
