"""A pglido of its own for a test: its configuration from a dict, its processes, its log, its end."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import psutil

from pglido.cli.child import own_user

from .waiting import eventually, free_port
from .wire import Wire

Settings = Mapping[str, Any]

# What starts a pooler, the configuration's path following. Another build can be tried with the environment variable.
SERVE = shlex.split(os.environ.get("PGLIDO_TEST_SERVE", "")) or [sys.executable, "-m", "pglido.cli.main", "serve"]

# The other backend can be tried with the environment variable.
EVENT_BACKEND = os.environ.get("PGLIDO_TEST_EVENT_BACKEND", "auto")

DEFAULTS: dict[str, Any] = {
    "user": own_user(),
    "event_backend": EVENT_BACKEND,
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "trust",
    "admin_users": ["postgres"],
    "stats_users": ["app2"],
    "workers": 2,
    "shutdown_timeout": 5,
    "server_login_retry": 0.2,
}
USERS = ("app", "app2", "app3", "postgres", "rep")


class Pooler:
    """A running pglido on 127.0.0.1:`port`. Must end with status 0 on SIGTERM and leave its port free."""

    live: ClassVar[list["Pooler"]] = []

    def __init__(self, folder: Path, config: str, port: int, suffix: str = "toml") -> None:
        self.folder = folder
        self.port = port
        self.address = ("127.0.0.1", port)
        self.path = folder / f"pglido.{suffix}"
        self.log_path = folder / "pglido.log"
        self.path.write_text(config)
        self.log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Pooler":
        """Start, and return when a worker answers."""
        self.spawn()
        eventually(self._answers, within=20, what="pglido up")
        return self

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start without waiting; for configurations that can't work."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*SERVE, str(self.path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        Pooler.live.append(self)
        return self.process

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
        try:
            with socket.create_connection(self.address, timeout=5) as probe:
                probe.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
                return probe.recv(1) in (b"S", b"N")
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """The control process."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """All that was logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def logs(self, pattern: str, within: float = 10.0) -> "re.Match[str]":
        """Wait for a line of the log that matches."""
        return eventually(lambda: re.search(pattern, self.log, re.MULTILINE), within, f"log line /{pattern}/")

    def workers(self) -> list[psutil.Process]:
        """The worker processes, oldest first."""
        children = psutil.Process(self.pid).children()
        return sorted(children, key=lambda child: (child.create_time(), child.pid))

    def descriptors(self) -> int:
        """How many file descriptors all processes hold."""
        return sum(child.num_fds() for child in [psutil.Process(self.pid), *self.workers()])

    def worker_memory(self) -> int:
        """Resident bytes of all workers."""
        return sum(child.memory_info().rss for child in self.workers())

    def wire(self, user: str = "app", database: str = "app", **more: Any) -> Wire:
        """A raw connection, logged in."""
        return Wire.dial(self.address).login(user, database, **more)

    def dial(self) -> Wire:
        """A raw connection on which nothing was said."""
        return Wire.dial(self.address)

    def conninfo(self, user: str = "app", database: str = "app", **more: object) -> str:
        """A libpq connection string."""
        words = {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": database, **more}
        return " ".join(f"{key}='{value}'" for key, value in words.items())

    def console(self, command: str, user: str = "postgres") -> list[dict[str, str | None]]:
        """The rows of a console command, by column."""
        with Wire.dial(self.address).login(user, "pglido") as wire:
            rows = wire.table(command)
            wire.bye()
            return rows

    def listening(self, database: str) -> dict[str, int]:
        """The numbers of SHOW LISTEN for the first pool of a database; none before it exists."""
        for row in self.console("SHOW LISTEN"):
            if row["database"] == database:
                return numbers(row)
        return {}

    def pool(self, database: str = "app", user: str = "app") -> dict[str, int]:
        """The numbers of one pool in SHOW POOLS; all zero before it exists."""
        for row in self.console("SHOW POOLS"):
            if row["database"] == database and row["user"] == user:
                return numbers(row)
        return dict.fromkeys(("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_login"), 0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the control process."""
        os.kill(self.pid, number)

    def reload(self, config: str) -> None:
        """Replace the configuration file, send SIGHUP and wait until the log says that it was read."""
        ended = "reload: done|reload failed"
        seen = len(re.findall(ended, self.log))
        self.path.write_text(config)
        self.signal(signal.SIGHUP)
        eventually(lambda: len(re.findall(ended, self.log)) > seen, what="log line about the reload")

    def ended(self, within: float = 15.0) -> int:
        """Wait for the end and return the exit status."""
        assert self.process is not None
        status = self.process.wait(within)
        self.process = None
        return status

    def stop(self) -> None:
        """SIGTERM, unless it has ended: status 0, no process left, port free, no traceback in the log."""
        if self.process is not None and self.process.poll() is None:
            family = [psutil.Process(self.pid), *self.workers()]
            try:
                self.signal(signal.SIGTERM)
                status = self.ended(within=20)
                assert status == 0, f"ended with status {status}"
                _, left = psutil.wait_procs(family, timeout=5)
                assert not left, f"still there: {left}"
            finally:
                for one in family:
                    if one.is_running():
                        one.kill()
                self.process = None
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(self.address)
        assert "Traceback" not in self.log, "a bug left a traceback in the log:\n" + self.log[-5000:]


def config_text(
    settings: Settings,
    databases: Mapping[str, Settings],
    users: Mapping[str, Settings],
) -> str:
    """A TOML configuration."""
    lines = ["[pglido]", *_pairs(settings)]
    for section, tables in (("databases", databases), ("users", users)):
        for name, pairs in tables.items():
            lines += ["", f"[{section}.{json.dumps(name)}]", *_pairs(pairs)]
    return "\n".join(lines) + "\n"


def _pairs(pairs: Settings) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in pairs.items()]


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def numbers(row: Mapping[str, str | None]) -> dict[str, int]:
    """The columns of a console's row that are whole numbers."""
    return {name: int(value) for name, value in row.items() if value and value.isdigit()}


def default_config(
    port: int,
    server_port: int,
    databases: Mapping[str, Settings] | None = None,
    users: Mapping[str, Settings] | None = None,
    **settings: Any,
) -> str:
    """The configuration of most tests: databases app and other on a server of 127.0.0.1, and what is given on top.

    Users for whom no password is given exist and have none, as `trust` needs it; an auth_file says itself who exists.
    """
    exists = {} if "auth_file" in settings else {"password": ""}
    place = {"host": "127.0.0.1", "port": server_port}
    return config_text(
        {**DEFAULTS, "listen_port": port, **settings},
        {name: {**place, **pairs} for name, pairs in (databases or {"app": {}, "other": {}}).items()},
        {name: {**exists, **pairs} for name, pairs in ({key: {} for key in USERS} | dict(users or {})).items()},
    )


def new_port() -> int:
    """A port for a pooler."""
    return free_port()
