"""A process that is out of descriptors says so, and goes on: nobody ends for what it could not be given."""

import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler, default_config
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire

from .test_hanging_worker import hanging, processes, wires_by_worker, worker_of


@contextmanager
def limited(process: psutil.Process, limit: int) -> Iterator[None]:
    """The process gets only descriptors below this number meanwhile; those that it has, it keeps."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))


def tried_to_reload(pool: Pooler, server: Cluster, **settings: Any) -> str:
    """What the log says of a reload by which a database is added."""
    settings["databases"] = {"app": {}, "more": {"dbname": "app"}}
    pool.path.write_text(default_config(pool.port, server.port, **settings))
    before = pool.log.count("got SIGHUP")
    pool.signal(signal.SIGHUP)
    eventually(lambda: pool.log.count("got SIGHUP") > before)

    def said() -> str:
        rest = pool.log.split("got SIGHUP")[-1]
        return rest if "reload failed" in rest or "reload: done" in rest else ""

    eventually(lambda: bool(said()))
    return said()


def test_a_worker_without_descriptors_outlives_a_reload_that_needs_some(
    pooler: MakePooler, cluster: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    tls = {"client_tls_sslmode": "allow", "client_tls_cert_file": certificates.server.certificate}
    tls["client_tls_key_file"] = certificates.server.key
    pool = pooler(workers=1, **tls)
    (worker,) = pool.workers()
    busy = pool.wire()
    busy.run("BEGIN")
    with limited(worker, 3):
        said = tried_to_reload(pool, cluster, workers=1, **tls)
        assert f"worker 0 (process {worker.pid}): can't be loaded: Too many open files" in said
        assert "the old configuration stays in force" in said
        said = tried_to_reload(pool, cluster, workers=1, logfile=str(tmp_path / "own.log"))
        assert f"worker 0 (process {worker.pid}): out of file descriptors" in said
    assert "bug" not in pool.log
    assert busy.one("SELECT 'still here'") == "still here"
    assert "reload: done" in tried_to_reload(pool, cluster, workers=1, **tls)
    assert pool.wire(database="more").one("SELECT 1") == "1"
    assert [one.pid for one in pool.workers()] == [worker.pid]


def test_a_reload_that_needs_no_descriptors_needs_none(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    (worker,) = pool.workers()
    busy = pool.wire()
    busy.run("BEGIN")
    with limited(worker, 3):
        assert "reload: done" in tried_to_reload(pool, cluster, workers=1)
    assert busy.one("SELECT 'still here'") == "still here"
    assert pool.wire(database="more").one("SELECT 1") == "1"
    assert [one.pid for one in pool.workers()] == [worker.pid]


def test_the_control_process_without_descriptors_refuses_a_reload_in_words(
    pooler: MakePooler, cluster: Cluster
) -> None:
    pool = pooler(workers=1)
    with limited(psutil.Process(pool.pid), 3):
        assert "Too many open files" in tried_to_reload(pool, cluster, workers=1)
    assert "bug" not in pool.log
    assert "reload: done" in tried_to_reload(pool, cluster, workers=1)


@pytest.mark.parametrize("short", ["worker", "control"])
def test_sockets_that_could_not_be_passed_on_are_passed_on_later(pooler: MakePooler, short: str) -> None:
    pool = pooler(workers=2, worker_timeout=600)
    by_worker, parts = wires_by_worker(pool), processes(pool)
    with hanging(parts[0]):
        with limited(parts[1] if short == "worker" else psutil.Process(pool.pid), 3):
            pool.logs("out of file descriptors" if short == "worker" else "gets no sockets of worker 0 yet")
            assert all(wire.one("SELECT 1") == "1" for wire in by_worker[1])

        def all_served() -> bool:
            """A kernel that knows sixty connections has had some of them wait with the worker that hangs."""
            try:
                return {worker_of(pool, came(pool)) for _ in range(60)} == {1}
            except (OSError, Closed):
                return False

        eventually(all_served, within=30)
    assert "bug" not in pool.log


def came(pool: Pooler) -> Wire:
    """A client that does not wait for long."""
    with pool.dial() as wire:
        wire.sock.settimeout(2)
        return wire.login()


def consoles(pool: Pooler, user: str) -> list[Wire]:
    """As many as there are places for; the next is told why not."""
    found = []
    refused: ServerError | None = None
    while refused is None and len(found) < 60:
        try:
            found.append(Wire.dial(pool.address).login(user, "pglido"))
        except ServerError as error:
            refused = error
    assert "53300: no more connections allowed (out of file descriptors)" in str(refused)
    return found


def test_consoles_leave_descriptors_to_the_control_process(pooler: MakePooler) -> None:
    pool = pooler(workers=2, stats_users=["app2"])
    control, before = psutil.Process(pool.pid), [one.pid for one in pool.workers()]
    with limited(control, control.num_fds() + 30):
        # Admins have some more descriptors, and in the end none either; a worker can be replaced all the same.
        others, admins = consoles(pool, "app2"), consoles(pool, "postgres")
        assert others
        assert len(admins) > 3
        assert all(one.run("SHOW WORKERS") for one in others + admins)
        pool.workers()[0].kill()
        eventually(lambda: len(pool.workers()) == 2 and before != [one.pid for one in pool.workers()])
        pool.logs(r"ready \(process")
    assert pool.wire().one("SELECT 1") == "1"
    assert "bug" not in pool.log


def test_a_console_that_could_not_be_passed_on_is_closed_and_nobody_else(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    (worker,) = pool.workers()
    inside = pool.wire()
    with limited(psutil.Process(pool.pid), 3):
        with pytest.raises(Closed):
            Wire.dial(pool.address).login("postgres", "pglido")
        assert inside.one("SELECT 1") == "1"
    assert pool.console("SHOW VERSION")
    assert [one.pid for one in pool.workers()] == [worker.pid]
    pool.logs("console refused to .*: out of file descriptors")


def test_a_worker_that_ends_while_none_can_be_started_is_replaced_later(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    (worker,) = pool.workers()
    with limited(psutil.Process(pool.pid), 3):
        worker.kill()
        pool.logs("worker 0 cannot be started: .*Too many open files")
    eventually(lambda: pool.wire().one("SELECT 1") == "1")


def test_without_descriptors_the_control_process_ends_when_it_is_told(
    pooler: MakePooler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        pool = pooler(workers=1, shutdown_timeout=5)
        resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, (3, 3))
        pool.signal(signal.SIGTERM)
        assert pool.ended() == 0
    pool.logs("cannot notify systemd: Too many open files")
    assert "bug" not in pool.log
