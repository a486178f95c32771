"""The two kinds of connection as a worker knows them, and how they are named."""

import logging
import os
import socket
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from .. import log as logs
from ..io.dial import Address
from ..io.links import UNSET, ClientLink, ServerLink
from ..io.visit import Visit
from ..pool.pool import Pool, Slot, Ticket
from ..pool.stats import Stats
from ..wire import messages

if TYPE_CHECKING:
    from ..session.listener import Listener
    from .live import LivePool

# In BackendKeyData's process id, below the sign bit: the worker's index + 1, then the serial.
SERIAL_BITS = 23
SERIAL_MASK = (1 << SERIAL_BITS) - 1
# Sizes of the cancel key: protocol 3.0 has four bytes, 3.2 any; PostgreSQL 18 sends 32.
SHORT_KEY, LONG_KEY = 4, 32

_EPOCH = time.time() - time.monotonic()
# Version 8 and variant 10 of RFC 9562: 60 random bits, and 62 for the serial, of which 48 are ever used.
_SAME = "-".join([os.urandom(4).hex(), os.urandom(2).hex(), "8" + os.urandom(2).hex()[:3], "8000", ""])
_SECRET = os.urandom(32)


def epoch(monotonic: float) -> float:
    """A monotonic time as seconds since 1970."""
    return _EPOCH + monotonic


def uuid_of(serial: int) -> str:
    """The UUID of this worker's connection number `serial`: version 8 (RFC 9562), random per process."""
    return f"{_SAME}{serial:012x}"


def cancel_key(serial: int, size: int) -> bytes:
    """The secret in a client's BackendKeyData: made of a secret of this process, so that none is stored."""
    return blake2b(serial.to_bytes(8, "big"), key=_SECRET, digest_size=size).digest()


def cancel_pid(worker: int, serial: int) -> int:
    """The process id in a client's BackendKeyData."""
    return ((worker + 1) << SERIAL_BITS) | (serial & SERIAL_MASK)


class Guest(ClientLink):
    """A client connection of this worker.

    `declined` is the kind of encryption that it was refused, 0 for none; `listens`: the pool's hub knows it;
    `listener` is its session where the database is for LISTEN only.
    """

    if TYPE_CHECKING:
        server: "Backend | None"

    def __init__(self, fd: int, serial: int, address: str, now: float) -> None:
        super().__init__(fd)
        self.serial = serial
        self.address = address
        self.born = now
        self.rested = now
        self.user = ""
        self.minor = 0
        self.live: LivePool | None = None
        self.pool: Pool = UNSET
        self.ticket: Ticket | None = None
        self.login: Visit | None = None
        self.claims: tuple[int, ...] = ()
        self.cancel_wanted = False
        self.hears = False
        self.declined = 0
        self.listens = False
        self.listener: Listener | None = None

    @property
    def uuid(self) -> str:
        """The name of this connection in logs and errors."""
        return uuid_of(self.serial)

    @property
    def database(self) -> str:
        """The database as the client named it, empty before login."""
        return self.live.settings.database if self.live else ""

    def extra(self) -> dict[str, str]:
        """What log lines about this connection carry."""
        return {"uuid": self.uuid, "user": self.user, "database": self.database, "address": self.address}

    def key_data(self, worker: int) -> bytes:
        """The BackendKeyData by which this client can have its queries cancelled."""
        key = cancel_key(self.serial, LONG_KEY if self.minor >= 2 else SHORT_KEY)
        return messages.backend_key_data(cancel_pid(worker, self.serial), key)

    def event(self, log: logging.Logger, text: str) -> None:
        """Log that this connection came or went."""
        logs.connection_event(log, text, uuid_of(self.serial), self.user, self.database, self.address)


class Backend(ServerLink):
    """A server connection of this worker.

    `cancels` counts cancel requests under way, during which nobody else may have it; `deadline` is when to give
    up waiting for it (0: never); `reset_due`: the reset query is still to be sent; `pinned` is since when its client
    can't give it back (0: it can), and `claims` is what that counts as; `reported` is what it said about its
    parameters at login.
    """

    if TYPE_CHECKING:
        client: Guest | None

    def __init__(self, fd: int, serial: int, live: "LivePool", slot: Slot, now: float) -> None:
        super().__init__(fd)
        self.serial = serial
        self.born = now
        self.live = live
        self.stats: Stats = live.stats
        self.session.good = live.rules.good
        self.session.setup.functions = live.rules.functions
        self.always_reset = live.settings.server_reset_query_always
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

    @property
    def uuid(self) -> str:
        """The name of this connection in logs and errors."""
        return uuid_of(self.serial)

    def extra(self) -> dict[str, str]:
        """What log lines about this connection carry."""
        database, user = self.live.key
        return {"uuid": self.uuid, "user": user, "database": database, "address": self.address}


def peer_of(fd: int, local: bool = False) -> tuple[str, int]:
    """Address and port of a connected socket's peer (or own end); ("unix", 0) for a Unix socket."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.family == socket.AF_UNIX:
                return "unix", 0
            name = sock.getsockname() if local else sock.getpeername()
            return name[0], name[1]
    except OSError:
        return "", 0
