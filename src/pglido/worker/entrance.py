"""Let a client in: first packets, TLS, who it is, what it may have, and its welcome."""

import asyncio
import logging
import os
import ssl
import struct
from dataclasses import dataclass
from functools import lru_cache

from ..auth import client as auth
from ..auth.errors import AuthError
from ..config.model import ADMIN_DATABASES, AuthType, PoolMode, PoolSettings, SslMode
from ..io.stream import Gone, Stream, Unsafe
from ..io.tls import ALPN
from ..ipc.board import Column, Full
from ..session import settings as _settings
from ..wire import codes, messages
from ..wire.startup import Startup, StartupError, packet_problem, parse_startup
from .host import Host, PoolRefused
from .links import Guest
from .listening import listen
from .live import LivePool, Profile
from .porch import COUNTED, Regular, greet
from .profiles import profile_of

log = logging.getLogger("pglido.worker")

# The newest minor version of the protocol that is served.
MINOR = 2
# A password message longer than this is refused (PG_MAX_AUTH_TOKEN_LENGTH in PostgreSQL, and its header).
PASSWORD_LIMIT = 65535 + 4
# Bytes of a StartupMessage that is remembered.
STARTUP_KEPT = 512

_ENCRYPTED_MODES = (SslMode.REQUIRE, SslMode.VERIFY_CA, SslMode.VERIFY_FULL)


class Refused(Exception):
    """The client can't come in; `sqlstate` and the text are for it, `why` is for the log."""

    def __init__(self, sqlstate: str, text: str, why: str = "") -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.why = why or text


class Leave(Exception):
    """The connection has done what it came for (a cancel request), or ended without a word."""


@dataclass(slots=True)
class Door:
    """What holds for clients of one listening socket; no `context` where TLS is off, as on Unix sockets."""

    unix: bool
    context: ssl.SSLContext | None
    binding: bytes | None


# What one application's clients send first is always the same.
_known_startup = lru_cache(1024)(parse_startup)


def _startup(code: int, body: bytes, ignored: frozenset[str]) -> Startup:
    parse = _known_startup if len(body) <= STARTUP_KEPT else parse_startup
    return parse(code, body, ignored)


async def enter(host: Host, guest: Guest, door: Door) -> None:
    """Serve one new connection until it is relayed, handed over, or closed."""
    stream = Stream(host.pump, guest, visit=True)
    try:
        await _enter(host, guest, stream, door)
    except Leave:
        host.end(guest, "")
    except Gone:
        host.end(guest, "client unexpected eof")
    except AuthError as error:
        _refuse(host, guest, error.sqlstate, error.client_text, error.log_text)
    except (StartupError, PoolRefused) as error:
        _refuse(host, guest, error.sqlstate, str(error), str(error))
    except Refused as error:
        _refuse(host, guest, error.sqlstate, str(error), error.why)
    except Unsafe as error:
        _refuse(host, guest, "08P01", str(error), str(error))
    except ssl.SSLError as error:
        host.end(guest, f"TLS handshake failed: {error.reason or error}")
    except OSError as error:
        host.end(guest, f"connection failed: {error}")
    except asyncio.CancelledError:
        host.end(guest, "shut down")
        raise
    except Exception:
        log.exception("bug: login failed", extra=guest.extra())
        _refuse(host, guest, "XX000", "internal error of the pooler", "internal error")


def _refuse(host: Host, guest: Guest, sqlstate: str, text: str, why: str) -> None:
    if host.outside.config.settings.log_pooler_errors:
        log.warning("login refused: %s", why, extra=guest.extra())
    host.end(guest, why, messages.error("FATAL", sqlstate, text, f"client {guest.uuid}"))


async def _enter(host: Host, guest: Guest, stream: Stream, door: Door) -> None:
    code, body = await _first_packets(guest, stream, door)
    if code == codes.CANCEL_REQUEST:
        host.outside.cancel_request(int.from_bytes(body[:4], "big", signed=True), body[4:])
        raise Leave
    start = _startup(code, body, host.outside.ignored)
    guest.user = start.user
    guest.minor = min(start.minor, MINOR)
    if start.minor > MINOR or start.extensions:
        stream.send(messages.negotiate_protocol_version(guest.minor, start.extensions))
    settings = host.outside.config.settings
    if not door.unix and guest.tls is None and settings.client_tls_sslmode in _ENCRYPTED_MODES:
        raise Refused("28000", "SSL required")
    if host.draining:
        raise Refused("57P03", "the database system is shutting down")
    if start.database not in ADMIN_DATABASES and host.outside.crowded():
        raise Refused("08P01", "no more connections allowed (max_client_conn)")
    if start.database in ADMIN_DATABASES:
        await _console(host, guest, stream, door, start)
        return
    pool = host.outside.pool_of(start.database, start.user)
    proof = await _prove(host, guest, stream, door, start, pool)
    if pool is None:
        raise Refused("3D000", f"no such database: {start.database}")
    _claim(host, guest, pool)
    live = host.outside.live(pool)
    if pool.server_user is None and host.outside.config.settings.auth_type != AuthType.TRUST:
        live.credentials = proof.credentials
    guest.live = live
    guest.pool = live.policy
    if pool.user != pool.pool_user:
        live.by_user[pool.user] = pool
    live.clients += 1
    live.stats.logins += 1
    if pool.pool_mode == PoolMode.LISTEN:
        if start.wants_replication:
            raise Refused("0A000", "this database is for LISTEN only")
        await listen(host, guest, stream, live, start, proof.last)
        return
    if start.wants_replication:
        await host.outside.replicate(guest, stream, live, start, proof.last)
        return
    profile = await _admit(host, guest, stream, live, start, proof.last)
    if profile is not None and _regular(host, guest, pool, start):
        size = len(body) + 8
        packet = struct.pack("!II", size, code) + body
        regular = Regular(start.user, guest.minor, live, *profile)
        host.outside.porch.remember(packet, regular)


async def _first_packets(guest: Guest, stream: Stream, door: Door) -> tuple[int, bytes]:
    """The code and the rest of the StartupMessage or CancelRequest; TLS is on then, if the client asked for it."""
    asked = {guest.declined}
    if door.context is not None and await stream.begins_with_tls():
        await stream.start_tls(door.context, serving=True, begun=True)
        if guest.tls is None or guest.tls.session.selected_alpn_protocol() != ALPN:
            raise Refused("08P01", "received direct SSL connection request without ALPN protocol negotiation extension")
    while True:
        size, code = struct.unpack("!II", await stream.look(8))
        problem = packet_problem(size, code)
        if problem:
            raise Refused("08P01", problem)
        packet = await stream.exactly(size)
        if code not in (codes.SSL_REQUEST, codes.GSSENC_REQUEST):
            return code, packet[8:]
        if size != 8 or code in asked or guest.tls is not None:
            raise Refused("08P01", "encryption was asked for twice")
        asked.add(code)
        if code == codes.GSSENC_REQUEST or door.context is None:
            stream.send(b"N")
            continue
        if stream.clean():
            stream.send(b"S")
        await stream.start_tls(door.context, serving=True)


async def _prove(
    host: Host, guest: Guest, stream: Stream, door: Door, start: Startup, pool: PoolSettings | None
) -> auth.Proof:
    """The client proves who it is. Raises AuthError."""
    people = host.outside.people
    settings = host.outside.config.settings
    secret = await people.secret(start.user, pool)
    exchange = auth.verify(
        settings.auth_type,
        start.user,
        secret,
        binding=door.binding if guest.tls is not None else None,
        scram_iterations=settings.scram_iterations,
        mock_seed=people.mock_seed,
        rng=os.urandom,
        crowd=people.crowd,
    )
    try:
        reply = next(exchange)
        while True:
            stream.send(reply)
            kind, body = await stream.message(PASSWORD_LIMIT)
            if kind != codes.PASSWORD:
                raise Refused("08P01", f"expected password response, got message type {kind}")
            reply = exchange.send(body)
    except StopIteration as end:
        proof: auth.Proof = end.value
        return proof
    except AuthError:
        people.doubt(start.user, pool)
        raise


def _claim(host: Host, guest: Guest, pool: PoolSettings) -> None:
    """Count the client where its database or user has a limit; raises Refused."""
    wishes: list[tuple[Column | str, int]] = []
    if pool.max_db_client_connections:
        wishes.append((f"db:{pool.database}", pool.max_db_client_connections))
    if pool.max_user_client_connections:
        wishes.append((f"user:{pool.user}", pool.max_user_client_connections))
    if not wishes:
        return
    try:
        guest.claims += host.outside.board.claim(wishes)
    except Full as full:
        key = "max_db_client_connections" if str(full.what).startswith("db:") else "max_user_client_connections"
        raise Refused("08P01", f"client connections exceeded ({key})") from full


async def _console(host: Host, guest: Guest, stream: Stream, door: Door, start: Startup) -> None:
    settings = host.outside.config.settings
    admin = start.user in settings.admin_users
    known = admin or start.user in settings.stats_users
    proof = await _prove(host, guest, stream, door, start, None)
    if not known:
        raise Refused("08P01", "not allowed")
    stream.send(proof.last)
    stream.settle()
    host.outside.open_console(guest, start, admin)


def _regular(host: Host, guest: Guest, pool: PoolSettings, start: Startup) -> bool:
    """Was the first packet all that it took to let this client in, and will it be for the next?"""
    return (
        host.outside.config.settings.auth_type == AuthType.TRUST
        and guest.tls is None
        and not pool.auth_user
        and not pool.application_name_add_host
        and guest.claims == COUNTED
        and start.minor == guest.minor
        and not start.extensions
    )


async def _admit(
    host: Host, guest: Guest, stream: Stream, live: LivePool, start: Startup, last: bytes
) -> tuple[_settings.Settings, Profile] | None:
    """Startup parameters, welcome, and from then on the byte path; what was asked for and what it came to."""
    wanted = {name.lower(): value for name, value in start.settings}
    if live.settings.application_name_add_host:
        wanted["application_name"] = f"{wanted.get('application_name', 'app')} - {guest.address}"
    wanted = {**{k.lower(): v for k, v in live.settings.startup_parameters.items()}, **wanted}
    home = _settings.intern(wanted)
    profile = await profile_of(host, live, home)
    if guest.closed or guest.serial not in host.guests:
        return None
    stream.settle()
    greet(host, guest, profile, last + messages.AUTHENTICATION_OK)
    guest.login = None
    if guest.inbox is not None:
        host.pump.resume(guest)
    host.pump.watch(guest)
    if guest.eof and guest.serial in host.guests:
        host.client_gone(guest, "client unexpected eof")
    return home, profile
