"""What sessions of a pool begin with: asked at each server's login, and again where it may have been changed since.

Rules:
1. A counter that all workers share says that ALTER ROLE ... SET or the like may have changed it
   (`session.state.role_defaults_epoch`). Who logs in then has a server of its pool asked, once for all who wait: the
   counter does not say whom it concerns.
2. Where it is another the pool begins its next generation: who logs in from then on gets servers that were opened
   since, or began with the same. So a login costs one new server at most, however often there are changes.
3. Servers of before serve those who were there before, until they rest for too long or their place is needed. On other
   servers these clients keep what their sessions began with (`Lifecycle.keep_defaults`).
"""

import asyncio

from ...pooling.pool import ServerSlot
from ...session.state import defaults_query as _defaults_query
from ...session.state import role_defaults_epoch as _role_defaults_epoch
from ...session.state.parameters import EMPTY, SessionParameters
from ...transport.stream import Stream
from ..connections import ServerConnection
from ..defaults import SessionDefaults
from ..errors import PoolRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime, startup_params_of
from .queries import ask, on_server, reported_by

# What servers began with is remembered for so many changes of it, per pool.
REMEMBERED = 16


def in_doubt(runtime: PoolRuntime) -> bool:
    """May sessions of this pool begin with something else than was known last?"""
    return runtime.changes != _role_defaults_epoch.count()


async def settle(lifecycle: Lifecycle, runtime: PoolRuntime) -> None:
    """Find out what sessions begin with now. Raises PoolRefused."""
    wanted = _role_defaults_epoch.count()
    while runtime.changes < wanted:
        if runtime.asking is None:
            runtime.asking = asyncio.get_running_loop().create_task(_ask_again(lifecycle, runtime))
        refusal = await asyncio.shield(runtime.asking)
        if refusal is not None:
            raise refusal


async def _ask_again(lifecycle: Lifecycle, runtime: PoolRuntime) -> PoolRefused | None:
    """Have a server asked, in view of the changes until now; returns why none can be had."""
    changes, reloads = _role_defaults_epoch.count(), _role_defaults_epoch.reloads()
    begins = ""
    try:
        if runtime.pool.slots and reloads == runtime.reloads:
            idle = runtime.pool.idle
            startup_params = idle.back.startup_params if idle.size else startup_params_of(runtime.settings, EMPTY)
            begins = await on_server(
                lifecycle, runtime, startup_params, startup_params, lambda server: _digest(lifecycle, runtime, server)
            )
    except PoolRefused as refusal:
        return refusal
    finally:
        runtime.asking = None
    if not begins or begins != runtime.begins or not _all_began_with(runtime, begins):
        _next_generation(runtime, begins)
    runtime.changes, runtime.reloads, runtime.begins = changes, reloads, begins or runtime.begins
    return None


def _all_began_with(runtime: PoolRuntime, begins: str) -> bool:
    """Did all servers of the present generation begin with this?"""
    slots = [slot for slot in runtime.pool.slots if slot.server is not None]
    return all(_began_with(slot, begins) for slot in slots if slot.generation == runtime.pool.generation)


def _began_with(slot: ServerSlot, begins: str) -> bool:
    began = slot.server.session_defaults if slot.server is not None else None
    return began is not None and began.digest == begins


def _next_generation(runtime: PoolRuntime, begins: str) -> None:
    """Whoever logs in now gets none of the servers there are, but of those that began with the same."""
    pool = runtime.pool
    pool.generation += 1
    for slot in pool.slots:
        if begins and _began_with(slot, begins):
            slot.generation = pool.generation
    runtime.forget_welcomes()
    if begins:
        runtime.rules.functions.defaults = begins


async def _digest(lifecycle: Lifecycle, runtime: PoolRuntime, server: ServerConnection) -> str:
    """What sessions begin with now, as this server says; empty where it does not."""
    reported = reported_by(server)
    query = _defaults_query.digest(runtime.settings.pool_user, server.session.state.version)
    rows = await ask(Stream(lifecycle.transport, server), query, reported)
    server.session.prepared.unnamed = 0
    server.session.state.keep_reported(reported)
    server.session.state.renew()
    return "" if isinstance(rows, PoolRefused) else _defaults_query.read_digest(rows)


async def at_login(
    runtime: PoolRuntime, stream: Stream, version: int, startup_params: SessionParameters, reported: dict[str, str]
) -> SessionDefaults | None:
    """What the session of a server that has just logged in begins with, as it says; None where it does not.

    It was opened with `startup_params`; of `version` it is.
    """
    user = runtime.settings.pool_user
    rows = await ask(stream, _defaults_query.digest(user, version), reported)
    digest = "" if isinstance(rows, PoolRefused) else _defaults_query.read_digest(rows)
    if not digest or digest in runtime.begun:
        return runtime.begun.get(digest)
    rows = await ask(stream, _defaults_query.values(user, version), reported)
    if isinstance(rows, PoolRefused):
        return SessionDefaults(digest, frozenset(), {})
    names, values = _defaults_query.read_values(rows)
    # What a server is opened with, and what connect_query sets, is neither ALTER ROLE's nor to be kept.
    connects = runtime.settings.connect_query.lower()
    kept = {name: value for name, value in values.items() if name not in startup_params.values and name not in connects}
    begins = runtime.begun[digest] = SessionDefaults(digest, names, kept)
    if len(runtime.begun) > REMEMBERED:
        # Clients that still have it get what other servers begin with: what is kept for them has a bound.
        runtime.begun.pop(next(iter(runtime.begun))).values.clear()
    return begins


def opened(runtime: PoolRuntime, begins: SessionDefaults | None) -> None:
    """A server has told what its session begins with: is that news, which somebody has made past the pooler?"""
    if begins is not None and not runtime.begins:
        runtime.begins = begins.digest
    elif begins is not None and begins.digest != runtime.begins:
        _role_defaults_epoch.changed()
