"""Replication connections: each client gets a server connection of its own, and bytes pass unseen."""

from ...protocol import messages
from ...protocol.startup import Startup
from ...session.state import parameters as _parameters
from ...transport.stream import Stream
from ..connections import ClientConnection
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime


async def replicate(
    host: Lifecycle, guest: ClientConnection, stream: Stream, live: PoolRuntime, start: Startup, last: bytes
) -> None:
    """Open a server with just what the client asked for, and join the two. Raises PoolRefused."""
    wanted = dict(start.settings)
    # Not interned: no other connection, not even one that asks for the same, may be served by this one.
    startup_params = _parameters.SessionParameters({**wanted, "replication": start.replication}, {})
    backend = await host.borrow(live, startup_params, startup_params)
    backend.slot.doomed = True
    if guest.eof or guest.serial not in host.guests:
        host.close_server(backend, "its client is gone")
        return
    stream.send(
        last
        + messages.AUTHENTICATION_OK
        + b"".join(messages.parameter_status(name, value) for name, value in backend.reported.items())
        + guest.key_and_ready(host.index)
    )
    stream.settle()
    host.access_log.came(guest)
    host.pump.join_raw(guest, backend)
