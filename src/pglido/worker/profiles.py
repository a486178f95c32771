"""What a client is told at login: a set of startup parameters, tried on a real server once and then remembered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..io.stream import Gone, Stream, Unsafe
from ..session import settings as _settings
from ..session.settings import Settings
from ..wire import codes, messages
from .host import Host, PoolRefused
from .links import Backend
from .live import LivePool, Profile, birth_of

# Answers to our own queries are short; more is no PostgreSQL.
ANSWER_LIMIT = 1 << 24
# Servers that may be lost under one login.
ATTEMPTS = 3

T = TypeVar("T")


async def profile_of(host: Host, live: LivePool, home: Settings) -> Profile:
    """The profile of startup parameters `home` (as the client wrote them). Raises PoolRefused."""
    known: Profile | None = live.profiles.get(home)
    if known is not None and not live.policy.fails(host.pump.now):
        return known
    return await asyncio.get_running_loop().create_task(_learn(host, live, home))


async def _learn(host: Host, live: LivePool, home: Settings) -> Profile:
    """Try `home` on a server, and remember what it comes to."""
    settings = live.settings
    profile = await on_server(host, live, birth_of(settings, home), home, lambda backend: _try(host, backend, home))
    if isinstance(profile, PoolRefused):
        raise profile
    if live.settings is settings:
        live.remember(home, profile)
    return profile


async def on_server(
    host: Host,
    live: LivePool,
    birth: Settings,
    wanted: Settings,
    work: Callable[[Backend], Awaitable[T]],
) -> T:
    """What `work` comes to on a server of the pool, for the login of a client. Raises PoolRefused.

    A server that is lost meanwhile (PostgreSQL restarts) is no reason to turn the client away: there may be another.
    """
    lost = ""
    for _ in range(ATTEMPTS):
        backend = await host.borrow(live, birth, wanted)
        try:
            async with asyncio.timeout(live.settings.server_connect_timeout or None):
                found = await work(backend)
        except (Gone, TimeoutError) as error:
            lost = "server conn crashed?" if isinstance(error, Gone) else "the server does not answer"
            host.close_server(backend, f"{lost} (during the login of a client)", logging.WARNING)
        except (Unsafe, ValueError) as error:
            lost = f"server sent a malformed message: {error}"
            host.close_server(backend, lost, logging.WARNING)
            raise PoolRefused("08P01", lost) from error
        except BaseException:
            host.close_server(backend, "the login of a client ended")
            raise
        else:
            host.bring_back(backend)
            return found
    raise PoolRefused("08006", lost)


async def _try(host: Host, backend: Backend, home: Settings) -> Profile | PoolRefused:
    """Bring the server to `home`, and see what it reports.

    By way of its defaults, for a value may be relative to the one before ("ISO" leaves the order of day and month).
    """
    session = backend.session
    session.prepared.unnamed = 0
    reported = dict(backend.reported)
    reported |= {_settings.REPORTED.get(name, name): value for name, value in session.setup.last.items()}
    stream = Stream(host.pump, backend)
    # PostgreSQL looks whether the session may begin as somebody else, but it does not.
    kept = _settings.intern({name: value for name, value in home.values.items() if name != "session_authorization"})
    for wanted in (session.setup.home, home, kept):
        now = session.setup.settings
        if now is wanted:
            continue
        query, turns, tries = _settings.path(now, wanted)
        rows = await ask(stream, query, reported, turns + tries)
        session.setup.encoding = reported.get("client_encoding", session.setup.encoding)
        session.setup.keep_reported(reported)
        if isinstance(rows, PoolRefused):
            # The statement that failed set nothing; one in front of it may have.
            if turns > 1:
                now = _settings.doubted(now)
            session.setup.settings = now
            return rows
        session.setup.settings = wanted
        session.setup.renew()
    spelled = {name: session.setup.last.get(name, value) for name, value in kept.values.items()}
    session.setup.settings = _settings.intern(spelled)
    welcome = b"".join(messages.parameter_status(name, value) for name, value in reported.items())
    return Profile(session.setup.settings, session.setup.defaults, welcome)


class Rows(list[list[bytes | None]]):
    """The rows of an answer; `width` is how many columns they have, 0 where that was not described."""

    width = 0


async def ask(stream: Stream, query: bytes, reported: dict[str, str], turns: int = 1) -> Rows | PoolRefused:
    """Send messages that end in `turns` ReadyForQuery; returns the rows, or the server's error.

    Parameters that the server reports meanwhile are put into `reported`. Raises Gone.
    """
    rows = Rows()
    if not turns:
        return rows
    stream.send(query)
    refusal: PoolRefused | None = None
    while True:
        kind, body = await stream.message(ANSWER_LIMIT)
        if kind == codes.DATA_ROW:
            rows.append(messages.data_row(body))
        elif kind == codes.ROW_DESCRIPTION:
            rows.width = int.from_bytes(body[:2], "big")
        elif kind == codes.ERROR_RESPONSE:
            fields = messages.report_fields(body)
            refusal = PoolRefused(fields.get("C", "XX000"), fields.get("M", "no message"))
        elif kind == codes.PARAMETER_STATUS:
            name, value, *_ = [*body.split(b"\0"), b"", b""]
            reported[name.decode("utf-8", "replace")] = value.decode("utf-8", messages.ESCAPE)
        elif kind == codes.READY_FOR_QUERY:
            turns -= 1
            if not turns:
                stream.settle()
                return refusal or rows
