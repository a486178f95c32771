"""What a client is told at login: a set of startup parameters, tried on a real server once and then remembered."""

import asyncio

from ...protocol import messages
from ...session.state import parameters as _parameters
from ...session.state.parameters import SessionParameters
from ...transport.stream import Stream
from ..connections import ServerConnection
from ..errors import PoolRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime, Welcome, birth_of
from ..servers import session_defaults as _session_defaults
from ..servers.queries import ask, on_server, reported_by


async def profile_of(host: Lifecycle, live: PoolRuntime, home: SessionParameters) -> Welcome:
    """The welcome for startup parameters `home` (as the client wrote them). Raises PoolRefused."""
    known = None if _session_defaults.in_doubt(live) else _known(host, live, home)
    return known if known is not None else await asyncio.get_running_loop().create_task(_learn(host, live, home))


def _known(host: Lifecycle, live: PoolRuntime, home: SessionParameters) -> Welcome | None:
    """The welcome that is remembered; without a server, and hope of one, nobody is let in on it."""
    known: Welcome | None = live.profiles.get(home)
    return None if live.policy.fails(host.pump.now) else known


async def _learn(host: Lifecycle, live: PoolRuntime, home: SessionParameters) -> Welcome:
    """Try `home` on a server, and remember what it comes to."""
    if _session_defaults.in_doubt(live):
        await _session_defaults.settle(host, live)
        known = _known(host, live, home)
        if known is not None:
            return known
    settings, generation = live.settings, live.policy.generation

    async def tries(backend: ServerConnection) -> Welcome | PoolRefused:
        return await _try(host, backend, home, generation)

    profile = await on_server(host, live, birth_of(settings, home), home, tries, generation)
    if isinstance(profile, PoolRefused):
        raise profile
    if live.settings is settings and live.policy.generation == generation:
        live.remember(home, profile)
    return profile


async def _try(
    host: Lifecycle, backend: ServerConnection, home: SessionParameters, generation: int
) -> Welcome | PoolRefused:
    """Bring the server to `home`, and see what it reports.

    By way of its defaults, for a value may be relative to the one before ("ISO" leaves the order of day and month).
    """
    session = backend.session
    session.prepared.unnamed = 0
    reported = reported_by(backend)
    stream = Stream(host.pump, backend)
    # PostgreSQL looks whether the session may begin as somebody else, but it does not.
    kept = _parameters.intern({name: value for name, value in home.values.items() if name != "session_authorization"})
    for wanted in (session.state.home, home, kept):
        now = session.state.settings
        if now is wanted:
            continue
        query, turns, tries = _parameters.path(now, wanted)
        rows = await ask(stream, query, reported, turns + tries)
        session.state.encoding = reported.get("client_encoding", session.state.encoding)
        session.state.keep_reported(reported)
        if isinstance(rows, PoolRefused):
            # The statement that failed set nothing; one in front of it may have.
            if turns > 1:
                now = _parameters.unverified_copy(now)
            session.state.settings = now
            return rows
        session.state.settings = wanted
        session.state.renew()
    spelled = {name: session.state.last.get(name, value) for name, value in kept.values.items()}
    session.state.settings = _parameters.intern(spelled)
    welcome = b"".join(messages.parameter_status(name, value) for name, value in reported.items())
    return Welcome(session.state.settings, session.state.defaults, welcome, backend.session_defaults, generation)
