"""The configuration in force, and the pools of this worker that run by it."""

from collections.abc import Callable
from functools import lru_cache

from ..config.model import Config, PoolSettings
from ..ipc import messages as ipc
from ..pooling.states import OPEN, PAUSED, SHUT
from ..session.server.notification_signature import NotificationSigner
from ..transport.connect import AddressCache
from .configuration import ServerContexts
from .lifecycle import Lifecycle
from .pool_runtime import PoolRuntime, new_pool_runtime

# For so many pairs of database and user, of so many characters, is it remembered what the configuration says.
POOLS_KNOWN = 4096
LONGEST_KNOWN = 128


class PoolDirectory:
    """What `config` says of pools, and the pools made of it.

    `gates` say which of them are paused, and which databases let nobody in. `secrets` are the users' as texts, by name;
    `workers` is how many workers there are.
    """

    def __init__(self, lifecycle: Lifecycle, signer: NotificationSigner) -> None:
        self.lifecycle = lifecycle
        self.signer = signer
        self.config = Config()
        self.gates = ipc.Gates()
        self.workers = 1
        self.secrets: dict[str, str] = {}
        self._server_tls = ServerContexts(self.config, {})
        self._names = AddressCache(0, 0)
        self._known_pool: Callable[[str, str], PoolSettings | None] = self.config.pool

    def adopt(self, config: Config, workers: int, server_tls: ServerContexts) -> None:
        """Another configuration is in force; `refresh` has the pools follow it."""
        self.config = config
        self.workers = workers
        self._server_tls = server_tls
        self._names = AddressCache(config.settings.dns_max_ttl, config.settings.dns_nxdomain_ttl)
        self._known_pool = lru_cache(POOLS_KNOWN)(config.pool)

    def refresh(self, secrets: dict[str, str]) -> None:
        """All pools take their new settings, and those that are to have servers are made."""
        self.secrets = secrets
        for runtime in list(self.lifecycle.pools.values()):
            self._refresh(runtime)
        for name, database in self.config.databases.items():
            pool = self.config.pool(name, database.user) if database.user else None
            if pool is not None and pool.min_pool_size:
                self.lifecycle.plan_soon(self.runtime(pool))

    def set_gates(self, gates: ipc.Gates) -> None:
        """From now on serve clients, or let them wait, as this says."""
        self.gates = gates
        for runtime in list(self.lifecycle.pools.values()):
            if runtime.pool.gate != SHUT:
                self._set_gate(runtime, self._gate_of(runtime.key[0]))

    def replace_servers(self, runtime: PoolRuntime) -> None:
        """Have each server of this pool closed: those that rest now, others when they are free."""
        for plan in runtime.pool.retire():
            self.lifecycle.do(runtime, plan)
        hub = self.lifecycle.hubs.get(runtime)
        if hub is not None:
            hub.renew()
        self.lifecycle.plan_soon(runtime)

    def of_database(self, database: str) -> list[PoolRuntime]:
        """The pools of a database, or of all (empty)."""
        return [runtime for runtime in self.lifecycle.pools.values() if database in ("", runtime.key[0])]

    def pool_of(self, database: str, user: str) -> PoolSettings | None:
        """What the configuration says of this pair; anybody may make up long names."""
        known = len(database) + len(user) <= LONGEST_KNOWN
        return self._known_pool(database, user) if known else self.config.pool(database, user)

    def runtime(self, settings: PoolSettings) -> PoolRuntime:
        """The running pool of these settings, made now if need be."""
        runtime = self.lifecycle.pools.get(settings.key)
        if runtime is None:
            pool = self.config.pool(*settings.key) or settings
            limit, tls = self.config.settings.max_packet_size, self._server_tls.of(pool)
            runtime = new_pool_runtime(pool, self._minimum(pool), limit, self._names, tls)
            runtime.pool.set_gate(self._gate_of(pool.database))
            runtime.secrets = self.secrets
            runtime.signer = self.signer
            self.lifecycle.pools[settings.key] = runtime
        return runtime

    def _gate_of(self, database: str) -> int:
        return PAUSED if self.gates.pauses(database) else OPEN

    def _set_gate(self, runtime: PoolRuntime, gate: int) -> None:
        if runtime.pool.gate == gate:
            return
        for plan in runtime.pool.set_gate(gate):
            self.lifecycle.do(runtime, plan)
        hub = self.lifecycle.hubs.get(runtime)
        if hub is not None and gate == PAUSED:
            hub.renew()
        elif hub is not None and gate == OPEN:
            hub.resume()
        self.lifecycle.plan_soon(runtime)

    def _minimum(self, settings: PoolSettings) -> int:
        """How many servers to keep here: a part of min_pool_size, or all where other workers may have no clients."""
        if settings.server_user is None:
            return settings.min_pool_size
        return ipc.share(settings.min_pool_size, self.lifecycle.index, self.workers)

    def _refresh(self, runtime: PoolRuntime) -> None:
        """A pool takes its new settings; one whose database is gone serves nobody any more."""
        settings = self.config.pool(*runtime.key)
        if settings is None:
            self._shut(runtime)
        else:
            self._renew(runtime, settings)
        self.lifecycle.plan_soon(runtime)

    def _shut(self, runtime: PoolRuntime) -> None:
        self._set_gate(runtime, SHUT)
        for client in [client for client in self.lifecycle.clients.values() if client.runtime is runtime]:
            self.lifecycle.kill(client, "3D000", f'database "{runtime.key[0]}" is no longer configured')
        hub = self.lifecycle.hubs.get(runtime)
        if hub is not None:
            hub.close()

    def _renew(self, runtime: PoolRuntime, settings: PoolSettings) -> None:
        runtime.names = self._names
        runtime.secrets = self.secrets
        self._set_gate(runtime, self._gate_of(settings.database))
        hub = self.lifecycle.hubs.get(runtime)
        if hub is not None:
            hub.closed = False
        tls = self._server_tls.of(settings)
        if runtime.adopt(settings, self._minimum(settings), self.config.settings.max_packet_size, tls):
            self.replace_servers(runtime)
