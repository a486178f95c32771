"""Databases that somebody is about to drop, rename or copy: servers that rest there are closed where no client is left.

PostgreSQL waits for others to go for as long as `PATIENCE` (CountOtherDBBackends in procarray.c): those who have just
left may still be at it.
"""

import time

from ...config.model import Host as Place
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime

PATIENCE = 5.0


class DatabaseRelease:
    """The databases of servers that are to be left now, until when, and the pool of the client who wants it."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self._until: dict[tuple[tuple[Place, ...], str], tuple[float, PoolRuntime | None]] = {}

    def begin(self, hosts: tuple[Place, ...], databases: tuple[str, ...], own: PoolRuntime | None = None) -> None:
        """These are to be left from now on; `own` is the pool of who wants it, where that is in this worker."""
        until = time.monotonic() + PATIENCE
        for database in databases:
            self._until[hosts, database] = until, own
        self._leave()

    def look(self, now: float) -> None:
        """Time has passed: clients may have left meanwhile."""
        if self._until:
            self._until = {place: wanted for place, wanted in self._until.items() if now < wanted[0]}
            self._leave()

    def _leave(self) -> None:
        for runtime in list(self.lifecycle.pools.values()):
            wanted = self._until.get((runtime.settings.hosts, runtime.settings.dbname))
            # A client that copies its own database (CREATE DATABASE ... TEMPLATE) doesn't block itself.
            if wanted is not None and runtime.pool.clients == (wanted[1] is runtime):
                self._close(runtime)

    def _close(self, runtime: PoolRuntime) -> None:
        for plan in runtime.pool.retire():
            self.lifecycle.do(runtime, plan)
        hub = self.lifecycle.hubs.get(runtime)
        if hub is not None:
            hub.vacate()
