"""Servers for coroutines of the worker's own, got by standing in line as clients do."""

import asyncio

from ...session.state.parameters import SessionParameters
from ..connections import ServerConnection
from ..dispatch import ServerRequest
from ..errors import PoolRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime


async def borrow(
    lifecycle: Lifecycle,
    runtime: PoolRuntime,
    startup_params: SessionParameters,
    wanted: SessionParameters,
    generation: int = 0,
) -> ServerConnection:
    """A server for the login of a client; it is given back by `bring_back`, or closed. Raises PoolRefused."""
    pool, now = runtime.pool, lifecycle.transport.now
    slot = pool.take(startup_params, wanted, now, generation)
    if slot is not None:
        lifecycle.transport.collect(slot.server)
        return slot.server  # type: ignore[no-any-return]
    refusal = pool.refusal(now)
    if refusal is not None:
        raise PoolRefused(*refusal)
    request = ServerRequest()
    ticket = pool.wait_for_login(request, startup_params, wanted, now, generation)
    if pool.needs_plan(now):
        lifecycle.plan_soon(runtime)
    try:
        return await request.server
    except asyncio.CancelledError:
        if request.server.done() and not request.server.cancelled():
            bring_back(lifecycle, request.server.result())
        raise
    finally:
        pool.leave(ticket)


def bring_back(lifecycle: Lifecycle, server: ServerConnection) -> None:
    """A borrowed server that owes nothing goes back into its pool."""
    if server.closed or server.eof:
        lifecycle.server_gone(server, "server conn crashed?")
        return
    lifecycle.relay.relay(server)
    lifecycle.give(server)
