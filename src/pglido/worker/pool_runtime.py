"""One pool as a worker runs it: its pool, what its clients are told at login, and how its servers are reached."""

import asyncio
import random
from dataclasses import dataclass, field

from ..auth.secrets import Credentials
from ..cache import Cache
from ..config.enums import SessionStateMode
from ..config.model import PoolMode, PoolSettings
from ..pooling.limits import FOREVER, Limits
from ..pooling.pool import Pool
from ..pooling.stats import Stats
from ..session.server.notification_signature import NotificationSigner
from ..session.state import parameters as _parameters
from ..session.state import role_defaults_epoch as _role_defaults_epoch
from ..session.state import statement_cache as _statement_cache
from ..session.state.parameters import SessionParameters
from ..session.state.shared import FunctionCatalog, PoolRules, StatementCounts
from ..session.state.state_query import INSPECTED, PINNING
from ..session.state.statement_cache import AcceptedStatements
from ..sql.lexer import cut
from ..transport.connect import AddressCache
from ..transport.tls_context import ServerTls, server_side
from .defaults import SessionDefaults, Welcome
from .errors import PoolRefused

# Different sets of startup parameters remembered per pool, and their bytes; an application has a handful.
WELCOMES = 2048
WELCOMES_BYTES = 4 << 20


def rules_of(
    settings: PoolSettings,
    max_packet: int,
    good: AcceptedStatements,
    counts: StatementCounts,
    functions: FunctionCatalog,
) -> PoolRules:
    """The rules for the sessions of one pool's clients."""
    mode = settings.pool_mode
    keep = mode == PoolMode.SESSION
    limit = settings.max_prepared_statements
    functions.pin(frozenset([cut(name.rpartition(".")[2].lower().encode()) for name in settings.pin_functions]))
    return PoolRules(
        rewrite=not keep and limit > 0,
        max_statements=limit,
        max_packet=max_packet,
        block=mode != PoolMode.STATEMENT,
        keep=keep,
        good=good,
        counts=counts,
        inspected=0
        if keep
        else INSPECTED & ~PINNING
        if settings.on_session_state == SessionStateMode.IGNORE
        else INSPECTED,
        functions=functions,
        realm=(("pool", "/".join(settings.key)),),
        defer=settings.defer_begin and mode == PoolMode.TRANSACTION,
    )


def limits_of(settings: PoolSettings, minimum: int) -> Limits:
    """The pool's numbers; `minimum` is this worker's part of min_pool_size."""
    return Limits(
        minimum=minimum,
        parallel_connects=max(1, settings.max_parallel_connects),
        wait_timeout=settings.query_wait_timeout,
        wait_notify=settings.query_wait_notify,
        lifetime=settings.server_lifetime,
        lifetime_jitter=settings.server_lifetime_jitter,
        idle_timeout=settings.server_idle_timeout,
        login_retry=settings.server_login_retry,
        check_delay=settings.server_check_delay if settings.server_check_query else FOREVER,
        round_robin=settings.server_round_robin,
        startup_params=startup_params_of(settings, _parameters.EMPTY),
    )


def startup_params_of(settings: PoolSettings, home: SessionParameters) -> SessionParameters:
    """What a server for clients with `home` must have been opened with.

    In session mode that is what the client itself asked for, so that RESET leads there; the name of the
    application aside, for which alone no server is opened anew.
    """
    values = {name.lower(): value for name, value in settings.startup_parameters.items()}
    if settings.pool_mode == PoolMode.SESSION:
        values |= {name: value for name, value in home.values.items() if name != "application_name"}
    return _parameters.intern(values)


@dataclass(eq=False)
class PoolRuntime:
    """The pool of `key` in this worker. `credentials` log in to its servers: those of the last client that could.

    `version` is another whenever what `welcomes` say is no longer true; of so many `findings` others were told (see
    `worker.servers.function_refresh`). `begins` is the digest of what sessions begin with, asked in view of so many
    `changes` and `reloads` (see `session.state.role_defaults_epoch`); `asking` is who asks now; `begun` has what
    servers began with lately.
    """

    key: tuple[str, str]
    settings: PoolSettings
    pool: Pool
    names: AddressCache
    rules: PoolRules
    stats: Stats = field(default_factory=Stats)
    credentials: Credentials | None = None
    base: dict[str, str] = field(default_factory=dict)
    welcomes: Cache = field(default_factory=lambda: Cache(WELCOMES_BYTES, WELCOMES))
    version: int = 0
    turn: int = 0
    planned: bool = False
    tls: ServerTls | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    by_user: dict[str, PoolSettings] = field(default_factory=dict)
    findings: int = 0
    signer: NotificationSigner | None = None
    unused_since: float = 0.0
    changes: int = field(default_factory=_role_defaults_epoch.count)
    reloads: int = field(default_factory=_role_defaults_epoch.reloads)
    begins: str = ""
    begun: dict[str, SessionDefaults] = field(default_factory=dict)
    asking: "asyncio.Task[PoolRefused | None] | None" = None

    def settings_for(self, user: str) -> PoolSettings:
        """The settings that hold for clients of this name: where the pool's user is forced, they may differ."""
        return self.by_user.get(user, self.settings)

    def lend(self, credentials: Credentials) -> None:
        """Log in to servers by what a client has proved; where others were refused, these may not be."""
        if credentials != self.credentials:
            self.credentials = credentials
            self.pool.outage.over()

    def warm(self) -> int:
        """How many servers to keep now: min_pool_size holds where the user is forced, or while there are clients."""
        if self.settings.pool_mode == PoolMode.LISTEN:
            return 0
        return self.pool.limits.minimum if self.pool.clients or self.settings.server_user else 0

    def adopt(self, settings: PoolSettings, minimum: int, max_packet: int, tls: ServerTls | None) -> bool:
        """Take new settings; returns whether the servers must be replaced."""
        self.tls = tls
        moved = _place(settings) != _place(self.settings)
        self.settings = settings
        self.by_user.clear()
        self.pool.adopt(limits_of(settings, minimum))
        if moved:
            _statement_cache.renew()
        # Other servers have other functions.
        functions = FunctionCatalog(settings.pool_user) if moved else self.rules.functions
        self.rules = rules_of(settings, max_packet, self.rules.good, self.rules.counts, functions)
        self.forget_welcomes()
        return moved

    def forget_welcomes(self) -> None:
        """What clients are welcomed with is another now."""
        self.welcomes.clear()
        self.version += 1

    def learn_base(self, reported: dict[str, str]) -> None:
        """A server has logged in: if it reports other parameters than before, what was derived is stale."""
        if reported != self.base:
            self.base = reported
            self.forget_welcomes()

    def remember(self, home: SessionParameters, welcome: Welcome) -> None:
        """Keep a welcome for the next client with the same startup parameters."""
        self.welcomes.put(home, welcome, home.size + welcome.settings.size + len(welcome.welcome))


def new_pool_runtime(
    settings: PoolSettings, minimum: int, max_packet: int, names: AddressCache, tls: ServerTls | None
) -> PoolRuntime:
    """A pool without servers; `tls` is for those that it will have."""
    pool = Pool(settings.key, limits_of(settings, minimum), random.random)
    rules = rules_of(settings, max_packet, AcceptedStatements(), StatementCounts(), FunctionCatalog(settings.pool_user))
    runtime = PoolRuntime(settings.key, settings, pool, names, rules)
    runtime.tls = tls
    return runtime


def _place(settings: PoolSettings) -> tuple[object, ...]:
    """What, when changed, makes existing server connections wrong."""
    return (
        settings.hosts,
        settings.dbname,
        settings.server_user,
        settings.server_password,
        settings.startup_parameters,
        settings.connect_query,
        settings.pool_mode,
        server_side(settings),
    )
