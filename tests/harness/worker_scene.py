"""One worker's Lifecycle on socket pairs: the test is its clients, its servers, and whom it asks for something."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from pglido.config.model import Config, Database, PoolSettings, Settings
from pglido.ipc.messages import Gates
from pglido.ipc.shared_counters import SharedCounter, SharedCounters
from pglido.pooling.pool import Plan, ServerSlot
from pglido.protocol import messages
from pglido.relay.stage import WELCOMED
from pglido.session.client.dispatch import Client
from pglido.session.state import parameters as _parameters
from pglido.transport.connect import AddressCache
from pglido.worker.cancel_keys import CancelKeys
from pglido.worker.connections import ClientConnection, ServerConnection
from pglido.worker.lifecycle import Lifecycle
from pglido.worker.pool_runtime import PoolRuntime, new_pool_runtime

T = TypeVar("T")
CLIENTS = int(SharedCounter.CLIENTS)
DONE = messages.message(ord("C"), b"SELECT 1\0") + messages.READY_IDLE
IN_BLOCK = messages.message(ord("C"), b"BEGIN\0") + messages.message(ord("Z"), b"T")
TERMINATE = messages.TERMINATE


class Far:
    """The far end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def say(self, data: bytes) -> None:
        """Send it."""
        self.sock.sendall(data)

    def heard(self) -> bytes:
        """What has come till now."""
        found = b""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.sock.recv(1 << 20):
                found += data
        return found

    def ended(self) -> bool:
        """Is the connection closed, and nothing left to read?"""
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


class Services:
    """All that a Lifecycle asks others for; `asked` is what, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.may = True

    # Cancels.

    def cancel_client(self, client: ClientConnection) -> "asyncio.Task[None] | None":
        self.asked.append(("cancel client", client))
        return None

    def cancel_soon(self, client: ClientConnection) -> "asyncio.Task[None]":
        self.asked.append(("cancel soon", client))
        return asyncio.get_running_loop().create_task(asyncio.sleep(0))

    def cancel_at_server(self, server: ServerConnection) -> "asyncio.Task[None] | None":
        self.asked.append(("cancel at server", server))
        return None

    # Servers and leases.

    async def open_server(self, runtime: PoolRuntime, slot: ServerSlot) -> None:
        self.asked.append(("open", runtime, slot))

    async def log_in(self, runtime: PoolRuntime, slot: ServerSlot) -> ServerConnection:
        raise NotImplementedError

    def tell(self, runtime: PoolRuntime, plan: Plan) -> None:
        self.asked.append((plan.verb.name, plan.number))

    # Wishes.

    def wished(self, client: ClientConnection) -> bool:
        self.asked.append(("wished", client))
        return self.may

    def done(self, client: ClientConnection) -> None:
        self.asked.append(("done", client))

    def heard(self, client: ClientConnection) -> None:
        self.asked.append(("heard", client))

    def sender_gone(self, server: ServerConnection) -> None:
        self.asked.append(("sender gone", server))


class Scene:
    """`database` are the options of the one database, "app"; `settings` those of [pglido]."""

    def __init__(self, settings: dict[str, Any] | None = None, **database: Any) -> None:
        self.config = Config(
            settings=Settings(**(settings or {})), databases={"app": Database(**{"host": "127.0.0.1", **database})}
        )
        self.gates = Gates()
        self.lifecycle = Lifecycle(0, "epoll")
        self.relay, self.transport = self.lifecycle.relay, self.lifecycle.transport
        self.board = SharedCounters.create(2)
        self.lifecycle.counters = self.counters = SharedCounters.attach(self.board.fd, 0)
        self.lifecycle.cancel_keys = CancelKeys(bytes(32), 0)
        self.lifecycle.budget.limit = self.lifecycle.budget.each = 1 << 24
        self.services = self.lifecycle.cancels = self.lifecycle.opener = Services()
        self.lifecycle.broker = self.lifecycle.wishes = self.services
        self.asked = self.services.asked
        self._far: list[Far] = []

    # A view of the configuration, as the login wants it.

    def pool_of(self, database: str, user: str) -> PoolSettings | None:
        return self.config.pool(database, user)

    def runtime(self, settings: PoolSettings | None = None) -> PoolRuntime:
        """The pool of the database and the user "joe", or of these settings; it knows its functions already."""
        settings = settings or self.config.pool("app", "joe")
        assert settings is not None
        runtime = self.lifecycle.pools.get(settings.key)
        if runtime is None:
            runtime = new_pool_runtime(settings, 0, 1 << 20, AddressCache(0, 0), None)
            runtime.rules.functions.known = True
            runtime.rules.functions.defaults = "known"
            self.lifecycle.pools[settings.key] = runtime
        return runtime

    # Connections.

    def _pair(self) -> tuple[int, Far]:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self._far.append(Far(far))
        return near.detach(), self._far[-1]

    def stranger(self) -> tuple[ClientConnection, Far]:
        """A client that has said nothing yet."""
        fd, far = self._pair()
        client = ClientConnection(fd, self.lifecycle.next_serial(), "10.0.0.1:5", self.transport.now)
        self.counters.add(CLIENTS, 1)
        client.claims = (CLIENTS,)
        self.lifecycle.clients[client.serial] = client
        self.transport.add(client)
        return client, far

    def client(self, runtime: PoolRuntime | None = None) -> tuple[ClientConnection, Far]:
        """A client that is logged in."""
        runtime = runtime or self.runtime()
        client, far = self.stranger()
        client.user, client.runtime, client.pool, client.stats = "joe", runtime, runtime.pool, runtime.stats
        client.session = Client(_parameters.EMPTY, runtime.rules, self.lifecycle.budget)
        client.on_stage(WELCOMED)
        runtime.pool.clients += 1
        self.relay.relay(client)
        return client, far

    def server(self, runtime: PoolRuntime | None = None) -> tuple[ServerConnection, Far]:
        """A server that has logged in, by a lease of its own."""
        runtime = runtime or self.runtime()
        pool = runtime.pool
        fd, far = self._pair()
        pool.grant()
        slot = ServerSlot(pool, pool.limits.startup_params, self.transport.now)
        pool.slots[slot] = None
        pool.opening += 1
        slot.server = server = ServerConnection(fd, self.lifecycle.next_serial(), runtime, slot, self.transport.now)
        server.session.state.home = server.session.state.settings = _parameters.EMPTY
        server.pid = 4711
        self.lifecycle.servers[server] = None
        self.transport.add(server)
        self.lifecycle.welcome(server)
        return server, far

    # Time.

    async def turn(self) -> None:
        """Serve what there is to serve."""
        for _ in range(12):
            assert not self.transport.turn(0)
            await asyncio.sleep(0)

    async def until(self, job: Coroutine[Any, Any, T]) -> T:
        """What `job` comes to; it waits for others, which are no part of the scene."""
        task = asyncio.get_running_loop().create_task(job)
        async with asyncio.timeout(60):
            while not task.done():
                self.transport.turn(1)
                await asyncio.sleep(0)
        return task.result()

    def close(self) -> None:
        """Close everything."""
        for link in [*self.lifecycle.clients.values(), *self.lifecycle.servers, *self.lifecycle.lingering]:
            self.transport.close(link)
        for far in self._far:
            far.sock.close()
        self.counters.leave()
        self.board.close()


@contextlib.contextmanager
def scene_of(settings: dict[str, Any] | None = None, **database: Any) -> Iterator[Scene]:
    """A scene that is closed in the end."""
    scene = Scene(settings, **database)
    try:
        yield scene
    finally:
        scene.close()
