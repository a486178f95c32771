# cython: annotation_typing=True
"""The byte path: what came from one peer is shown to its session, and sent on to the other. Compiled only (Cython).

Rules:
1. What came is dealt with at once (see `transport.buffering` for what can't be sent on at once).
2. Nothing here decides who is served: the `Dispatcher` does.
3. Nothing here receives or polls: the `Transport` does, and tells of it by the methods of a `Handler`.
"""

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.pglido.transport.kernel import EPOLLIN

from ..protocol.codes import IDLE
from ..protocol.messages import READY_IDLE
from ..session.client.dispatch import Client
from ..session.outbox import Outbox
from ..session.server.reader import Server
from ..session.state.session_state import SessionState
from ..session.verdicts import ATTACH, GO_ON, GOODBYE, PAUSE, WAIT, WISH
from ..transport.buffering import INBOX_LIMIT
from ..transport.connection import HANDLED, RAW, Link
from ..transport.handler import Handler
from ..transport.transport import Transport
from .dispatcher import Dispatcher
from .links import ClientLink, ServerLink
from .stage import HANGS_UP, HUNG_UP, LEAVING, SERVED, TERMINATES


class Relay(Handler):
    """Couples clients and servers: what the transport's handled links bring goes through sessions to their peers."""

    def __init__(self, transport: Transport, dispatcher: Dispatcher) -> None:
        self.transport = transport
        self.dispatcher = dispatcher
        self.to_client = Outbox()
        self.to_server = Outbox()
        transport.handler = self

    # Links.

    def relay(self, link: Link) -> None:
        """From now on the session decides."""
        link.mode = HANDLED
        self.transport.watch(link)
        if link.inbox is not None and isinstance(link, ServerLink):
            self.take_inbox(cython.cast(ServerLink, link))

    def take_inbox(self, server: ServerLink) -> None:
        """Take what a server without a client has sent meanwhile."""
        data: bytes = server.inbox or b""
        buf: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
        server.inbox = None
        if server.session.take(buf, len(data), self.to_client) < 0:
            self.dispatcher.server_gone(server, server.session.fault)
        self.to_client.clear()

    def pair(self, client: ClientLink, server: ServerLink) -> None:
        """The client is served by the server from now on; what it sent meanwhile is not yet dealt with."""
        client.server = server
        server.client = client
        client.peer = server
        server.peer = client
        client.session.link(server.session)
        client.waiting = False
        client.started = self.transport.now
        client.asked = self.transport.now
        if client.out is not None:
            self.transport.watch(server)

    def part(self, client: ClientLink, server: ServerLink) -> None:
        """The client has no server any more."""
        client.session.unlink()
        client.server = None
        server.client = None
        client.peer = None
        server.peer = None
        client.asked = 0
        client.rested = self.transport.now
        # Either may have been paused for the other's sake.
        if not client.mask & EPOLLIN:
            self.transport.watch(client)
        if client.out is not None or client.broken:
            self.transport.watch(server)

    def resume(self, client: ClientLink) -> None:
        """Go on with what a client sent while it waited."""
        data = client.inbox
        client.inbox = None
        client.paused = False
        server: ServerLink | None = client.server
        if not client.mask & EPOLLIN or client.out is not None or (server is not None and server.out is not None):
            self.transport.watch(client)
        if data is None:
            data = b""
        self.push(client, PyBytes_AS_STRING(data), 0, len(data))

    def go_on(self, link: Link) -> None:
        """A client had its share of the last round."""
        client: ClientLink = cython.cast(ClientLink, link)
        if client.paused:
            client.paused = False
            # What is kept back for a listening client comes before what it says next.
            if not client.closed and not client.after_close and not client.late:
                client.waiting = False
                self.resume(client)

    # Moving bytes.

    def deliver(self, link: Link, outbox: Outbox, buf: cython.p_char) -> None:
        """Send what a round has collected for this link."""
        if outbox.parts is not None:
            self.transport.transmit(link, PyByteArray_AS_STRING(outbox.parts), len(outbox.parts))
            outbox.clear()
        elif outbox.stop > outbox.start:
            self.transport.transmit(link, buf + outbox.start, outbox.stop - outbox.start)
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
                if not self.dispatcher.attach(client):
                    break
            elif verdict != WISH or not self.dispatcher.wished(client):
                break
        if client.server is not None:
            if client.asked == 0:
                client.asked = self.transport.now
            self.deliver(client.server, self.to_server, buf)
        self.deliver(client, self.to_client, buf)
        if verdict in (ATTACH, PAUSE, WAIT, WISH):
            if not client.closed:
                client.waiting = True
                if verdict == PAUSE:
                    client.paused = True
                    self.transport.paused.append(client)
                client.inbox = buf[pos:end]
                if len(client.inbox) >= INBOX_LIMIT:
                    self.transport.watch(client)
        elif verdict == GOODBYE:
            self.goodbye(client)
        elif verdict != GO_ON:
            self.dispatcher.client_gone(client, "protocol violation")
        else:
            self.let_go(client)

    def goodbye(self, client: ClientLink) -> None:
        """The client said Terminate: it leaves when all that it asked before is answered."""
        if client.server is not None and client.server.session.answering():
            client.on_stage(TERMINATES)
            self.transport.watch(client)
        else:
            self.dispatcher.client_gone(client, "")

    def stays(self, client: ClientLink) -> bool:
        """The client hung up: does it wait for something, and said Terminate behind that? Then its turn comes."""
        data: bytes = b"" if client.inbox is None else client.inbox
        if client.stage == LEAVING:
            return False
        if client.stage == HUNG_UP or client.broken:
            # Told of again: nobody is there to be answered either.
            client.broken = True
            client.out = None
            self.transport.forget(client)
            if client.server is not None:
                self.transport.watch(client.server)
        if client.stage == SERVED:
            if not ((client.waiting or client.late) and client.session.says_goodbye(data)):
                return False
            client.on_stage(HANGS_UP)
        client.eof = client.broken
        self.transport.watch(client)
        return True

    def on_client(self, client: ClientLink, buf: cython.p_char, got: cython.Py_ssize_t) -> None:
        """`got` bytes came from a relayed client."""
        client.stats.received += got
        if client.waiting or client.late:
            self.transport.store(client, buf, got)
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
                self.dispatcher.server_gone(server, session.fault)
            else:
                self.dispatcher.rested(server)
            return
        client.stats.sent += got
        client.rested = self.transport.now
        self.deliver(client, self.to_client, buf)
        if session.ready_kept:
            session.ready_kept = False
            self.keep_ready(client)
        if result < 0:
            self.dispatcher.server_gone(server, session.fault)
            return
        if session.unsent:
            self.transport.send(server, session.unsent)
            session.unsent = b""
        if session.turns:
            self.count(client, session)
        if client.waiting and not client.late and not client.paused and client.session.may_go_on():
            # What it sent meanwhile depended on an answer: maybe this one.
            client.waiting = False
            self.now_hears(client, session.state)
            self.resume(client)
            return
        if client.stage == LEAVING and not session.answering():
            self.dispatcher.client_gone(client, "")
            return
        blocked = session.turns and not client.session.rules.block and session.status != IDLE
        if not self.let_go(client) and blocked:
            self.dispatcher.refuse_block(client)

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
        self.dispatcher.released(server)
        return True

    def settle(self, client: ClientLink, server: ServerLink) -> bool:
        """A transaction has ended that may have left its traces; returns whether the server may go."""
        session: Server = server.session
        if session.state.unverified:
            # What has become of the session is asked before another client meets it.
            self.transport.send(server, session.own(session.state.question()))
            return False
        session.state.heard = session.state.heard or client.holds
        self.now_hears(client, session.state)
        if not session.state.pins:
            return True
        self.dispatcher.pinned(client)
        if client.notes is not None:
            self.flush_notes(client)
        return False

    def now_hears(self, client: ClientLink, state: SessionState) -> None:
        """A transaction has ended, and what the client listens to may be another now."""
        if state.heard:
            state.heard = False
            self.dispatcher.heard(client)

    def keep_ready(self, client: ClientLink) -> None:
        """A listening client's transaction is over: its ReadyForQuery comes behind what was sent to it before."""
        if client.stage == LEAVING or not self.dispatcher.catch_up(client):
            self.transport.send(client, READY_IDLE)
        else:
            client.late = True

    def ready(self, client: ClientLink) -> None:
        """Send the ReadyForQuery that was kept back, and what came before it; go on with what the client has sent."""
        notes: bytearray | None = None if client.holds else client.notes
        client.late = False
        if notes is None:
            self.transport.send(client, READY_IDLE)
        else:
            client.notes = None
            notes += READY_IDLE
            self.transport.transmit(client, PyByteArray_AS_STRING(notes), len(notes))
        if client.waiting or client.inbox is not None:
            client.waiting = False
            self.resume(client)

    def open_to_notes(self, client: ClientLink) -> bool:
        """Is the client between two transactions, and known what it listens to?"""
        return not client.holds and not client.late and (client.server is None or client.server.session.free())

    def notify(self, client: ClientLink, data: bytes) -> int:
        """Send whole messages now, or when the transaction has ended; returns how many bytes are still to be sent."""
        if client.closed or (client.notes is None and self.open_to_notes(client)):
            self.transport.send(client, data)
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
            self.transport.transmit(client, PyByteArray_AS_STRING(notes), len(notes))

    def count(self, client: ClientLink, session: Server) -> None:
        """A query of this client was answered."""
        client.stats.queries += session.turns
        if client.asked:
            client.stats.query_time += self.transport.now - client.asked
        client.asked = 0
        client.rested = self.transport.now
        if client.tied and not client.waiting and session.free():
            self.dispatcher.untied(client)
        if session.status == IDLE:
            client.stats.transactions += 1
            client.stats.transaction_time += self.transport.now - client.started
            client.started = self.transport.now

    # What the transport tells.

    def data(self, link: Link, buf: cython.p_char, got: cython.Py_ssize_t) -> None:
        if isinstance(link, ClientLink):
            self.on_client(cython.cast(ClientLink, link), buf, got)
        else:
            self.on_server(cython.cast(ServerLink, link), buf, got)

    def lost(self, link: Link) -> None:
        if link.mode == RAW:
            self.dispatcher.raw_gone(link)
        elif link.mode != HANDLED:
            self.dispatcher.stream_lost(link)
        elif isinstance(link, ClientLink):
            if not self.stays(cython.cast(ClientLink, link)):
                self.dispatcher.client_gone(cython.cast(ClientLink, link), "client unexpected eof")
        else:
            self.dispatcher.server_gone(link, "server conn crashed?")

    def failed(self, link: Link) -> None:
        self.dispatcher.failed(link)

    def overlong(self, seconds: cython.double, slowest: Link | None, worst: cython.double, kind: cython.int) -> None:
        self.dispatcher.overlong(seconds, slowest, worst, kind)
