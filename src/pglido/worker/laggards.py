"""Listening clients whose transaction is over, but for what was sent to them before: they are ready after that."""

from .links import Guest

# Seconds that a client waits at most: the listening connection may have gone silent.
PATIENCE = 1.0


class Laggards:
    """Who waits, and since when; `joined` are those for whom the server is still to be asked.

    One question is under way at a time. A client that `holds` waits until it is settled what it listens to, too.
    """

    __slots__ = ("_asking", "_since", "joined")

    def __init__(self) -> None:
        self.joined: set[Guest] = set()
        self._asking: set[Guest] = set()
        self._since: dict[Guest, float] = {}

    def join(self, guest: Guest, now: float) -> None:
        """One more waits."""
        self._since[guest] = now
        self.joined.add(guest)

    def asked(self) -> None:
        """The server is asked now: what it says before the answer was sent before."""
        self._asking, self.joined = self.joined, set()

    def answered(self) -> list[Guest]:
        """The server has answered; returns who waits no more."""
        asking, self._asking = self._asking, set()
        return self._done([guest for guest in self._since if guest in asking and not guest.holds])

    def settled(self, guest: Guest) -> list[Guest]:
        """It is known what `guest` listens to; returns it if it waits no more."""
        waits = guest not in self._since or guest in self.joined or guest in self._asking
        return [] if waits else self._done([guest])

    def overdue(self, now: float) -> list[Guest]:
        """Who has waited for too long, and waits no more."""
        return self._done([guest for guest, since in self._since.items() if now - since > PATIENCE])

    def all(self) -> list[Guest]:
        """Nobody waits any more."""
        return self._done(list(self._since))

    def forget(self, guest: Guest) -> None:
        """It is gone."""
        self._done([guest])

    def _done(self, guests: list[Guest]) -> list[Guest]:
        for guest in guests:
            self._since.pop(guest, None)
            self.joined.discard(guest)
            self._asking.discard(guest)
        return guests
