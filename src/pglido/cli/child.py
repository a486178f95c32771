"""pglido as a child process of the demo: start it, wait until it answers, stop it in order."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ..protocol.messages import SSL_REQUEST

START_SECONDS = 30.0
STOP_SECONDS = 45.0  # more than shutdown_timeout's default


class ChildError(RuntimeError):
    """pglido did not start; the text says why, with the end of its log."""


def own_user() -> str:
    """The setting `user` that lets pglido run as who we are: root must be named."""
    return "root" if os.geteuid() == 0 else ""


class Child:
    """One running pglido; stopped at the end of its `with` block."""

    def __init__(self, configuration: str, folder: Path, port: int) -> None:
        self.port = port
        self.log = folder / "pglido.log"
        file = folder / "pglido.toml"
        file.write_text(configuration)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pglido.cli.main", "serve", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C in a terminal is for us alone; we then stop it in order
            )
        atexit.register(self.stop)  # for a signal that comes before the `with` block is entered

    def __enter__(self) -> Child:
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def log_tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:].strip()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                raise ChildError(f"pglido ended with status {self.process.returncode}:\n{self.log_tail()}")
            if self._answers():
                return
            time.sleep(0.05)
        raise ChildError(f"pglido did not answer within {START_SECONDS:.0f} s:\n{self.log_tail()}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                probe.sendall(SSL_REQUEST)
                return probe.recv(1) in (b"S", b"N")
        except OSError:
            return False

    def stop(self) -> None:
        """Have it finish and stop; does nothing when it has ended."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port(preferred: int) -> int:
    """`preferred` if nobody listens there, else a port the kernel chooses."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ChildError("no free port on 127.0.0.1")
