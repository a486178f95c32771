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
from ..session.state import statement_cache
from ..transport.tls_context import describe
from . import memory
from .connections import ClientConnection, ServerConnection, epoch, process_at, socket_name
from .lifecycle import Lifecycle
from .pool_runtime import PoolRuntime
from .pubsub.hub import Hub

# Of how many connections is told in one round: about a millisecond's work.
PORTION = 32


def answer(host: Lifecycle, subject: Subject) -> Iterator[list[Snapshot]]:
    """The rows about `subject`, in portions: others have their turn in between."""
    for members, rows in PARTS[subject]:
        found = list(members(host))
        for at in range(0, len(found), PORTION):
            yield rows(host, found[at : at + PORTION])


def _guests(host: Lifecycle) -> Iterable[ClientConnection]:
    return host.guests.values()


def _backends(host: Lifecycle) -> Iterable[ServerConnection]:
    return host.backends


def _pools(host: Lifecycle) -> Iterable[PoolRuntime]:
    return host.pools.values()


def _once(host: Lifecycle) -> Iterable[Lifecycle]:
    return (host,)


def pools(host: Lifecycle, found: Sequence[PoolRuntime]) -> list[Snapshot]:
    """One row per pool with the counts of this worker."""
    cancelled_of = Counter([backend.live for backend in host.backends if backend.cancels])
    return [_pool(live, cancelled_of[live], time.monotonic()) for live in found]


def _pool(live: PoolRuntime, cancelled: int, now: float) -> PoolSnapshot:
    policy, settings = live.policy, live.settings
    oldest = policy.oldest_wait()
    fresh = [slot for slot in policy.idle.all() if now - slot.since < settings.server_check_delay]
    # Who logs in is no client of the pool yet.
    waiting = policy.line.size - len(policy.logins)
    return PoolSnapshot(
        database=live.key[0],
        user=live.key[1],
        pool_mode=settings.pool_mode.value,
        load_balance_hosts=settings.load_balance_hosts.value if len(settings.hosts) > 1 else None,
        pool_size=settings.pool_size,
        reserve_pool_size=settings.reserve_pool_size,
        cl_active=policy.clients - waiting,
        cl_waiting=waiting,
        cl_active_cancel_req=cancelled,
        sv_active=policy.count(BUSY),
        sv_active_cancel=cancelled,
        sv_being_canceled=cancelled,
        sv_idle=len(fresh),
        sv_used=policy.idle.size - len(fresh),
        sv_tested=policy.count(CHECKING),
        sv_login=policy.count(OPENING),
        maxwait_us=int((now - oldest) * 1e6) if oldest is not None else 0,
    )


def clients(host: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """One row per client, admin clients included; those that are still logging in are left out."""
    return [_client(host, guest) for guest in found if not guest.logging_in and not guest.closed]


def _client(host: Lifecycle, guest: ClientConnection) -> ClientSnapshot:
    now = time.monotonic()
    ticket, session = guest.ticket, guest.session
    waited = now - ticket.since if ticket is not None else 0.0
    address, port = socket_name(guest.fd)
    local, local_port = socket_name(guest.fd, local=True)
    link = guest.server if guest.server is not None else guest.peer
    state = "waiting" if ticket is not None else "active" if link is not None else "idle"
    raw = isinstance(guest.peer, ServerConnection)
    return ClientSnapshot(
        user=guest.user,
        database=guest.database,
        replication="logical" if raw else "none",
        state=state,
        addr=address,
        port=port,
        local_addr=local,
        local_port=local_port,
        connect_time=epoch(guest.born),
        request_time=epoch(guest.asked or guest.rested),
        waited_us=int(waited * 1e6),
        close_needed=int(host.draining),
        ptr=guest.uuid,
        link=link.uuid if isinstance(link, ServerConnection) else "",
        remote_pid=process_at(guest.fd) if address == "unix" else 0,
        tls=describe(guest.tls),
        application_name=_application(guest),
        prepared_statements=len(session.statements or ()) if session is not None else 0,
        id=guest.serial,
        pinned=guest.server.session.state.why() if guest.server is not None else "",
        held_bytes=memory.held_by(guest),
    )


def _application(guest: ClientConnection) -> str:
    if guest.listener is not None:
        return guest.listener.parameters().get("application_name", "")
    return guest.session.settings.values.get("application_name", "") if guest.session is not None else ""


def servers(host: Lifecycle, found: Sequence[ServerConnection]) -> list[Snapshot]:
    """One row per server connection."""
    return [_server(backend) for backend in found if not backend.closed]


def _server(backend: ServerConnection) -> ServerSnapshot:
    session, guest = backend.session, backend.client
    host, port = socket_name(backend.fd)
    local, local_port = socket_name(backend.fd, local=True)
    linked = guest if isinstance(guest, ClientConnection) else backend.peer
    state = "being_canceled" if backend.cancels else STATES[backend.slot.state]
    hub = backend.live.hub
    if hub is not None and hub.listen_connection.backend is backend:
        state = "listen"
    return ServerSnapshot(
        user=backend.live.key[1],
        database=backend.live.key[0],
        replication="logical" if isinstance(backend.peer, ClientConnection) else "none",
        state=state,
        addr=backend.address.rpartition(":")[0] if host == "unix" else host,
        port=int(backend.address.rpartition(":")[2] or 0) if host == "unix" else port,
        local_addr=local,
        local_port=local_port,
        connect_time=epoch(backend.born),
        request_time=epoch(backend.slot.since),
        close_needed=int(backend.slot.doomed),
        ptr=backend.uuid,
        link=linked.uuid if isinstance(linked, ClientConnection) else "",
        remote_pid=backend.pid,
        tls=describe(backend.tls),
        application_name=session.state.settings.values.get("application_name", ""),
        prepared_statements=len(session.prepared.known),
        id=backend.serial,
        pinned=session.state.why(),
    )


def pins(host: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """One row per client that keeps its server between transactions."""
    return [_pin(guest, guest.server) for guest in found if guest.server is not None and guest.server.pinned]


def _pin(guest: ClientConnection, backend: ServerConnection) -> PinSnapshot:
    state = backend.session.state
    return PinSnapshot(
        database=guest.database,
        user=guest.user,
        client=guest.uuid,
        server=backend.uuid,
        remote_pid=backend.pid,
        since=epoch(backend.pinned),
        idle=int(time.monotonic() - guest.rested),
        reason=state.why(),
        statement=state.cause.split(b"\0")[0].decode("utf-8", "replace"),
    )


def stats(host: Lifecycle, found: Sequence[Lifecycle]) -> list[Snapshot]:
    """Cumulative counters, one row per database; times in microseconds."""
    sums: dict[str, Counter[str]] = {}
    for live in host.pools.values():
        sums.setdefault(live.key[0], Counter()).update(_counters(live))
    return [DatabaseCounters(database=name, **counts) for name, counts in sums.items()]


def _counters(live: PoolRuntime) -> dict[str, int]:
    stats, counts = live.stats, live.rules.counts
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


def client_counts(host: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """How many of these clients are let in, and not yet."""
    logging_in = len([guest for guest in found if guest.logging_in])
    return [ListItem("used_clients", len(found) - logging_in), ListItem("login_clients", logging_in)]


def lists(host: Lifecycle, found: Sequence[Lifecycle]) -> list[Snapshot]:
    """Counts of all else: name and number."""
    idle = sum(live.policy.idle.size for live in host.pools.values())
    return [
        ListItem("pools", len(host.pools)),
        ListItem("free_servers", idle),
        ListItem("used_servers", len(host.backends) - idle),
        ListItem("prepared_statements", statement_cache.count()),
    ]


def consoles(host: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """How many of these clients each of the admin databases has."""
    counts = Counter(guest.database for guest in found if guest.console)
    return [DatabaseClients(name, count) for name, count in counts.items()]


def databases(host: Lifecycle, found: Sequence[PoolRuntime]) -> list[Snapshot]:
    """How many clients each database has, a row for each pool."""
    return [DatabaseClients(live.key[0], live.policy.clients) for live in found]


def listen(host: Lifecycle, found: Sequence[PoolRuntime]) -> list[Snapshot]:
    """One row per pool in which clients of this worker have listened."""
    return [_hub(live.hub) for live in found if live.hub is not None]


def _hub(hub: Hub) -> ListenSnapshot:
    tally, backend = hub.tally, hub.listen_connection.backend
    return ListenSnapshot(
        database=hub.live.key[0],
        user=hub.live.key[1],
        clients=len(hub.guests),
        channels=[name.decode("utf-8", "replace") for name in hub.topics],
        connections=int(backend is not None),
        waiting=len(hub.waiting),
        received=tally.received,
        delivered=tally.delivered,
        listens=tally.listens,
        unlistens=tally.unlistens,
        slow_clients=tally.slow,
        reconnects=tally.reconnects,
    )


def tls_of(guest: ClientConnection) -> str:
    """What SHOW CLIENTS says of a client's TLS."""
    return describe(guest.tls)


# By what is asked: the things that are told about, and the rows of a portion of them. Counts of one name are added up.
Part = tuple[Callable[[Lifecycle], Iterable[Any]], Callable[[Lifecycle, Any], list[Snapshot]]]
PARTS: dict[Subject, tuple[Part, ...]] = {
    Subject.POOLS: ((_pools, pools),),
    Subject.CLIENTS: ((_guests, clients),),
    Subject.SERVERS: ((_backends, servers),),
    Subject.STATS: ((_once, stats),),
    Subject.LISTS: ((_guests, client_counts), (_once, lists)),
    Subject.DATABASES: ((_guests, consoles), (_pools, databases)),
    Subject.MEM: (
        (_guests, memory.clients),
        (_backends, memory.servers),
        (lambda _: statement_cache.alive(), memory.prepared),
        (_once, memory.process),
    ),
    Subject.PINS: ((_guests, pins),),
    Subject.LISTEN: ((_pools, listen),),
}
