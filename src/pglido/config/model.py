"""The configuration as a whole, and what it means for one pool: the types that others read.

Everything is frozen and goes through MessagePack, because the control process sends the whole Config to its
workers. `Config.pool()` is the one place that knows the precedence: user, then database, then global.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import msgspec

from .enums import AuthType, LoadBalance, LogFormat, LogLevel, OnLoss, PoolMode, SessionStateMode, SslMode
from .schema import Dialect, Field, Kind, Override, Row, Scope, fields
from .settings import Settings

__all__ = [
    "ADMIN_DATABASES",
    "AuthType",
    "Config",
    "Database",
    "Dialect",
    "Host",
    "LoadBalance",
    "LogFormat",
    "LogLevel",
    "OnLoss",
    "PoolMode",
    "PoolSettings",
    "Settings",
    "SslMode",
    "User",
    "rows",
]

# The console answers to both names; neither can be the name of a database.
ADMIN_DATABASES = frozenset({"pglido", "pgbouncer"})


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """One `[databases.NAME]`: where it is, who logs in there, and what differs from the global settings."""

    host: Annotated[
        tuple[str, ...],
        Row(
            "Host names or addresses. `/` in front is the directory of a Unix socket, `@` one in the abstract"
            " namespace. Not given: the Unix socket in `unix_socket_dir`."
        ),
    ] = ()
    port: Annotated[
        tuple[int, ...], Row("Port, or one for each host.", Kind.PORTS, low=1, high=65535)
    ] = (5432,)
    dbname: Annotated[str, Row("Name of the database on the server; empty: the name of this entry.")] = ""
    user: Annotated[
        str, Row("Log in to the server as this user, whoever the client is: one pool for all clients.")
    ] = ""
    password: Annotated[
        str, Row("Password of `user`; empty: the one known from `auth_file` or `[users]`.", secret=True)
    ] = ""
    auth_user: Annotated[str | None, Override()] = None
    auth_query: Annotated[str | None, Override()] = None
    auth_dbname: Annotated[str | None, Override()] = None
    connect_query: Annotated[str, Row("Run on each new server connection before clients use it.")] = ""
    load_balance_hosts: Annotated[
        LoadBalance,
        Row("`round-robin`: each new connection goes to the next host; `disable`: only after a failure."),
    ] = LoadBalance.ROUND_ROBIN

    client_encoding: Annotated[str, Row("Set at login to the server.")] = ""
    datestyle: Annotated[str, Row("Set at login to the server.")] = ""
    timezone: Annotated[str, Row("Set at login to the server.")] = ""
    application_name: Annotated[str, Row("Set at login to the server.")] = ""
    application_name_add_host: Annotated[bool | None, Override()] = None

    pool_mode: Annotated[PoolMode | None, Override()] = None
    pool_size: Annotated[int | None, Override("default_pool_size")] = None
    min_pool_size: Annotated[int | None, Override()] = None
    reserve_pool_size: Annotated[int | None, Override()] = None
    reserve_pool_timeout: Annotated[float | None, Override()] = None
    max_db_connections: Annotated[int | None, Override()] = None
    max_db_client_connections: Annotated[int | None, Override()] = None
    max_parallel_connects: Annotated[int | None, Override()] = None
    max_prepared_statements: Annotated[int | None, Override()] = None
    server_round_robin: Annotated[bool | None, Override()] = None
    server_reset_query: Annotated[str | None, Override()] = None
    server_reset_query_always: Annotated[bool | None, Override()] = None
    defer_begin: Annotated[bool | None, Override()] = None
    on_session_state: Annotated[SessionStateMode | None, Override()] = None
    max_pinned_share: Annotated[float | None, Override()] = None
    pin_timeout: Annotated[float | None, Override()] = None
    pin_functions: Annotated[tuple[str, ...] | None, Override()] = None

    listen_on_loss: Annotated[OnLoss | None, Override()] = None
    listen_buffer_size: Annotated[int | None, Override()] = None
    listen_announce: Annotated[
        tuple[str, ...],
        Row(
            "Parameters that clients are told at login, as `name=value`, where the mode is `listen`. What is not"
            " named is told as the server reports it.",
            own=True,
        ),
    ] = ()

    query_timeout: Annotated[float | None, Override()] = None
    query_wait_timeout: Annotated[float | None, Override()] = None
    query_wait_notify: Annotated[float | None, Override()] = None
    cancel_wait_timeout: Annotated[float | None, Override()] = None
    client_idle_timeout: Annotated[float | None, Override()] = None
    idle_transaction_timeout: Annotated[float | None, Override()] = None
    transaction_timeout: Annotated[float | None, Override()] = None

    server_lifetime: Annotated[float | None, Override()] = None
    server_idle_timeout: Annotated[float | None, Override()] = None
    server_connect_timeout: Annotated[float | None, Override()] = None
    server_login_retry: Annotated[float | None, Override()] = None
    server_check_delay: Annotated[float | None, Override()] = None
    server_check_query: Annotated[str | None, Override()] = None

    server_tls_sslmode: Annotated[SslMode | None, Override()] = None
    server_tls_ca_file: Annotated[str | None, Override()] = None
    server_tls_key_file: Annotated[str | None, Override()] = None
    server_tls_cert_file: Annotated[str | None, Override()] = None
    server_tls_protocols: Annotated[tuple[str, ...] | None, Override()] = None
    server_tls_ciphers: Annotated[str | None, Override()] = None


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One `[users.NAME]`: the secret, and what differs for this user."""

    password: Annotated[
        str | None,
        Row(
            "The secret: plain, `md5...` or `SCRAM-SHA-256$...`. It goes before the one in `auth_file`. Empty: a"
            " user who exists and has none, as `trust` needs it. Not set: the section has options only, and says"
            " nothing about whether there is such a user.",
            secret=True,
            own=True,
        ),
    ] = None
    pool_mode: Annotated[PoolMode | None, Override()] = None
    pool_size: Annotated[int | None, Override("default_pool_size")] = None
    min_pool_size: Annotated[int | None, Override()] = None
    reserve_pool_size: Annotated[int | None, Override()] = None
    max_user_connections: Annotated[int | None, Override()] = None
    max_user_client_connections: Annotated[int | None, Override()] = None
    query_timeout: Annotated[float | None, Override()] = None
    query_wait_timeout: Annotated[float | None, Override()] = None
    query_wait_notify: Annotated[float | None, Override()] = None
    client_idle_timeout: Annotated[float | None, Override()] = None
    idle_transaction_timeout: Annotated[float | None, Override()] = None
    transaction_timeout: Annotated[float | None, Override()] = None


class Host(msgspec.Struct, frozen=True, array_like=True):
    """One place a database may be: a name or an address; with `/` or `@` in front a Unix socket."""

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return self.host.startswith(("/", "@"))

    @property
    def socket_path(self) -> str:
        """Address of the Unix socket; one in the abstract namespace begins with a NUL byte."""
        path = f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}"
        return "\0" + path[1:] if path.startswith("@") else path


PoolKey = tuple[str, str]
"""(database as the client names it, user towards the server: the forced one where there is one, else the
client's).
"""


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that holds for clients `user` of `database`, with the precedence applied.

    `server_user` and `server_password` are None where the client's own are used. `pool_user` is the user
    whose pool it is: with a forced `server_user` all clients of a database share one pool.
    """

    database: str
    user: str
    hosts: tuple[Host, ...]
    dbname: str
    server_user: str | None
    server_password: str | None

    pool_mode: PoolMode
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    reserve_pool_timeout: float
    max_db_connections: int
    max_db_client_connections: int
    max_user_connections: int
    max_user_client_connections: int
    max_parallel_connects: int
    max_prepared_statements: int
    server_round_robin: bool
    server_reset_query: str
    server_reset_query_always: bool
    defer_begin: bool
    on_session_state: SessionStateMode
    max_pinned_share: float
    pin_timeout: float
    pin_functions: tuple[str, ...]
    load_balance_hosts: LoadBalance
    connect_query: str

    listen_on_loss: OnLoss
    listen_buffer_size: int
    listen_announce: tuple[str, ...]

    query_timeout: float
    query_wait_timeout: float
    query_wait_notify: float
    cancel_wait_timeout: float
    client_idle_timeout: float
    idle_transaction_timeout: float
    transaction_timeout: float
    server_lifetime: float
    server_lifetime_jitter: float
    server_idle_timeout: float
    server_connect_timeout: float
    server_login_retry: float
    server_check_delay: float
    server_check_query: str

    auth_user: str
    auth_query: str
    auth_dbname: str

    client_encoding: str
    datestyle: str
    timezone: str
    application_name: str
    application_name_add_host: bool

    server_tls_sslmode: SslMode
    server_tls_ca_file: str
    server_tls_key_file: str
    server_tls_cert_file: str
    server_tls_protocols: tuple[str, ...]
    server_tls_ciphers: str

    @property
    def pool_user(self) -> str:
        """The user of the pool's key: the forced one, or the client's."""
        return self.server_user or self.user

    @property
    def key(self) -> tuple[str, str]:
        """The pool's key, (database, user); `Config.pool(*key)` gives the same limits to everyone."""
        return self.database, self.pool_user

    @property
    def announced(self) -> dict[str, str]:
        """The parameters of `listen_announce` by name."""
        pairs = [entry.partition("=") for entry in self.listen_announce]
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def startup_parameters(self) -> dict[str, str]:
        """What the database asks to be set at login, without what it leaves open."""
        names = ("client_encoding", "datestyle", "timezone", "application_name")
        return {name: value for name in names if (value := getattr(self, name))}


# Where a database names its user, these belong to the pool and come from that user; others from the client.
_OF_THE_POOL = frozenset(
    {"pool_mode", "pool_size", "min_pool_size", "reserve_pool_size", "max_user_connections"}
)
_GLOBAL_NAME = {"pool_size": "default_pool_size"}
_WHERE_AND_WHO = frozenset({"database", "user", "hosts", "dbname", "server_user", "server_password"})


@cache
def _layered() -> tuple[str, ...]:
    return tuple(name for name in PoolSettings.__struct_fields__ if name not in _WHERE_AND_WHO)


_NOBODY = User()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was read and checked.

    `path` is the file, `dialect` its language, `warnings` what the operator should be told though it works.
    """

    path: str = ""
    dialect: Dialect = Dialect.TOML
    settings: Settings = Settings()
    databases: dict[str, Database] = {}
    users: dict[str, User] = {}
    warnings: tuple[str, ...] = ()

    def database(self, name: str) -> Database | None:
        """The entry for `name`, else that of `*`, with `dbname` filled in; None if there is neither."""
        if name in ADMIN_DATABASES or name == "*":
            return None
        found = self.databases.get(name) or self.databases.get("*")
        if found is None or found.dbname:
            return found
        return msgspec.structs.replace(found, dbname=name)

    def pool(self, database_name: str, user_name: str) -> PoolSettings | None:
        """What holds for clients `user_name` of `database_name`; None if there is no such database."""
        database = self.database(database_name)
        if database is None:
            return None
        client = self.users.get(user_name, _NOBODY)
        owner = self.users.get(database.user, _NOBODY) if database.user else client
        values: dict[str, Any] = {}
        for name in _layered():
            value = getattr(owner if name in _OF_THE_POOL else client, name, None)
            if value is None:
                value = getattr(database, name, None)
            if value is None:
                value = getattr(self.settings, _GLOBAL_NAME.get(name, name))
            values[name] = value
        return PoolSettings(
            database=database_name,
            user=user_name,
            hosts=self._hosts(database),
            dbname=database.dbname,
            server_user=database.user or None,
            server_password=database.password or None,
            **values,
        )

    def secrets(self) -> dict[str, str]:
        """The stored secrets of `[users]`, by name, "" for none; they go before those of `auth_file`.

        A section without `password` has options only: it makes nobody known.
        """
        return {name: user.password for name, user in self.users.items() if user.password is not None}

    def _hosts(self, database: Database) -> tuple[Host, ...]:
        names = database.host or (self.settings.unix_socket_dir,)
        ports = database.port if len(database.port) > 1 else database.port * len(names)
        return tuple(Host(host, port) for host, port in zip(names, ports, strict=False))


_TABLES: dict[Scope, type[msgspec.Struct]] = {"pglido": Settings, "databases": Database, "users": User}


def rows(scope: Scope = "pglido") -> dict[str, Field]:
    """The table: rows of the global settings, of a database, or of a user, by key and in order."""
    return fields(_TABLES[scope], None if scope == "pglido" else Settings)
