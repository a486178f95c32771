"""The two kinds of connection as a worker knows them, and how they are named. Compiled only (Cython)."""

import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.string import memcpy

from ..log import who
from ..pooling.pool import Pool, ServerSlot
from ..pooling.queue import Ticket
from ..pooling.stats import Stats
from ..relay.links import ClientLink, ServerLink
from ..transport.connect import Address
from ..transport.connection import UNSET, Link
from ..transport.inline_task import InlineTask

if TYPE_CHECKING:
    from ..session.client.listen_only import ListenOnlySession
    from ..transport.tls_record import TlsRecords
    from .defaults import SessionDefaults
    from .listener_security import ListenerSecurity
    from .login.scram_login import ScramLogin
    from .pool_runtime import PoolRuntime

_EPOCH = time.time() - time.monotonic()
# Version 8 and variant 10 of RFC 9562: 60 random bits, and 62 for the serial, of which 48 are ever used.
_SAME = "-".join([os.urandom(4).hex(), os.urandom(2).hex(), "8" + os.urandom(2).hex()[:3], "8000", "0" * 12]).encode()
UUID_SIZE = 36
HEX = b"0123456789abcdef"


def epoch(monotonic: float) -> float:
    """A monotonic time as seconds since 1970."""
    return _EPOCH + monotonic


def put_uuid(text: Any, serial: int) -> None:
    """Write the UUID of this worker's connection number `serial`: version 8 (RFC 9562), random per process."""
    at = UUID_SIZE
    memcpy(text, PyBytes_AS_STRING(_SAME), UUID_SIZE)
    while serial:
        at -= 1
        text[at] = HEX[serial & 15]
        serial >>= 4


def uuid_of(serial: int) -> str:
    """The UUID of this worker's connection number `serial`."""
    text = cython.declare(cython.char[36])
    put_uuid(text, serial)
    uuid: str = text[:UUID_SIZE].decode("ascii")
    return uuid


PEER_CREDENTIALS = struct.Struct("iII")  # struct ucred: process, user, group

class ConsoleLink(Link):
    """The near end of an admin client's relay to the control process; `database` is the admin database it named."""

    def __init__(self, fd: int, database: str) -> None:
        super().__init__(fd)
        self.database = database


class ClientConnection(ClientLink):
    """A client connection of this worker.

    `known_as` is what log lines say of it besides its number and address, once that is known; `listener` is what holds
    for the socket that it came in by; `declined` is the kind of encryption that it was refused, 0 for none; `listens`:
    the pool's hub knows it; `listen_only` is its session where the database is for LISTEN only; `period`,
    `generation`: see `Pool`.
    `session_defaults` is what its session began with, `fitted` what the server began with that it had last.
    """

    if TYPE_CHECKING:
        server: "ServerConnection | None"
        listener: ListenerSecurity
        minor: int
        runtime: PoolRuntime | None
        pool: Pool
        ticket: Ticket | None
        login: InlineTask | None
        proving: ScramLogin | None
        handshake: TlsRecords | None
        cancel_wanted: bool
        period: int
        hears: bool
        declined: int
        listen_only: ListenOnlySession | None
        generation: int
        session_defaults: SessionDefaults | None
        fitted: SessionDefaults | None

    def __init__(self, fd: int, serial: int, address: str, now: float) -> None:
        self.fd = fd
        self.serial = serial
        self.address = address
        self.born = now
        self.rested = now
        self.user = ""
        self.claims: tuple[int, ...] = ()
        self.known_as: bytes | None = None

    @property
    def uuid(self) -> str:
        """The name of this connection in logs and errors."""
        return uuid_of(self.serial)

    @property
    def database(self) -> str:
        """The database as the client named it, empty before login."""
        if self.runtime is not None:
            return self.runtime.settings.database
        return self.peer.database if isinstance(self.peer, ConsoleLink) else ""

    @property
    def console(self) -> bool:
        """Whether it is an admin client, relayed to the control process."""
        return isinstance(self.peer, ConsoleLink)

    @property
    def logging_in(self) -> bool:
        """Whether it has no pool yet, and is no admin client."""
        return self.runtime is None and not self.console

    def extra(self) -> dict[str, str]:
        """What log lines about this connection carry."""
        return {"uuid": self.uuid, "user": self.user, "database": self.database, "address": self.address}

    def name_for_log(self) -> bytes:
        """User and database as log lines have them, by which the client goes from now on."""
        if self.known_as is None:
            self.known_as = who(self.user, self.database)
        return self.known_as


class ServerConnection(ServerLink):
    """A server connection of this worker.

    `cancels` counts cancel requests under way, during which nobody else may have it; `deadline` is when to give
    up waiting for it (0: never); `reset_due`: the reset query is still to be sent; `pinned` is since when its client
    can't give it back (0: it can), and `claims` is what that counts as; `reported` is what it said about its
    parameters at login, `session_defaults` what its session began with.
    """

    if TYPE_CHECKING:
        client: ClientConnection | None

    def __init__(self, fd: int, serial: int, runtime: "PoolRuntime", slot: ServerSlot, now: float) -> None:
        super().__init__(fd)
        self.serial = serial
        self.born = now
        self.runtime = runtime
        self.stats: Stats = runtime.stats
        self.session.good = runtime.rules.good
        self.session.state.functions = runtime.rules.functions
        self.always_reset = runtime.settings.server_reset_query_always
        self.slot = slot
        self.address = ""
        self.place: Address = UNSET
        self.pid = 0
        self.key = b""
        self.cancels = 0
        self.deadline = 0.0
        self.reset_due = False
        self.pinned = 0.0
        self.claims: tuple[int, ...] = ()
        self.reported: dict[str, str] = {}
        self.session_defaults: SessionDefaults | None = None

    @property
    def uuid(self) -> str:
        """The name of this connection in logs and errors."""
        return uuid_of(self.serial)

    def extra(self) -> dict[str, str]:
        """What log lines about this connection carry."""
        database, user = self.runtime.key
        return {"uuid": self.uuid, "user": user, "database": database, "address": self.address}


def socket_name(fd: int, local: bool = False) -> tuple[str, int]:
    """Address and port of a connected socket's peer (or own end); ("unix", 0) for a Unix socket."""
    try:
        with _opened(fd) as sock:
            if sock.family == socket.AF_UNIX:
                return "unix", 0
            name = sock.getsockname() if local else sock.getpeername()
            return name[0], name[1]
    except OSError:
        return "", 0


def process_at(fd: int) -> int:
    """The process id at the other end of a connected Unix socket; 0 where it is not known (SO_PEERCRED, unix(7))."""
    try:
        with _opened(fd) as sock:
            found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
            return int(PEER_CREDENTIALS.unpack(found)[0])
    except OSError:
        return 0


def _opened(fd: int) -> socket.socket:
    return socket.socket(fileno=os.dup(fd))
