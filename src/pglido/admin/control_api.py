"""What the console needs of the control process: what it shows, and what it can order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..config.model import Config, Settings
from ..ipc.messages import Gates
from ..ipc.snapshot import Answers, Subject
from ..pooling.broker import Broker
from .stats import Averages

# SQLSTATE of what is refused on the console, as PgBouncer has it for nearly everything.
REFUSED = "08P01"


@dataclass(frozen=True)
class WorkerSnapshot:
    """One worker, as SHOW WORKERS has it, but for what only itself can tell.

    `started` is in seconds since 1970, `silent` how many seconds ago it last moved, `memory` in bytes,
    `bugs` how many connections it closed for a bug of pglido's own.
    """

    index: int
    pid: int
    state: str
    started: float
    restarts: int
    crashes: int
    clients: int
    accepted: int
    silent: int
    memory: int
    bugs: int


class Reloaded(NamedTuple):
    """What is in force after a reload: the workers that hang take it when they move again; what `waits` for a restart
    is as it was.
    """

    hung: set[int]
    waits: list[str]


class OperationsApi(Protocol):
    """What can be ordered of all workers. A database is named, or none (empty): then all are meant.

    All return the workers that hang, which do it when they move again. They raise CommandError, in PgBouncer's words,
    for what makes no sense.
    """

    gates: Gates

    async def pause(self, database: str) -> set[int]:
        """Let clients wait, and close servers; returns when none is left. Cancelled, it is undone."""

    async def resume(self, database: str) -> set[int]:
        """Serve those who wait."""

    async def disable(self, database: str) -> set[int]:
        """Let nobody in any more."""

    async def enable(self, database: str) -> set[int]:
        """Let clients in again."""

    async def reconnect(self, database: str) -> set[int]:
        """Replace servers as they become free."""

    async def wait_close(self, database: str) -> set[int]:
        """Returns when all servers are gone that were to be replaced."""

    async def kill(self, database: str) -> set[int]:
        """Close all clients now, and servers when what they did is cancelled; newcomers wait until they are resumed."""

    async def kill_client(self, client: str) -> set[int]:
        """Close one client, by `ptr` in SHOW CLIENTS."""


class ControlApi(Protocol):
    """The control process. Configuration and leases are those in force."""

    state: str  # starting, running, draining, stopping
    broker: Broker
    averages: Averages

    @property
    def operations(self) -> OperationsApi:
        """What can be ordered of all workers."""

    @property
    def config(self) -> Config:
        """The configuration."""

    @property
    def settings(self) -> Settings:
        """The global settings."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """The stored secrets of `[users]` and `auth_file`, by user."""

    def workers(self) -> Sequence[WorkerSnapshot]:
        """All workers."""

    def running(self) -> set[int]:
        """The indexes of the workers that run, also of those that hang."""

    def worker_name(self, index: int) -> str:
        """The name of a worker in the log and on the console."""

    async def ask(self, subject: Subject) -> Answers:
        """The rows about `subject` of every worker that answers. A worker that hangs is not waited for."""

    async def refresh_stats(self) -> set[int]:
        """Ask all workers for their counters, and update `averages`; returns the workers that answered."""

    async def reload(self) -> Reloaded:
        """Read the configuration again and put it in force. Raises ConfigError; nothing has changed then."""

    @property
    def in_file(self) -> Mapping[str, str]:
        """What the file has, as texts, for the keys of which another value was set since."""

    async def set_value(self, key: str, text: str) -> set[int]:
        """Put another value of a setting in force until the next reload; returns the workers that hang.

        Raises ConfigError; then all is as it was.
        """

    def shutdown(self, mode: str) -> None:
        """Shut down: `now`; `servers`: when all transactions have ended; `clients`: when all clients have left."""
