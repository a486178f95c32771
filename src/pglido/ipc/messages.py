"""The messages between the control process and its workers, and how a worker is started.

Start of a worker
-----------------
The supervisor runs::

    python -m pglido.worker --index N --parent PID --channel FD --counters FD [--listen FD[,FD...]]

* ``--index``: the worker's number, 0 to `MAX_WORKERS` - 1. A successor of a dead worker has the same number.
  The process that a CancelRequest belongs to is told from it: ``pid = (N + 1) << 23 | serial`` in
  BackendKeyData.
* ``--parent``: the process id of the control process. A worker whose parent is another has lost it, and ends.
* ``--channel``: one end of a Unix SOCK_STREAM pair: wrap it in `channel.Channel` with the decoder
  `TO_WORKER`.
* ``--counters``: the memfd of the shared counters: `shared_counters.SharedCounters.attach(fd, row=N)`.
* ``--listen``: sockets that are bound and listening already, non-blocking; getsockname() and the family tell
  TCP from Unix. TCP sockets are this worker's own (SO_REUSEPORT), Unix ones are shared by all. The control
  process keeps them all open, so that connections in the queue outlive a worker; they may be accepted by the
  successor.

All descriptors are inheritable; the worker should make them non-inheritable again. SIGINT and SIGHUP of the
terminal reach the whole process group: a worker ignores SIGINT, SIGTERM, SIGHUP and SIGUSR1, it is told by messages.
End of file on the channel, or another parent, means that the control process is gone: the worker stops at once.

Order: control sends `Configure` first. The worker answers `Ready` once it accepts clients, or `Failed` and
exits with status `CANNOT_BOOT` if it can't ever run with this configuration: if no worker has ever been ready,
the whole of pglido stops with that text. Any other exit before `Drain` or `Stop` counts as a crash and is
answered by a restart. A worker reads no file: what it needs of them comes with `Configure`.

What an operator wants of all workers is a `Command`: each worker answers `Done`, or what is wrong.

A reload has two phases. Each worker is told to `Prepare`: it makes all that it needs of the new configuration, and puts
nothing in force. Then all are told to `Commit`, which can't fail, or all get `Abort`. A worker that starts in between
gets `Configure` with what is in force, and `Prepare` behind it.

Leases
------
A worker owns a number of leases per pool, each the right to one server connection (idle, busy or being opened). It
starts with none. It asks with `Want`, gets `Grant`, gives back with `Return`. The broker may ask for one back with
`Recall`.
"""

from __future__ import annotations

import msgspec

from ..config.model import Config, Host, PoolKey
from .snapshot import Snapshot, Subject

MAX_WORKERS = 250  # index + 1 fits the 8 bits it has in a cancel key
WANT_INTERVAL = 0.05  # seconds between two Wants for the same pool
MET = 1000  # users of auth_query whose secrets' looks are remembered
CANNOT_BOOT = 3  # exit status of a worker that no restart can help


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all messages: encoded as an array with the class name first."""


# ---- worker -> control


class Ready(Message, frozen=True):
    """Accepting clients. Sent once, after the first `Configure`."""

    pid: int


class Failed(Message, frozen=True):
    """Can't run with this configuration; the text is for the operator. The worker then exits with
    `CANNOT_BOOT`.
    """

    text: str


class Done(Message, frozen=True):
    """The `Command` with this number is done (`problem` empty), or can't be: what is wrong, for the operator."""

    number: int
    problem: str = ""


class Rows(Message, frozen=True):
    """Rows for the `Command` with this number; others may follow, for what is told in one round is bounded. `Done` ends
    them.
    """

    number: int
    rows: list[Snapshot]


class Want(Message, frozen=True):
    """`count` more leases are wanted for `pool`, the oldest reason being there since `since`
    (CLOCK_MONOTONIC, seconds).

    It replaces the worker's earlier Want for the same pool; count = 0 withdraws it. Each Grant counts against
    it without a new message. The first Want goes out at once, changes at most once in `WANT_INTERVAL` per
    pool, also the withdrawal: a busy pool must not cost a message per transaction. `granted` is the number of
    Grants for this pool that the worker has received, which makes Wants and Grants that cross each other
    exact; it may start again at 0 when the worker has neither a lease nor a Want for the pool.

    `urgent` is False when no client waits and the wish is only to keep `min_pool_size` warm: it is then
    served from what is free, without recalls and without the reserve. Each worker keeps its share of
    min_pool_size: `share(min_pool_size, index, workers)`.
    """

    pool: PoolKey
    since: float
    count: int
    granted: int
    urgent: bool = True


class Return(Message, frozen=True):
    """`count` leases of `pool` come back: their connections are closed, or were never opened."""

    pool: PoolKey
    count: int = 1


class Kept(Message, frozen=True):
    """Answer to `Recall(idle=True)`: no connection of this pool is idle now."""

    pool: PoolKey


class Load(Message, frozen=True):
    """Answer to `Measure`: what clients of this pool went through in this worker, sums since it knows the pool.

    `wait` is the seconds that they waited for a server, of those who wait still what they have waited; `assignments`
    how often one got one; `busy` the seconds for which they had one, of those who have one still what it has been.
    `clients` is how many wanted one since the last `Load`.
    """

    pool: PoolKey
    wait: float
    assignments: int
    busy: float
    clients: int


class CancelAt(Message, frozen=True):
    """A CancelRequest with a true key of a client of `worker`, by the client's serial and the size of the key, came
    to another. Passed on as `CancelHere`. The `number` is for the answer, `CancelOver`.
    """

    worker: int
    serial: int
    key_size: int
    number: int


class CancelConsole(Message, frozen=True):
    """A CancelRequest with a true key, of this size, of the console with this number came in. To be answered with
    `CancelOver`.
    """

    console: int
    key_size: int
    number: int


class CancelOver(Message, frozen=True):
    """The server has the request that `worker` knows by this number, or there was nothing to cancel. Passed on
    to that worker as it is.
    """

    worker: int
    number: int


class StandInAt(Message, frozen=True):
    """A client wants to terminate the client `pid` of `worker`, or to cancel what it does (`cancels`).

    A process of the server at `address` is wanted that stands in for it. Passed on as `StandInHere`. The `number` is
    for the answer, `StandInIs`.
    """

    worker: int
    pid: int
    cancels: bool
    address: str
    number: int


class StandInIs(Message, frozen=True):
    """The `process` that `worker` has asked for by this number; 0: there is none. Passed on to that worker as it is."""

    worker: int
    number: int
    process: int


class StandInOver(Message, frozen=True):
    """What `sender` asked `worker` for by this number is needed no more. Passed on to that worker as it is."""

    worker: int
    sender: int
    number: int


class Vacate(Message, frozen=True):
    """A client is about to drop, rename or copy these databases on the servers `hosts`: close what rests there, unless
    clients are connected. Passed on to all other workers as it is; PostgreSQL waits five seconds for it.
    """

    hosts: tuple[Host, ...]
    databases: tuple[str, ...]


class SenderGone(Message, frozen=True):
    """A process of the servers `hosts` is gone that has said for which client it works (see
    `session.server.notification_signature`).

    Passed on to all other workers as it is: the next one with this number may be anybody's.
    """

    hosts: tuple[Host, ...]
    process: int


class Met(Message, frozen=True):
    """auth_query has answered for these users, by a digest, with secrets that look like this: iterations, size of salt
    (see `auth.decoys`).

    Passed on to all other workers, successors too: users who don't exist are to look the same in all of them.
    """

    faces: dict[bytes, tuple[int, int]]

    def learn(self, known: dict[bytes, tuple[int, int]]) -> bool:
        """Put these users into what is `known` of up to `MET`; returns whether that is news."""
        news = False
        for user, face in self.faces.items():
            if known.get(user) != face and (user in known or len(known) < MET):
                known[user] = face
                news = True
        return news


class NotCovered(Message, frozen=True):
    """The sockets of `worker` that came with `Cover` could not be had: this process is out of descriptors."""

    worker: int


class Console(Message, frozen=True):
    """A client of the admin database, authenticated but not yet sent AuthenticationOk; comes with one
    descriptor.

    The descriptor is one end of a Unix stream pair whose other end the worker relays to the client, byte by
    byte, until either closes (plain and TLS alike). `admin` is False for those in stats_users only. `startup`
    is all of the client's startup parameters, `address` what SHOW CLIENTS shows (``host:port`` or ``unix``),
    `protocol` e.g. 196608, `uuid` the client's id.
    """

    user: str
    database: str
    admin: bool
    address: str
    tls: str
    startup: dict[str, str]
    uuid: str
    protocol: int = 196608


# ---- control -> worker


class Configure(Message, frozen=True):
    """The whole configuration, the secrets of `auth_file`, and the contents of the TLS files by path.

    With it come the descriptors that the log goes to: of `logfile` and of syslog, each where it is set.
    `workers` is the number of workers that share the pools; `mock_seed` makes the SCRAM exchange with unknown
    users the same in all workers. Secrets are bytes, for they need not be in UTF-8.
    """

    config: Config
    users: dict[str, bytes]
    workers: int
    mock_seed: bytes
    files: dict[str, bytes] = {}


class Prepare(Message, frozen=True):
    """Make all that `to` needs, without putting it in force; descriptors as with `Configure`."""

    to: Configure


class Commit(Message, frozen=True):
    """Put in force what was prepared by the command `prepared`. A worker that could not prepare it ends itself."""

    prepared: int


class Ask(Message, frozen=True):
    """Tell `Rows` about `subject`."""

    subject: Subject


class Gates(Message, frozen=True):
    """Who is served from now on. Where all is paused, or a database, clients wait for a server, and servers are closed
    when they are free. A database that is disabled lets nobody in; who is in stays. A new worker gets it before
    `Configure`.
    """

    all_paused: bool = False
    paused: frozenset[str] = frozenset()
    disabled: frozenset[str] = frozenset()

    def pauses(self, database: str) -> bool:
        """Do the clients of this database (empty: of every one) wait?"""
        return self.all_paused or database in self.paused


class AwaitReleased(Message, frozen=True):
    """Done when no server of this database (empty: of any) is left, or it is not paused any more."""

    database: str


class Reconnect(Message, frozen=True):
    """Replace the servers of this database (empty: of all) as they become free."""

    database: str


class AwaitReconnected(Message, frozen=True):
    """Done when all servers of this database (empty: of all) are gone that were to be replaced."""

    database: str


class Kill(Message, frozen=True):
    """Close the clients of this database (empty: of all); servers are closed when what they did is cancelled."""

    database: str


class KillClient(Message, frozen=True):
    """Close the client with this `id` or `ptr` of SHOW CLIENTS; a problem where there is none."""

    client: str


Action = Prepare | Commit | Ask | Gates | AwaitReleased | Reconnect | AwaitReconnected | Kill | KillClient


class Command(Message, frozen=True):
    """Do something, and answer with `Done` and this number when it is done. A successor may get it in its predecessor's
    place.
    """

    number: int
    action: Action


class Abort(Message, frozen=True):
    """The command with this number is not waited for any more: drop what it has prepared, end what only waits."""

    command: int


class Grant(Message, frozen=True):
    """One lease of `pool` is yours. No longer needed: keep it with an idle connection, or `Return` it."""

    pool: PoolKey


class Recall(Message, frozen=True):
    """Give one lease of `pool` up.

    `idle` True: only if a connection has been idle for more than `rest` seconds: close it and `Return`; otherwise
    `Kept`, at once. `idle` False: close an idle one, or the next that is released, also when own clients wait; then
    `Return`. With no lease left, ignore.
    """

    pool: PoolKey
    idle: bool
    rest: float


class Measure(Message, frozen=True):
    """Clients wait in this pool, or in one that shares its limit: say what yours go through, with `Load`. Comes at most
    twice a second for each pool.
    """

    pool: PoolKey


class CancelHere(Message, frozen=True):
    """A `CancelAt` for one of your clients, which may be gone, from the worker `sender`. To be answered with
    `CancelOver`.
    """

    serial: int
    key_size: int
    sender: int
    number: int


class StandInHere(Message, frozen=True):
    """A `StandInAt` for one of your clients, from the worker `sender`. To be answered with `StandInIs`."""

    pid: int
    cancels: bool
    address: str
    sender: int
    number: int


class Cover(Message, frozen=True):
    """Until `Uncover`, accept also from the TCP sockets of `worker`, which come with this message: it does not accept.
    Who has no descriptors for them answers `NotCovered`, and gets them again later.

    Connections in their queues are not lost, for the control process keeps the sockets open.
    """

    worker: int


class Uncover(Message, frozen=True):
    """The worker accepts again: leave its sockets to it."""

    worker: int


class Drain(Message, frozen=True):
    """Stop accepting and come to an end: exit 0 when nothing is left to do, or after `timeout` seconds (0: no
    limit).

    `clients` False: a client is told goodbye (57P01) as soon as it is idle and outside a transaction.
    `clients` True: wait until the clients leave by themselves.
    """

    timeout: float
    clients: bool = False


class Stop(Message, frozen=True):
    """Exit 0 now: clients get 57P01 if that takes no waiting."""


ToControl = (
    Ready
    | Failed
    | Done
    | Rows
    | Want
    | Return
    | Kept
    | Load
    | CancelAt
    | CancelConsole
    | CancelOver
    | StandInAt
    | StandInIs
    | StandInOver
    | Vacate
    | SenderGone
    | Met
    | NotCovered
    | Console
)
ToWorker = (
    Configure
    | Command
    | Gates
    | Abort
    | Grant
    | Recall
    | Measure
    | CancelHere
    | CancelOver
    | StandInHere
    | StandInIs
    | StandInOver
    | Vacate
    | SenderGone
    | Met
    | Cover
    | Uncover
    | Drain
    | Stop
)

TO_CONTROL: msgspec.msgpack.Decoder[ToControl] = msgspec.msgpack.Decoder(ToControl)
TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def share(total: int, index: int, workers: int) -> int:
    """Worker `index`'s part of `total`; the parts of all workers add up to it."""
    return total // workers + (index < total % workers)
