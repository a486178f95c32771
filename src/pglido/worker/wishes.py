"""What statements of clients do beyond their own session: before they go on, and when they are done.

LISTEN and NOTIFY, signals to other clients (pg_cancel_backend and the like), DROP DATABASE and the like.
"""

from ..ipc import messages as ipc
from ..ipc.channel import Channel
from .connections import ClientConnection, ServerConnection
from .lifecycle import Lifecycle
from .pubsub.clients import hear, heard
from .servers.release_database import DatabaseRelease
from .servers.signals import SignalRequests


class Wishes:
    """Those of one worker's clients; `channel` leads to the other workers."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        channel: Channel[ipc.ToWorker],
        signals: SignalRequests,
        database_releases: DatabaseRelease,
    ) -> None:
        self.lifecycle = lifecycle
        self.channel = channel
        self.signals = signals
        self.database_releases = database_releases

    def wished(self, client: ClientConnection) -> bool:
        """See that a client of a pool with servers may go on; returns whether it may at once."""
        if client.session.signal_targets:
            return self.signals.wished(client)
        if not client.session.vacates:
            return hear(self.lifecycle, client)
        assert client.runtime is not None
        hosts = client.runtime.settings.hosts
        databases = tuple([name.decode("utf-8", "replace") for name in client.session.vacates])
        self.database_releases.begin(hosts, databases, client.runtime)
        self.channel.post(ipc.Vacate(hosts, databases))
        return True

    def done(self, client: ClientConnection) -> None:
        """What the client has asked for is done."""
        self.signals.done(client)

    def heard(self, client: ClientConnection) -> None:
        """What a client of a pool with servers listens to is another now."""
        heard(self.lifecycle, client)

    def sender_gone(self, server: ServerConnection) -> None:
        """A server is gone that notifications are known by, in all workers."""
        hosts = server.runtime.settings.hosts
        self.lifecycle.forget_sender(hosts, server.pid)
        self.channel.post(ipc.SenderGone(hosts, server.pid))
