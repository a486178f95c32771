"""What a worker tells of itself: the rows behind SHOW POOLS, CLIENTS, SERVERS, STATS and the others."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..ipc.snapshot import (
    ClientSnapshot,
    DatabaseClients,
    DatabaseCounters,
    ListenSnapshot,
    ListItem,
    PinSnapshot,
    PoolSnapshot,
    ServerSnapshot,
    Snapshot,
    Subject,
)
from ..pooling.states import BUSY, CHECKING, OPENING, STATES
from ..relay.stage import RAW
from ..session.state import statement_cache
from ..transport.tls_context import describe
from . import memory
from .cancel_keys import pid_of
from .connections import ClientConnection, ServerConnection, epoch, process_at, socket_name
from .lifecycle import Lifecycle
from .pool_runtime import PoolRuntime
from .pubsub.hub import Hub
from .standing import ACTIVE, IN_TRANSACTION, KEEPING, QUEUED, standing

# What SHOW CLIENTS calls the state of a client; all others are idle.
STATE_WORDS = {QUEUED: "waiting", ACTIVE: "active", IN_TRANSACTION: "active", KEEPING: "active", RAW: "active"}
# Of how many connections is told in one round: about a millisecond's work.
PORTION = 32


def answer(lifecycle: Lifecycle, subject: Subject) -> Iterator[list[Snapshot]]:
    """The rows about `subject`, in portions: others have their turn in between."""
    for members, rows in PARTS[subject]:
        found = list(members(lifecycle))
        for at in range(0, len(found), PORTION):
            yield rows(lifecycle, found[at : at + PORTION])


def _clients(lifecycle: Lifecycle) -> Iterable[ClientConnection]:
    return lifecycle.clients.values()


def _servers(lifecycle: Lifecycle) -> Iterable[ServerConnection]:
    return lifecycle.servers


def _pools(lifecycle: Lifecycle) -> Iterable[PoolRuntime]:
    return lifecycle.pools.values()


def _hubs(lifecycle: Lifecycle) -> Iterable[Hub]:
    return [lifecycle.hubs[runtime] for runtime in lifecycle.pools.values() if runtime in lifecycle.hubs]


def _once(lifecycle: Lifecycle) -> Iterable[Lifecycle]:
    return (lifecycle,)


def pools(lifecycle: Lifecycle, found: Sequence[PoolRuntime]) -> list[Snapshot]:
    """One row per pool with the counts of this worker."""
    cancelled_of = Counter([server.runtime for server in lifecycle.servers if server.cancels])
    return [_pool(runtime, cancelled_of[runtime], time.monotonic()) for runtime in found]


def _pool(runtime: PoolRuntime, cancelled: int, now: float) -> PoolSnapshot:
    pool, settings = runtime.pool, runtime.settings
    oldest = pool.oldest_wait()
    fresh = [slot for slot in pool.idle.all() if now - slot.since < settings.server_check_delay]
    # Who logs in is no client of the pool yet.
    waiting = pool.line.size - len(pool.logins)
    return PoolSnapshot(
        database=runtime.key[0],
        user=runtime.key[1],
        pool_mode=settings.pool_mode.value,
        load_balance_hosts=settings.load_balance_hosts.value if len(settings.hosts) > 1 else None,
        pool_size=settings.pool_size,
        reserve_pool_size=settings.reserve_pool_size,
        cl_active=pool.clients - waiting,
        cl_waiting=waiting,
        cl_active_cancel_req=cancelled,
        sv_active=pool.count(BUSY),
        sv_active_cancel=cancelled,
        sv_being_canceled=cancelled,
        sv_idle=len(fresh),
        sv_used=pool.idle.size - len(fresh),
        sv_tested=pool.count(CHECKING),
        sv_login=pool.count(OPENING),
        maxwait_us=int((now - oldest) * 1e6) if oldest is not None else 0,
    )


def clients(lifecycle: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """One row per client, admin clients included; those that are still logging in are left out."""
    return [_client(lifecycle, client) for client in found if not client.logging_in and not client.closed]


def _client(lifecycle: Lifecycle, client: ClientConnection) -> ClientSnapshot:
    now = time.monotonic()
    ticket, session = client.ticket, client.session
    waited = now - ticket.since if ticket is not None else 0.0
    address, port = socket_name(client.fd)
    local, local_port = socket_name(client.fd, local=True)
    link = client.peer
    raw = client.stage == RAW and isinstance(link, ServerConnection)
    return ClientSnapshot(
        user=client.user,
        database=client.database,
        replication="logical" if raw else "none",
        state=STATE_WORDS.get(standing(client), "idle"),
        addr=address,
        port=port,
        local_addr=local,
        local_port=local_port,
        connect_time=epoch(client.born),
        request_time=epoch(client.asked or client.rested),
        waited_us=int(waited * 1e6),
        close_needed=int(lifecycle.draining),
        ptr=client.uuid,
        link=link.uuid if isinstance(link, ServerConnection) else "",
        remote_pid=process_at(client.fd) if address == "unix" else 0,
        tls=describe(client.tls),
        application_name=_application(client),
        prepared_statements=len(session.statements or ()) if session is not None else 0,
        id=pid_of(lifecycle.index, client.serial),
        pinned=client.server.session.state.why() if client.server is not None else "",
        held_bytes=memory.held_by(client),
    )


def _application(client: ClientConnection) -> str:
    if client.listen_only is not None:
        return client.listen_only.parameters().get("application_name", "")
    return client.session.settings.values.get("application_name", "") if client.session is not None else ""


def servers(lifecycle: Lifecycle, found: Sequence[ServerConnection]) -> list[Snapshot]:
    """One row per server connection."""
    return [_server(lifecycle, server) for server in found if not server.closed]


def _server(lifecycle: Lifecycle, server: ServerConnection) -> ServerSnapshot:
    session = server.session
    address, port = socket_name(server.fd)
    local, local_port = socket_name(server.fd, local=True)
    linked = server.peer if isinstance(server.peer, ClientConnection) else None
    state = "being_canceled" if server.cancels else STATES[server.slot.state]
    hub = lifecycle.hubs.get(server.runtime)
    if hub is not None and hub.listen_connection.server is server:
        state = "listen"
    return ServerSnapshot(
        user=server.runtime.key[1],
        database=server.runtime.key[0],
        replication="logical" if linked is not None and linked.stage == RAW else "none",
        state=state,
        addr=server.address.rpartition(":")[0] if address == "unix" else address,
        port=int(server.address.rpartition(":")[2] or 0) if address == "unix" else port,
        local_addr=local,
        local_port=local_port,
        connect_time=epoch(server.born),
        request_time=epoch(server.slot.since),
        close_needed=int(server.slot.doomed),
        ptr=server.uuid,
        link=linked.uuid if linked is not None else "",
        remote_pid=server.pid,
        tls=describe(server.tls),
        application_name=session.state.settings.values.get("application_name", ""),
        prepared_statements=len(session.prepared.known),
        id=server.serial,
        pinned=session.state.why(),
    )


def pins(lifecycle: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """One row per client that keeps its server between transactions."""
    return [_pin(client, client.server) for client in found if client.server is not None and client.server.pinned]


def _pin(client: ClientConnection, server: ServerConnection) -> PinSnapshot:
    state = server.session.state
    return PinSnapshot(
        database=client.database,
        user=client.user,
        client=client.uuid,
        server=server.uuid,
        remote_pid=server.pid,
        since=epoch(server.pinned),
        idle=int(time.monotonic() - client.rested),
        reason=state.why(),
        statement=state.cause.split(b"\0")[0].decode("utf-8", "replace"),
    )


def stats(lifecycle: Lifecycle, found: Sequence[Lifecycle]) -> list[Snapshot]:
    """Cumulative counters, one row per database; times in microseconds."""
    sums: dict[str, Counter[str]] = {}
    for runtime in lifecycle.pools.values():
        sums.setdefault(runtime.key[0], Counter()).update(_counters(runtime))
    return [DatabaseCounters(database=name, **counts) for name, counts in sums.items()]


def _counters(runtime: PoolRuntime) -> dict[str, int]:
    stats, counts = runtime.stats, runtime.rules.counts
    return {
        "server_assignment_count": stats.assignments,
        "xact_count": stats.transactions,
        "query_count": stats.queries,
        "received": stats.received,
        "sent": stats.sent,
        "xact_time": int(stats.transaction_time * 1e6),
        "query_time": int(stats.query_time * 1e6),
        "wait_time": int(stats.wait_time * 1e6),
        "client_parse_count": counts.client_parses,
        "server_parse_count": counts.server_parses,
        "bind_count": counts.binds,
        "client_login_count": stats.logins,
    }


def client_counts(lifecycle: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """How many of these clients are let in, and not yet."""
    logging_in = len([client for client in found if client.logging_in])
    return [ListItem("used_clients", len(found) - logging_in), ListItem("login_clients", logging_in)]


def lists(lifecycle: Lifecycle, found: Sequence[Lifecycle]) -> list[Snapshot]:
    """Counts of all else: name and number."""
    idle = sum(runtime.pool.idle.size for runtime in lifecycle.pools.values())
    return [
        ListItem("pools", len(lifecycle.pools)),
        ListItem("free_servers", idle),
        ListItem("used_servers", len(lifecycle.servers) - idle),
        ListItem("prepared_statements", statement_cache.count()),
    ]


def consoles(lifecycle: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """How many of these clients each of the admin databases has."""
    counts = Counter(client.database for client in found if client.console)
    return [DatabaseClients(name, count) for name, count in counts.items()]


def databases(lifecycle: Lifecycle, found: Sequence[PoolRuntime]) -> list[Snapshot]:
    """How many clients each database has, a row for each pool."""
    return [DatabaseClients(runtime.key[0], runtime.pool.clients) for runtime in found]


def listen(lifecycle: Lifecycle, found: Sequence[Hub]) -> list[Snapshot]:
    """One row per pool in which clients of this worker have listened."""
    return [_hub(hub) for hub in found]


def _hub(hub: Hub) -> ListenSnapshot:
    counts, server = hub.counts, hub.listen_connection.server
    return ListenSnapshot(
        database=hub.runtime.key[0],
        user=hub.runtime.key[1],
        clients=len(hub.clients),
        channels=[name.decode("utf-8", "replace") for name in hub.channels],
        connections=int(server is not None),
        waiting=len(hub.waiting),
        received=counts.received,
        delivered=counts.delivered,
        listens=counts.listens,
        unlistens=counts.unlistens,
        slow_clients=counts.slow,
        reconnects=counts.reconnects,
    )


# By what is asked: the things that are told about, and the rows of a portion of them. Counts of one name are added up.
Part = tuple[Callable[[Lifecycle], Iterable[Any]], Callable[[Lifecycle, Any], list[Snapshot]]]
PARTS: dict[Subject, tuple[Part, ...]] = {
    Subject.POOLS: ((_pools, pools),),
    Subject.CLIENTS: ((_clients, clients),),
    Subject.SERVERS: ((_servers, servers),),
    Subject.STATS: ((_once, stats),),
    Subject.LISTS: ((_clients, client_counts), (_once, lists)),
    Subject.DATABASES: ((_clients, consoles), (_pools, databases)),
    Subject.MEM: (
        (_clients, memory.clients),
        (_servers, memory.servers),
        (lambda _: statement_cache.alive(), memory.prepared),
        (_once, memory.process),
    ),
    Subject.PINS: ((_clients, pins),),
    Subject.LISTEN: ((_hubs, listen),),
}
