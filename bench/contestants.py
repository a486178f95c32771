"""Who is measured: pglido in its forms, PgBouncer, and poolers that run already; each behind the same server.

All have the same pool size, pool mode and authentication, and are otherwise left at their defaults.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pglido import __version__, build, embedded
from pglido.cli.child import Child, ChildError, free_port, own_user
from pglido.config.schema import fields
from pglido.config.settings import Settings
from pglido.ipc.messages import share

from .crowd import startup
from .database import NAME, Database
from .measure import family, holds_io_uring
from .results import Entry
from .scenarios import POOL, Auth, Door, Scenario

CLIENTS_MAX = 20_000
START_SECONDS = 15.0
STOP_SECONDS = 10.0
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")  # not on everybody's PATH
SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"  # protocol chapter 54.7
ASKS: dict[int, str] = {0: "trust", 3: "password", 5: "md5", 10: "scram"}  # codes of Authentication messages
# The first release of PgBouncer whose prepared statements work in transaction mode.
PREPARED_SINCE = (1, 21)

PGLIDO = """\
[pglido]
user = "{user}"
listen_addr = ["127.0.0.1"]
listen_port = {port}
unix_socket_dir = ""
workers = {workers}
pool_mode = "transaction"
default_pool_size = {pool}
max_client_conn = {clients}
auth_type = "{auth}"
auth_file = "{users}"
{more}
[databases.{name}]
host = "127.0.0.1"
port = {server_port}
"""

PGBOUNCER = """\
[databases]
{name} = host=127.0.0.1 port={server_port} dbname={name}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = {clients}
auth_type = {auth}
auth_file = {users}
{more}
"""

AUTH_TYPE: dict[Auth, str] = {"trust": "trust", "scram": "scram-sha-256"}


class ContestantError(RuntimeError):
    """A contestant can't be started, or can't do this; the text says why."""


class Instance(Protocol):
    """A running contestant."""

    @property
    def port(self) -> int: ...

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that all of its others descend from."""

    def stop(self) -> None:
        """End it, if it was started here."""


class Contestant(Protocol):
    """Somebody to be measured."""

    @property
    def entry(self) -> Entry: ...

    def refuses(self, scenario: Scenario) -> str:
        """Why it can't do this at all; empty if it can."""

    def start(self, door: Door) -> Instance:
        """Have it running with this door. Raises ContestantError."""


@dataclass(frozen=True)
class Ground:
    """What all contestants stand on: the server, a folder for their files, one certificate."""

    database: Database
    folder: Path
    users: Path
    certificate: Path
    key: Path

    def room(self, name: str, door: Door) -> Path:
        """A new folder for the files of one instance."""
        where = self.folder / f"{name}-{door.auth}{'-tls' if door.tls else ''}-{time.monotonic_ns()}"
        where.mkdir()
        embedded.account().own(where)
        return where


def prepare(database: Database, folder: Path) -> Ground:
    """Write the list of users and a certificate for 127.0.0.1 into `folder`."""
    folder.mkdir()
    ground = Ground(database, folder, folder / "userlist.txt", folder / "server.crt", folder / "server.key")
    ground.users.write_text(f'"{NAME}" "{database.secret}"\n')
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.now(UTC) - timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=30))
    ground.certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    ground.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    ground.key.chmod(0o600)
    embedded.account().own(folder)
    return ground


# pglido


@dataclass(frozen=True)
class Pglido:
    """pglido with so many workers; `backend` is a value of the setting event_backend, empty for its default. `to` is
    another one of pglido's that it is compared to, empty for none.
    """

    name: str
    ground: Ground
    workers: str = "1"
    backend: str = ""
    to: str = ""

    @property
    def entry(self) -> Entry:
        workers = "one worker" if self.workers == "1" else f"{len(os.sched_getaffinity(0))} workers"
        backend = f", {self.backend}" if self.backend else ""
        python = platform.python_version()
        version = f"pglido {__version__}, {build.describe()} build, Python {python}, {workers}{backend}"
        return Entry(self.name, version, ours=True, to=self.to)

    def refuses(self, scenario: Scenario) -> str:
        return ""

    def start(self, door: Door) -> Instance:
        more = [f'event_backend = "{self.backend}"'] if self.backend else []
        if door.tls:
            more += [
                'client_tls_sslmode = "allow"',
                f'client_tls_cert_file = "{self.ground.certificate}"',
                f'client_tls_key_file = "{self.ground.key}"',
            ]
        port = free_port(0)
        configuration = PGLIDO.format(
            user=own_user(),
            port=port,
            workers=self.workers,
            pool=POOL,
            clients=CLIENTS_MAX,
            auth=AUTH_TYPE[door.auth],
            users=self.ground.users,
            more="\n".join(more),
            name=NAME,
            server_port=self.ground.database.server.port,
        )
        try:
            running = RunningPglido(Child(configuration, self.ground.room(self.name, door), port).__enter__())
        except ChildError as error:
            raise ContestantError(str(error)) from error
        if self.backend == "io_uring" and not holds_io_uring(family(*running.pids)):
            running.stop()
            raise ContestantError("io_uring is not allowed here, or not built in; it would run on epoll")
        return running


@dataclass(frozen=True)
class RunningPglido:
    """One pglido, with its control process and its workers."""

    child: Child

    @property
    def port(self) -> int:
        return self.child.port

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.child.process.pid,)

    def stop(self) -> None:
        self.child.stop()


def pglidos(ground: Ground) -> list[Pglido]:
    """One worker with each backend that this build knows, and a worker for each processor, to be compared to the one
    with the same backend (`auto` is io_uring where the kernel has it).
    """
    setting = fields(Settings).get("event_backend")
    backends = [choice for choice in (setting.choices if setting else ()) if choice != "auto"]
    ones = [Pglido(f"pglido-{backend}", ground, backend=backend) for backend in backends] or [Pglido("pglido", ground)]
    return [*ones, Pglido("pglido-all", ground, workers='"auto"', to=ones[-1].name)]


# PgBouncer


@dataclass(frozen=True)
class PgBouncer:
    """PgBouncer: the system's, or a program of somebody's own; several `processes` share a port and the pool."""

    name: str
    program: str
    ground: Ground
    version: tuple[int, ...]
    processes: int = 1

    @property
    def prepares(self) -> bool:
        return self.version >= PREPARED_SINCE

    @property
    def entry(self) -> Entry:
        more = ", max_prepared_statements = 200" if self.prepares else ""
        more += f", {self.processes} processes on one port" if self.processes > 1 else ""
        return Entry(self.name, f"PgBouncer {'.'.join(map(str, self.version))}{more}", ours=False)

    def refuses(self, scenario: Scenario) -> str:
        if not scenario.prepared or self.prepares:
            return ""
        had, needed = (".".join(map(str, one)) for one in (self.version, PREPARED_SINCE))
        return f"not possible: PgBouncer {had} has no prepared statements in transaction mode, {needed} does"

    def start(self, door: Door) -> Instance:
        more = ["max_prepared_statements = 200"] if self.prepares else []
        if door.tls:
            more += [
                "client_tls_sslmode = allow",
                f"client_tls_cert_file = {self.ground.certificate}",
                f"client_tls_key_file = {self.ground.key}",
            ]
        if self.processes > 1:
            more.append("so_reuseport = 1")
        port = free_port(0)
        running = RunningPrograms([])
        try:
            for number in range(self.processes):
                running.processes.append(self._start(door, port, more, share(POOL, number, self.processes)))
                running.processes[-1].await_answer()
        except BaseException:
            running.stop()
            raise
        return running

    def _start(self, door: Door, port: int, more: Sequence[str], pool: int) -> RunningProgram:
        folder = self.ground.room(self.name, door)
        file = folder / "pgbouncer.ini"
        file.write_text(
            PGBOUNCER.format(
                port=port,
                pool=pool,
                clients=CLIENTS_MAX,
                auth=AUTH_TYPE[door.auth],
                users=self.ground.users,
                more="\n".join(more),
                name=NAME,
                server_port=self.ground.database.server.port,
            )
        )
        return RunningProgram([self.program, str(file)], folder, port)


@dataclass
class RunningProgram:
    """A process that serves on a port; it runs as the account of the server, never as root."""

    command: list[str]
    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        who = embedded.account()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C in a terminal is for us alone; we then stop it in order
                user=who.uid if who.other else None,
                group=who.gid if who.other else None,
                extra_groups=[] if who.other else None,
            )

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.process.pid,)

    def await_answer(self) -> None:
        """Return once it listens. Raises ContestantError with the end of its log if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise ContestantError(f"it did not start:\n{(self.folder / 'log').read_text(errors='replace')[-1000:]}")

    def stop(self) -> None:
        for way in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):  # PgBouncer: safe shutdown, fast, none
            if self.process.poll() is not None:
                return
            self.process.send_signal(way)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue


@dataclass(frozen=True)
class RunningPrograms:
    """Processes that share one port."""

    processes: list[RunningProgram]

    @property
    def port(self) -> int:
        return self.processes[0].port

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(process.process.pid for process in self.processes)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


def pgbouncer(ground: Ground, *, install: bool) -> PgBouncer:
    """The system's PgBouncer; on Debian it is installed if we may. Raises ContestantError where there is none."""
    program = _find("pgbouncer")
    if program is None and install:
        _install("pgbouncer")
        program = _find("pgbouncer")
    if program is None:
        raise ContestantError("there is no pgbouncer on this machine: apt install pgbouncer")
    return PgBouncer("pgbouncer", program, ground, _version(program))


def two_of(one: PgBouncer) -> PgBouncer:
    """Two processes of it, which share a port and the pool: what PgBouncer's documentation has for more processors."""
    return replace(one, name=f"{one.name}-2", processes=2)


def other_pgbouncer(program: str, ground: Ground) -> PgBouncer:
    """The PgBouncer at this path, named after its release. Raises ContestantError where there is none."""
    version = _version(program)
    return PgBouncer(f"pgbouncer-{'.'.join(map(str, version))}", program, ground, version)


def _version(program: str) -> tuple[int, ...]:
    try:
        return version_of(subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout)
    except OSError as error:
        raise ContestantError(f"can't run {program}: {error.strerror}") from error


def version_of(said: str) -> tuple[int, ...]:
    """The numbers of `PgBouncer 1.18.0`. Raises ContestantError for a text without."""
    found = re.search(r"(\d+(?:\.\d+)+)", said)
    if found is None:
        raise ContestantError(f"pgbouncer --version said {said!r}")
    return tuple(map(int, found[1].split(".")))


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS)))


def _install(package: str) -> None:
    """Have apt-get install it, without a question; leave it where that is not possible."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (as_root and not shutil.which("sudo")):
        return
    # RUNLEVEL: Debian's invoke-rc.d then does not start the service that comes with the package.
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "install", "-y"]
    for command in (["apt-get", "-qq", "update"], [*install, "--no-install-recommends", package]):
        subprocess.run([*as_root, *command], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=300)


# Those that run already


@dataclass(frozen=True)
class Peer:
    """A pooler that somebody else has started, of which we know its name, its port and its process."""

    name: str
    port: int
    pid: int

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.pid,)

    @property
    def entry(self) -> Entry:
        return Entry(self.name, f"process {self.pid} on port {self.port}", ours=False)

    def refuses(self, scenario: Scenario) -> str:
        return ""

    def start(self, door: Door) -> Instance:
        try:
            asks = asks_for(self.port, tls=door.tls)
        except OSError as error:
            raise ContestantError(f"not possible by {door}: {error}") from error
        if asks != door.auth:
            raise ContestantError(f"not possible by {door}: it asks for {asks}")
        return self

    def stop(self) -> None:
        """It is not ours to end."""


def peer(text: str) -> Peer:
    """`name=port:pid` as a peer. Raises ValueError."""
    found = re.fullmatch(r"([\w.-]+)=(\d+):(\d+)", text)
    if found is None:
        raise ValueError(f"expected name=port:pid, not {text!r}")
    return Peer(found[1], int(found[2]), int(found[3]))


def asks_for(port: int, *, tls: bool) -> str:
    """The authentication that a client of 127.0.0.1 is asked for. Raises OSError with what is wrong."""
    with ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        client = plain
        if tls:
            plain.sendall(SSL_REQUEST)
            if plain.recv(1) != b"S":
                raise ConnectionError("it speaks no TLS")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            client = stack.enter_context(context.wrap_socket(plain))
        client.sendall(startup(NAME, NAME))
        said = b""
        while len(said) < 9:
            more = client.recv(4096)
            if not more:
                raise ConnectionError("it closes the connection")
            said += more
    if said[:1] != b"R":
        raise ConnectionError(f"it says {said[5:].replace(bytes(1), b' ').decode(errors='replace').strip()}")
    code = struct.unpack_from("!i", said, 5)[0]
    return ASKS.get(code, f"method {code}")
