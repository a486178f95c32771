"""Let a client in: first packets, TLS, who it is, what it may have, and its welcome."""

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial

from ...auth import verify_client as auth
from ...auth.errors import WRONG_PROOF, AuthError, refused
from ...auth.secrets import Proof
from ...auth.verification import Verification
from ...config.model import ADMIN_DATABASES, AuthType, Config, PoolMode, PoolSettings
from ...ipc.shared_counters import LimitReached, SharedCounter
from ...protocol import codes, messages
from ...protocol.errors import PgError, ProtocolViolation
from ...protocol.startup import Startup, packet_problem
from ...session.state import parameters as _parameters
from ...transport.stream import Gone, Stream, Unsafe
from ...transport.tls_context import ALPN
from ..connections import ClientConnection
from ..errors import ClientRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime
from ..pubsub.clients import listen
from .credentials import KnownUser
from .fast_path import COUNTED, CROWDED, MINOR, SHUTTING_DOWN, LoginTemplate, ScramLogin, greet, is_strange
from .reserved_connection import FULL
from .welcome import profile_of

log = logging.getLogger("pglido.worker")

# The longest message with a password, as its length says.
PASSWORD_LIMIT = auth.MAX_PASSWORD + 4


class CloseQuietly(Exception):
    """The connection is closed without a word: it has done what it came for (a cancel request), or speaks no protocol.

    The text says what is wrong, for the log; empty where nothing is.
    """


@dataclass(slots=True)
class ListenerSecurity:
    """What holds for clients of one listening socket; no `context` where TLS is off, as on Unix sockets."""

    unix: bool
    context: ssl.SSLContext | None
    binding: bytes | None


async def enter(host: Lifecycle, guest: ClientConnection) -> None:
    """Serve a new connection until it is relayed, handed over, or closed."""
    await _guarded(host, guest, _enter(host, guest, Stream(host.pump, guest, visit=True)))


async def go_on(host: Lifecycle, guest: ClientConnection, packet: bytes, start: Startup, proof: Proof) -> None:
    """The same for one that has proved who it is on the fast path."""
    await _guarded(host, guest, _proved(host, guest, Stream(host.pump, guest, visit=True), packet, start, proof))


async def weigh(host: Lifecycle, guest: ClientConnection, proving: ScramLogin) -> None:
    """A proof that the fast path was given takes a key derivation to be judged."""
    fast_login = host.outside.fast_login
    try:
        answer = await host.outside.hashing.run(guest.address, partial(fast_login.weigh_at_length, proving))
    except Exception as error:
        if guest.serial in host.guests:
            turn_away(host, guest, error)
        return
    if guest.serial in host.guests:
        guest.login = None
        fast_login.weighed(guest, proving, answer)


async def _guarded(host: Lifecycle, guest: ClientConnection, visit: Coroutine[None, None, None]) -> None:
    try:
        await visit
    except CloseQuietly as leave:
        if str(leave):
            _log_refusal(host, guest, str(leave))
        host.end(guest, str(leave))
    except asyncio.CancelledError:
        host.end(guest, "shut down")
        raise
    except Exception as error:
        turn_away(host, guest, error)


def turn_away(host: Lifecycle, guest: ClientConnection, error: Exception) -> None:
    """Tell a client why it can't come in."""
    match error:
        case Gone():
            host.end(guest, "client unexpected eof")
        case PgError():
            _refuse(host, guest, error)
        case Unsafe():
            _refuse(host, guest, ProtocolViolation(str(error)))
        case ssl.SSLError():
            why = f"TLS handshake failed: {error.reason or error}"
            _log_refusal(host, guest, why)
            host.end(guest, why)
        case OSError():
            host.end(guest, f"connection failed: {error}")
        case _:
            log.error("bug: login failed", exc_info=error, extra=guest.extra())
            _refuse(host, guest, PgError("XX000", "internal error of the pooler", log_text="internal error"))


def _log_refusal(host: Lifecycle, guest: ClientConnection, why: str) -> None:
    if host.outside.config.settings.log_pooler_errors:
        log.warning("login refused: %s", why, extra=guest.extra())


def _refuse(host: Lifecycle, guest: ClientConnection, error: PgError) -> None:
    why = str(error)
    _log_refusal(host, guest, f"{why}, {error.detail}" if error.detail else why)
    more = f"{error.detail}; client {guest.uuid}" if error.detail else f"client {guest.uuid}"
    host.end(guest, why, messages.error("FATAL", error.sqlstate, error.text, more))


async def _enter(host: Lifecycle, guest: ClientConnection, stream: Stream) -> None:
    door: ListenerSecurity = guest.door
    if await _tls_began(guest, stream, door):
        # What it says now may be what others have said before.
        stream.settle()
        guest.login = None
        host.outside.fast_login.wait(guest)
        return
    code, packet = await _packet(stream)
    if code == codes.CANCEL_REQUEST:
        host.outside.cancels.request(int.from_bytes(packet[8:12], "big", signed=True), packet[12:], guest.fd)
        raise CloseQuietly
    start = host.outside.fast_login.read(packet, code, host.outside.ignored)
    guest.user = start.user
    guest.minor = min(start.minor, MINOR)
    if start.minor > MINOR or start.extensions:
        stream.send(messages.negotiate_protocol_version(guest.minor, start.extensions))
    barred = host.outside.fast_login.refusal_reason(guest, start)
    if barred is not None:
        raise ClientRefused(*barred)
    if start.database in ADMIN_DATABASES:
        await _console(host, guest, stream, start)
        return
    user, proof = await _prove(host, guest, stream, start)
    if user != start.user:
        guest.user = user
        start = replace(start, user=user)
    await _proved(host, guest, stream, packet, start, proof)


async def _proved(
    host: Lifecycle, guest: ClientConnection, stream: Stream, packet: bytes, start: Startup, proof: Proof
) -> None:
    """The client is who it says: what may it have?"""
    config = host.outside.config
    if host.draining:
        raise ClientRefused(*SHUTTING_DOWN)
    pool = host.outside.pool_of(start.database, start.user)
    if pool is None:
        raise ClientRefused("3D000", f"no such database: {start.database}")
    database = (pool.database, pool.max_db_client_connections)
    _claim(host, guest, database, (pool.user, pool.max_user_client_connections))
    live = host.outside.live(pool)
    lends = pool.server_user is None and host.outside.config.settings.auth_type != AuthType.TRUST
    if lends:
        live.lend(proof.credentials)
    guest.live = live
    guest.pool = live.policy
    if pool.user != pool.pool_user:
        live.by_user[pool.user] = pool
    live.policy.clients += 1
    live.stats.logins += 1
    if pool.pool_mode == PoolMode.LISTEN:
        if start.wants_replication:
            raise ClientRefused("0A000", "this database is for LISTEN only")
        await listen(host, guest, stream, live, start, proof.last)
        return
    if start.wants_replication:
        await host.outside.replicate(guest, stream, live, start, proof.last)
        return
    regular = await _admit(host, guest, stream, live, start, proof.last)
    alone = not pool.auth_user and not pool.application_name_add_host and guest.claims == COUNTED
    if regular is not None and alone and not is_strange(start) and host.outside.config is config:
        regular.lends = lends
        host.outside.fast_login.remember(packet, regular)


async def _tls_began(guest: ClientConnection, stream: Stream, door: ListenerSecurity) -> bool:
    """Answer what a client asks for before its StartupMessage; returns whether TLS is on now, and was not before."""
    if guest.tls is not None:
        return False
    if door.context is not None and await stream.begins_with_tls():
        await stream.start_tls(door.context, serving=True, begun=True)
        if guest.tls is None or guest.tls.session.selected_alpn_protocol() != ALPN:
            raise ClientRefused(
                "08P01", "received direct SSL connection request without ALPN protocol negotiation extension"
            )
        return True
    asked = {guest.declined}
    while True:
        size, code = await _head(stream)
        # What is asked for twice is no version of the protocol: PostgreSQL's words are those of a StartupMessage.
        if code not in (codes.SSL_REQUEST, codes.GSSENC_REQUEST) or code in asked:
            return False
        await stream.exactly(size)
        asked.add(code)
        if code == codes.GSSENC_REQUEST or door.context is None:
            stream.send(b"N")
            continue
        if stream.clean():
            stream.send(b"S")
        await stream.start_tls(door.context, serving=True)
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


async def _looked_up(
    host: Lifecycle, guest: ClientConnection, start: Startup
) -> tuple[Config, PoolSettings | None, KnownUser]:
    """Who the client's user is, by the configuration in force and its pool: the one of when the answer is there."""
    while True:
        config = host.outside.config
        admin = start.database in ADMIN_DATABASES
        pool = None if admin else host.outside.pool_of(start.database, start.user)
        known = await host.outside.users.look_up(start.user, pool, guest.address)
        if host.outside.config is config:
            return config, pool, known


async def _prove(host: Lifecycle, guest: ClientConnection, stream: Stream, start: Startup) -> tuple[str, Proof]:
    """The client proves who it is; the user's name as it is to be used, and the proof. Raises AuthError."""
    users = host.outside.users
    config, pool, known = await _looked_up(host, guest, start)
    binding = guest.door.binding if guest.tls is not None else None
    exchange = Verification(config.settings.auth_type, start.user, known.secret, binding, users.terms_of(pool))
    try:
        proof = await _converse(host, guest, stream, exchange)
    except AuthError as error:
        if error.sqlstate != WRONG_PROOF:
            raise
        fresh = await users.look_again(start.user, pool, known, guest.address)
        proved = None
        if fresh.secret != known.secret:
            proved = await host.outside.hashing.run(guest.address, partial(exchange.proves, fresh.secret))
        if proved is None:
            raise
        known, proof = fresh, proved
    if host.outside.config is not config:
        # What was good enough when it was asked may be no more.
        present, _, now = await _looked_up(host, guest, start)
        if now.secret != known.secret:
            raise refused(start.user, "its secret was changed meanwhile")
        if present.settings.auth_type not in (config.settings.auth_type, AuthType.TRUST):
            raise refused(start.user, "auth_type was changed meanwhile")
        barred = host.outside.fast_login.refusal_reason(guest, start)
        if barred is not None:
            raise ClientRefused(*barred)
    return known.name, proof


async def _converse(host: Lifecycle, guest: ClientConnection, stream: Stream, exchange: Verification) -> Proof:
    """Ask for a proof, and take it."""
    reply = exchange.begin()
    while exchange.proof is None:
        stream.send(reply)
        kind, body = await stream.message(PASSWORD_LIMIT)
        if kind != codes.PASSWORD:
            raise ClientRefused("08P01", f"expected password response, got message type {kind}")
        if exchange.may_derive:
            reply = await host.outside.hashing.run(guest.address, partial(exchange.take, body))
        else:
            reply = exchange.take(body)
    return exchange.proof


def _claim(host: Lifecycle, guest: ClientConnection, database: tuple[str, int], user: tuple[str, int]) -> None:
    """Count the client where its database or user (name and limit) has a limit; raises Refused."""
    wishes: list[tuple[SharedCounter | str, int]] = [
        (f"{kind}:{name}", limit) for kind, (name, limit) in (("db", database), ("user", user)) if limit
    ]
    if not wishes:
        return
    try:
        guest.claims += host.outside.board.claim(wishes)
    except LimitReached as full:
        key = "max_db_client_connections" if str(full.what).startswith("db:") else "max_user_client_connections"
        raise ClientRefused("08P01", f"client connections exceeded ({key})") from full


async def _console(host: Lifecycle, guest: ClientConnection, stream: Stream, start: Startup) -> None:
    _, proof = await _prove(host, guest, stream, start)
    config = host.outside.config
    settings = config.settings
    admin = start.user in settings.admin_users
    if not admin and start.user not in settings.stats_users:
        raise ClientRefused("08P01", "not allowed")
    if not admin:
        if guest.serial == host.outside.fast_login.spare:
            raise ClientRefused(*FULL)
        if host.crowded(guest):
            raise ClientRefused(*CROWDED)
        user = config.users.get(start.user)
        own = user.max_user_client_connections if user is not None else None
        limit = settings.max_user_client_connections if own is None else own
        _claim(host, guest, (start.database, settings.max_db_client_connections), (start.user, limit))
    stream.send(proof.last)
    stream.settle()
    host.outside.open_console(guest, start, admin)


async def _admit(
    host: Lifecycle, guest: ClientConnection, stream: Stream, live: PoolRuntime, start: Startup, last: bytes
) -> LoginTemplate | None:
    """Startup parameters, welcome, and from then on the byte path; as what others like it are to be greeted."""
    wanted = {name.lower(): value for name, value in start.settings}
    if live.settings.application_name_add_host:
        wanted["application_name"] = f"{wanted.get('application_name', 'app')} - {guest.address}"
    wanted = {**{k.lower(): v for k, v in live.settings.startup_parameters.items()}, **wanted}
    home = _parameters.intern(wanted)
    profile = await profile_of(host, live, home)
    if guest.closed or guest.serial not in host.guests:
        return None
    stream.settle()
    regular = LoginTemplate(guest, live, profile)
    greet(host, guest, regular, last)
    guest.login = None
    if guest.inbox is not None:
        host.pump.resume(guest)
    host.pump.watch(guest)
    if guest.eof and guest.serial in host.guests:
        host.client_gone(guest, "client unexpected eof")
    return regular if live.profiles.get(home) is profile else None
