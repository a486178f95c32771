# cython: annotation_typing=True
"""The byte path: receives from one peer, asks the session, sends to the other. Compiled only (Cython).

Rules:
1. What is received is dealt with at once (see `transport.buffering` for what can't be sent on at once).
2. Nothing here decides who is served: the host does, in `attach`, `released`, `client_gone`, `server_gone`.
3. Nothing here calls the kernel: the backend does, which is a class below this one (`Poller` has what is asked of it).
"""

from typing import Any

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.pglido.transport.kernel import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from cython.cimports.pglido.transport.poller import coarse

from ..protocol.codes import IDLE
from ..protocol.messages import READY_IDLE
from ..session.client.dispatch import Client
from ..session.outbox import Outbox
from ..session.server.reader import Server
from ..session.state.session_state import SessionState
from ..session.verdicts import ATTACH, GO_ON, GOODBYE, PAUSE, WAIT, WISH
from ..transport.buffering import INBOX_LIMIT, Buffering
from ..transport.connection import COLLECT, CONNECTING, RAW, RELAY, Link, wake
from .host_interface import HostInterface
from .links import ClientLink, ServerLink


class Relay(Buffering):
    """All sockets of one worker, and the loop that serves them; asyncio's selector is made of it."""

    def __init__(self, host: HostInterface) -> None:
        super().__init__()
        self.host: Any = host
        self.keeper = host
        self.to_client = Outbox()
        self.to_server = Outbox()
        # Clients that have had their share of this round, and go on in the next, whether or not anything comes.
        self.paused: list[Any] = []

    # Links.

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
                self.host.failed(link)

    def relay(self, link: Link) -> None:
        """From now on the session decides."""
        link.mode = RELAY
        self.watch(link)
        if link.inbox is not None and isinstance(link, ServerLink):
            self.take_inbox(cython.cast(ServerLink, link))

    def take_inbox(self, server: ServerLink) -> None:
        """Take what a server without a client has sent meanwhile."""
        data: bytes = server.inbox or b""
        buf: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
        server.inbox = None
        if server.session.take(buf, len(data), self.to_client) < 0:
            self.host.server_gone(server, server.session.fault)
        self.to_client.clear()

    def pair(self, client: ClientLink, server: ServerLink) -> None:
        """The client is served by the server from now on; what it sent meanwhile is not yet dealt with."""
        client.server = server
        server.client = client
        client.session.link(server.session)
        client.waiting = False
        client.started = self.now
        client.asked = self.now
        if client.out is not None:
            self.watch(server)

    def part(self, client: ClientLink, server: ServerLink) -> None:
        """The client has no server any more."""
        client.session.unlink()
        client.server = None
        server.client = None
        client.asked = 0
        client.rested = self.now
        # Either may have been paused for the other's sake.
        if not client.mask & EPOLLIN:
            self.watch(client)
        if client.out is not None or client.broken:
            self.watch(server)

    def resume(self, client: ClientLink) -> None:
        """Go on with what a client sent while it waited."""
        data = client.inbox
        client.inbox = None
        client.paused = False
        server: ServerLink | None = client.server
        if not client.mask & EPOLLIN or client.out is not None or (server is not None and server.out is not None):
            self.watch(client)
        if data is None:
            data = b""
        self.push(client, PyBytes_AS_STRING(data), 0, len(data))

    def resume_paused(self, paused: list[Any]) -> None:
        """These had their share of the last round."""
        client: ClientLink
        for client in paused:
            if client.paused:
                client.paused = False
                # What is kept back for a listening client comes before what it says next.
                if not client.closed and not client.after_close and not client.late:
                    client.waiting = False
                    try:
                        self.resume(client)
                    except Exception:
                        self.host.failed(client)

    # Moving bytes.

    def deliver(self, link: Link, outbox: Outbox, buf: cython.p_char) -> None:
        """Send what a round has collected for this link."""
        if outbox.parts is not None:
            self.transmit(link, PyByteArray_AS_STRING(outbox.parts), len(outbox.parts))
            outbox.clear()
        elif outbox.stop > outbox.start:
            self.transmit(link, buf + outbox.start, outbox.stop - outbox.start)
            outbox.clear()

    def push(self, client: ClientLink, buf: cython.p_char, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> None:
        """Deal with what a client sent: `buf[pos:end]`."""
        session: Client = client.session
        verdict: cython.int = GO_ON
        # Whatever went wrong before, no byte of it is for these two.
        self.to_client.clear()
        self.to_server.clear()
        while True:
            pos = session.take(cython.cast(cython.p_const_uchar, buf), pos, end, self.to_server, self.to_client)
            verdict = session.verdict
            if verdict == ATTACH:
                if not self.keeper.attach(client):
                    break
            elif verdict != WISH or not self.host.wished(client):
                break
        if client.server is not None:
            if client.asked == 0:
                client.asked = self.now
            self.deliver(client.server, self.to_server, buf)
        self.deliver(client, self.to_client, buf)
        if verdict in (ATTACH, PAUSE, WAIT, WISH):
            if not client.closed:
                client.waiting = True
                if verdict == PAUSE:
                    client.paused = True
                    self.paused.append(client)
                client.inbox = buf[pos:end]
                if len(client.inbox) >= INBOX_LIMIT:
                    self.watch(client)
        elif verdict == GOODBYE:
            self.goodbye(client)
        elif verdict != GO_ON:
            self.keeper.client_gone(client, "protocol violation")
        else:
            self.let_go(client)

    def goodbye(self, client: ClientLink) -> None:
        """The client said Terminate: it leaves when all that it asked before is answered."""
        if client.server is not None and client.server.session.answering():
            client.leaving = True
            self.watch(client)
        else:
            self.keeper.client_gone(client, "")

    def stays(self, client: ClientLink) -> bool:
        """The client hung up: does it wait for something, and said Terminate behind that? Then its turn comes."""
        data: bytes = b"" if client.inbox is None else client.inbox
        if client.leaving:
            return False
        if client.said_all or client.broken:
            # Told of again: nobody is there to be answered either.
            client.broken = True
            client.out = None
            self.forget(client)
            if client.server is not None:
                self.watch(client.server)
        if not client.said_all and not ((client.waiting or client.late) and client.session.says_goodbye(data)):
            return False
        client.said_all = True
        client.eof = client.broken
        self.watch(client)
        return True

    def on_client(self, client: ClientLink, buf: cython.p_char, got: cython.Py_ssize_t) -> None:
        """`got` bytes came from a relayed client."""
        client.stats.received += got
        if client.waiting or client.late:
            self.store(client, buf, got)
            return
        self.push(client, buf, 0, got)

    def on_server(self, server: ServerLink, buf: cython.p_char, got: cython.Py_ssize_t) -> None:
        """`got` bytes came from a relayed server."""
        blocked: cython.bint
        session: Server = server.session
        client: ClientLink | None = server.client
        result: cython.int
        # As in `push`: whatever went wrong before.
        self.to_client.clear()
        session.keeps_ready = client is not None and client.listens
        if client is not None and client.notes is not None and not client.holds:
            session.notes = client.notes
            result = session.take(cython.cast(cython.p_const_uchar, buf), got, self.to_client)
            # Either it has been sent, or it is still kept.
            client.notes, session.notes = session.notes, None
        else:
            result = session.take(cython.cast(cython.p_const_uchar, buf), got, self.to_client)
        if client is None:
            self.to_client.clear()
            if result < 0:
                self.host.server_gone(server, session.fault)
            else:
                self.host.rested(server)
            return
        client.stats.sent += got
        client.rested = self.now
        self.deliver(client, self.to_client, buf)
        if session.ready_kept:
            session.ready_kept = False
            self.keep_ready(client)
        if result < 0:
            self.host.server_gone(server, session.fault)
            return
        if session.unsent:
            self.send(server, session.unsent)
            session.unsent = b""
        if session.turns:
            self.count(client, session)
        if client.waiting and not client.late and not client.paused and client.session.may_go_on():
            # What it sent meanwhile depended on an answer: maybe this one.
            client.waiting = False
            self.now_hears(client, session.state)
            self.resume(client)
            return
        if client.leaving and not session.answering():
            self.keeper.client_gone(client, "")
            return
        blocked = session.turns and not client.session.rules.block and session.status != IDLE
        if not self.let_go(client) and blocked:
            self.host.refuse_block(client)

    def let_go(self, client: ClientLink) -> bool:
        """Give the client's server back if it is free; returns whether it was."""
        server: ServerLink | None = client.server
        if server is None or client.session.rules.keep or not server.session.free():
            if client.notes is not None:
                self.flush_notes(client)
            return False
        state: SessionState = server.session.state
        if (state.unverified or state.pins or state.heard or client.holds) and not self.settle(client, server):
            return False
        self.part(client, server)
        if client.notes is not None:
            self.flush_notes(client)
        self.keeper.released(server)
        return True

    def settle(self, client: ClientLink, server: ServerLink) -> bool:
        """A transaction has ended that may have left its traces; returns whether the server may go."""
        session: Server = server.session
        if session.state.unverified:
            # What has become of the session is asked before another client meets it.
            self.send(server, session.own(session.state.question()))
            return False
        session.state.heard = session.state.heard or client.holds
        self.now_hears(client, session.state)
        if not session.state.pins:
            return True
        self.host.pinned(client)
        if client.notes is not None:
            self.flush_notes(client)
        return False

    def now_hears(self, client: ClientLink, state: SessionState) -> None:
        """A transaction has ended, and what the client listens to may be another now."""
        if state.heard:
            state.heard = False
            self.host.heard(client)

    def keep_ready(self, client: ClientLink) -> None:
        """A listening client's transaction is over: its ReadyForQuery comes behind what was sent to it before."""
        if client.leaving or not self.host.catch_up(client):
            self.send(client, READY_IDLE)
        else:
            client.late = True

    def ready(self, client: ClientLink) -> None:
        """Send the ReadyForQuery that was kept back, and what came before it; go on with what the client has sent."""
        notes: bytearray | None = None if client.holds else client.notes
        client.late = False
        if notes is None:
            self.send(client, READY_IDLE)
        else:
            client.notes = None
            notes += READY_IDLE
            self.transmit(client, PyByteArray_AS_STRING(notes), len(notes))
        if client.waiting or client.inbox is not None:
            client.waiting = False
            self.resume(client)

    def open_to_notes(self, client: ClientLink) -> bool:
        """Is the client between two transactions, and known what it listens to?"""
        return not client.holds and not client.late and (client.server is None or client.server.session.free())

    def notify(self, client: ClientLink, data: bytes) -> int:
        """Send whole messages now, or when the transaction has ended; returns how many bytes are still to be sent."""
        if client.closed or (client.notes is None and self.open_to_notes(client)):
            self.send(client, data)
        else:
            if client.notes is None:
                client.notes = bytearray()
            client.notes += data
            self.flush_notes(client)
        return (0 if client.notes is None else len(client.notes)) + (0 if client.out is None else len(client.out))

    def flush_notes(self, client: ClientLink) -> None:
        """Send what a client did not ask for, if now is the time."""
        notes: bytearray | None = client.notes
        if notes is not None and self.open_to_notes(client):
            client.notes = None
            self.transmit(client, PyByteArray_AS_STRING(notes), len(notes))

    def count(self, client: ClientLink, session: Server) -> None:
        """A query of this client was answered."""
        client.stats.queries += session.turns
        if client.asked:
            client.stats.query_time += self.now - client.asked
        client.asked = 0
        client.rested = self.now
        if client.tied and not client.waiting and session.free():
            self.host.untied(client)
        if session.status == IDLE:
            client.stats.transactions += 1
            client.stats.transaction_time += self.now - client.started
            client.started = self.now

    # Events.

    def guard(self, link: Link, events: cython.uint) -> None:
        """Deal with an event (none: the connection broke). A bug met there ends this connection, not the worker."""
        try:
            if events:
                self.on_event(link, events)
            else:
                self.lost(link)
        except Exception:
            self.host.failed(link)
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
            self.slow_kind = link.session.latest if link.mode == RELAY and isinstance(link, ClientLink) else 0

    def overlong(self, seconds: cython.double) -> None:
        self.host.overlong(seconds, self.slowest, self.worst, self.slow_kind)

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
            if events & EPOLLHUP and not link.mask & EPOLLIN and (link.mode == RAW or isinstance(link, ServerLink)):
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
        elif link.mode == RELAY:
            if isinstance(link, ClientLink):
                self.on_client(cython.cast(ClientLink, link), self.data, got)
            else:
                self.on_server(cython.cast(ServerLink, link), self.data, got)
        elif link.mode == RAW:
            peer: Link | None = link.peer
            if peer is not None:
                self.transmit(peer, self.data, got)
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
                self.host.stream_lost(link)
            wake(link)
        elif link.mode == RAW:
            self.host.raw_gone(link)
        elif isinstance(link, ClientLink):
            if not self.stays(cython.cast(ClientLink, link)):
                self.keeper.client_gone(cython.cast(ClientLink, link), "client unexpected eof")
        else:
            self.host.server_gone(link, "server conn crashed?")
