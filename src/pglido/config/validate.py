"""Checks over several keys at once: combinations that can't work; files, users and groups that must exist.

What can't work is a problem in TOML. In a pgbouncer.ini some of it is only a warning, because PgBouncer
starts with it and the file is to be read as it is.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterator

from .builder import ConfigBuilder, name_of
from .enums import AuthType, SslMode
from .model import ADMIN_DATABASES, Config, Database, PoolSettings, rows
from .schema import Dialect, Kind, Scope

_VERIFY = (SslMode.VERIFY_CA, SslMode.VERIFY_FULL)
# Files that pglido writes; the directory has to exist, not the file.
_WRITTEN = ("logfile", "pidfile")


def check(config: Config, draft: ConfigBuilder) -> None:
    """Add to the draft what is wrong with `config`, which was made from it, and what deserves a warning."""
    for look in _CHECKS:
        look(config, draft)


def _blame(draft: ConfigBuilder, scope: Scope, entry: str, key: str, text: str, expected: str = "") -> None:
    draft.blame(draft.place(scope, entry, key), name_of(scope, entry, key), text, expected)


def _doubt(draft: ConfigBuilder, scope: Scope, entry: str, key: str, text: str) -> None:
    """A problem in TOML, a warning in a pgbouncer.ini."""
    if draft.dialect is Dialect.TOML:
        _blame(draft, scope, entry, key, text)
    else:
        draft.warn(draft.place(scope, entry, key), name_of(scope, entry, key), text)


def _listening(config: Config, draft: ConfigBuilder) -> None:
    settings = config.settings
    if not settings.listen_addr and not settings.unix_socket_dir:
        text = "neither listen_addr nor unix_socket_dir is set: no client could connect"
        _blame(draft, "pglido", "", "listen_addr", text)
    if settings.unix_socket_dir and not settings.unix_socket_dir.startswith(("/", "@")):
        text = f'found "{settings.unix_socket_dir}"'
        _blame(draft, "pglido", "", "unix_socket_dir", text, "an absolute path or a name with @ in front")
    # sun_path of sockaddr_un holds 108 bytes, the last of them NUL.
    if len(os.fsencode(f"{settings.unix_socket_dir}/.s.PGSQL.{settings.listen_port}")) > 107:
        _blame(draft, "pglido", "", "unix_socket_dir", "the path of the socket is longer than 107 bytes")


def _client_tls(config: Config, draft: ConfigBuilder) -> None:
    settings = config.settings
    if settings.client_tls_sslmode is SslMode.DISABLE:
        return
    for key in ("client_tls_key_file", "client_tls_cert_file"):
        if not getattr(settings, key):
            text = f"{key} is not set, but client_tls_sslmode is {settings.client_tls_sslmode}"
            _blame(draft, "pglido", "", "client_tls_sslmode", text)
    if settings.client_tls_sslmode in _VERIFY and not settings.client_tls_ca_file:
        text = f"client_tls_ca_file is not set, but client_tls_sslmode is {settings.client_tls_sslmode}"
        _blame(draft, "pglido", "", "client_tls_sslmode", text)


def _server_tls(config: Config, draft: ConfigBuilder) -> None:
    for scope, entry, pool in _each(config):
        pair = bool(pool.server_tls_key_file), bool(pool.server_tls_cert_file)
        if pair in ((True, False), (False, True)):
            there, lacking = ("key", "cert") if pair[0] else ("cert", "key")
            text = f"server_tls_{lacking}_file is not set, but server_tls_{there}_file is"
            if key := _set_in(draft, scope, entry, f"server_tls_{there}_file", f"server_tls_{lacking}_file"):
                _blame(draft, scope, entry, key, text)


def _files(config: Config, draft: ConfigBuilder) -> None:
    for scope, entry, key, path in _paths(config):
        if key in _WRITTEN:
            if not os.path.isdir(os.path.dirname(path)):
                _blame(draft, scope, entry, key, f"there is no directory {os.path.dirname(path)}")
            continue
        try:
            with open(path, "rb"):
                pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            _blame(draft, scope, entry, key, f"the file {path} can't be read: {reason}")


def _paths(config: Config) -> Iterator[tuple[Scope, str, str, str]]:
    """Every file that is named: scope, entry, key, path."""
    for key, field in rows().items():
        if field.kind is Kind.PATH and (path := getattr(config.settings, key)):
            yield "pglido", "", key, path
    for name, database in config.databases.items():
        for key, field in rows("databases").items():
            if field.kind is Kind.PATH and (path := getattr(database, key)):
                yield "databases", name, key, path


def _system(config: Config, draft: ConfigBuilder) -> None:
    """The names of system users and groups must exist."""
    lookups: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("user", pwd.getpwnam),
        ("unix_socket_group", grp.getgrnam),
    )
    for key, look_up in lookups:
        name = getattr(config.settings, key)
        try:
            if name:
                look_up(name)
        except KeyError:
            what = "user" if key == "user" else "group"
            _blame(draft, "pglido", "", key, f'the system has no {what} "{name}"')


def _pools(config: Config, draft: ConfigBuilder) -> None:
    for scope, entry, pool in _each(config):
        size = "default_pool_size" if scope == "pglido" else "pool_size"
        least = pool.min_pool_size
        if 0 < pool.pool_size < least and (key := _set_in(draft, scope, entry, "min_pool_size", size)):
            text = f"min_pool_size {least} is more than the pool size {pool.pool_size}"
            _doubt(draft, scope, entry, key, text)
        most = pool.max_db_connections
        if 0 < most < least and (key := _set_in(draft, scope, entry, "min_pool_size", "max_db_connections")):
            _doubt(draft, scope, entry, key, f"min_pool_size {least} is more than max_db_connections {most}")
        if not pool.reserve_pool_size or not (key := _set_in(draft, scope, entry, "reserve_pool_size", size)):
            continue
        place, name = draft.place(scope, entry, key), name_of(scope, entry, key)
        if not pool.pool_size:
            draft.warn(place, name, "reserve_pool_size has no use: the pool size is unlimited")
        elif not pool.reserve_pool_timeout:
            draft.warn(place, name, "reserve_pool_size has no use: reserve_pool_timeout is 0")


def _set_in(draft: ConfigBuilder, scope: Scope, entry: str, *keys: str) -> str:
    """The first of `keys` that stands in this very entry: an inherited mistake is told once, where it is."""
    return next((key for key in keys if key in draft.values[scope][entry]), "")


def _each(config: Config) -> Iterator[tuple[Scope, str, PoolSettings]]:
    """The effective settings of the global section, of each database, and of each user."""
    plain = Config(settings=config.settings, databases={"": Database(dbname="x")})
    if (pool := plain.pool("", "")) is not None:
        yield "pglido", "", pool
    for name, database in config.databases.items():
        one = Config(settings=config.settings, databases={"db": database}, users=config.users)
        if (pool := one.pool("db", "")) is not None:
            yield "databases", name, pool
    for name in config.users:
        one = Config(settings=config.settings, databases={"": Database(dbname="x")}, users=config.users)
        if (pool := one.pool("", name)) is not None:
            yield "users", name, pool


def _databases(config: Config, draft: ConfigBuilder) -> None:
    for name, database in config.databases.items():
        hosts = len(database.host) or 1
        if len(database.port) not in (1, hosts):
            text = f"found {len(database.port)} ports for {hosts} hosts"
            _blame(draft, "databases", name, "port", text, "one port, or one for each host")
        if not database.host and not config.settings.unix_socket_dir:
            text = "has no host, and unix_socket_dir, where its socket would be, is empty"
            _blame(draft, "databases", name, "", text)
        for entry in database.listen_announce:
            if not entry.partition("=")[0].strip() or "=" not in entry:
                _blame(draft, "databases", name, "listen_announce", f'found "{entry}"', "name=value")
        if database.password and not database.user:
            _doubt(draft, "databases", name, "password", "password is used only together with user")


def _auth(config: Config, draft: ConfigBuilder) -> None:
    settings = config.settings
    look_up = settings.auth_user or any(database.auth_user for database in config.databases.values())
    secrets = any(config.secrets().values())
    if settings.auth_type is not AuthType.TRUST and not (settings.auth_file or secrets or look_up):
        text = f"auth_type is {settings.auth_type}, but nobody has a secret:"
        text += " there is no auth_file, no password in [users] and no auth_user"
        _doubt(draft, "pglido", "", "auth_type", text)
    # A global query that every database replaces is never asked.
    asked = [
        database.auth_query is None
        for database in config.databases.values()
        if (settings.auth_user if database.auth_user is None else database.auth_user)
    ]
    query = settings.auth_query if any(asked) or not config.databases else None
    _look_up(draft, config, "pglido", "", query, settings.auth_dbname)
    for name, database in config.databases.items():
        _look_up(draft, config, "databases", name, database.auth_query, database.auth_dbname)


def _look_up(
    draft: ConfigBuilder, config: Config, scope: Scope, entry: str, query: str | None, database: str | None
) -> None:
    if query is not None and "$1" not in query:
        _doubt(draft, scope, entry, "auth_query", "found no $1, which stands for the user's name")
    if database in ADMIN_DATABASES:
        _blame(draft, scope, entry, "auth_dbname", f'"{database}" is the admin console', "a real database")
    elif database and config.database(database) is None:
        _doubt(draft, scope, entry, "auth_dbname", f'there is no database "{database}"')


_CHECKS: tuple[Callable[[Config, ConfigBuilder], None], ...] = (
    _listening,
    _client_tls,
    _server_tls,
    _files,
    _system,
    _databases,
    _pools,
    _auth,
)
