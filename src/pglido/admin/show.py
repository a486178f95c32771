"""The SHOW commands: a table of names, columns and where the rows come from.

Columns are those of PgBouncer 1.25 in its order, pglido's own after them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from msgspec.structs import asdict

from .. import __version__
from ..config.model import ADMIN_DATABASES, Database, rows
from ..config.values import render
from ..ipc.snapshot import (
    Answers,
    ClientSnapshot,
    ConnectionSnapshot,
    DatabaseClients,
    ListenSnapshot,
    ListItem,
    MemoryUse,
    PinSnapshot,
    PoolSnapshot,
    ServerSnapshot,
    Snapshot,
    Subject,
    from_all,
    of_kind,
)
from ..protocol.rows import TEXT, Column, Rows, Value
from .columns import Show, int4, int8, text
from .control_api import ControlApi
from .show_stats import STATISTICS

# Monitoring picks the columns that it expects by the first version number it finds here.
PGBOUNCER = "1.25.0"
VERSION = f"PgBouncer {PGBOUNCER} compatible (pglido {__version__})"

# ---- pools, clients, servers: what the workers tell

_POOL_COUNTS = (
    "cl_active",
    "cl_waiting",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_idle",
    "sv_used",
    "sv_tested",
    "sv_login",
)
POOLS = (
    text("database", "user")
    + int4(*_POOL_COUNTS, "maxwait", "maxwait_us")
    + text("pool_mode", "load_balance_hosts")
    + int4("pool_size", "reserve_pool_size", "leased")
)


def _pools(control: ControlApi, answers: Answers) -> Rows:
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for row in from_all(PoolSnapshot, answers):
        key = (row.database, row.user)
        sums = merged.setdefault(key, {**asdict(row), **dict.fromkeys(_POOL_COUNTS, 0)})
        for name in _POOL_COUNTS:
            sums[name] += getattr(row, name)
        sums["maxwait_us"] = max(sums["maxwait_us"], row.maxwait_us)
    for key, sums in merged.items():
        sums["maxwait"], sums["maxwait_us"] = divmod(sums["maxwait_us"], 1_000_000)
        sums["leased"] = control.broker.held(key)
    return _pick(POOLS, (merged[key] for key in sorted(merged)))


CONNECTIONS = (
    text("type", "user", "database", "replication", "state", "addr")
    + int4("port")
    + text("local_addr")
    + int4("local_port")
    + text("connect_time", "request_time")
    + int4("wait", "wait_us", "close_needed")
    + text("ptr", "link")
    + int4("remote_pid")
    + text("tls", "application_name")
    + int4("prepared_statements")
    + int8("id")
    + int4("worker")
    + text("pinned")
    + int8("held_bytes")
)


def _connections(kind: type[ConnectionSnapshot], letter: str) -> Callable[[ControlApi, Answers], Rows]:
    def rows(control: ControlApi, answers: Answers) -> Rows:
        found = ((worker, row) for worker, part in answers.items() for row in of_kind(kind, part))
        return _pick(CONNECTIONS, (_connection(letter, worker, row) for worker, row in found))

    return rows


def _connection(letter: str, worker: int, row: ConnectionSnapshot) -> dict[str, Any]:
    wait, wait_us = divmod(row.waited_us, 1_000_000)
    times = {"connect_time": timestamp(row.connect_time), "request_time": timestamp(row.request_time)}
    return {**asdict(row), **times, "type": letter, "worker": worker, "wait": wait, "wait_us": wait_us}


_LISTEN_COUNTS = (
    *("connections", "clients", "waiting", "received", "delivered"),
    *("listens", "unlistens", "slow_clients", "reconnects"),
)
LISTEN = text("database", "user") + int4("channels") + int8(*_LISTEN_COUNTS)


def _listen(control: ControlApi, answers: Answers) -> Rows:
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    channels: dict[tuple[str, str], set[str]] = {}
    for row in from_all(ListenSnapshot, answers):
        key = (row.database, row.user)
        sums = merged.setdefault(key, {**asdict(row), **dict.fromkeys(_LISTEN_COUNTS, 0)})
        for name in _LISTEN_COUNTS:
            sums[name] += getattr(row, name)
        # Several workers may listen to the same.
        channels.setdefault(key, set()).update(row.channels)
        sums["channels"] = len(channels[key])
    return _pick(LISTEN, (merged[key] for key in sorted(merged)))


# ---- databases, users, settings: what the configuration says

DATABASES = (
    text("name", "host")
    + int4("port")
    + text("database", "force_user")
    + int4("pool_size", "min_pool_size", "reserve_pool_size", "server_lifetime")
    + text("pool_mode", "load_balance_hosts")
    + int4(
        "max_connections",
        "current_connections",
        "max_client_connections",
        "current_client_connections",
        "paused",
        "disabled",
    )
)


def _databases(control: ControlApi, answers: Answers) -> Rows:
    clients: dict[str, int] = dict.fromkeys([*control.config.databases, *ADMIN_DATABASES], 0)
    for row in from_all(DatabaseClients, answers):
        clients[row.database] = clients.get(row.database, 0) + row.clients
    found: list[list[Value]] = []
    for name in sorted(clients.keys() - {"*"}):
        database = control.config.database(name)
        if name in ADMIN_DATABASES:
            found.append(_admin_database(control, name, clients[name]))
        elif database is not None:
            found.append(_database(control, name, database, clients[name]))
    return found


def _admin_database(control: ControlApi, name: str, clients: int) -> list[Value]:
    """The row of a console's database: it has clients, a limit on them, and no servers."""
    settings = control.settings
    shown: dict[str, Value] = {
        "name": name,
        "port": settings.listen_port,
        "database": name,
        "force_user": name,
        "pool_mode": "statement",
        "max_client_connections": settings.max_db_client_connections,
        "current_client_connections": clients,
    }
    return [shown.get(column.name, None if column.type == TEXT else 0) for column in DATABASES]


def _database(control: ControlApi, name: str, database: Database, clients: int) -> list[Value]:
    def effective(key: str, of: str = "") -> int:
        own = getattr(database, key)
        return int(getattr(control.settings, of or key) if own is None else own)

    return [
        name,
        ",".join(database.host) or None,
        database.port[0],
        database.dbname or name,
        database.user or None,
        effective("pool_size", "default_pool_size"),
        effective("min_pool_size"),
        effective("reserve_pool_size"),
        effective("server_lifetime"),
        None if database.pool_mode is None else str(database.pool_mode),
        str(database.load_balance_hosts),
        effective("max_db_connections"),
        control.broker.database_total(name),
        effective("max_db_client_connections"),
        clients,
        int(control.operations.gates.pauses(name)),
        int(name in control.operations.gates.disabled),
    ]


USERS = (
    text("name", "pool_size", "reserve_pool_size", "pool_mode")
    + int4(
        "max_user_connections",
        "current_connections",
        "max_user_client_connections",
        "current_client_connections",
    )
)


def _users(control: ControlApi, answers: Answers) -> Rows:
    connected = Counter(row.user for row in from_all(ClientSnapshot, answers))
    found: list[list[Value]] = []
    settings = control.settings
    for name in sorted(control.config.users.keys() | control.secrets.keys()):
        user = control.config.users.get(name)
        servers = user.max_user_connections if user else None
        clients = user.max_user_client_connections if user else None
        mode = user.pool_mode if user else None
        found.append(
            [
                name,
                user.pool_size if user else None,
                user.reserve_pool_size if user else None,
                None if mode is None else str(mode),
                settings.max_user_connections if servers is None else servers,
                control.broker.user_total(name),
                settings.max_user_client_connections if clients is None else clients,
                connected[name],
            ]
        )
    return found


def _config(control: ControlApi, answers: Answers) -> Rows:
    return [
        [
            name,
            render(field, getattr(control.settings, name)),
            render(field, field.default),
            "yes" if field.row.reload else "no",
            control.in_file.get(name),
        ]
        for name, field in sorted(rows().items())
    ]


# ---- the process

LISTS = (
    "databases",
    "users",
    "peers",
    "pools",
    "peer_pools",
    "free_clients",
    "used_clients",
    "login_clients",
    "free_servers",
    "used_servers",
    "dns_names",
    "dns_zones",
    "dns_queries",
    "dns_pending",
)


def _lists(control: ControlApi, answers: Answers) -> Rows:
    items = dict.fromkeys(LISTS, 0)
    for row in from_all(ListItem, answers):
        if row.name in items:
            items[row.name] += row.items
    items |= {
        "databases": len(control.config.databases),
        "users": len(control.config.users.keys() | control.secrets.keys()),
        "pools": len({(row.database, row.user) for row in control.broker.rows()}),
    }
    return [[name, items[name]] for name in LISTS]


def _state(control: ControlApi, answers: Answers) -> Rows:
    running, paused = control.state in ("starting", "running"), control.operations.gates.all_paused
    return [
        ["active", "yes" if running and not paused else "no"],
        ["paused", "yes" if paused else "no"],
        ["suspended", "no"],
        ["shutting_down", "no" if running else "yes"],
    ]


def _version(control: ControlApi, answers: Answers) -> Rows:
    return [[VERSION]]


MEM = text("name") + int4("size", "used", "free") + int8("memtotal")


def _mem(control: ControlApi, answers: Answers) -> Rows:
    used: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in from_all(MemoryUse, answers):
        used[row.name] += row.used
        total[row.name] += row.memtotal
    return [[name, total[name] // max(1, used[name]), used[name], 0, total[name]] for name in used]


PINS = (
    text("database", "user", "client", "server")
    + int4("remote_pid")
    + text("since")
    + int4("idle")
    + text("reason", "statement")
)


def _pins(control: ControlApi, answers: Answers) -> Rows:
    found = sorted(from_all(PinSnapshot, answers), key=lambda row: row.since)
    return _pick(PINS, [{**asdict(row), "since": timestamp(row.since)} for row in found])


WORKERS = (
    int4("worker", "pid")
    + text("state", "started")
    + int4("restarts", "crashes", "clients", "logins", "servers", "leases")
    + int8("accepted")
    + int4("silent")
    + int8("memory")
    + int4("bugs")
)


def _workers(control: ControlApi, answers: Answers) -> Rows:
    leases: dict[int, int] = {}
    for row in control.broker.rows():
        leases[row.worker] = leases.get(row.worker, 0) + row.held
    # NULL for a worker that does not answer.
    logins = {worker: _sum(part, "login_clients") for worker, part in answers.items()}
    servers = {worker: _sum(part, "free_servers", "used_servers") for worker, part in answers.items()}
    return [
        [
            worker.index,
            worker.pid,
            worker.state,
            timestamp(worker.started),
            worker.restarts,
            worker.crashes,
            worker.clients,
            logins.get(worker.index),
            servers.get(worker.index),
            leases.get(worker.index, 0),
            worker.accepted,
            worker.silent,
            worker.memory,
            worker.bugs,
        ]
        for worker in control.workers()
    ]


def _sum(part: Iterable[Snapshot], *names: str) -> int:
    """The sums over all workers of these items of SHOW LISTS."""
    return sum(row.items for row in of_kind(ListItem, part) if row.name in names)


LEASES = text("database", "user") + int4("worker", "held", "wanted") + int8("wait_us")


def _leases(control: ControlApi, answers: Answers) -> Rows:
    now = monotonic()
    return [
        [
            row.database,
            row.user,
            row.worker,
            row.held,
            row.wanted,
            0 if row.since is None else max(0, int((now - row.since) * 1_000_000)),
        ]
        for row in control.broker.rows()
    ]


SHOWS: dict[str, Show] = {
    "CLIENTS": Show(CONNECTIONS, _connections(ClientSnapshot, "C"), Subject.CLIENTS),
    "CONFIG": Show(text("key", "value", "default", "changeable", "in_file"), _config),
    "DATABASES": Show(DATABASES, _databases, Subject.DATABASES),
    "LEASES": Show(LEASES, _leases),
    "LISTEN": Show(LISTEN, _listen, Subject.LISTEN),
    "LISTS": Show(text("list") + int4("items"), _lists, Subject.LISTS),
    "MEM": Show(MEM, _mem, Subject.MEM),
    "PINS": Show(PINS, _pins, Subject.PINS),
    "POOLS": Show(POOLS, _pools, Subject.POOLS),
    "SERVERS": Show(CONNECTIONS, _connections(ServerSnapshot, "S"), Subject.SERVERS),
    "STATE": Show(text("key", "value"), _state),
    "USERS": Show(USERS, _users, Subject.CLIENTS),
    "VERSION": Show(text("version"), _version),
    "WORKERS": Show(WORKERS, _workers, Subject.LISTS),
    **STATISTICS,
}


async def rows_of(show: Show, control: ControlApi) -> tuple[Rows, set[int]]:
    """The rows of a SHOW, after asking the workers if it needs them, and the workers that run but did not answer."""
    if show.asks is None:
        return show.rows(control, {}), set()
    asked = control.running()
    answers: Answers = {}
    if show.asks is Subject.STATS:
        answered = await control.refresh_stats()
    else:
        answers = await control.ask(show.asks)
        answered = set(answers)
    return show.rows(control, answers), (asked & control.running()) - answered


def timestamp(epoch: float | None) -> str | None:
    """A time as PgBouncer writes it."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if epoch else None


def _pick(columns: Sequence[Column], found: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows as dicts to rows in the order of the columns; a missing value is NULL."""
    return [[row.get(column.name) for column in columns] for row in found]
