"""What things cost, for SHOW MEM: bytes of the objects that there are now, of each kind.

Rows of one name are added up.
"""

from collections.abc import Iterable, Sequence
from sys import getsizeof

from ..cache import caches
from ..ipc.process_memory import resident
from ..ipc.snapshot import MemoryUse, Snapshot
from ..session.state import statement_cache
from .connections import ClientConnection, ServerConnection
from .lifecycle import Lifecycle


def clients(lifecycle: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """Of clients: what they are, and what is kept for them."""
    return [
        _row("client", [client_size(client) for client in found]),
        _row("held", [size for size in map(held_by, found) if size]),
    ]


def servers(lifecycle: Lifecycle, found: Sequence[ServerConnection]) -> list[Snapshot]:
    """Of server connections."""
    return [_row("server", [server_size(server) for server in found])]


def prepared(lifecycle: Lifecycle, found: Sequence[statement_cache.Statement]) -> list[Snapshot]:
    """Of prepared statements."""
    return [_row("prepared_statement", [statement_size(one) for one in found])]


def process(lifecycle: Lifecycle, found: object) -> list[Snapshot]:
    """Of the worker as a whole: `process` is all that it has in memory."""
    return [
        MemoryUse("held_in_all", 1, lifecycle.budget.total()),
        MemoryUse("cache", sum(map(len, caches())), sum(one.size() for one in caches())),
        _row("buffer", lifecycle.transport.buffers()),
        MemoryUse("process", 1, resident()),
    ]


def _row(name: str, sizes: Iterable[int]) -> MemoryUse:
    found = list(sizes)
    return MemoryUse(name, len(found), sum(found))


def client_size(client: ClientConnection) -> int:
    """Bytes of one client: the connection, its session, its own names of statements, and what waits on either side."""
    listen_only = client.listen_only
    if listen_only is not None:
        channels = listen_only.channels if len(listen_only.channels) > 1 else None
        more = (listen_only, listen_only.responder, listen_only.own, channels)
        return _sum(client, client.address, client.inbox, client.out, client.notes, *more)
    return _sum(client, client.address, client.inbox, client.out, client.notes) + (
        _sum(client.session, client.session.statements, client.session.unparsed) if client.session is not None else 0
    )


def held_by(client: ClientConnection) -> int:
    """Bytes that are kept for a client, as `max_client_held_bytes` has them: those that it shares among them."""
    return client.session.held_bytes() if client.session is not None else 0


def statement_size(statement: statement_cache.Statement) -> int:
    """Bytes of one prepared statement: its text, and what clients were told of it."""
    return _sum(statement, statement.rest, statement.name, *(statement.described or ()))


def server_size(server: ServerConnection) -> int:
    """Bytes of one server connection, without the statements, which others share."""
    session = server.session
    return _sum(server, server.slot, server.inbox, server.out, session, session.replies, session.prepared) + _sum(
        session.prepared.known, *session.prepared.undo_log.left(), session.state.last, server.reported
    )


def _sum(*things: object) -> int:
    return sum(getsizeof(thing) for thing in things if thing is not None)
