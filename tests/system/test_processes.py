"""Control process and workers: signals, shutdown, reload, workers that die, configurations that can't work."""

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile
from harness.pooler import Pooler, default_config, new_port
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire, alive, error_in, kinds

PIDFD_GETFD = 438  # the system call's number, on every architecture


def spread(pool: Pooler, count: int = 40) -> list[Wire]:
    """Clients, so many that every worker has some."""
    return [pool.wire() for _ in range(count)]


# --- the end ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_finishes_transactions(pooler: MakePooler, cluster: Cluster, number: signal.Signals) -> None:
    pool = pooler(shutdown_timeout=20)
    holder = cluster.wire()
    holder.run("BEGIN; LOCK TABLE notes")
    idle, inside, running = pool.wire(), pool.wire(), pool.wire()
    inside.run("BEGIN")
    running.send(m.query("SELECT count(*), 'done' FROM notes"))
    eventually(lambda: pool.pool()["sv_active"] == 2)
    pool.signal(number)
    assert error_in(idle.rest())["C"] == "57P01"
    assert inside.one("SELECT 'go on'") == "go on"
    holder.run("ROLLBACK")
    assert running.until()[1].row[1] == b"done"
    inside.send(m.query("COMMIT"))
    assert kinds(inside.until()) == "CZ"
    assert error_in(inside.rest())["C"] == "57P01"
    assert pool.ended() == 0


def test_shutdown_takes_no_new_clients(pooler: MakePooler) -> None:
    pool = pooler(shutdown_timeout=20)
    inside = pool.wire()
    inside.run("BEGIN")
    pool.signal(signal.SIGTERM)
    eventually(lambda: not accepts(pool))
    inside.run("COMMIT")
    assert pool.ended() == 0


def accepts(pool: Pooler) -> bool:
    """Whether a new client is served."""
    try:
        with pool.dial() as wire:
            wire.sock.settimeout(2)
            wire.login()
            return True
    except (OSError, Closed, ServerError):
        return False


def test_shutdown_timeout(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(shutdown_timeout=0.5)
    inside = pool.wire()
    inside.run("BEGIN")  # and never ends it
    pool.signal(signal.SIGTERM)
    assert error_in(inside.rest())["S"] == "FATAL"
    assert pool.ended() == 0
    cluster.settles(0)


def test_second_signal_stops_now(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(shutdown_timeout=600)
    inside = pool.wire()
    inside.run("BEGIN")
    pool.signal(signal.SIGTERM)
    pool.logs("(?i)shutting down|SIGTERM")
    pool.signal(signal.SIGTERM)
    assert pool.ended() == 0
    inside.rest()
    cluster.settles(0)


def test_shutdown_rolls_back_what_it_cuts_off(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(shutdown_timeout=0)
    inside = pool.wire()
    inside.run("BEGIN; INSERT INTO notes VALUES (9, 'x')")
    pool.signal(signal.SIGTERM)
    assert pool.ended() == 0
    cluster.settles(0)
    assert cluster.admin("SELECT * FROM notes", "app") == []


def test_workers_end_with_their_control_process(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    pool.wire().run("SELECT 1")
    family = pool.workers()
    assert len(family) == 2
    pool.signal(signal.SIGKILL)
    pool.ended()
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []
    cluster.settles(0)


def test_workers_end_with_their_control_process_though_their_channels_stay_open(pooler: MakePooler) -> None:
    pool = pooler()
    pool.wire().run("SELECT 1")
    family = pool.workers()
    held = hold_sockets(pool.pid)  # nobody reads them, and the workers see no end of file
    pool.signal(signal.SIGKILL)
    pool.ended()
    _, left = psutil.wait_procs(family, timeout=20)
    for fd in held:
        os.close(fd)
    assert left == []
    assert "is gone" in pool.log


def hold_sockets(pid: int) -> list[int]:
    """Copies of all sockets of a process, by pidfd_getfd(2)."""
    whole = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    copies = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            copy = whole.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            assert copy >= 0, os.strerror(ctypes.get_errno())
            copies.append(copy)
    os.close(pidfd)
    return copies


# --- workers ---


def test_dead_worker_is_replaced(pooler: MakePooler) -> None:
    pool = pooler(workers=3)
    wires = spread(pool)
    first = {worker.pid for worker in pool.workers()}
    pool.workers()[0].kill()
    eventually(lambda: len(pool.workers()) == 3 and {worker.pid for worker in pool.workers()} != first)
    living = [wire for wire in wires if alive(wire)]
    assert 0 < len(living) < len(wires)
    assert all(alive(wire) for wire in spread(pool))


def test_others_notice_nothing_of_a_dead_worker(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    wires = spread(pool)
    for wire in wires:
        wire.run("SELECT 1")
    victim = pool.workers()[0]
    victim.kill()
    victim.wait(5)
    told = [wire for wire in wires if not alive(wire)]
    kept = [wire for wire in wires if wire not in told]
    assert told
    assert kept
    for wire in kept:
        wire.run("BEGIN")
        assert wire.one("SELECT 1") == "1"
        wire.run("COMMIT")


def test_leases_of_a_dead_worker_come_back(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=2, default_pool_size=6)
    for _ in range(3):
        holders = spread(pool, 6)
        for wire in holders:
            wire.send(m.query("BEGIN"))
        cluster.settles(6, "state = 'idle in transaction'")
        for worker in pool.workers():
            worker.kill()
        for wire in holders:
            wire.rest()
        cluster.settles(0)
        eventually(lambda: accepts(pool))
    holders = spread(pool, 6)
    for wire in holders:
        wire.send(m.query("BEGIN"))
    cluster.settles(6, "state = 'idle in transaction'")


def test_max_client_conn_is_right_after_a_worker_died(pooler: MakePooler) -> None:
    pool = pooler(workers=2, max_client_conn=20)
    wires = spread(pool, 20)
    for worker in pool.workers():
        worker.kill()
    for wire in wires:
        wire.rest()
    eventually(lambda: accepts(pool))
    eventually(lambda: all_in(pool, 20))


def all_in(pool: Pooler, count: int) -> bool:
    """Whether so many clients fit at once, and not one more."""
    wires: list[Wire] = []
    try:
        for _ in range(count):
            wires.append(pool.wire())
        with pytest.raises(ServerError):
            pool.wire()
        return True
    except ServerError:
        return False
    finally:
        for wire in wires:
            wire.close()


def test_killing_workers_again_and_again_does_not_end_it(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    for _ in range(4):
        for worker in pool.workers():
            worker.kill()
        eventually(lambda: accepts(pool), within=15)
    assert pool.process is not None
    assert pool.process.poll() is None


def test_stopped_worker_does_not_stop_the_others(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    mine: list[list[Wire]] = [[], []]
    for wire in spread(pool):
        mine[(wire.pid >> 23) - 1].append(wire)
    pids = {row["worker"]: int(row["pid"] or 0) for row in pool.console("SHOW WORKERS")}
    stopped = psutil.Process(pids["0"])
    stopped.suspend()
    try:
        for wire in mine[0]:
            wire.send(m.query("SELECT 1"))
        assert mine[1]
        assert all(wire.one("SELECT 1") == "1" for wire in mine[1])
        assert mine[0]
        assert all(wire.silent(0.001) for wire in mine[0])
    finally:
        stopped.resume()
    assert all(kinds(wire.until()) == "TDCZ" for wire in mine[0])


# --- reload ---


def changed(pool: Pooler, server: Cluster, **more: object) -> str:
    """A configuration for the same port."""
    return default_config(pool.port, server.port, **more)  # type: ignore[arg-type]


def test_reload_adds_changes_and_removes(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=1)
    wire = pool.wire()
    with pytest.raises(ServerError, match="no such database"):
        pool.wire(database="added")
    pool.reload(changed(pool, cluster, default_pool_size=4, databases={"app": {}, "added": {"dbname": "other"}}))
    eventually(lambda: knows(pool, "added"))
    assert pool.wire(database="added").one("SELECT current_database()") == "other"
    wires = spread(pool, 4)
    for one in wires:
        one.send(m.query("BEGIN"))
    cluster.settles(4, "state = 'idle in transaction'")
    assert all(kinds(one.until()) == "CZ" for one in wires)
    for one in wires:
        one.run("COMMIT")
    assert wire.one("SELECT 1") == "1"
    eventually(lambda: not knows(pool, "other"))


def knows(pool: Pooler, database: str) -> bool:
    """Whether a database is served, by every worker."""
    try:
        for _ in range(6):
            with pool.wire(database=database) as wire:
                wire.run("SELECT 1")
    except ServerError:
        return False
    return True


def test_reload_of_a_broken_file_changes_nothing(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    wire = pool.wire()
    pool.reload("[pglido]\nlisten_prot = 1\n")
    pool.logs("listen_port")  # what was meant
    pool.reload("[pglido\n")
    assert wire.one("SELECT 1") == "1"
    assert pool.wire().one("SELECT 1") == "1"
    pool.reload(changed(pool, cluster))
    assert pool.wire().one("SELECT 1") == "1"


def test_reload_moves_a_database_to_another_server(pooler: MakePooler, cluster: Cluster, cluster16: Cluster) -> None:
    pool = pooler()
    wire, inside = pool.wire(), pool.wire()
    inside.run("BEGIN")
    assert wire.one("SHOW port") == str(cluster.port)
    pool.reload(changed(pool, cluster16))
    eventually(lambda: wire.one("SHOW port") == str(cluster16.port))
    assert inside.one("SHOW port") == str(cluster.port)
    inside.run("COMMIT")
    assert inside.one("SHOW port") == str(cluster16.port)


def test_reload_says_what_needs_a_restart(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    pool.reload(changed(pool, cluster, listen_backlog=77))
    pool.logs("listen_backlog.*restart|restart.*listen_backlog")


def test_many_reloads_under_load(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=4)
    over = threading.Event()
    served = [0, 0]

    def work(number: int) -> None:
        with pool.wire() as wire:
            while not over.is_set():
                assert wire.one("SELECT 1") == "1"
                served[number] += 1

    with Meanwhile(lambda: work(0)) as first, Meanwhile(lambda: work(1)) as second:
        try:
            for turn in range(8):
                pool.reload(changed(pool, cluster, default_pool_size=2 + turn % 3))
                more = [count + 10 for count in served]
                eventually(lambda more=more: served[0] >= more[0] and served[1] >= more[1])
        finally:
            over.set()
        first.result()
        second.result()


# --- starts that can't work ---


def refused(folder: Path, config: str, port: int) -> str:
    """The log of a start that must fail at once."""
    pool = Pooler(folder, config, port)
    pool.spawn()
    try:
        assert pool.ended(within=15) != 0
    finally:
        Pooler.live.remove(pool)
    assert "Traceback" not in pool.log
    return pool.log


def test_port_in_use(tmp_path: Path, cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        log = refused(tmp_path, default_config(port, cluster.port), port)
    assert str(port) in log
    assert "in use" in log


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("listen_prot = 1", "listen_port"),
        ("pool_mode = 'transacton'", "transaction"),
        ("default_pool_size = 'many'", "default_pool_size"),
        ("default_pool_size = -1", "default_pool_size"),
        ("client_tls_sslmode = 'require'", "client_tls"),
        ("auth_file = '/does/not/exist'", "/does/not/exist"),
        ("listen_backlog = 5\nlisten_backlog = 6", ":3"),
    ],
)
def test_configuration_that_cannot_work(tmp_path: Path, cluster: Cluster, line: str, said: str) -> None:
    port = new_port()
    config = default_config(port, cluster.port).replace("[pglido]\n", f"[pglido]\n{line}\n")
    log = refused(tmp_path, config, port)
    assert said in log
    assert "pglido.toml:" in log


def test_worker_that_cannot_boot_ends_it_without_a_loop(tmp_path: Path, cluster: Cluster) -> None:
    port = new_port()
    certificate = tmp_path / "broken.pem"
    certificate.write_text("no certificate")
    config = default_config(
        port,
        cluster.port,
        client_tls_sslmode="require",
        client_tls_cert_file=certificate,
        client_tls_key_file=certificate,
    )
    log = refused(tmp_path, config, port)
    assert "broken.pem" in log
    assert len(log.splitlines()) < 40


def test_check_says_so_without_starting(tmp_path: Path, cluster: Cluster) -> None:
    port = new_port()
    path = tmp_path / "pglido.toml"

    def check(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pglido.cli.main", "check", *options, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    path.write_text(default_config(port, cluster.port, users={"app": {"password": "x"}}))
    assert check().returncode == 0
    path.write_text(default_config(port, cluster.port, default_pol_size=3))
    wrong = check()
    assert wrong.returncode != 0
    assert "default_pool_size" in wrong.stdout + wrong.stderr
    place = {"user": "app"}
    path.write_text(default_config(port, cluster.port, databases={"app": place, "gone": {**place, "port": new_port()}}))
    tried = check("--connect")
    assert tried.returncode != 0
    assert "gone" in tried.stdout + tried.stderr
    path.write_text(default_config(port, cluster.port, databases={"app": place}))
    assert check("--connect").returncode == 0


# --- files and sockets ---


def test_unix_socket(pooler: MakePooler, tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    pool = pooler(unix_socket_dir=folder, unix_socket_mode="0700")
    path = folder / f".s.PGSQL.{pool.port}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    wires = [Wire.dial(str(path)).login() for _ in range(10)]
    assert [wire.one("SELECT 1") for wire in wires] == ["1"] * 10
    other = Wire.dial(str(path))
    wires[0].send(m.query("SELECT pg_sleep(60)"))
    eventually(lambda: pool.pool()["sv_active"] == 1)
    other.send(m.cancel_request(wires[0].pid, wires[0].key))
    assert error_in(wires[0].until())["C"] == "57014"
    pool.stop()
    assert not path.exists()


def test_unix_socket_left_by_a_killed_one_is_taken_over(pooler: MakePooler, tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    pool = pooler(unix_socket_dir=folder)
    family = pool.workers()
    pool.signal(signal.SIGKILL)
    pool.ended()
    psutil.wait_procs(family, timeout=10)
    again = Pooler(tmp_path, pool.path.read_text(), pool.port).start()
    try:
        assert Wire.dial(str(folder / f".s.PGSQL.{pool.port}")).login().one("SELECT 1") == "1"
    finally:
        again.stop()
        Pooler.live.remove(again)


def test_pidfile(pooler: MakePooler, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pool = pooler(pidfile=path)
    assert int(path.read_text()) == pool.pid
    pool.stop()
    assert not path.exists()


def test_logfile_is_opened_anew_on_sighup(pooler: MakePooler, tmp_path: Path) -> None:
    path = tmp_path / "own.log"
    pool = pooler(logfile=path)
    pool.wire().bye()
    eventually(lambda: "app" in path.read_text())
    path.rename(tmp_path / "old.log")
    pool.signal(signal.SIGHUP)
    eventually(path.exists)
    eventually(lambda: bool(logged_anew(pool, path)))


def logged_anew(pool: Pooler, path: Path) -> bool:
    """Let a client come and look whether the file tells."""
    pool.wire(application_name="after").bye()
    return "address=127.0.0.1" in path.read_text()


def test_no_descriptor_is_lost(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=5)

    def use() -> None:
        for number in range(60):
            wire = pool.wire()
            wire.run("SELECT 1")
            if number % 3 == 0:
                wire.bye()
            elif number % 3 == 1:
                wire.close()
            else:
                wire.send(b"\xff" * 20)
                wire.rest()
            with pool.dial() as half:
                half.send(b"\0\0")

    use()
    eventually(lambda: pool.pool()["cl_active"] == 0)
    before = pool.descriptors()
    for _ in range(3):
        use()
    eventually(lambda: pool.descriptors() <= before + 12)


def test_listening_twice_on_one_port_is_refused(pooler: MakePooler, cluster: Cluster, tmp_path: Path) -> None:
    pool = pooler()
    folder = tmp_path / "second"
    folder.mkdir()
    log = refused(folder, default_config(pool.port, cluster.port), pool.port)
    assert "in use" in log
    assert pool.wire().one("SELECT 1") == "1"


def test_workers_are_as_many_as_asked_for(pooler: MakePooler) -> None:
    assert len(pooler(workers=3).workers()) == 3
    assert len(pooler(workers="auto").workers()) == len(os.sched_getaffinity(0))


# --- sockets of a service manager ---

# Makes the socket of that number the first one, and becomes what follows.
AS_SERVICE_MANAGER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_sockets_that_a_service_manager_passes_on(tmp_path: Path, cluster: Cluster) -> None:
    """Its clients wait in the queue while pglido is restarted; the addresses of the settings are not opened."""
    port = new_port()
    with socket.create_server(("127.0.0.1", 0)) as passed_on:
        address = passed_on.getsockname()
        config = tmp_path / "pglido.toml"
        config.write_text(default_config(port, cluster.port, workers=2))
        command = [sys.executable, "-c", AS_SERVICE_MANAGER, str(passed_on.fileno())]
        for _ in range(2):
            early = Wire.dial(address)
            early.hello("app", "app")
            with subprocess.Popen(
                [*command, sys.executable, "-m", "pglido.cli.main", "serve", str(config)],
                pass_fds=(passed_on.fileno(),),
            ) as pglido:
                with early:
                    early.until()
                    assert alive(early)
                with pytest.raises(ConnectionRefusedError):
                    Wire.dial(("127.0.0.1", port))
                pglido.terminate()
                assert pglido.wait(30) == 0
