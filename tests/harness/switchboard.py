"""A relay with socket pairs on it, and a dispatcher that does the least there is to do: first come, first served."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from time import monotonic
from typing import Any

import pytest

from pglido.pooling.stats import Stats
from pglido.protocol import messages
from pglido.relay.dispatcher import Dispatcher
from pglido.relay.links import ClientLink, ServerLink
from pglido.relay.relay import Relay
from pglido.relay.stage import WELCOMED
from pglido.session.client.dispatch import Client
from pglido.session.state import parameters as _parameters
from pglido.session.state.budget import MemoryBudget
from pglido.session.state.shared import PoolRules, StatementCounts
from pglido.session.state.statement_cache import AcceptedStatements
from pglido.transport.backends import Unavailable, uring_transport
from pglido.transport.connection import HANDLED, Link
from pglido.transport.epoll import EpollBackend
from pglido.transport.event_loop import new_loop
from pglido.transport.transport import Transport

ROUNDS = 12
# No test needs as many: one that waits for what never comes fails instead of hanging.
MOST_TURNS = 20_000


class FirstCome(Dispatcher):
    """Serves clients in the order in which they ask; `log` has what happened."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.relay = Relay(transport, self)
        self.idle: deque[ServerLink] = deque()
        self.line: deque[ClientLink] = deque()
        self.log: list[tuple[Any, ...]] = []
        self.catches_up = True

    def heard(self, client: ClientLink) -> None:
        self.log.append(("heard",))

    def catch_up(self, client: ClientLink) -> bool:
        return self.catches_up

    def attach(self, client: ClientLink) -> bool:
        if not self.idle:
            self.line.append(client)
            return False
        self.relay.pair(client, self.idle.popleft())
        return True

    def released(self, server: ServerLink) -> None:
        if self.line:
            client = self.line.popleft()
            self.relay.pair(client, server)
            self.relay.resume(client)
        else:
            self.idle.append(server)

    def rested(self, server: ServerLink) -> None:
        self.log.append(("rested",))
        if server.session.free() and server not in self.idle:
            self.released(server)

    def client_gone(self, client: ClientLink, why: str) -> None:
        self.log.append(("client gone", why, client.session.fault))
        server = client.server
        if server is not None:
            self.relay.part(client, server)
            self.transport.send(server, server.session.abandon())
            if server.session.free():
                self.released(server)
        if client in self.line:
            self.line.remove(client)
        self.transport.close(client)

    def server_gone(self, server: ServerLink, why: str) -> None:
        self.log.append(("server gone", why))
        client = server.client
        if client is not None:
            self.relay.part(client, server)
            self.transport.send_and_close(client, messages.error("FATAL", "08P01", "server conn crashed?"))
        if server in self.idle:
            self.idle.remove(server)
        self.transport.close(server)

    def raw_gone(self, link: Link) -> None:
        self.log.append(("raw gone",))
        other = link.peer
        link.peer = None
        if other is not None:
            other.peer = None
            self.transport.send_and_close(other, b"")
        self.transport.close(link)

    def refuse_block(self, client: ClientLink) -> None:
        self.log.append(("block refused",))
        self.client_gone(client, "block")

    def stream_lost(self, link: Link) -> None:
        self.log.append(("stream lost",))

    def overlong(self, seconds: float, link: Link | None, worst: float, kind: int) -> None:
        """A busy machine may stop a test for long: that is nothing that happened on the board."""

    def failed(self, link: Link) -> None:
        self.log.append(("failed",))
        self.transport.close(link)


class Far:
    """The far end of a link: what a client or a server would do."""

    def __init__(self, board: "Switchboard", sock: socket.socket, link: Any) -> None:
        self.board = board
        self.sock = sock
        self.link = link

    def say(self, data: bytes) -> None:
        """Send all of it, the transport turning meanwhile."""
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                self.board.turn()
        self.board.turn()

    def push(self, data: bytes) -> int:
        """Send as much as is taken, the transport turning meanwhile; returns how much that was."""
        sent = 0
        while sent < len(data):
            try:
                sent += self.sock.send(data[sent:])
            except BlockingIOError:
                self.board.turn()
                try:
                    sent += self.sock.send(data[sent:])
                except BlockingIOError:
                    break
        return sent

    def carry(self, data: bytes, to: "Far") -> bytes:
        """Send all of it to the far end of another link, which reads meanwhile; returns what came there."""
        sent = 0
        heard = to.hear()
        while sent < len(data):
            sent += self.push(data[sent:])
            heard += to.hear()
        return heard

    def hear(self) -> bytes:
        """All that has come till now."""
        self.board.turn()
        heard = b""
        while True:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return heard
            except ConnectionResetError:
                return heard
            if not data:
                return heard
            heard += data
            self.board.turn()

    def ended(self) -> bool:
        """Is the link closed, and nothing is left to read?"""
        self.board.turn()
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def link_socket(self) -> socket.socket:
        """The near end, once the transport has let it go."""
        return socket.socket(fileno=self.link.fd)

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        self.board.turn()


class Switchboard:
    """A transport, a relay, a dispatcher, and the far ends of all links."""

    def __init__(self, transport: Transport, servers: int = 1, block: bool = True, keep: bool = False) -> None:
        self.transport = transport
        self.dispatcher = FirstCome(transport)
        self.relay = self.dispatcher.relay
        self.rules = PoolRules(True, 100, 1 << 30, block, keep, AcceptedStatements(), StatementCounts())
        self.budget = MemoryBudget(1 << 24)
        self.stats = Stats()
        self.far: list[Far] = []
        self.turns = 0
        self.servers = [self.server() for _ in range(servers)]

    def turn(self) -> None:
        """Serve what there is to serve."""
        self.turns += 1
        assert self.turns < MOST_TURNS, "nothing moves any more"
        for _ in range(ROUNDS):
            assert not self.transport.turn(0)

    def rounds(self, seconds: float = 0.1) -> int:
        """How many rounds are made in this time, when all is served that there was to serve."""
        self.turn()
        count = 0
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            assert not self.transport.turn(int(left * 1000) + 1)
            count += 1
        return count

    def _far(self, make: Callable[[int], Any]) -> Far:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        link = make(near.detach())
        self.transport.add(link)
        self.far.append(Far(self, far, link))
        return self.far[-1]

    def link(self) -> Far:
        """One more plain link."""
        return self._far(Link)

    def client(self, event: int = WELCOMED) -> Far:
        """One more client, past its login, or to which something else has happened since it arrived."""
        far = self._far(ClientLink)
        far.link.session = Client(_parameters.EMPTY, self.rules, self.budget)
        far.link.stats = self.stats
        far.link.on_stage(event)
        self.relay.relay(far.link)
        assert far.link.mode == HANDLED
        return far

    def server(self) -> Far:
        """One more server, past its login."""
        far = self._far(ServerLink)
        self.relay.relay(far.link)
        self.dispatcher.idle.append(far.link)
        return far

    def close(self) -> None:
        """Close everything."""
        for far in self.far:
            far.sock.close()
            self.transport.close(far.link)


async def within(job: Coroutine[Any, Any, Any]) -> Any:
    """The result of `job`, which must not take long."""
    async with asyncio.timeout(20):
        return await job


@pytest.fixture(params=["epoll", "io_uring"])
def new_transport(request: pytest.FixtureRequest) -> Callable[[], Transport]:
    """Makes a transport, on either backend."""
    if request.param == "epoll":
        return EpollBackend
    try:
        uring_transport()
    except Unavailable as why:
        pytest.skip(f"no io_uring: {why}")
    return uring_transport


@pytest.fixture
def make(new_transport: Callable[[], Transport]) -> Iterator[Callable[..., Switchboard]]:
    """Make switchboards, that are closed with the test."""
    made: list[Switchboard] = []

    def one(**options: Any) -> Switchboard:
        made.append(Switchboard(new_transport(), **options))
        return made[-1]

    yield one
    for board in made:
        board.close()


@pytest.fixture
def board(make: Callable[..., Switchboard]) -> Switchboard:
    """One server, no client."""
    return make()


@pytest.fixture
def runner(board: Switchboard) -> Iterator[asyncio.Runner]:
    """Runs coroutines on the board's transport."""
    with asyncio.Runner(loop_factory=lambda: new_loop(board.transport)) as made:
        yield made
