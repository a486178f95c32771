"""What a worker makes of a configuration before it comes into force: all that can go wrong goes wrong here."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..auth.channel_binding import end_point
from ..config.model import Config, PoolSettings
from ..ipc import messages as ipc
from ..ipc.channel import close_all
from ..log import Outputs
from ..transport.tls_context import (
    Contents,
    ServerTls,
    accepting,
    certificate_of,
    client_side,
    dialling,
    server_side,
    server_sides,
)
from .listener_security import ListenerSecurity


class ServerContexts:
    """The TLS contexts towards the servers of a configuration. Raises TlsError."""

    def __init__(self, config: Config, files: Contents) -> None:
        self._contexts = {side: dialling(side, files) for side in server_sides(config)}

    def of(self, pool: PoolSettings) -> ServerTls | None:
        """The context of a pool of this configuration, None where TLS is off."""
        return self._contexts[server_side(pool)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that can come into force; its `outputs` are closed by whoever does not use them."""

    message: ipc.Configure
    listeners: dict[bool, ListenerSecurity]
    server_tls: ServerContexts
    outputs: Outputs


def candidate(message: ipc.Configure, fds: Sequence[int]) -> Candidate:
    """Make what this configuration needs. Raises ValueError (TlsError included); `fds` are closed then.

    There are none where not all of those that came could be had here (see `Channel.receive`).
    """
    config = message.config
    side = client_side(config.settings)
    try:
        if not fds and (config.settings.logfile or config.settings.syslog):
            raise ValueError("out of file descriptors")
        context = accepting(side, message.files)
        binding = end_point(certificate_of(message.files[side.cert])) if context else None
        return Candidate(
            message,
            {False: ListenerSecurity(False, context, binding), True: ListenerSecurity(True, None, None)},
            ServerContexts(config, message.files),
            Outputs.of(config.settings, fds),
        )
    except BaseException:
        close_all(fds)
        raise
