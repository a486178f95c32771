"""What an operator orders of a worker: pools are paused and opened, servers replaced, clients closed.

A database is named, or none: then all are meant.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..ipc.messages import Gates
from .cancel_keys import pid_of
from .errors import TERMINATED
from .lifecycle import Lifecycle
from .pool_directory import PoolDirectory


class Logins(Protocol):
    """Where it is remembered who was let in on what."""

    def forget(self) -> None:
        """Let everybody in the long way again."""


class Operations:
    """Those of one worker."""

    def __init__(self, lifecycle: Lifecycle, pools: PoolDirectory, logins: Logins) -> None:
        self._lifecycle = lifecycle
        self._pools = pools
        self._logins = logins
        self._awaited: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def set_gates(self, gates: Gates) -> None:
        """Serve clients, let them wait, or let nobody in."""
        self._pools.set_gates(gates)
        self._logins.forget()

    async def released(self, database: str) -> None:
        """Returns when no server of it is left, or it is not paused any more."""
        await self._until(lambda: not self._pools.gates.pauses(database) or self._is_released(database))

    def reconnect(self, database: str) -> None:
        """Replace its servers: those that rest now, others when they are free."""
        for runtime in self._pools.of_database(database):
            self._pools.replace_servers(runtime)

    async def reconnected(self, database: str) -> None:
        """Returns when all servers are gone that were to be replaced."""
        await self._until(lambda: all(runtime.pool.retired() for runtime in self._pools.of_database(database)))

    def kill(self, database: str) -> None:
        """Close its clients; what they were doing is cancelled."""
        for client in list(self._lifecycle.clients.values()):
            if client.runtime is not None and database in ("", client.runtime.key[0]):
                self._lifecycle.kill(client, *TERMINATED)

    def kill_client(self, wanted: str) -> str:
        """Close the client with this `id` or `ptr` of SHOW CLIENTS; returns what is wrong."""
        index = self._lifecycle.index
        for client in self._lifecycle.clients.values():
            if wanted in (client.uuid, str(pid_of(index, client.serial))):
                self._lifecycle.kill(client, *TERMINATED)
                return ""
        return "no such client"

    def look(self) -> bool:
        """Tell those who wait of what has happened; returns whether somebody waits on."""
        for future, happened in list(self._awaited.items()):
            if happened():
                del self._awaited[future]
                if not future.done():
                    future.set_result(None)
        return bool(self._awaited)

    async def _until(self, happened: Callable[[], bool]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited[future] = happened
        self.look()
        try:
            await future
        finally:
            self._awaited.pop(future, None)

    def _is_released(self, database: str) -> bool:
        busy = any(database in ("", server.runtime.key[0]) for server in self._lifecycle.servers)
        return not busy and all(runtime.pool.released() for runtime in self._pools.of_database(database))
