"""What an operator orders of all workers, in PgBouncer's words: PAUSE and RESUME, DISABLE, RECONNECT, KILL.

Rules:
1. `gates` is what is in force. It is changed here first, and told to all workers: one that starts later gets it, too.
2. A worker that hangs is not waited for; it is named to the operator, and does what was ordered when it moves again.
3. PAUSE is over when no server connection is left. Broken off, it is undone, unless another waits or is in force.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from ..admin.commands import CommandError
from ..admin.control_api import REFUSED
from ..config.model import ADMIN_DATABASES, Config
from ..ipc.messages import (
    Action,
    AwaitReconnected,
    AwaitReleased,
    Gates,
    Kill,
    KillClient,
    Message,
    Reconnect,
)
from .commands import AS_LONG_AS_IT_TAKES, AT_ONCE, Commands, Patience, Verdicts


class Workers(Protocol):
    """Whom it concerns."""

    def alive(self) -> list[int]:
        """Those that can be told something."""

    def tell_all(self, message: Message) -> None:
        """Post a message to all of them."""


class Operations:
    """All methods return the workers that hang. They raise CommandError for what makes no sense."""

    def __init__(self, commands: Commands, workers: Workers, config: Callable[[], Config]) -> None:
        self.gates = Gates()
        # By database: how many PAUSEs wait; and those that are in force, whatever becomes of these.
        self._pausing: Counter[str] = Counter()
        self._paused: set[str] = set()
        self._commands = commands
        self._workers = workers
        self._config = config

    async def pause(self, database: str) -> set[int]:
        """Let clients of this database (empty: of all) wait, and close servers; returns when none is left."""
        if self.gates.all_paused:
            raise refused("already suspended/paused")
        self._refuse_unknown(database, "pause")
        self._pausing[database] += 1
        try:
            hung = await self._change(_paused(self.gates, database, True))
            hung |= await self._order(AwaitReleased(database), AS_LONG_AS_IT_TAKES)
        except asyncio.CancelledError:
            if self._pausing[database] == 1 and database not in self._paused:
                self._tell(_paused(self.gates, database, False))
            raise
        finally:
            self._pausing[database] -= 1
        if not self.gates.pauses(database):
            raise refused("resumed before all servers were released")
        self._paused.add(database)
        return hung

    async def resume(self, database: str) -> set[int]:
        """Serve those who wait."""
        self._refuse_unknown(database, "resume")
        if not database and not self.gates.all_paused:
            raise refused("pooler is not paused/suspended")
        if database and database not in self.gates.paused:
            raise refused(f"database {database} is not paused")
        self._paused.discard(database)
        return await self._change(_paused(self.gates, database, False))

    async def disable(self, database: str) -> set[int]:
        """Let nobody in any more."""
        self._refuse_unnamed(database, "disable")
        return await self._change(msgspec.structs.replace(self.gates, disabled=self.gates.disabled | {database}))

    async def enable(self, database: str) -> set[int]:
        """Let clients in again."""
        self._refuse_unnamed(database, "enable")
        return await self._change(msgspec.structs.replace(self.gates, disabled=self.gates.disabled - {database}))

    async def reconnect(self, database: str) -> set[int]:
        """Replace servers as they become free."""
        self._refuse_unknown(database, "reconnect")
        return await self._order(Reconnect(database), AT_ONCE)

    async def wait_close(self, database: str) -> set[int]:
        """Returns when all servers are gone that were to be replaced."""
        self._refuse_unknown(database, "wait in")
        return await self._order(AwaitReconnected(database), AS_LONG_AS_IT_TAKES)

    async def kill(self, database: str) -> set[int]:
        """Close all clients now, and servers when what they did is cancelled; newcomers wait until RESUME."""
        if self.gates.all_paused:
            raise refused("already suspended/paused")
        self._refuse_unknown(database, "kill")
        self._paused.add(database)
        return await self._change(_paused(self.gates, database, True)) | await self._order(Kill(database), AT_ONCE)

    async def kill_client(self, client: str) -> set[int]:
        """Close one client, by `id` or `ptr` in SHOW CLIENTS."""
        if not client:
            raise refused("a client is required")
        verdicts = await self._run(KillClient(client), AT_ONCE)
        if not verdicts.hung and verdicts.done == verdicts.problems.keys():
            raise refused("client not found")
        return verdicts.hung if verdicts.done == verdicts.problems.keys() else set()

    def reconfigured(self) -> None:
        """The configuration is another: what is said of databases that are gone is forgotten."""
        config = self._config()
        known = [name for name in self.gates.paused | self.gates.disabled if config.database(name) is not None]
        gates = Gates(self.gates.all_paused, self.gates.paused & {*known}, self.gates.disabled & {*known})
        self._paused &= {"", *known}
        if gates != self.gates:
            self._tell(gates)

    # ---- inside

    def _refuse_unnamed(self, database: str, verb: str) -> None:
        if not database:
            raise refused("a database is required")
        self._refuse_unknown(database, verb)

    def _refuse_unknown(self, database: str, verb: str) -> None:
        if database in ADMIN_DATABASES:
            raise refused(f"cannot {verb} admin db: {database}")
        if database and self._config().database(database) is None:
            raise refused(f"no such database: {database}")

    def _tell(self, gates: Gates) -> None:
        self.gates = gates
        self._workers.tell_all(gates)

    async def _change(self, gates: Gates) -> set[int]:
        self.gates = gates
        return await self._order(gates, AT_ONCE)

    async def _order(self, action: Action, patience: Patience) -> set[int]:
        verdicts = await self._run(action, patience)
        if verdicts.problems:
            said = [f"worker {worker}: {problem}" for worker, problem in sorted(verdicts.problems.items())]
            raise CommandError("XX000", "; ".join(said))
        return verdicts.hung

    async def _run(self, action: Action, patience: Patience) -> Verdicts:
        return await self._commands.run(action, self._workers.alive(), patience)


def refused(text: str) -> CommandError:
    """What PgBouncer says to a command that makes no sense."""
    return CommandError(REFUSED, text)


def _paused(gates: Gates, database: str, paused: bool) -> Gates:
    if not database:
        return msgspec.structs.replace(gates, all_paused=paused)
    changed = gates.paused | {database} if paused else gates.paused - {database}
    return msgspec.structs.replace(gates, paused=changed)
