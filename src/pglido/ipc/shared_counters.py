"""Counters that all workers share without a message: one row per worker in a memfd.

Rules: a worker writes its own row only; anyone reads all. A total over rows is exact when taken in `claim`,
which holds a lock that the kernel releases when its holder dies; elsewhere it may lag by what happens at this
moment. The supervisor zeroes the row of a dead worker. Named columns (a database, a user) are found by a
64-bit hash and taken over by other names once all rows are zero.

Layout, in int64: header (magic, rows, names, a secret) · names (hash or 0) · one row of ``len(SharedCounter) + names``
counters per worker.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

from .shared_cells import SharedCells

MAGIC = 0x7067_6C69_646F_31
HEADER = 8
CELL = 8
SECRET = (HEADER - 3) * CELL  # bytes behind magic, rows and names
PROBES = 64  # bounds the cost of a claim; with half of the names in use, the chance to find no room is 2**-64


@enum.unique
class SharedCounter(enum.IntEnum):
    """The counters that exist for every worker."""

    CLIENTS = 0  # client connections, from accept on: max_client_conn
    ACCEPTED = 1  # connections accepted since the worker started
    CRASHES = 2  # written by the supervisor: survives `clear`
    FINDINGS = 3  # how often a worker found another function that matters (see `worker.servers.function_refresh`)
    DOUBTS = 4  # how often a worker learnt that prepared statements may mean something else
    # how often a worker learnt that sessions begin with something else (see `session.state.role_defaults_epoch`)
    DEFAULTS = 5
    BEATS = 6  # looks of the worker's clock: it serves as long as this changes (see `control.heartbeat`)
    MEMORY = 7  # bytes of memory that the worker has for itself (see `control.memory_limit`)
    SHORT = 8  # 1: the pooler uses more than max_memory; written by the control process
    SECRETS = 9  # how often a worker learnt that a remembered secret was changed (see `worker.login.credentials`)
    # how often a worker's listening connection began to hear signatures (see `session.server.notification_signature`)
    EARS = 10
    # how often a worker learnt that the server's configuration was read anew (see `session.state.role_defaults_epoch`)
    RELOADS = 11
    SERIALS = 12  # the number of the connection that this worker, or one before it, had last
    BUGS = 13  # connections that were closed for a bug of pglido's own (see `worker.lifecycle`)


KEPT = (
    SharedCounter.CRASHES,
    SharedCounter.DOUBTS,
    SharedCounter.DEFAULTS,
    SharedCounter.SECRETS,
    SharedCounter.EARS,
    SharedCounter.RELOADS,
    SharedCounter.SERIALS,
    SharedCounter.BUGS,
)


def pins_of(pool: tuple[str, str]) -> str:
    """The named column that counts the servers of a pool which clients keep."""
    return f"pins:{'/'.join(pool)}"


class LimitReached(Exception):
    """A claim would go over its limit; `what` says which."""

    def __init__(self, what: SharedCounter | str) -> None:
        super().__init__(f"no room for {what!r}")
        self.what = what


class SharedCounters(SharedCells):
    """The shared counters as seen by the owner of one row (`row` = -1: by the control process, which owns
    none).
    """

    def __init__(self, fd: int, row: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._view = memoryview(self._map).cast("q")
        magic, rows, self._names = self._view[:3]
        if magic != MAGIC or not -1 <= row < rows:
            raise ValueError(f"descriptor {fd} has no shared counters with a row {row}")
        super().__init__(self._view, HEADER + self._names, rows, len(SharedCounter) + self._names, row)

    @classmethod
    def create(cls, rows: int, names: int = 4096) -> SharedCounters:
        """New counters, all zero; its `fd` is not inheritable.

        `names` should be twice the number of named columns that may be in use at a time; beyond, claims of
        new names are refused.
        """
        fd = os.memfd_create("pglido-counters", os.MFD_CLOEXEC)
        os.ftruncate(fd, CELL * (HEADER + names + rows * (len(SharedCounter) + names)))
        os.pwrite(fd, struct.pack("=3q", MAGIC, rows, names) + os.urandom(SECRET), 0)
        return cls(fd, -1)

    @classmethod
    def attach(cls, fd: int, row: int) -> SharedCounters:
        """The counters behind an inherited descriptor, for the worker with index `row`."""
        return cls(fd, row)

    def __repr__(self) -> str:
        totals = " ".join(f"{column.name.lower()}={self.total(column)}" for column in SharedCounter)
        return f"<SharedCounters row {self.row} of {self.rows} {totals}>"

    def secret(self) -> bytes:
        """Random bytes, the same for all who share the counters."""
        return os.pread(self.fd, SECRET, HEADER * CELL - SECRET)

    def count(self, name: str) -> int:
        """The sum over all workers for a named column; 0 when it has never been claimed."""
        column = self._find(_hash(name))
        return self.total(column) if column is not None else 0

    def part(self, name: str, row: int) -> int:
        """What one worker counts of a named column."""
        column = self._find(_hash(name))
        return self.get(column, row) if column is not None else 0

    def claim(self, wishes: Iterable[tuple[SharedCounter | str, int]]) -> tuple[int, ...]:
        """Count one more in each column, or in none: raises LimitReached when one would go over its limit (0:
        unlimited).

        A wish names a fixed column or any text, by convention ``db:NAME`` and ``user:NAME``. Returns the
        columns, which `release` takes back.
        """
        taken: list[int] = []
        with self._locked():
            for what, limit in wishes:
                column = self._column(what)
                if column is None or (limit and self.total(column) >= limit):
                    self.release(tuple(taken))
                    raise LimitReached(what)
                self.add(column, 1)
                taken.append(column)
        return tuple(taken)

    def concede(self, column: SharedCounter, limit: int) -> bool:
        """Take one from the own row where all together are over the limit; returns whether it was so.

        Of several that are one too many at once, only as many concede as are to go.
        """
        with self._locked():
            over = self.total(column) > limit
            if over:
                self.add(column, -1)
        return over

    def clear(self, row: int) -> None:
        """Zero the row of a worker that is dead. For the supervisor."""
        with self._locked():
            base = self.start + row * self.width
            kept = {column: self._view[base + column] for column in KEPT}
            self._view[base : base + self.width] = memoryview(bytes(CELL * self.width)).cast("q")
            for column, value in kept.items():
                self._view[base + column] = value

    def put(self, column: SharedCounter, row: int, value: int) -> None:
        """Set a counter: a worker of its own row, the control process of any."""
        self._view[self.start + row * self.width + column] = value

    def bump(self, column: SharedCounter, row: int) -> None:
        """Add one to a worker's kept counter. For the supervisor."""
        self._view[self.start + row * self.width + column] += 1

    def close(self) -> None:
        """Unmap, and close the descriptor."""
        self.leave()
        self._view.release()
        self._map.close()
        os.close(self.fd)

    # ---- inside

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A POSIX record lock belongs to the process, not to the inherited descriptor, and ends with it.
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def _column(self, what: SharedCounter | str) -> int | None:
        """The column of a wish, made where it does not exist yet; None when there is no room for another
        name.
        """
        if isinstance(what, SharedCounter):
            return what
        wanted = _hash(what)
        found = self._find(wanted)
        if found is not None:
            return found
        for slot in self._probe(wanted):
            if not self._view[HEADER + slot] or not self.total(len(SharedCounter) + slot):
                self._view[HEADER + slot] = wanted
                return len(SharedCounter) + slot
        return None

    def _find(self, wanted: int) -> int | None:
        for slot in self._probe(wanted):
            held = self._view[HEADER + slot]
            if held == wanted:
                return len(SharedCounter) + slot
            if not held:  # slots are reused, never emptied: the name can't be further on
                return None
        return None

    def _probe(self, wanted: int) -> Iterator[int]:
        return ((wanted + step) % self._names for step in range(min(PROBES, self._names)))


def _hash(name: str) -> int:
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
