"""Let a client in: first packets, TLS, who it is, what it may have, and its welcome."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from ...auth import verify_client as auth
from ...auth.errors import WRONG_PROOF, AuthError, refused
from ...auth.secrets import Proof
from ...auth.verification import Verification
from ...config.model import ADMIN_DATABASES, AuthType, Config, PoolMode, PoolSettings
from ...ipc.messages import Gates
from ...ipc.shared_counters import LimitReached, SharedCounter
from ...protocol import codes, messages
from ...protocol.errors import PgError, ProtocolViolation
from ...protocol.startup import Startup, packet_problem
from ...relay.stage import CHALLENGED, LONG_WAY, SECURED
from ...session.state import parameters as _parameters
from ...sql.listen_statements import LISTEN_ONLY
from ...transport.inline_task import InlineTask
from ...transport.stream import Gone, Stream, Unsafe
from ...transport.tls_context import ALPN
from ..connections import ClientConnection
from ..errors import ClientRefused
from ..lifecycle import Lifecycle
from ..listener_security import ListenerSecurity
from ..pool_runtime import PoolRuntime
from ..pubsub.clients import listen
from ..read_message import read_message
from ..servers.replication import replicate
from .credentials import KnownUser, PoolLookup, UserDirectory
from .fast_path import COUNTED, MINOR, FastLogin, is_strange
from .login_template import LoginTemplate, greet
from .refusals import DISABLED, FULL, SHUTTING_DOWN, TOO_MANY
from .scram_login import ScramLogin
from .welcome import welcome_of

log = logging.getLogger("pglido.worker")

T = TypeVar("T")

# The longest message with a password, as its length says.
PASSWORD_LIMIT = auth.MAX_PASSWORD + 4


class CloseQuietly(Exception):
    """The connection is closed without a word: it has done what it came for (a cancel request), or speaks no protocol.

    The text says what is wrong, for the log; empty where nothing is.
    """


class ConfigView(PoolLookup, Protocol):
    """The configuration in force, and what it says of pools."""

    @property
    def config(self) -> Config:
        """Another object after each reload."""

    @property
    def gates(self) -> Gates:
        """What lets nobody in."""


class HashingService(Protocol):
    """Key derivations, beside the loop."""

    async def run(self, address: str, work: Callable[[], T]) -> T:
        """What `work` returns or raises, for the client at this address. Raises AuthError where too many wait."""


class CancelReceiver(Protocol):
    """CancelRequests that come in."""

    def request(self, pid: int, key: bytes, fd: int) -> None:
        """One came in by the connection `fd`."""


class ConsoleOpener(Protocol):
    """The way to the console, which is in the control process."""

    def open_console(self, client: ClientConnection, start: Startup, admin: bool) -> None:
        """Relay a client of the admin database to the control process."""


class Login:
    """The long way in: one coroutine for each connection, stepped in the round in which it has news."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        fast_login: FastLogin,
        view: ConfigView,
        users: UserDirectory,
        hashing: HashingService,
        cancels: CancelReceiver,
        console: ConsoleOpener,
    ) -> None:
        self.lifecycle = lifecycle
        self.fast_login = fast_login
        self.view = view
        self.users = users
        self.hashing = hashing
        self.cancels = cancels
        self.console = console

    # What the fast path calls.

    def enter(self, client: ClientConnection) -> None:
        """Serve a new connection until it is relayed, handed over, or closed."""
        visit = self._enter(client, Stream(self.lifecycle.transport, client, visit=True))
        self._begin(client, self._guarded(client, visit))

    def go_on(self, client: ClientConnection, packet: bytes, start: Startup, proof: Proof) -> None:
        """The same for one that has proved who it is on the fast path."""
        stream = Stream(self.lifecycle.transport, client, visit=True)
        self._begin(client, self._guarded(client, self._proved(client, stream, packet, start, proof)))

    def weigh(self, client: ClientConnection, proving: ScramLogin) -> None:
        """A proof that the fast path was given takes a key derivation to be judged."""
        self._begin(client, self._weigh(client, proving))

    def is_asked_for(self, start: Startup) -> bool:
        """Is auth_query to be asked who this client is?"""
        return self.users.asks_for(self.view.pool_of(start.database, start.user))

    def turn_away(self, client: ClientConnection, error: Exception) -> None:
        """Tell a client why it can't come in."""
        lifecycle = self.lifecycle
        match error:
            case Gone():
                lifecycle.end(client, "client unexpected eof")
            case PgError():
                self._refuse(client, error)
            case Unsafe():
                self._refuse(client, ProtocolViolation(str(error)))
            case ssl.SSLError():
                why = f"TLS handshake failed: {error.reason or error}"
                self._log_refusal(client, why)
                lifecycle.end(client, why)
            case OSError():
                lifecycle.end(client, f"connection failed: {error}")
            case _:
                log.error("bug: login failed", exc_info=error, extra=client.extra())
                lifecycle.counters.add(SharedCounter.BUGS, 1)
                self._refuse(client, PgError("XX000", "internal error of the pooler", log_text="internal error"))

    def _begin(self, client: ClientConnection, job: Coroutine[None, None, None]) -> None:
        client.on_stage(LONG_WAY)
        client.login = InlineTask(job, _failed)
        client.login.step()

    async def _guarded(self, client: ClientConnection, visit: Coroutine[None, None, None]) -> None:
        try:
            await visit
        except CloseQuietly as leave:
            if str(leave):
                self._log_refusal(client, str(leave))
            self.lifecycle.end(client, str(leave))
        except asyncio.CancelledError:
            self.lifecycle.end(client, "shut down")
            raise
        except Exception as error:
            self.turn_away(client, error)

    async def _weigh(self, client: ClientConnection, proving: ScramLogin) -> None:
        clients = self.lifecycle.clients
        try:
            answer = await self.hashing.run(client.address, partial(self.fast_login.weigh_at_length, proving))
        except Exception as error:
            if client.serial in clients:
                self.turn_away(client, error)
            return
        if client.serial in clients:
            client.login = None
            client.on_stage(CHALLENGED)
            self.fast_login.weighed(client, proving, answer)

    def _log_refusal(self, client: ClientConnection, why: str) -> None:
        if self.view.config.settings.log_pooler_errors:
            log.warning("login refused: %s", why, extra=client.extra())

    def _refuse(self, client: ClientConnection, error: PgError) -> None:
        why = str(error)
        self._log_refusal(client, f"{why}, {error.detail}" if error.detail else why)
        self.lifecycle.kill(client, error.sqlstate, error.text, error.detail, why)

    async def _enter(self, client: ClientConnection, stream: Stream) -> None:
        listener: ListenerSecurity = client.listener
        if await _tls_began(client, stream, listener):
            # What it says now may be what others have said before.
            stream.settle()
            client.login = None
            client.on_stage(SECURED)
            self.fast_login.wait(client)
            return
        code, packet = await _packet(stream)
        if code == codes.CANCEL_REQUEST:
            self.cancels.request(int.from_bytes(packet[8:12], "big", signed=True), packet[12:], client.fd)
            raise CloseQuietly
        start = self.fast_login.read(packet, code)
        client.user = start.user
        client.minor = min(start.minor, MINOR)
        if start.minor > MINOR or start.extensions:
            stream.send(messages.negotiate_protocol_version(client.minor, start.extensions))
        refusal = self.fast_login.refusal_reason(client, start)
        if refusal is not None:
            raise ClientRefused(*refusal)
        if start.database in ADMIN_DATABASES:
            await self._console(client, stream, start)
            return
        user, proof = await self._prove(client, stream, start)
        if user != start.user:
            client.user = user
            start = replace(start, user=user)
        await self._proved(client, stream, packet, start, proof)

    async def _proved(
        self, client: ClientConnection, stream: Stream, packet: bytes, start: Startup, proof: Proof
    ) -> None:
        """The client is who it says: what may it have?"""
        config = self.view.config
        if self.lifecycle.draining:
            raise ClientRefused(*SHUTTING_DOWN)
        pool = self.view.pool_of(start.database, start.user)
        if pool is None:
            raise ClientRefused("3D000", f"no such database: {start.database}")
        if pool.database in self.view.gates.disabled:
            raise ClientRefused(DISABLED[0], DISABLED[1] + pool.database)
        database = (pool.database, pool.max_db_client_connections)
        self._claim(client, database, (pool.user, pool.max_user_client_connections))
        runtime = self.view.runtime(pool)
        lends = pool.server_user is None and self.view.config.settings.auth_type != AuthType.TRUST
        if lends:
            runtime.lend(proof.credentials)
        client.runtime = runtime
        client.pool = runtime.pool
        if pool.user != pool.pool_user:
            runtime.by_user[pool.user] = pool
        runtime.pool.clients += 1
        runtime.stats.logins += 1
        if pool.pool_mode == PoolMode.LISTEN:
            if start.wants_replication:
                raise ClientRefused("0A000", LISTEN_ONLY)
            await listen(self.lifecycle, client, stream, runtime, start, proof.last)
            return
        if start.wants_replication:
            await replicate(self.lifecycle, client, stream, runtime, start, proof.last)
            return
        template = await self._admit(client, stream, runtime, start, proof.last)
        alone = not pool.auth_user and not pool.application_name_add_host and client.claims == COUNTED
        unchanged = self.view.config is config and pool.database not in self.view.gates.disabled
        if template is not None and alone and not is_strange(start) and unchanged:
            template.lends = lends
            self.fast_login.remember(packet, template)

    async def _looked_up(
        self, client: ClientConnection, start: Startup
    ) -> tuple[Config, PoolSettings | None, KnownUser]:
        """Who the client's user is, by the configuration in force and its pool: the one of when the answer is there."""
        while True:
            config = self.view.config
            admin = start.database in ADMIN_DATABASES
            pool = None if admin else self.view.pool_of(start.database, start.user)
            known = await self.users.look_up(start.user, pool, client.address)
            if self.view.config is config:
                return config, pool, known

    async def _prove(self, client: ClientConnection, stream: Stream, start: Startup) -> tuple[str, Proof]:
        """The client proves who it is; the user's name as it is to be used, and the proof. Raises AuthError."""
        users = self.users
        config, pool, known = await self._looked_up(client, start)
        binding = client.listener.binding if client.tls is not None else None
        exchange = Verification(config.settings.auth_type, start.user, known.secret, binding, users.terms_of(pool))
        try:
            proof = await self._converse(client, stream, exchange)
        except AuthError as error:
            if error.sqlstate != WRONG_PROOF:
                raise
            fresh = await users.look_again(start.user, pool, known, client.address)
            proved = None
            if fresh.secret != known.secret:
                proved = await self.hashing.run(client.address, partial(exchange.proves, fresh.secret))
            if proved is None:
                raise
            known, proof = fresh, proved
        if self.view.config is not config:
            # What was good enough when it was asked may be no more.
            present, _, now = await self._looked_up(client, start)
            if now.secret != known.secret:
                raise refused(start.user, "its secret was changed meanwhile")
            if present.settings.auth_type not in (config.settings.auth_type, AuthType.TRUST):
                raise refused(start.user, "auth_type was changed meanwhile")
            refusal = self.fast_login.refusal_reason(client, start)
            if refusal is not None:
                raise ClientRefused(*refusal)
        return known.name, proof

    async def _converse(self, client: ClientConnection, stream: Stream, exchange: Verification) -> Proof:
        """Ask for a proof, and take it."""
        reply = exchange.begin()
        while exchange.proof is None:
            stream.send(reply)
            kind, body = await read_message(stream, PASSWORD_LIMIT)
            if kind != codes.PASSWORD:
                raise ClientRefused("08P01", f"expected password response, got message type {kind}")
            if exchange.may_derive:
                reply = await self.hashing.run(client.address, partial(exchange.take, body))
            else:
                reply = exchange.take(body)
        return exchange.proof

    def _claim(self, client: ClientConnection, database: tuple[str, int], user: tuple[str, int]) -> None:
        """Count the client where its database or user (name and limit) has a limit; raises ClientRefused."""
        wishes: list[tuple[SharedCounter | str, int]] = [
            (f"{kind}:{name}", limit) for kind, (name, limit) in (("db", database), ("user", user)) if limit
        ]
        if not wishes:
            return
        try:
            client.claims += self.lifecycle.counters.claim(wishes)
        except LimitReached as full:
            key = "max_db_client_connections" if str(full.what).startswith("db:") else "max_user_client_connections"
            raise ClientRefused("08P01", f"client connections exceeded ({key})") from full

    async def _console(self, client: ClientConnection, stream: Stream, start: Startup) -> None:
        _, proof = await self._prove(client, stream, start)
        config = self.view.config
        settings = config.settings
        admin = start.user in settings.admin_users
        if not admin and start.user not in settings.stats_users:
            raise ClientRefused("08P01", "not allowed")
        if not admin:
            if client.serial == self.fast_login.spare:
                raise ClientRefused(*FULL)
            if self.lifecycle.over_limit(client):
                raise ClientRefused(*TOO_MANY)
            user = config.users.get(start.user)
            own = user.max_user_client_connections if user is not None else None
            limit = settings.max_user_client_connections if own is None else own
            self._claim(client, (start.database, settings.max_db_client_connections), (start.user, limit))
        stream.send(proof.last)
        stream.settle()
        self.console.open_console(client, start, admin)

    async def _admit(
        self, client: ClientConnection, stream: Stream, runtime: PoolRuntime, start: Startup, last: bytes
    ) -> LoginTemplate | None:
        """Startup parameters, welcome, and from then on the byte path; as what others like it are to be greeted."""
        wanted = {name.lower(): value for name, value in start.settings}
        if runtime.settings.application_name_add_host:
            wanted["application_name"] = f"{wanted.get('application_name', 'app')} - {client.address}"
        wanted = {**{k.lower(): v for k, v in runtime.settings.startup_parameters.items()}, **wanted}
        home = _parameters.intern(wanted)
        welcome = await welcome_of(self.lifecycle, runtime, home)
        if client.closed or client.serial not in self.lifecycle.clients:
            return None
        stream.settle()
        template = LoginTemplate(client, runtime, welcome)
        greet(self.lifecycle, client, template, last)
        client.login = None
        if client.inbox is not None:
            self.lifecycle.relay.resume(client)
        self.lifecycle.transport.watch(client)
        if client.eof and client.serial in self.lifecycle.clients:
            self.lifecycle.client_gone(client, "client unexpected eof")
        return template if runtime.welcomes.get(home) is welcome else None


async def _tls_began(client: ClientConnection, stream: Stream, listener: ListenerSecurity) -> bool:
    """Answer what a client asks for before its StartupMessage; returns whether TLS is on now, and was not before."""
    if client.tls is not None:
        return False
    if listener.context is not None and await stream.begins_with_tls():
        await stream.start_tls(listener.context, serving=True, begun=True)
        if client.tls is None or client.tls.session.selected_alpn_protocol() != ALPN:
            raise ClientRefused(
                "08P01", "received direct SSL connection request without ALPN protocol negotiation extension"
            )
        return True
    asked = {client.declined}
    while True:
        size, code = await _head(stream)
        # What is asked for twice is no version of the protocol: PostgreSQL's words are those of a StartupMessage.
        if code not in (codes.SSL_REQUEST, codes.GSSENC_REQUEST) or code in asked:
            return False
        await stream.exactly(size)
        asked.add(code)
        if code == codes.GSSENC_REQUEST or listener.context is None:
            stream.send(b"N")
            continue
        if stream.clean():
            stream.send(b"S")
        await stream.start_tls(listener.context, serving=True)
        return True


async def _head(stream: Stream) -> tuple[int, int]:
    """The length and the code of a first packet, left to be read again.

    Raises CloseQuietly as soon as the length is there, and is one that no packet has.
    """
    size = int.from_bytes(await stream.look(4), "big")
    problem = packet_problem(size)
    if problem:
        raise CloseQuietly(problem)
    return size, int.from_bytes((await stream.look(8))[4:], "big")


async def _packet(stream: Stream) -> tuple[int, bytes]:
    """The code and all of a StartupMessage or CancelRequest."""
    size, code = await _head(stream)
    problem = packet_problem(size, code)
    if problem:
        raise CloseQuietly(problem)
    return code, await stream.exactly(size)


def _failed(error: BaseException) -> None:
    log.error("bug: a login failed", exc_info=error)
