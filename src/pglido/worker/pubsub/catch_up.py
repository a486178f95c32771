"""Listening clients who must get what was sent to them before they go on, or before their transaction ends."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ..connections import ClientConnection

# Seconds that a client waits at most: the listening connection may have gone silent.
PATIENCE = 1.0

# What is called when a client has got all.
Ready: TypeAlias = Callable[[ClientConnection], None]


class CatchUp:
    """Who waits, and since when; `joined` are those for whom the server is still to be asked.

    One question is under way at a time. A client that `holds` waits until it is settled what it listens to, too.
    """

    __slots__ = ("_asking", "_waiting", "joined")

    def __init__(self) -> None:
        # In the order in which they came.
        self.joined: dict[ClientConnection, None] = {}
        self._asking: dict[ClientConnection, None] = {}
        self._waiting: dict[ClientConnection, tuple[Ready, float]] = {}

    def join(self, client: ClientConnection, ready: Ready, now: float) -> None:
        """One more waits."""
        self._waiting[client] = ready, now
        self.joined[client] = None

    def asked(self) -> None:
        """The server is asked now: what it says before the answer was sent before."""
        self._asking, self.joined = self.joined, {}

    def answered(self) -> list[tuple[ClientConnection, Ready]]:
        """The server has answered; returns who waits no more."""
        asking, self._asking = self._asking, {}
        return self.done([client for client in asking if not client.holds])

    def settled(self, client: ClientConnection) -> bool:
        """It is known what `client` listens to; was that all that it waited for?"""
        return client in self._waiting and client not in self.joined and client not in self._asking

    def overdue(self, now: float) -> list[tuple[ClientConnection, Ready]]:
        """Who has waited for too long, and waits no more."""
        return self.done([client for client, (_, since) in self._waiting.items() if now - since > PATIENCE])

    def all(self) -> list[tuple[ClientConnection, Ready]]:
        """Nobody waits any more."""
        return self.done(list(self._waiting))

    def done(self, clients: Iterable[ClientConnection]) -> list[tuple[ClientConnection, Ready]]:
        """These wait no more."""
        found = []
        for client in clients:
            self.joined.pop(client, None)
            self._asking.pop(client, None)
            waits = self._waiting.pop(client, None)
            if waits is not None:
                found.append((client, waits[0]))
        return found
