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
from .configuration import Candidate, ServerContexts, candidate
from .connections import ClientConnection, ConsoleLink, ServerConnection
from .lifecycle import Lifecycle
from .login.credentials import UserDirectory
from .login.fast_path import FastLogin, ScramLogin
from .login.hashing import Hashing
from .login.login import enter, go_on, turn_away, weigh
from .login.reserved_connection import ReservedConnection
from .pool_runtime import PoolRuntime, new_live
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
        board: SharedCounters,
        sockets: list[socket.socket],
        host: Lifecycle,
    ) -> None:
        self.index = index
        self.parent = parent
        self.channel = channel
        self.board = board
        self.sockets = sockets
        self.host = host
        host.outside = self
        host.board = board
        _statement_cache.share(SharedEpoch(board, SharedCounter.DOUBTS))
        _role_defaults_epoch.share(
            SharedEpoch(board, SharedCounter.DEFAULTS), SharedEpoch(board, SharedCounter.RELOADS)
        )
        self.signer = NotificationSigner(board.secret(), SharedEpoch(board, SharedCounter.EARS))
        self.config = Config()
        self._known_pool: Callable[[str, str], PoolSettings | None] = self.config.pool
        self.ignored: frozenset[str] = frozenset()
        self.workers = 1
        self.server_tls = ServerContexts(self.config, {})
        self.candidate: tuple[int, Candidate] | None = None
        self.failed = False
        self.names = AddressCache(0, 0)
        self.users = UserDirectory(host)
        self.departures = DatabaseRelease(host)
        self.cancels = CancelRequests(host, channel)
        self.signals = SignalRequests(host, channel)
        self.listening: dict[socket.socket, Watched] = {}
        self.covered: dict[int, list[socket.socket]] = {}
        self.clock = Timers(self)
        self.fast_login = FastLogin(host)
        self.place = ReservedConnection(host, self.fast_login, self.listen)
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
        if self.host.no_ring:
            asked = self.config.settings.event_backend == EventBackend.IO_URING
            level = logging.WARNING if asked else logging.INFO
            log.log(level, "epoll is used instead of io_uring: %s", self.host.no_ring)
        self.place.fill()
        for sock in self.sockets:
            self.listen(sock)
        self.channel.post(ipc.Ready(os.getpid()))
        self.host.spawn(self.listen_to_control())
        self.clock.start()
        await self.ended.wait()
        self.close_all()
        if self.failed:
            raise Failed

    def close_all(self) -> None:
        """Tell everybody goodbye, without waiting."""
        for live in self.host.pools.values():
            if live.hub is not None:
                live.hub.close()
        for guest in list(self.host.guests.values()):
            self.goodbye(guest)
        for backend in list(self.host.backends):
            self.host.close_server(backend, "shutting down", logging.DEBUG)

    def goodbye(self, guest: ClientConnection) -> None:
        """Close a client because the pooler stops."""
        self.host.kill(guest, "57P01", "terminating connection due to administrator command")

    async def listen_to_control(self) -> None:
        """Do what the control process says; without it, stop. Whatever ends this, ends the worker."""
        handlers: dict[type[Any], Any] = {
            ipc.Commit: self.on_commit,
            ipc.Abort: lambda m: self.drop_candidate(),
            ipc.Grant: self.on_grant,
            ipc.Recall: self.on_recall,
            ipc.Measure: self.on_measure,
            ipc.CancelHere: self.cancels.request_elsewhere,
            ipc.CancelOver: lambda m: self.cancels.held.let_go(m.number),
            ipc.StandInHere: self.signals.asked_elsewhere,
            ipc.StandInIs: self.signals.answered,
            ipc.StandInOver: self.signals.over_elsewhere,
            ipc.Vacate: lambda m: self.departures.begin(m.hosts, m.databases),
            ipc.SenderGone: lambda m: self.forget_sender(m.hosts, m.process),
            ipc.Met: self.users.met,
            ipc.Uncover: lambda m: self.uncover(m.worker),
            ipc.Ask: lambda m: self.host.spawn(self.tell(m)),
            ipc.Drain: self.on_drain,
            ipc.Stop: lambda m: self.ended.set(),
        }
        try:
            while True:
                message, fds = await self.channel.receive()
                try:
                    with measured(self.host.pump, f"{type(message).__name__} of the control process"):
                        if isinstance(message, ipc.Cover):
                            self.cover(message.worker, fds)
                        elif isinstance(message, ipc.Prepare):
                            self.on_prepare(message, fds)
                        else:
                            close_all(fds)
                            handlers[type(message)](message)
                except Exception:
                    log.exception("bug: %s from the control process failed", type(message).__name__)
        except (ChannelClosed, ChannelBroken) as error:
            log.error("the control process is gone: %s", error)
        finally:
            self.ended.set()

    async def tell(self, asked: ipc.Ask) -> None:
        """Answer what the control process asks, a portion in each round."""
        for rows in report.answer(self.host, asked.subject) if asked.subject is not None else ():
            self.channel.post(ipc.Answer(asked.ask_id, rows, more=True))
            await asyncio.sleep(0)
        self.channel.post(ipc.Answer(asked.ask_id, []))

    # Configuration.

    def on_prepare(self, message: ipc.Prepare, fds: Sequence[int]) -> None:
        """The first phase of a reload: make what is needed, change nothing."""
        self.drop_candidate()
        problem = ""
        try:
            self.candidate = message.number, candidate(message.to, fds)
        except ValueError as error:
            problem = str(error)
        except Exception as error:
            log.exception("bug: a configuration was not prepared")
            problem = f"bug: {error!r}"
        self.channel.post(ipc.Prepared(message.number, problem))

    def on_commit(self, message: ipc.Commit) -> None:
        """The second phase: what was prepared is in force. Without it this worker would be on its own: it ends."""
        number, prepared = self.candidate or (0, None)
        self.candidate = None
        if prepared is None or number != message.number:
            log.error("a new configuration is in force that could not be prepared here: this worker ends")
            self.fail()
            return
        try:
            self.adopt(prepared)
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
        message, doors = prepared.message, prepared.doors
        settings = message.config.settings
        logs.follow(f"worker {self.index}", settings, prepared.outputs)
        self.server_tls = prepared.server_tls
        for guest in self.host.guests.values():
            # What was good enough when it came may be no more.
            guest.door = doors[guest.door.unix]
        self.config = message.config
        self.host.most = settings.max_client_conn
        self.host.access_log.comings = settings.log_connections
        self.host.access_log.goings = settings.log_disconnections
        self._known_pool = lru_cache(POOLS_KNOWN)(message.config.pool)
        self.ignored = frozenset(name.lower() for name in settings.ignore_startup_parameters)
        self.workers = self.cancels.workers = self.signals.workers = message.workers
        self.host.budget.limit = settings.max_held_bytes
        self.host.budget.each = settings.max_client_held_bytes or settings.max_held_bytes
        self.names = AddressCache(settings.dns_max_ttl, settings.dns_nxdomain_ttl)
        self.users.adopt(message.config, message.users, message.mock_seed)
        self.fast_login.adopt(settings.auth_type, settings.client_tls_sslmode, doors, self.users)
        for live in list(self.host.pools.values()):
            self.refresh(live)
        for name, database in message.config.databases.items():
            pool = message.config.pool(name, database.user) if database.user else None
            if pool is not None and pool.min_pool_size:
                self.host.plan_soon(self.live(pool))
        for guest in self.host.guests.values():
            if guest.session is not None and guest.live is not None:
                guest.session.rules = guest.live.rules

    def refresh(self, live: PoolRuntime) -> None:
        """A pool takes its new settings; one whose database is gone serves nobody any more."""
        settings = self.config.pool(*live.key)
        if settings is None:
            live.policy.closed = True
            for guest in [guest for guest in self.host.guests.values() if guest.live is live]:
                self.host.kill(guest, "3D000", f'database "{live.key[0]}" is no longer configured')
            if live.hub is not None:
                live.hub.close()
        else:
            live.names = self.names
            live.secrets = self.users.texts
            live.policy.closed = False
            if live.hub is not None:
                live.hub.closed = False
            tls = self.server_tls.of(settings)
            if live.adopt(settings, self.minimum(settings), self.config.settings.max_packet_size, tls):
                for plan in live.policy.retire():
                    self.host.do(live, plan)
                if live.hub is not None:
                    live.hub.renew()
        self.host.plan_soon(live)

    def minimum(self, settings: PoolSettings) -> int:
        """How many servers to keep here: a part of min_pool_size, or all where other workers may have no clients."""
        if settings.server_user is None:
            return settings.min_pool_size
        return ipc.share(settings.min_pool_size, self.index, self.workers)

    def live(self, settings: PoolSettings) -> PoolRuntime:
        """The running pool of these settings, made now if need be."""
        live = self.host.pools.get(settings.key)
        if live is None:
            pool = self.config.pool(*settings.key) or settings
            limit, tls = self.config.settings.max_packet_size, self.server_tls.of(pool)
            live = new_live(pool, self.minimum(pool), limit, self.names, tls)
            live.secrets = self.users.texts
            live.signer = self.signer
            self.host.pools[settings.key] = live
        return live

    def pool_of(self, database: str, user: str) -> PoolSettings | None:
        """What the configuration says of this pair; anybody may make up long names."""
        known = len(database) + len(user) <= LONGEST_KNOWN
        return self._known_pool(database, user) if known else self.config.pool(database, user)

    # Clients.

    def is_asked_for(self, start: Startup) -> bool:
        """Is auth_query to be asked who this client is?"""
        return self.users.asks_for(self.pool_of(start.database, start.user))

    def listen(self, sock: socket.socket) -> None:
        """Begin to take connections from a listening socket, past asyncio: in the pump's own round."""
        if not self.host.draining and sock.fileno() >= 0 and sock not in self.listening:
            watched = self.listening[sock] = Watched(None)
            watched.call = partial(self.fast_login.open, sock, sock.fileno(), sock.family == socket.AF_UNIX)
            self.host.pump.watch_descriptor(watched, sock.fileno(), selectors.EVENT_READ, False)

    def close_door(self, sock: socket.socket) -> None:
        """Take no more connections from it for now."""
        watched = self.listening.pop(sock, None)
        if watched is not None:
            self.host.pump.unwatch_descriptor(watched, sock.fileno())
            # An event that is on its way must not reach a socket that is closed by then.
            watched.call = _nothing

    def rest_door(self, sock: socket.socket, error: OSError) -> None:
        """A connection could not be taken, mostly for too many open files: without a pause it would be tried always."""
        self.close_door(sock)
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
            self.close_door(sock)
            sock.close()

    def visit(self, guest: ClientConnection) -> None:
        """A connection comes in the long way."""
        guest.login = InlineTask(enter(self.host, guest), _login_failed)
        guest.login.step()

    def go_on(self, guest: ClientConnection, packet: bytes, start: Startup, proof: Proof) -> None:
        """A connection that has proved who it is comes in the long way."""
        guest.login = InlineTask(go_on(self.host, guest, packet, start, proof), _login_failed)
        guest.login.step()

    def weigh(self, guest: ClientConnection, proving: ScramLogin) -> None:
        """What a connection has proved takes long to judge."""
        guest.login = InlineTask(weigh(self.host, guest, proving), _login_failed)
        guest.login.step()

    def turn_away(self, guest: ClientConnection, error: Exception) -> None:
        """Tell a client why it can't come in."""
        turn_away(self.host, guest, error)

    def open_console(self, guest: ClientConnection, start: Startup, admin: bool) -> None:
        """Relay a client of the admin database to the control process."""
        if guest.serial == self.fast_login.spare:
            self.place.seat()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        end = ConsoleLink(ours.detach(), start.database)
        self.host.pump.add(end)
        tls = report.tls_of(guest)
        message = ipc.Console(
            user=start.user,
            database=start.database,
            admin=admin,
            address=guest.address,
            tls=tls,
            startup=dict(start.raw),
            uuid=guest.uuid,
            protocol=196608 + guest.minor,
        )
        self.channel.post(message, [theirs.detach()])
        self.host.pump.join_raw(guest, end)

    async def replicate(
        self, guest: ClientConnection, stream: Stream, live: PoolRuntime, start: Startup, last: bytes
    ) -> None:
        """A replication connection: one to one."""
        await replicate(self.host, guest, stream, live, start, last)

    # What clients want before they go on.

    def wished(self, guest: ClientConnection) -> bool:
        """See that a client of a pool with servers may go on; returns whether it may at once."""
        if guest.session.signal_targets:
            return self.signals.wished(guest)
        if not guest.session.vacates:
            return hear(self.host, guest)
        assert guest.live is not None
        hosts = guest.live.settings.hosts
        databases = tuple([name.decode("utf-8", "replace") for name in guest.session.vacates])
        self.departures.begin(hosts, databases, guest.live)
        self.channel.post(ipc.Vacate(hosts, databases))
        return True

    def heard(self, guest: ClientConnection) -> None:
        """What a client of a pool with servers listens to is another now."""
        heard(self.host, guest)

    def sender_gone(self, backend: ServerConnection) -> None:
        """A server is gone that notifications are known by, in all workers."""
        hosts = backend.live.settings.hosts
        self.forget_sender(hosts, backend.pid)
        self.channel.post(ipc.SenderGone(hosts, backend.pid))

    def forget_sender(self, hosts: tuple[Place, ...], process: int) -> None:
        """Notifications of this server process, if there are any, are nobody's."""
        for live in self.host.pools.values():
            if live.hub is not None and live.settings.hosts == hosts:
                live.hub.senders.forget(process)

    # Servers.

    async def open_server(self, live: PoolRuntime, slot: ServerSlot) -> None:
        """Open the server of a slot."""
        await open_server(self.host, live, slot)

    def tell_broker(self, live: PoolRuntime, plan: Plan) -> None:
        """What the pool's policy has to say about leases."""
        if plan.verb is Verb.WANT:
            since = live.policy.oldest_wait()
            urgent = since is not None
            moment = time.monotonic() if since is None else since
            self.channel.post(ipc.Want(live.key, moment, plan.number, live.policy.granted, urgent))
        elif plan.verb is Verb.RETURN:
            self.channel.post(ipc.Return(live.key, plan.number))
        elif plan.verb is Verb.KEPT:
            self.channel.post(ipc.Kept(live.key))

    def on_grant(self, message: ipc.Grant) -> None:
        """A lease came."""
        live = self.host.pools.get(message.pool)
        if live is None:
            self.channel.post(ipc.Return(message.pool))
            return
        live.policy.grant()
        self.host.plan_soon(live)

    def on_recall(self, message: ipc.Recall) -> None:
        """A lease is wanted back."""
        live = self.host.pools.get(message.pool)
        if live is None:
            return
        for plan in live.policy.recall(message.idle, time.monotonic(), message.rest):
            self.host.do(live, plan)

    def on_measure(self, message: ipc.Measure) -> None:
        """Is this worker's part of a pool the right one?"""
        live = self.host.pools.get(message.pool)
        if live is not None:
            self.channel.post(ipc.Load(live.key, *live.policy.load(time.monotonic())))

    # The end.

    def on_drain(self, message: ipc.Drain) -> None:
        """Take no more clients; go when the last transaction is done, or the last client has left.

        Whoever comes is refused by the kernel, or served by a successor on the same port.
        """
        for sock in [*self.sockets, *(sock for socks in self.covered.values() for sock in socks)]:
            self.close_door(sock)
            sock.close()
        self.host.draining = True
        self.wait_for_clients = message.clients
        self.leaving = time.monotonic() + message.timeout if message.timeout else float("inf")
        self.clock.hurry()


def _nothing() -> None:
    """For a socket that is not accepted from any more."""


def _login_failed(error: BaseException) -> None:
    log.error("bug: a login failed", exc_info=error)
