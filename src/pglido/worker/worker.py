"""One worker process: listens, keeps its pools, talks with the control process, watches the clock."""

import asyncio
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from .. import log as logs
from ..auth.secrets import Proof
from ..config.enums import EventBackend
from ..config.model import Config, PoolSettings
from ..config.model import Host as Place
from ..ipc import messages as ipc
from ..ipc.channel import Channel, ChannelBroken, ChannelClosed, close_all
from ..ipc.shared_counters import SharedCounter, SharedCounters
from ..ipc.snapshot import Subject
from ..pooling.pool import Plan, ServerSlot, Verb
from ..protocol.startup import Startup
from ..session.server.notification_signature import NotificationSigner
from ..session.state import role_defaults_epoch as _role_defaults_epoch
from ..session.state import statement_cache as _statement_cache
from ..transport.connect import AddressCache
from ..transport.connection import Watched
from ..transport.inline_task import InlineTask
from ..transport.stream import Stream
from . import report
from .cancel_keys import CancelKeys
from .configuration import Candidate, ServerContexts, candidate
from .connections import ClientConnection, ConsoleLink, ServerConnection
from .lifecycle import Lifecycle
from .login.credentials import UserDirectory
from .login.fast_path import FastLogin, ScramLogin
from .login.hashing import Hashing
from .login.login import enter, go_on, turn_away, weigh
from .login.reserved_connection import ReservedConnection
from .pool_runtime import PoolRuntime, new_pool_runtime
from .pubsub.clients import hear, heard
from .servers.cancel import CancelRequests
from .servers.connect import open_server
from .servers.release_database import DatabaseRelease
from .servers.replication import replicate
from .servers.shared_epoch import SharedEpoch
from .servers.signals import SignalRequests
from .slow_rounds import measured
from .timers import Timers

log = logging.getLogger("pglido.worker")

# Seconds of rest when no connection can be taken.
ACCEPT_PAUSE = 1

# For so many pairs of database and user, of so many characters, is it remembered what the configuration says.
POOLS_KNOWN = 4096
LONGEST_KNOWN = 128


class CannotBoot(Exception):
    """This configuration can't run, and no restart would help."""


class Failed(Exception):
    """This worker can't go on; a successor can."""


class Worker:
    """What goes beyond the byte path: the world as seen by the `Lifecycle`."""

    def __init__(
        self,
        index: int,
        parent: int,
        channel: Channel[ipc.ToWorker],
        counters: SharedCounters,
        sockets: list[socket.socket],
        lifecycle: Lifecycle,
    ) -> None:
        self.index = index
        self.parent = parent
        self.channel = channel
        self.counters = counters
        self.sockets = sockets
        self.lifecycle = lifecycle
        lifecycle.outside = self
        lifecycle.counters = counters
        lifecycle.serial = counters.get(SharedCounter.SERIALS, index)
        lifecycle.cancel_keys = CancelKeys(counters.secret(), index)
        _statement_cache.share(SharedEpoch(counters, SharedCounter.DOUBTS))
        _role_defaults_epoch.share(
            SharedEpoch(counters, SharedCounter.DEFAULTS), SharedEpoch(counters, SharedCounter.RELOADS)
        )
        self.signer = NotificationSigner(counters.secret(), SharedEpoch(counters, SharedCounter.EARS))
        self.config = Config()
        self._known_pool: Callable[[str, str], PoolSettings | None] = self.config.pool
        self.ignored: frozenset[str] = frozenset()
        self.workers = 1
        self.server_tls = ServerContexts(self.config, {})
        self.candidate: tuple[int, Candidate] | None = None
        self.failed = False
        self.names = AddressCache(0, 0)
        self.users = UserDirectory(lifecycle)
        self.database_releases = DatabaseRelease(lifecycle)
        self.cancels = CancelRequests(lifecycle, channel)
        self.signals = SignalRequests(lifecycle, channel)
        self.listening: dict[socket.socket, Watched] = {}
        self.covered: dict[int, list[socket.socket]] = {}
        self.clock = Timers(self)
        self.fast_login = FastLogin(lifecycle)
        self.place = ReservedConnection(lifecycle, self.fast_login, self.listen)
        self.hashing = Hashing()
        self.leaving: float | None = None
        self.wait_for_clients = False
        self.ended = asyncio.Event()

    # Life.

    async def run(self) -> None:
        """From the first message of the control process to the end."""
        first, fds = await self.channel.receive()
        if not isinstance(first, ipc.Configure):
            raise CannotBoot(f"expected Configure, got {type(first).__name__}")
        try:
            self.adopt(candidate(first, fds))
        except ValueError as error:
            raise CannotBoot(str(error)) from error
        if self.lifecycle.no_ring:
            asked = self.config.settings.event_backend == EventBackend.IO_URING
            level = logging.WARNING if asked else logging.INFO
            log.log(level, "epoll is used instead of io_uring: %s", self.lifecycle.no_ring)
        self.place.fill()
        for sock in self.sockets:
            self.listen(sock)
        self.channel.post(ipc.Ready(os.getpid()))
        self.lifecycle.spawn(self.listen_to_control())
        self.clock.start()
        await self.ended.wait()
        self.close_all()
        if self.failed:
            raise Failed

    def close_all(self) -> None:
        """Tell everybody goodbye, without waiting."""
        for runtime in self.lifecycle.pools.values():
            if runtime.hub is not None:
                runtime.hub.close()
        for client in list(self.lifecycle.clients.values()):
            self.goodbye(client)
        for server in list(self.lifecycle.servers):
            self.lifecycle.close_server(server, "shutting down", logging.DEBUG)

    def goodbye(self, client: ClientConnection) -> None:
        """Close a client because the pooler stops."""
        self.lifecycle.kill(client, "57P01", "terminating connection due to administrator command")

    async def listen_to_control(self) -> None:
        """Do what the control process says; without it, stop. Whatever ends this, ends the worker."""
        handlers: dict[type[Any], Any] = {
            ipc.Abort: lambda m: self.drop_candidate(),
            ipc.Grant: self.on_grant,
            ipc.Recall: self.on_recall,
            ipc.Measure: self.on_measure,
            ipc.CancelHere: self.cancels.request_elsewhere,
            ipc.CancelOver: lambda m: self.cancels.held.let_go(m.number),
            ipc.StandInHere: self.signals.asked_elsewhere,
            ipc.StandInIs: self.signals.answered,
            ipc.StandInOver: self.signals.over_elsewhere,
            ipc.Vacate: lambda m: self.database_releases.begin(m.hosts, m.databases),
            ipc.SenderGone: lambda m: self.forget_sender(m.hosts, m.process),
            ipc.Met: self.users.met,
            ipc.Uncover: lambda m: self.uncover(m.worker),
            ipc.Drain: self.on_drain,
            ipc.Stop: lambda m: self.ended.set(),
        }
        try:
            while True:
                message, fds = await self.channel.receive()
                try:
                    what = message.action if isinstance(message, ipc.Command) else message
                    with measured(self.lifecycle.relay, f"{type(what).__name__} of the control process"):
                        if isinstance(message, ipc.Cover):
                            self.cover(message.worker, fds)
                        elif isinstance(message, ipc.Command):
                            self.on_command(message, fds)
                        else:
                            close_all(fds)
                            handlers[type(message)](message)
                except Exception:
                    log.exception("bug: %s from the control process failed", type(message).__name__)
        except (ChannelClosed, ChannelBroken) as error:
            log.error("the control process is gone: %s", error)
        finally:
            self.ended.set()

    # Commands.

    def on_command(self, message: ipc.Command, fds: Sequence[int]) -> None:
        """Do what an operator wants of all workers, and say when it is done."""
        match message.action:
            case ipc.Prepare(to):
                self.channel.post(ipc.Done(message.number, self.prepare(message.number, to, fds)))
            case ipc.Commit(prepared):
                self.commit(prepared)
                self.channel.post(ipc.Done(message.number))
            case ipc.Ask(subject):
                self.lifecycle.spawn(self.tell(message.number, subject))

    async def tell(self, number: int, subject: Subject) -> None:
        """Answer what the control process asks, a portion in each round."""
        for rows in report.answer(self.lifecycle, subject):
            self.channel.post(ipc.Rows(number, rows))
            await asyncio.sleep(0)
        self.channel.post(ipc.Done(number))

    # Configuration.

    def prepare(self, number: int, to: ipc.Configure, fds: Sequence[int]) -> str:
        """The first phase of a reload: make what is needed, change nothing; returns what is wrong."""
        self.drop_candidate()
        try:
            self.candidate = number, candidate(to, fds)
        except ValueError as error:
            return str(error)
        except Exception as error:
            log.exception("bug: a configuration was not prepared")
            return f"bug: {error!r}"
        return ""

    def commit(self, prepared: int) -> None:
        """The second phase: what was prepared is in force. Without it this worker would be on its own: it ends."""
        number, found = self.candidate or (0, None)
        self.candidate = None
        if found is None or number != prepared:
            log.error("a new configuration is in force that could not be prepared here: this worker ends")
            self.fail()
            return
        try:
            self.adopt(found)
        except Exception:
            log.exception("bug: a configuration was put in force by halves: this worker ends")
            self.fail()

    def fail(self) -> None:
        """End, so that a successor begins with what is in force."""
        self.failed = True
        self.ended.set()

    def drop_candidate(self) -> None:
        """What was prepared does not come into force."""
        if self.candidate is not None:
            self.candidate[1].outputs.close()
            self.candidate = None

    def adopt(self, prepared: Candidate) -> None:
        """Put a configuration in force; all that could fail was done when it was prepared."""
        message, listeners = prepared.message, prepared.listeners
        settings = message.config.settings
        logs.follow(f"worker {self.index}", settings, prepared.outputs)
        self.server_tls = prepared.server_tls
        for client in self.lifecycle.clients.values():
            # What was good enough when it came may be no more.
            client.listener = listeners[client.listener.unix]
        self.config = message.config
        self.lifecycle.most = settings.max_client_conn
        self.lifecycle.access_log.comings = settings.log_connections
        self.lifecycle.access_log.goings = settings.log_disconnections
        self._known_pool = lru_cache(POOLS_KNOWN)(message.config.pool)
        self.ignored = frozenset(name.lower() for name in settings.ignore_startup_parameters)
        self.workers = self.cancels.workers = self.signals.workers = message.workers
        self.lifecycle.budget.limit = settings.max_held_bytes
        self.lifecycle.budget.each = settings.max_client_held_bytes or settings.max_held_bytes
        self.names = AddressCache(settings.dns_max_ttl, settings.dns_nxdomain_ttl)
        self.users.adopt(message.config, message.users, message.mock_seed)
        self.fast_login.adopt(settings.auth_type, settings.client_tls_sslmode, listeners, self.users)
        for runtime in list(self.lifecycle.pools.values()):
            self.refresh(runtime)
        for name, database in message.config.databases.items():
            pool = message.config.pool(name, database.user) if database.user else None
            if pool is not None and pool.min_pool_size:
                self.lifecycle.plan_soon(self.runtime(pool))
        for client in self.lifecycle.clients.values():
            if client.session is not None and client.runtime is not None:
                client.session.rules = client.runtime.rules

    def refresh(self, runtime: PoolRuntime) -> None:
        """A pool takes its new settings; one whose database is gone serves nobody any more."""
        settings = self.config.pool(*runtime.key)
        if settings is None:
            runtime.pool.closed = True
            for client in [client for client in self.lifecycle.clients.values() if client.runtime is runtime]:
                self.lifecycle.kill(client, "3D000", f'database "{runtime.key[0]}" is no longer configured')
            if runtime.hub is not None:
                runtime.hub.close()
        else:
            runtime.names = self.names
            runtime.secrets = self.users.texts
            runtime.pool.closed = False
            if runtime.hub is not None:
                runtime.hub.closed = False
            tls = self.server_tls.of(settings)
            if runtime.adopt(settings, self.minimum(settings), self.config.settings.max_packet_size, tls):
                for plan in runtime.pool.retire():
                    self.lifecycle.do(runtime, plan)
                if runtime.hub is not None:
                    runtime.hub.renew()
        self.lifecycle.plan_soon(runtime)

    def minimum(self, settings: PoolSettings) -> int:
        """How many servers to keep here: a part of min_pool_size, or all where other workers may have no clients."""
        if settings.server_user is None:
            return settings.min_pool_size
        return ipc.share(settings.min_pool_size, self.index, self.workers)

    def runtime(self, settings: PoolSettings) -> PoolRuntime:
        """The running pool of these settings, made now if need be."""
        runtime = self.lifecycle.pools.get(settings.key)
        if runtime is None:
            pool = self.config.pool(*settings.key) or settings
            limit, tls = self.config.settings.max_packet_size, self.server_tls.of(pool)
            runtime = new_pool_runtime(pool, self.minimum(pool), limit, self.names, tls)
            runtime.secrets = self.users.texts
            runtime.signer = self.signer
            self.lifecycle.pools[settings.key] = runtime
        return runtime

    def pool_of(self, database: str, user: str) -> PoolSettings | None:
        """What the configuration says of this pair; anybody may make up long names."""
        known = len(database) + len(user) <= LONGEST_KNOWN
        return self._known_pool(database, user) if known else self.config.pool(database, user)

    # Clients.

    def is_asked_for(self, start: Startup) -> bool:
        """Is auth_query to be asked who this client is?"""
        return self.users.asks_for(self.pool_of(start.database, start.user))

    def listen(self, sock: socket.socket) -> None:
        """Begin to take connections from a listening socket, past asyncio: in the relay's own round."""
        if not self.lifecycle.draining and sock.fileno() >= 0 and sock not in self.listening:
            watched = self.listening[sock] = Watched(None)
            watched.call = partial(self.fast_login.open, sock, sock.fileno(), sock.family == socket.AF_UNIX)
            self.lifecycle.relay.watch_descriptor(watched, sock.fileno(), selectors.EVENT_READ, False)

    def close_listener(self, sock: socket.socket) -> None:
        """Take no more connections from it for now."""
        watched = self.listening.pop(sock, None)
        if watched is not None:
            self.lifecycle.relay.unwatch_descriptor(watched, sock.fileno())
            # An event that is on its way must not reach a socket that is closed by then.
            watched.call = _nothing

    def rest_listener(self, sock: socket.socket, error: OSError) -> None:
        """A connection could not be taken, mostly for too many open files: without a pause it would be tried always."""
        self.close_listener(sock)
        if self.place.offer(sock, error):
            log.error("can't accept, but for an admin: %s", error)
            return
        log.error("can't accept, will try again in %d s: %s", ACCEPT_PAUSE, error)
        asyncio.get_running_loop().call_later(ACCEPT_PAUSE, self.listen, sock)

    def cover(self, worker: int, fds: Sequence[int]) -> None:
        """Accept in place of another worker, whose listening sockets these are; none if there was no room for them."""
        self.uncover(worker)
        if not fds:
            log.error("can't accept in place of worker %d: out of file descriptors", worker)
            self.channel.post(ipc.NotCovered(worker))
            return
        self.covered[worker] = [socket.socket(fileno=fd) for fd in fds]
        for sock in self.covered[worker]:
            self.listen(sock)

    def uncover(self, worker: int) -> None:
        """Leave another worker's sockets to it again."""
        for sock in self.covered.pop(worker, ()):
            self.close_listener(sock)
            sock.close()

    def visit(self, client: ClientConnection) -> None:
        """A connection comes in the long way."""
        client.login = InlineTask(enter(self.lifecycle, client), _login_failed)
        client.login.step()

    def go_on(self, client: ClientConnection, packet: bytes, start: Startup, proof: Proof) -> None:
        """A connection that has proved who it is comes in the long way."""
        client.login = InlineTask(go_on(self.lifecycle, client, packet, start, proof), _login_failed)
        client.login.step()

    def weigh(self, client: ClientConnection, proving: ScramLogin) -> None:
        """What a connection has proved takes long to judge."""
        client.login = InlineTask(weigh(self.lifecycle, client, proving), _login_failed)
        client.login.step()

    def turn_away(self, client: ClientConnection, error: Exception) -> None:
        """Tell a client why it can't come in."""
        turn_away(self.lifecycle, client, error)

    def open_console(self, client: ClientConnection, start: Startup, admin: bool) -> None:
        """Relay a client of the admin database to the control process."""
        if client.serial == self.fast_login.spare:
            self.place.seat()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        end = ConsoleLink(ours.detach(), start.database)
        self.lifecycle.relay.add(end)
        tls = report.tls_of(client)
        message = ipc.Console(
            user=start.user,
            database=start.database,
            admin=admin,
            address=client.address,
            tls=tls,
            startup=dict(start.raw),
            uuid=client.uuid,
            protocol=196608 + client.minor,
        )
        self.channel.post(message, [theirs.detach()])
        self.lifecycle.relay.join_raw(client, end)

    async def replicate(
        self, client: ClientConnection, stream: Stream, runtime: PoolRuntime, start: Startup, last: bytes
    ) -> None:
        """A replication connection: one to one."""
        await replicate(self.lifecycle, client, stream, runtime, start, last)

    # What clients want before they go on.

    def wished(self, client: ClientConnection) -> bool:
        """See that a client of a pool with servers may go on; returns whether it may at once."""
        if client.session.signal_targets:
            return self.signals.wished(client)
        if not client.session.vacates:
            return hear(self.lifecycle, client)
        assert client.runtime is not None
        hosts = client.runtime.settings.hosts
        databases = tuple([name.decode("utf-8", "replace") for name in client.session.vacates])
        self.database_releases.begin(hosts, databases, client.runtime)
        self.channel.post(ipc.Vacate(hosts, databases))
        return True

    def heard(self, client: ClientConnection) -> None:
        """What a client of a pool with servers listens to is another now."""
        heard(self.lifecycle, client)

    def sender_gone(self, server: ServerConnection) -> None:
        """A server is gone that notifications are known by, in all workers."""
        hosts = server.runtime.settings.hosts
        self.forget_sender(hosts, server.pid)
        self.channel.post(ipc.SenderGone(hosts, server.pid))

    def forget_sender(self, hosts: tuple[Place, ...], process: int) -> None:
        """Notifications of this server process, if there are any, are nobody's."""
        for runtime in self.lifecycle.pools.values():
            if runtime.hub is not None and runtime.settings.hosts == hosts:
                runtime.hub.senders.forget(process)

    # Servers.

    async def open_server(self, runtime: PoolRuntime, slot: ServerSlot) -> None:
        """Open the server of a slot."""
        await open_server(self.lifecycle, runtime, slot)

    def tell_broker(self, runtime: PoolRuntime, plan: Plan) -> None:
        """What the pool's pool has to say about leases."""
        if plan.verb is Verb.WANT:
            since = runtime.pool.oldest_wait()
            urgent = since is not None
            moment = time.monotonic() if since is None else since
            self.channel.post(ipc.Want(runtime.key, moment, plan.number, runtime.pool.granted, urgent))
        elif plan.verb is Verb.RETURN:
            self.channel.post(ipc.Return(runtime.key, plan.number))
        elif plan.verb is Verb.KEPT:
            self.channel.post(ipc.Kept(runtime.key))

    def on_grant(self, message: ipc.Grant) -> None:
        """A lease came."""
        runtime = self.lifecycle.pools.get(message.pool)
        if runtime is None:
            self.channel.post(ipc.Return(message.pool))
            return
        runtime.pool.grant()
        self.lifecycle.plan_soon(runtime)

    def on_recall(self, message: ipc.Recall) -> None:
        """A lease is wanted back."""
        runtime = self.lifecycle.pools.get(message.pool)
        if runtime is None:
            return
        for plan in runtime.pool.recall(message.idle, time.monotonic(), message.rest):
            self.lifecycle.do(runtime, plan)

    def on_measure(self, message: ipc.Measure) -> None:
        """Is this worker's part of a pool the right one?"""
        runtime = self.lifecycle.pools.get(message.pool)
        if runtime is not None:
            self.channel.post(ipc.Load(runtime.key, *runtime.pool.load(time.monotonic())))

    # The end.

    def on_drain(self, message: ipc.Drain) -> None:
        """Take no more clients; go when the last transaction is done, or the last client has left.

        Whoever comes is refused by the kernel, or served by a successor on the same port.
        """
        for sock in [*self.sockets, *(sock for socks in self.covered.values() for sock in socks)]:
            self.close_listener(sock)
            sock.close()
        self.lifecycle.draining = True
        self.wait_for_clients = message.clients
        self.leaving = time.monotonic() + message.timeout if message.timeout else float("inf")
        self.clock.hurry()


def _nothing() -> None:
    """For a socket that is not accepted from any more."""


def _login_failed(error: BaseException) -> None:
    log.error("bug: a login failed", exc_info=error)
