"""A channel at the server as a hub knows it, who waits for the server's word about it, and what is counted.

    OFF --LISTEN sent--> RISING --acknowledged--> ON --UNLISTEN sent--> FALLING --acknowledged--> OFF
    ON --LISTEN sent once more--> RENEWING --acknowledged--> ON
"""

from collections.abc import Callable, Iterable

from ...session.server.notification_signature import CHANNEL as SIGNATURES
from ...sql.tokens import identifier
from ..connections import ClientConnection

OFF, RISING, ON, FALLING, RENEWING = 0, 1, 2, 3, 4


class ListenChannel:
    """One channel: who listens to it, who is about to, and who waits for the server's word.

    Of `holders` those are True that hear it: who waits must not hear what was sent before.
    """

    __slots__ = ("alone", "clients", "holders", "name", "state", "waiters")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.state = OFF
        self.clients: dict[ClientConnection, None] = {}
        # Mostly there is nobody of these, and there may be many channels.
        self.holders: dict[ClientConnection, bool] | None = None
        self.waiters: dict[ClientConnection, list[Waiter]] | None = None
        self.alone: frozenset[bytes] | None = None

    @property
    def wanted(self) -> bool:
        """Is there anybody for whom the server must listen?"""
        return bool(self.clients or self.holders)

    def only(self) -> frozenset[bytes]:
        """The set of just this channel: one for all who listen to nothing else."""
        if self.alone is None:
            self.alone = frozenset((self.name,))
        return self.alone

    def hold(self, client: ClientConnection) -> None:
        """A client is about to listen."""
        if self.holders is None:
            self.holders = {}
        self.holders.setdefault(client, False)

    def heard_by(self, client: ClientConnection) -> bool:
        """Does it hear all that is sent from now on?"""
        return self.state in (ON, RENEWING) and (client in self.clients or (self.holders or {}).get(client, False))

    def audience(self) -> Iterable[ClientConnection]:
        """Who hears it now."""
        if not self.holders:
            return self.clients
        return {**self.clients, **{client: None for client, hears in self.holders.items() if hears}}

    def admit(self, client: ClientConnection) -> None:
        """It waits no more, and hears what is sent from now on."""
        if self.holders is not None and client in self.holders:
            self.holders[client] = True

    def let_go(self, client: ClientConnection) -> None:
        """It listens by now, or will not."""
        if self.holders is not None:
            self.holders.pop(client, None)
            self.holders = self.holders or None

    def wait(self, client: ClientConnection, waiter: "Waiter") -> None:
        """The server's word is waited for."""
        if self.waiters is None:
            self.waiters = {}
        self.waiters.setdefault(client, []).append(waiter)
        waiter.missing += 1

    def wait_no_more(self, client: ClientConnection) -> "list[Waiter]":
        """Take away the waiters of this client, and return them."""
        return [] if self.waiters is None else self.waiters.pop(client, [])

    def next(self) -> int:
        """The state in which `statement` is under way."""
        if not self.wanted:
            return FALLING
        return RENEWING if self.state == ON else RISING

    def statement(self) -> bytes:
        """What brings the server to where it should be; it never ends to listen to signatures."""
        if self.name == SIGNATURES:
            return b""
        return (b"LISTEN " if self.wanted else b"UNLISTEN ") + identifier(self.name)


class Waiter:
    """`ready` is called when `missing` more channels are listened to; not if the client is None by then."""

    __slots__ = ("client", "missing", "ready", "since")

    def __init__(self, client: ClientConnection, ready: Callable[[], None], missing: int, since: float) -> None:
        self.client: ClientConnection | None = client
        self.ready = ready
        self.missing = missing
        self.since = since


class ChannelCounts:
    """What is counted, from the pool's start on."""

    __slots__ = ("delivered", "listens", "received", "reconnects", "slow", "unlistens")

    def __init__(self) -> None:
        self.received = self.delivered = self.listens = self.unlistens = self.slow = self.reconnects = 0
