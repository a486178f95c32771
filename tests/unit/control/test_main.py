"""The control process as a process: signals, exit status, pid file, log, words to systemd."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.control import FAKE, write_config
from harness.waiting import free_port
from pglido.control import daemon as process

PROGRAM = """
import sys
from pglido.control import supervisor
from pglido.control.main import run
supervisor.GRACE = 0.5
sys.exit(run(sys.argv[1], command=tuple(sys.argv[2:])))
"""


class Daemon:
    def __init__(self, popen: subprocess.Popen[str], port: int, config: Path) -> None:
        self.popen = popen
        self.port = port
        self.config = config
        self.heard: list[str] = []

    def until(self, text: str) -> str:
        """Read the log up to a line with this text."""
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.heard.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not in the log:\n" + "".join(self.heard))

    def say(self, text: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port)) as sock:
            sock.sendall(text.encode() + b"\n")
            return sock.makefile().readline().strip()

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self) -> int:
        assert self.popen.stderr is not None
        self.heard += self.popen.stderr.readlines()
        return self.popen.wait(20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    daemons: list[Daemon] = []

    def begin(mode: str = "", more: str = "", **settings: object) -> Daemon:
        port = free_port()
        config = write_config(tmp_path / "pglido.toml", port, **settings)  # type: ignore[arg-type]
        text = config.read_text().replace("[pglido]", f"[pglido]\nworkers = 2\n{more}")
        config.write_text(text)
        popen = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(config), *FAKE],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "FAKE_WORKER": mode},
        )
        daemons.append(Daemon(popen, port, config))
        return daemons[-1]

    yield begin
    for daemon in daemons:
        if daemon.popen.poll() is None:
            daemon.popen.kill()
        daemon.popen.wait(20)
        assert daemon.popen.stderr is not None
        daemon.popen.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_it_with_status_0(start, number):
    daemon = start()
    daemon.until("ready: 127.0.0.1:")
    daemon.signal(number)
    assert daemon.end() == 0
    assert "stopped" in daemon.heard[-1]


def test_the_second_signal_does_not_wait(start):
    daemon = start("deaf")
    daemon.until("ready: 127.0.0.1:")
    daemon.signal(signal.SIGTERM)
    daemon.until("after transactions")
    daemon.signal(signal.SIGTERM)
    daemon.until("shutting down (now)")
    assert daemon.end() == 0
    assert any("killed" in line for line in daemon.heard)


def test_shutdown_timeout_bounds_the_wait(start):
    daemon = start("deaf", shutdown_timeout=1)
    daemon.until("ready: 127.0.0.1:")
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0


def test_hangup_reloads_and_survives_a_broken_file(start):
    daemon = start()
    daemon.until("ready: 127.0.0.1:")
    whole = daemon.config.read_text()
    daemon.config.write_text(whole + "\nnonsense")
    daemon.signal(signal.SIGHUP)
    daemon.until("reload failed")
    daemon.config.write_text(whole.replace("pool_size = 4", "pool_size = 9"))
    daemon.signal(signal.SIGHUP)
    assert "4 -> 9" in daemon.until("databases.app.pool_size")
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0


def test_a_worker_that_cannot_boot_ends_it_with_status_1(start):
    daemon = start("fail")
    assert daemon.end() == 1
    assert "the moon is in the wrong phase" in daemon.heard[-1]


def test_a_broken_file_is_told_on_stderr(start, tmp_path):
    daemon = start(more="listen_prot = 5")
    assert daemon.end() == 1
    assert "listen_prot" in daemon.heard[0]
    assert "listen_port" in daemon.heard[0]


def test_an_address_in_use_is_told_on_stderr(start):
    first = start()
    first.until("ready: 127.0.0.1:")
    second = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(first.config), *FAKE],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert "Address already in use; is another pooler running?" in second.stderr


def test_workers_end_when_the_control_process_is_killed(start):
    daemon = start()
    daemon.until("ready: 127.0.0.1:")
    pid = int(daemon.say("pid"))
    watched = os.pidfd_open(pid)
    daemon.signal(signal.SIGKILL)

    async def gone() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(watched, ended.set)
        await asyncio.wait_for(ended.wait(), 20)

    asyncio.run(gone())
    os.close(watched)


def test_the_pid_file_is_there_while_it_runs(start, tmp_path):
    pidfile = tmp_path / "pglido.pid"
    daemon = start(more=f'pidfile = "{pidfile}"')
    daemon.until("ready: 127.0.0.1:")
    assert int(pidfile.read_text()) == daemon.popen.pid
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
    assert not pidfile.exists()


def test_a_pid_file_in_use_is_refused_a_stale_one_is_not(start, tmp_path):
    pidfile = tmp_path / "pglido.pid"
    pidfile.write_text("1\n")
    daemon = start(more=f'pidfile = "{pidfile}"')
    daemon.until("ready: 127.0.0.1:")
    with pytest.raises(process.CannotStart, match=f"already running as process {daemon.popen.pid}"):
        process.PidFile(str(pidfile))


def test_an_unknown_system_user_is_refused(start):
    with pytest.raises(process.CannotStart, match="no system user 'nosuchuser'"):
        process.account("nosuchuser")
    assert start(more='user = "nosuchuser"').end() == 1


BECOME = """
import os
from pglido.control.daemon import account, become
become("nobody", account("nobody"))
print(*os.getresuid(), *os.getresgid(), *os.getgroups())
"""


def test_root_is_given_up_for_good_and_others_cannot_become_anyone():
    found = subprocess.run([sys.executable, "-c", BECOME], capture_output=True, text=True, check=False)
    if os.geteuid() == 0:
        assert "0" not in found.stdout.split()
        assert found.returncode == 0
    else:
        assert "only root can become 'nobody'" in found.stderr
    assert process.account(pwd.getpwuid(os.geteuid()).pw_name) is None


def test_root_is_refused_unless_it_is_named(monkeypatch):
    monkeypatch.setattr(process.os, "geteuid", lambda: 0)
    with pytest.raises(process.CannotStart, match="should not run as root"):
        process.account("")
    assert process.account("root") is None
    monkeypatch.setattr(process.os, "getpid", lambda: 1)
    assert process.account("") is None


def test_nobody_needs_to_be_named_but_root(monkeypatch):
    monkeypatch.setattr(process.os, "geteuid", lambda: 4711)
    assert process.account("") is None
    with pytest.raises(process.CannotStart, match="only root can become"):
        process.account("root")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused and warned of")
def test_who_runs_as_root_is_told(start, tmp_path):
    daemon = start()
    daemon.until("pglido runs as root")
    bare = write_config(tmp_path / "bare.toml", free_port())
    bare.write_text(bare.read_text().replace('user = "root"\n', ""))
    command = [sys.executable, "-c", PROGRAM, str(bare), *FAKE]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stdout) == (1, "")
    assert 'user = "root" to stay root' in found.stderr
    assert found.stderr.count("\n") == 1


@contextmanager
def systemd(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield sock


def test_systemd_is_told_when_it_is_ready_reloads_and_stops(start, tmp_path, monkeypatch):
    with systemd(tmp_path / "notify", monkeypatch) as sock:
        daemon = start()
        assert sock.recv(1000).startswith(b"READY=1\nSTATUS=2 workers")
        daemon.signal(signal.SIGHUP)
        assert sock.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert sock.recv(1000) == b"READY=1"
        daemon.signal(signal.SIGTERM)
        assert sock.recv(1000) == b"STOPPING=1"
        assert daemon.end() == 0
