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


def clients(host: Lifecycle, found: Sequence[ClientConnection]) -> list[Snapshot]:
    """Of clients: what they are, and what is kept for them."""
    return [
        _row("client", [client_size(guest) for guest in found]),
        _row("held", [size for size in map(held_by, found) if size]),
    ]


def servers(host: Lifecycle, found: Sequence[ServerConnection]) -> list[Snapshot]:
    """Of server connections."""
    return [_row("server", [server_size(backend) for backend in found])]


def prepared(host: Lifecycle, found: Sequence[statement_cache.Statement]) -> list[Snapshot]:
    """Of prepared statements."""
    return [_row("prepared_statement", [statement_size(one) for one in found])]


def process(host: Lifecycle, found: object) -> list[Snapshot]:
    """Of the worker as a whole: `process` is all that it has in memory."""
    return [
        MemoryUse("held_in_all", 1, host.budget.total()),
        MemoryUse("cache", sum(map(len, caches())), sum(one.size() for one in caches())),
        _row("buffer", host.pump.buffers()),
        MemoryUse("process", 1, resident()),
    ]


def _row(name: str, sizes: Iterable[int]) -> MemoryUse:
    found = list(sizes)
    return MemoryUse(name, len(found), sum(found))


def client_size(guest: ClientConnection) -> int:
    """Bytes of one client: the connection, its session, its own names of statements, and what waits on either side."""
    listener = guest.listener
    if listener is not None:
        channels = listener.channels if len(listener.channels) > 1 else None
        return _sum(guest, guest.address, guest.inbox, guest.out, guest.notes, listener, listener.own, channels)
    return _sum(guest, guest.address, guest.inbox, guest.out, guest.notes) + (
        _sum(guest.session, guest.session.statements, guest.session.unparsed) if guest.session is not None else 0
    )


def held_by(guest: ClientConnection) -> int:
    """Bytes that are kept for a client, as `max_client_held_bytes` has them: those that it shares among them."""
    return guest.session.held_bytes() if guest.session is not None else 0


def statement_size(statement: statement_cache.Statement) -> int:
    """Bytes of one prepared statement: its text, and what clients were told of it."""
    return _sum(statement, statement.rest, statement.name, *(statement.described or ()))


def server_size(backend: ServerConnection) -> int:
    """Bytes of one server connection, without the statements, which others share."""
    session = backend.session
    return _sum(backend, backend.slot, backend.inbox, backend.out, session, session.replies, session.prepared) + _sum(
        session.prepared.known, *session.prepared.undo_log.left(), session.state.last, backend.reported
    )


def _sum(*things: object) -> int:
    return sum(getsizeof(thing) for thing in things if thing is not None)
