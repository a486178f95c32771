"""Open a server connection: reach a host, start TLS, log in, learn what the server reports."""

import asyncio
import contextlib
import logging
import math
import os
import re
import socket
import ssl
from functools import partial
from typing import Protocol

from ...auth import server_login
from ...auth.channel_binding import end_point
from ...auth.errors import AuthError, LoginRefused, OtherVerifier
from ...auth.secrets import Credentials, parse
from ...auth.server_login import NoPostgres, NoTls, ServerGone, Tls
from ...config.model import Config, LoadBalance, PoolSettings, Settings
from ...pooling.outage import lasts
from ...pooling.pool import ServerSlot
from ...protocol import messages
from ...protocol.errors import ProtocolViolation
from ...session.state import parameters as _parameters
from ...session.state.parameters import SessionParameters
from ...transport.connect import Address, CannotConnect, Keepalive, connect
from ...transport.stream import Gone, Stream, Unsafe
from ..connections import ServerConnection
from ..errors import CannotOpen, DialError
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime
from .login_steps import HashingService, carry_out, start_tls
from .session_defaults import at_login, opened

log = logging.getLogger("pglido.worker")

# Classes of SQLSTATE by which a server refuses startup parameters, not the user or the database.
OWN_FAULTS = ("22", "42", "55")

# How what the server's side of a login did wrong begins.
FAILED = "server login failed: "


def keepalive_of(settings: Settings) -> Keepalive:
    """The TCP options that all connections get."""
    return Keepalive(
        on=settings.tcp_keepalive,
        idle=math.ceil(settings.tcp_keepidle),
        interval=math.ceil(settings.tcp_keepintvl),
        count=settings.tcp_keepcnt,
        user_timeout=int(settings.tcp_user_timeout * 1000),
        buffer=int(settings.tcp_socket_buffer),
    )


class ConfigView(Protocol):
    """The configuration in force."""

    @property
    def config(self) -> Config:
        """Another object after each reload."""


class SecretDoubts(Protocol):
    """Who knows the secrets of users."""

    def doubt(self, pool: PoolSettings) -> None:
        """A server has another verifier than the one that a client of this pool proved itself by."""


class ServerConnector:
    """Opens the servers of one worker, and the connections by which their queries are cancelled."""

    def __init__(self, lifecycle: Lifecycle, view: ConfigView, users: SecretDoubts, hashing: HashingService) -> None:
        self.lifecycle = lifecycle
        self.view = view
        self.users = users
        self.hashing = hashing

    async def open_server(self, runtime: PoolRuntime, slot: ServerSlot) -> None:
        """Open the server of `slot`, and report how it went to the pool."""
        try:
            server = await self.log_in(runtime, slot)
        except LoginRefused as error:
            for plan in slot.pool.refused(slot, error.sqlstate, str(error)):
                self.lifecycle.do(runtime, plan)
            self.lifecycle.plan_soon(runtime)
        except CannotOpen as error:
            problem = error.sqlstate, str(error)
            # Said once; that nothing has changed is for those who look closer.
            level = logging.DEBUG if problem == slot.pool.outage.problem else logging.WARNING
            log.log(level, "can't connect to the server of %s: %s", "/".join(runtime.key), error)
            slot.pool.failed(slot, *problem, self.lifecycle.transport.now)
            self.lifecycle.plan_soon(runtime)
        else:
            self.lifecycle.welcome(server)

    async def log_in(self, runtime: PoolRuntime, slot: ServerSlot) -> ServerConnection:
        """A server for `slot`, from the first host that has one for us.

        Raises LoginRefused where the slot's own startup parameters are at fault, else CannotOpen.
        """
        settings = runtime.settings
        problem = CannotOpen("08006", "no host is configured")
        first = runtime.turn
        if settings.load_balance_hosts == LoadBalance.ROUND_ROBIN:
            runtime.turn += 1
        for step in range(len(settings.hosts)):
            place = settings.hosts[(first + step) % len(settings.hosts)]
            try:
                async with asyncio.timeout(settings.server_connect_timeout or None):
                    for address in await runtime.names.find(place.host, place.port):
                        try:
                            server = await self._reach(runtime, slot, address)
                            break
                        except DialError as error:
                            problem = CannotOpen(error.sqlstate, str(error))
                    else:
                        continue
            except TimeoutError:
                problem = CannotOpen("08001", f"could not connect to server {place.host}:{place.port}: timeout expired")
            except CannotConnect as error:
                problem = CannotOpen("08001", str(error))
            except OSError as error:
                problem = CannotOpen("08001", f"could not connect to server {place.host}:{place.port}: {error}")
            except OtherVerifier as error:
                self.users.doubt(settings)
                problem = CannotOpen(error.sqlstate, FAILED + str(error).removeprefix(FAILED))
            except AuthError as error:
                problem = CannotOpen(error.sqlstate, FAILED + str(error).removeprefix(FAILED))
            except LoginRefused as error:
                if concerns_client(runtime, slot, error.sqlstate):
                    raise
                text = FAILED + str(error) if error.sqlstate.startswith("28") else str(error)
                problem = CannotOpen(error.sqlstate, text)
                if lasts(error.sqlstate):
                    break
            except Exception:
                log.exception("bug: opening a server failed")
                problem = CannotOpen("XX000", "internal error of the pooler")
            else:
                if settings.load_balance_hosts == LoadBalance.DISABLE:
                    runtime.turn = first + step
                return server
        raise problem

    async def _reach(self, runtime: PoolRuntime, slot: ServerSlot, address: Address) -> ServerConnection:
        """Connect and log in; TLS as the mode says."""
        first, *second = _attempts(runtime, address)
        try:
            return await self._try_tls(runtime, slot, address, first)
        except LoginRefused:
            if not second or first is not Tls.OFF:
                raise
        except DialError as error:
            if not second or not isinstance(error.__cause__, ssl.SSLError):
                raise
        return await self._try_tls(runtime, slot, address, second[0])

    async def _try_tls(self, runtime: PoolRuntime, slot: ServerSlot, address: Address, tls: Tls) -> ServerConnection:
        stream, server = await self.reach(runtime, slot, address, tls)
        try:
            if tls not in _attempts(runtime, address):
                # Nothing is said in clear any more where a reload has just ordered TLS.
                raise DialError("08001", f"could not connect to server {address}: server_tls_sslmode is another now")
            self.lifecycle.servers[server] = None
            await _start(self.hashing, stream, server, runtime, slot)
            slot.server = server
            stream.settle()
            log.info("server connection opened: pid %s", server.pid, extra=server.extra())
            return server
        except BaseException as error:
            self.lifecycle.servers.pop(server, None)
            self.lifecycle.transport.close(server)
            match error:
                case Gone() | ServerGone():
                    raise DialError("08006", f"server {address} closed the connection during login") from error
                case Unsafe() | ValueError() | ProtocolViolation():
                    text = f"server {address} sent a malformed message during login: {error}"
                    raise DialError("08P01", text) from error
            raise

    async def reach(
        self, runtime: PoolRuntime, slot: ServerSlot, address: Address, tls: Tls
    ) -> tuple[Stream, ServerConnection]:
        """A connected stream, on TLS where that is wanted and offered. Raises DialError."""
        # A reload may change them meanwhile.
        contexts = runtime.tls
        made: list[ServerConnection] = []

        def make(fd: int) -> ServerConnection:
            made.append(ServerConnection(fd, self.lifecycle.next_serial(), runtime, slot, self.lifecycle.transport.now))
            return made[0]

        try:
            stream = await connect(self.lifecycle.transport, address, keepalive_of(self.view.config.settings), make)
        except CannotConnect as error:
            raise DialError("08001", str(error)) from error
        server = made[0]
        server.address = str(address)
        server.place = address
        try:
            if contexts is not None:
                begin_tls = partial(start_tls, stream, address, contexts)
                await carry_out(stream, server_login.secured(tls), self.hashing, begin_tls)
        except BaseException as error:
            self.lifecycle.transport.close(server)
            match error:
                case ServerGone():
                    text = f"could not connect to server {address}: the connection was closed"
                    raise DialError("08001", text) from error
                case NoTls() | NoPostgres():
                    raise DialError(error.sqlstate, f"server {address} {error}") from error
            raise
        return stream, server

    async def send_cancel(self, server: ServerConnection) -> None:
        """Ask a server to cancel what it does; ends when the server has taken the request in.

        The caller has counted it in `server.cancels`. Until it ends the server goes to no other client, so that a late
        cancel can't hit another's query: PostgreSQL closes the connection after it has sent the signal.
        """
        runtime = server.runtime
        client = server.client
        asked = client.asked if client is not None else 0.0
        try:
            async with asyncio.timeout(runtime.settings.cancel_wait_timeout or 10.0):
                # As strict about TLS as the connection that it is for.
                tls = Tls.NEEDED if server.tls is not None else Tls.OFF
                stream, link = await self.reach(runtime, server.slot, server.place, tls)
                try:
                    if server.client is not client or (client is not None and client.asked != asked):
                        return  # over meanwhile: a cancel would meet what was asked next
                    stream.send(messages.cancel_request(server.pid, server.key))
                    with contextlib.suppress(Gone):
                        await stream.exactly(1)
                finally:
                    self.lifecycle.transport.close(link)
        except (TimeoutError, OSError, DialError, Unsafe) as error:
            # It may still arrive: whoever has the server now is the last to have it.
            server.slot.doomed = True
            log.warning("can't cancel: %s", str(error) or "cancel_wait_timeout", extra=server.extra())
        finally:
            server.cancels -= 1
            if server.client is None and server in self.lifecycle.servers:
                self.lifecycle.rested(server)


def _attempts(runtime: PoolRuntime, address: Address) -> tuple[Tls, ...]:
    return server_login.attempts(runtime.settings.server_tls_sslmode, unix=address.family == socket.AF_UNIX)


def concerns_client(runtime: PoolRuntime, slot: ServerSlot, sqlstate: str) -> bool:
    """Did a server refuse what the client of this slot asked for, so that others of the pool may fare better?"""
    startup_params = slot.startup_params
    if startup_params is runtime.pool.limits.startup_params or not lasts(sqlstate):
        return False
    replicates = isinstance(startup_params, SessionParameters) and "replication" in startup_params.values
    return replicates or sqlstate[:2] in OWN_FAULTS


def credentials_of(runtime: PoolRuntime) -> Credentials:
    """What logs in to a pool's servers: the forced password, what is stored for it, or what clients showed."""
    settings = runtime.settings
    if settings.server_password:
        return parse(settings.server_password)
    if settings.server_user is None and runtime.credentials is not None:
        return runtime.credentials
    return parse(runtime.secrets.get(settings.pool_user))


async def _start(
    hashing: HashingService, stream: Stream, server: ServerConnection, runtime: PoolRuntime, slot: ServerSlot
) -> None:
    """Log in, and ask what the session begins with."""
    settings = runtime.settings
    startup_params = slot.startup_params if isinstance(slot.startup_params, SessionParameters) else _parameters.EMPTY
    binding = None
    if server.tls is not None:
        certificate = server.tls.session.getpeercert(binary_form=True)
        binding = end_point(certificate) if certificate else None
    parameters = {**startup_params.values, "user": settings.pool_user, "database": settings.dbname}
    talk = server_login.log_in(parameters, credentials_of(runtime), binding=binding, rng=os.urandom)
    report = await carry_out(stream, talk, hashing)
    server.reported.update(report.parameters)
    server.pid, server.key = report.pid, report.key
    server.session.state.encoding = server.reported.get("client_encoding", "UTF8")
    server.session.state.server_encoding = server.reported.get("server_encoding", "UTF8")
    # Who can't LISTEN there can't notify, and a block in which it was tried would have failed.
    standby = server.reported.get("in_hot_standby") == "on"
    signer = None if standby or not runtime.rules.inspected else runtime.signer
    server.session.notification_sender.begin(signer, server.pid)
    server.session.state.version = _major(server.reported)
    if "replication" not in startup_params.values:
        begins = await at_login(runtime, stream, server.session.state.version, startup_params, server.reported)
        server.session_defaults = begins
        opened(runtime, begins)
    server.session.state.keep_reported(server.reported)
    server.session.state.defaults = _parameters.intern(server.session.state.last)
    server.session.state.home = server.session.state.settings = _parameters.intern(
        {name: server.session.state.last.get(name, value) for name, value in startup_params.values.items()}
    )
    if slot in runtime.pool.slots and (not runtime.base or startup_params is runtime.pool.limits.startup_params):
        runtime.learn_base(server.reported)


def _major(reported: dict[str, str]) -> int:
    """The number of the server's version, 0 where it tells none."""
    number = re.match(r"\d+", reported.get("server_version", ""))
    return int(number[0]) if number else 0
