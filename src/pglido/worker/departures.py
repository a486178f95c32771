"""Databases that somebody is about to drop, rename or copy: servers that rest there are closed where no client is left.

PostgreSQL waits for others to go for as long as `PATIENCE` (CountOtherDBBackends in procarray.c): those who have just
left may still be at it.
"""

import time
from typing import TYPE_CHECKING

from ..config.model import Host as Place

if TYPE_CHECKING:
    from .host import Host
    from .live import LivePool

PATIENCE = 5.0


class Departures:
    """The databases of servers that are to be left now, and until when."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self._until: dict[tuple[tuple[Place, ...], str], float] = {}

    def begin(self, hosts: tuple[Place, ...], databases: tuple[str, ...]) -> None:
        """These are to be left from now on."""
        until = time.monotonic() + PATIENCE
        for database in databases:
            self._until[hosts, database] = until
        self._leave()

    def look(self, now: float) -> None:
        """Time has passed: clients may have left meanwhile."""
        if self._until:
            self._until = {place: until for place, until in self._until.items() if now < until}
            self._leave()

    def _leave(self) -> None:
        for live in list(self.host.pools.values()):
            if (live.settings.hosts, live.settings.dbname) in self._until and not live.policy.clients:
                self._close(live)

    def _close(self, live: "LivePool") -> None:
        for plan in live.policy.retire():
            self.host.do(live, plan)
        if live.hub is not None:
            live.hub.vacate()
