"""Replication connections: each client gets a server connection of its own, and bytes pass unseen."""

from ...protocol import messages
from ...protocol.startup import Startup
from ...relay.stage import JOINED
from ...session.state import parameters as _parameters
from ...transport.stream import Stream
from ..connections import ClientConnection
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime
from .borrow import borrow


async def replicate(
    lifecycle: Lifecycle, client: ClientConnection, stream: Stream, runtime: PoolRuntime, start: Startup, last: bytes
) -> None:
    """Open a server with just what the client asked for, and join the two. Raises PoolRefused."""
    wanted = dict(start.settings)
    # Not interned: no other connection, not even one that asks for the same, may be served by this one.
    startup_params = _parameters.SessionParameters({**wanted, "replication": start.replication}, {})
    server = await borrow(lifecycle, runtime, startup_params, startup_params)
    server.slot.doomed = True
    if client.eof or client.serial not in lifecycle.clients:
        lifecycle.close_server(server, "its client is gone")
        return
    stream.send(
        last
        + messages.AUTHENTICATION_OK
        + b"".join(messages.parameter_status(name, value) for name, value in server.reported.items())
        + lifecycle.cancel_keys.key_and_ready(client.serial, client.minor)
    )
    stream.settle()
    lifecycle.access_log.came(client)
    client.on_stage(JOINED)
    lifecycle.transport.join_raw(client, server)
