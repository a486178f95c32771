"""What a worker tells of itself: typed rows, of which SHOW is a view.

Rows of one pool or one database come from each worker that has it; whoever shows them adds them up. Times are seconds
since 1970 where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec


class Subject(StrEnum):
    """What the control process may ask a worker about."""

    POOLS = "pools"
    CLIENTS = "clients"
    SERVERS = "servers"
    STATS = "stats"
    LISTS = "lists"
    DATABASES = "databases"
    MEM = "mem"
    PINS = "pins"
    LISTEN = "listen"


class Row(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all rows: encoded as an array with the class name first."""


class PoolSnapshot(Row, frozen=True):
    """One pool: its clients and servers by state, as SHOW POOLS has them; `maxwait_us` is in microseconds."""

    database: str
    user: str
    pool_mode: str
    load_balance_hosts: str | None = None
    pool_size: int = 0
    reserve_pool_size: int = 0
    cl_active: int = 0
    cl_waiting: int = 0
    cl_active_cancel_req: int = 0
    cl_waiting_cancel_req: int = 0
    sv_active: int = 0
    sv_active_cancel: int = 0
    sv_being_canceled: int = 0
    sv_idle: int = 0
    sv_used: int = 0
    sv_tested: int = 0
    sv_login: int = 0
    maxwait_us: int = 0


class ConnectionSnapshot(Row, frozen=True, kw_only=True):
    """One connection, as SHOW CLIENTS and SHOW SERVERS have it; `link` is the `ptr` of the other end.

    A client has been in line for `waited_us` microseconds; servers wait for nothing, and nothing is kept for them.
    """

    user: str
    database: str
    state: str
    addr: str
    port: int
    ptr: str
    id: int
    replication: str = "none"
    local_addr: str = ""
    local_port: int = 0
    connect_time: float = 0.0
    request_time: float = 0.0
    close_needed: int = 0
    link: str = ""
    remote_pid: int = 0
    tls: str = ""
    application_name: str = ""
    prepared_statements: int = 0
    pinned: str = ""
    waited_us: int = 0
    held_bytes: int = 0


class ClientSnapshot(ConnectionSnapshot, frozen=True, kw_only=True):
    """One client."""


class ServerSnapshot(ConnectionSnapshot, frozen=True, kw_only=True):
    """One server connection."""


class PinSnapshot(Row, frozen=True, kw_only=True):
    """A client that keeps its server between transactions, since when, and why; `idle` is in seconds."""

    database: str
    user: str
    client: str
    server: str
    remote_pid: int
    since: float
    idle: int
    reason: str
    statement: str


class DatabaseCounters(Row, frozen=True, kw_only=True):
    """What has happened in one database since the worker began; times are in microseconds."""

    database: str
    server_assignment_count: int = 0
    xact_count: int = 0
    query_count: int = 0
    received: int = 0
    sent: int = 0
    xact_time: int = 0
    query_time: int = 0
    wait_time: int = 0
    client_parse_count: int = 0
    server_parse_count: int = 0
    bind_count: int = 0
    client_login_count: int = 0


class ListItem(Row, frozen=True):
    """How many there are of what SHOW LISTS calls `name`; those of one name are added up."""

    name: str
    items: int


class DatabaseClients(Row, frozen=True):
    """Clients of a database; those of one name are added up."""

    database: str
    clients: int


class MemoryUse(Row, frozen=True):
    """How many things there are of a kind, and their bytes; those of one name are added up."""

    name: str
    used: int
    memtotal: int


class ListenSnapshot(Row, frozen=True, kw_only=True):
    """LISTEN in one pool: who listens to what, and what came and went."""

    database: str
    user: str
    channels: list[str]
    connections: int = 0
    clients: int = 0
    waiting: int = 0
    received: int = 0
    delivered: int = 0
    listens: int = 0
    unlistens: int = 0
    slow_clients: int = 0
    reconnects: int = 0


Snapshot = (
    PoolSnapshot
    | ClientSnapshot
    | ServerSnapshot
    | PinSnapshot
    | DatabaseCounters
    | ListItem
    | DatabaseClients
    | MemoryUse
    | ListenSnapshot
)
# The rows of each worker, by its index.
Answers = Mapping[int, Sequence[Snapshot]]

Kind = TypeVar("Kind", bound=Row)


def of_kind(kind: type[Kind], rows: Iterable[Row]) -> Iterator[Kind]:
    """Those of one kind."""
    return (row for row in rows if isinstance(row, kind))


def from_all(kind: type[Kind], answers: Answers) -> Iterator[Kind]:
    """Those of one kind, of all workers."""
    return (row for rows in answers.values() for row in of_kind(kind, rows))
