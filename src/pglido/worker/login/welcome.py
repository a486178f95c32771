"""What a client is told at login: a set of startup parameters, tried on a real server once and then remembered."""

import asyncio

from ...protocol import messages
from ...session.state import parameters as _parameters
from ...session.state.parameters import SessionParameters
from ...transport.stream import Stream
from ..connections import ServerConnection
from ..defaults import Welcome
from ..errors import PoolRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime, startup_params_of
from ..servers import session_defaults as _session_defaults
from ..servers.queries import ask, on_server, reported_by


async def welcome_of(lifecycle: Lifecycle, runtime: PoolRuntime, home: SessionParameters) -> Welcome:
    """The welcome for startup parameters `home` (as the client wrote them). Raises PoolRefused."""
    known = None if _session_defaults.in_doubt(runtime) else _known(lifecycle, runtime, home)
    if known is not None:
        return known
    return await asyncio.get_running_loop().create_task(_learn(lifecycle, runtime, home))


def _known(lifecycle: Lifecycle, runtime: PoolRuntime, home: SessionParameters) -> Welcome | None:
    """The welcome that is remembered; without a server, and hope of one, nobody is let in on it."""
    known: Welcome | None = runtime.welcomes.get(home)
    return None if runtime.pool.fails(lifecycle.transport.now) else known


async def _learn(lifecycle: Lifecycle, runtime: PoolRuntime, home: SessionParameters) -> Welcome:
    """Try `home` on a server, and remember what it comes to."""
    if _session_defaults.in_doubt(runtime):
        await _session_defaults.settle(lifecycle, runtime)
        known = _known(lifecycle, runtime, home)
        if known is not None:
            return known
    settings, generation = runtime.settings, runtime.pool.generation

    async def tries(server: ServerConnection) -> Welcome | PoolRefused:
        return await _try(lifecycle, server, home, generation)

    welcome = await on_server(lifecycle, runtime, startup_params_of(settings, home), home, tries, generation)
    if isinstance(welcome, PoolRefused):
        raise welcome
    if runtime.settings is settings and runtime.pool.generation == generation:
        runtime.remember(home, welcome)
    return welcome


async def _try(
    lifecycle: Lifecycle, server: ServerConnection, home: SessionParameters, generation: int
) -> Welcome | PoolRefused:
    """Bring the server to `home`, and see what it reports.

    By way of its defaults, for a value may be relative to the one before ("ISO" leaves the order of day and month).
    """
    session = server.session
    session.prepared.unnamed = 0
    reported = reported_by(server)
    stream = Stream(lifecycle.transport, server)
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
    return Welcome(session.state.settings, session.state.defaults, welcome, server.session_defaults, generation)
