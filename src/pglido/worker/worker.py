"""One worker process: its parts put together, and what the control process tells it."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from .. import log as logs
from ..config.enums import EventBackend
from ..config.model import Config
from ..ipc import messages as ipc
from ..ipc.channel import Channel, ChannelBroken, ChannelClosed, close_all
from ..ipc.shared_counters import SharedCounter, SharedCounters
from ..ipc.snapshot import Subject
from ..session.server.notification_signature import NotificationSigner
from ..session.state import role_defaults_epoch as _role_defaults_epoch
from ..session.state import statement_cache as _statement_cache
from . import report
from .cancel_keys import CancelKeys
from .configuration import Candidate, candidate
from .connections import ClientConnection
from .errors import TERMINATED
from .leases import Leases
from .lifecycle import Lifecycle
from .listeners import Listeners
from .login.console import ConsoleRelays
from .login.credentials import UserDirectory
from .login.fast_path import FastLogin
from .login.hashing import Hashing
from .login.login import Login
from .operations import Operations
from .pool_directory import PoolDirectory
from .servers.cancel import CancelRequests
from .servers.connect import ServerConnector
from .servers.release_database import DatabaseRelease
from .servers.shared_epoch import SharedEpoch
from .servers.signals import SignalRequests
from .slow_rounds import measured
from .timers import Timers
from .wishes import Wishes

log = logging.getLogger("pglido.worker")


class CannotBoot(Exception):
    """This configuration can't run, and no restart would help."""


class Failed(Exception):
    """This worker can't go on; a successor can."""


class Worker:
    """All of one worker."""

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
        self.lifecycle = lifecycle
        lifecycle.counters = counters
        lifecycle.serial = counters.get(SharedCounter.SERIALS, index)
        lifecycle.cancel_keys = CancelKeys(counters.secret(), index)
        _statement_cache.share(SharedEpoch(counters, SharedCounter.DOUBTS))
        _role_defaults_epoch.share(
            SharedEpoch(counters, SharedCounter.DEFAULTS), SharedEpoch(counters, SharedCounter.RELOADS)
        )
        signer = NotificationSigner(counters.secret(), SharedEpoch(counters, SharedCounter.EARS))
        self.pools = PoolDirectory(lifecycle, signer)
        self.candidate: tuple[int, Candidate] | None = None
        # Commands that take time, by number.
        self.under_way: dict[int, asyncio.Task[None]] = {}
        self.failed = False
        self.users = UserDirectory(lifecycle, self.pools, channel.post)
        hashing = Hashing()
        connector = ServerConnector(lifecycle, self.pools, self.users, hashing)
        self.cancels = CancelRequests(lifecycle, channel, connector)
        self.signals = SignalRequests(lifecycle, channel)
        self.database_releases = DatabaseRelease(lifecycle)
        self.leases = Leases(lifecycle, channel)
        lifecycle.cancels = self.cancels
        lifecycle.opener = connector
        lifecycle.broker = self.leases
        lifecycle.wishes = Wishes(lifecycle, channel, self.signals, self.database_releases)
        self.fast_login = FastLogin(lifecycle)
        self.listeners = Listeners(lifecycle, self.fast_login, channel, sockets)
        console = ConsoleRelays(lifecycle, self.fast_login, self.listeners.reserved, channel)
        self.fast_login.logins = Login(
            lifecycle, self.fast_login, self.pools, self.users, hashing, self.cancels, console
        )
        self.operations = Operations(lifecycle, self.pools, self.fast_login)
        self.timers = Timers(self)
        self.leaving: float | None = None
        self.wait_for_clients = False
        self.ended = asyncio.Event()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.pools.config

    # Life.

    async def run(self) -> None:
        """From the first message of the control process to the end."""
        first, fds = await self.channel.receive()
        if isinstance(first, ipc.Gates):
            self.pools.gates = first
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
        self.listeners.open()
        self.lifecycle.tells_slow_rounds = True
        self.channel.post(ipc.Ready(os.getpid()))
        self.lifecycle.spawn(self.listen_to_control())
        self.timers.start()
        await self.ended.wait()
        self.close_all()
        if self.failed:
            raise Failed

    def close_all(self) -> None:
        """Tell everybody goodbye, without waiting."""
        for hub in list(self.lifecycle.hubs.values()):
            hub.close()
        for client in list(self.lifecycle.clients.values()):
            self.goodbye(client)
        for server in list(self.lifecycle.servers):
            self.lifecycle.close_server(server, "shutting down", logging.DEBUG)

    def goodbye(self, client: ClientConnection) -> None:
        """Close a client because the pooler stops."""
        self.lifecycle.kill(client, *TERMINATED)

    async def listen_to_control(self) -> None:
        """Do what the control process says; without it, stop. Whatever ends this, ends the worker."""
        handlers: dict[type[Any], Any] = {
            ipc.Abort: self.on_abort,
            ipc.Gates: self.operations.set_gates,
            ipc.Grant: self.leases.on_grant,
            ipc.Recall: self.leases.on_recall,
            ipc.Measure: self.leases.on_measure,
            ipc.CancelHere: self.cancels.request_elsewhere,
            ipc.CancelOver: lambda m: self.cancels.held.let_go(m.number),
            ipc.StandInHere: self.signals.asked_elsewhere,
            ipc.StandInIs: self.signals.answered,
            ipc.StandInOver: self.signals.over_elsewhere,
            ipc.Vacate: lambda m: self.database_releases.begin(m.hosts, m.databases),
            ipc.SenderGone: lambda m: self.lifecycle.forget_sender(m.hosts, m.process),
            ipc.Met: self.users.met,
            ipc.Uncover: lambda m: self.listeners.uncover(m.worker),
            ipc.Drain: self.on_drain,
            ipc.Stop: lambda m: self.ended.set(),
        }
        try:
            while True:
                message, fds = await self.channel.receive()
                try:
                    what = message.action if isinstance(message, ipc.Command) else message
                    with measured(self.lifecycle.transport, f"{type(what).__name__} of the control process"):
                        if isinstance(message, ipc.Cover):
                            self.listeners.cover(message.worker, fds)
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
        number = message.number
        try:
            outcome = self.do(number, message.action, fds)
        except Exception as error:
            log.exception("bug: %s failed", type(message.action).__name__)
            outcome = f"bug: {error!r}"
        if isinstance(outcome, str):
            self.channel.post(ipc.Done(number, outcome))
        else:
            self.begin(number, outcome)

    def do(self, number: int, action: ipc.Action, fds: Sequence[int]) -> str | Coroutine[Any, Any, None]:
        """Do it, and return what is wrong, or, where it takes time, the work that is left."""
        operations = self.operations
        match action:
            case ipc.Ask(subject):
                return self.tell(number, subject)
            case ipc.AwaitReleased(database):
                return operations.released(database)
            case ipc.AwaitReconnected(database):
                return operations.reconnected(database)
            case ipc.Prepare(to):
                return self.prepare(number, to, fds)
            case ipc.KillClient(client):
                return operations.kill_client(client)
            case ipc.Commit(prepared):
                self.commit(prepared)
            case ipc.Gates():
                operations.set_gates(action)
            case ipc.Reconnect(database):
                operations.reconnect(database)
            case ipc.Kill(database):
                operations.kill(database)
        return ""

    def begin(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes time, and say when it is done, unless it is not waited for any more."""
        task = self.under_way[number] = self.lifecycle.spawn(self.finish(number, work))
        task.add_done_callback(lambda _: self.under_way.pop(number, None))

    async def finish(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        """Do it, and say what came of it."""
        problem = ""
        try:
            await work
        except Exception as error:
            log.exception("bug: a command failed")
            problem = f"bug: {error!r}"
        self.channel.post(ipc.Done(number, problem))

    def on_abort(self, message: ipc.Abort) -> None:
        """A command is not waited for any more."""
        task = self.under_way.get(message.command)
        if task is not None:
            task.cancel()
        if self.candidate is not None and self.candidate[0] == message.command:
            self.drop_candidate()

    async def tell(self, number: int, subject: Subject) -> None:
        """Answer what the control process asks, a portion in each round."""
        for rows in report.answer(self.lifecycle, subject):
            self.channel.post(ipc.Rows(number, rows))
            await asyncio.sleep(0)

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
        for client in self.lifecycle.clients.values():
            # What was good enough when it came may be no more.
            client.listener = listeners[client.listener.unix]
        self.pools.adopt(message.config, message.workers, prepared.server_tls)
        self.cancels.workers = self.signals.workers = message.workers
        self.lifecycle.most = settings.max_client_conn
        self.lifecycle.access_log.comings = settings.log_connections
        self.lifecycle.access_log.goings = settings.log_disconnections
        self.lifecycle.budget.limit = settings.max_held_bytes
        self.lifecycle.budget.each = settings.max_client_held_bytes or settings.max_held_bytes
        self.users.adopt(message.config, message.users, message.mock_seed)
        self.fast_login.adopt(settings, listeners, self.users)
        self.pools.refresh(self.users.texts)
        for client in self.lifecycle.clients.values():
            if client.session is not None and client.runtime is not None:
                client.session.rules = client.runtime.rules

    # The end.

    def on_drain(self, message: ipc.Drain) -> None:
        """Take no more clients; go when the last transaction is done, or the last client has left."""
        self.listeners.close()
        self.lifecycle.draining = True
        self.wait_for_clients = message.clients
        self.leaving = time.monotonic() + message.timeout if message.timeout else float("inf")
        self.timers.hurry()
