"""A reload is in force as a whole or not at all, says what is wrong and where, and workers need no file afterwards."""

import re
import signal
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile
from harness.pooler import Pooler, default_config
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire, alive, error_in

WORKERS = 2


class Reload:
    """What came of RELOAD on the console: `error` is empty where it worked."""

    def __init__(self, pool: Pooler) -> None:
        with Wire.dial(pool.address).login("postgres", "pglido") as console:
            console.sock.settimeout(30)
            console.send(m.query("RELOAD"))
            answer = console.until()
        errors = [one.fields for one in answer if one.kind == "E"]
        self.error = errors[0]["H"] if errors else ""
        self.code = errors[0]["C"] if errors else ""
        self.notices = [one.fields["M"] for one in answer if one.kind == "N"]


def write(pool: Pooler, server: Cluster, **more: Any) -> None:
    pool.path.write_text(default_config(pool.port, server.port, **more))


def tried(pool: Pooler, database: str, count: int = 30) -> set[tuple[int, bool]]:
    """By which worker, and with what result, so many clients were let in to a database."""
    found: set[tuple[int, bool]] = set()
    for _ in range(count):
        with pool.wire() as probe:
            worker = (probe.pid >> 23) - 1
        try:
            with pool.wire(database=database) as wire:
                found.add(((wire.pid >> 23) - 1, True))
        except ServerError:
            found.add((worker, False))
    return found


def everywhere(pool: Pooler, database: str, there: bool) -> bool:
    """Whether all clients are let in, or none."""
    return {known for _, known in tried(pool, database)} == {there}


def tls(certificates: Certificates, folder: Path) -> dict[str, Any]:
    """Settings with certificate, key and authority of the pooler's own, to be changed at will."""
    files = {"cert": certificates.server.certificate, "key": certificates.server.key, "ca": certificates.authority}
    found: dict[str, Any] = {"client_tls_sslmode": "allow"}
    for name, source in files.items():
        path = folder / f"{name}.pem"
        path.write_bytes(source.read_bytes())
        found[f"client_tls_{name}_file"] = path
    return found


Break = Callable[[Path, Certificates], dict[str, Any]]


def key_of_another(folder: Path, certificates: Certificates) -> dict[str, Any]:
    (folder / "key.pem").write_bytes(certificates.fresh.key.read_bytes())
    return {}


def no_certificate(folder: Path, certificates: Certificates) -> dict[str, Any]:
    (folder / "cert.pem").write_text("no certificate")
    return {}


def key_gone(folder: Path, certificates: Certificates) -> dict[str, Any]:
    (folder / "key.pem").unlink()
    return {}


def log_in_a_directory(folder: Path, certificates: Certificates) -> dict[str, Any]:
    return {"logfile": folder}


def auth_file_gone(folder: Path, certificates: Certificates) -> dict[str, Any]:
    return {"auth_file": folder / "gone.txt"}


def server_authority_gone(folder: Path, certificates: Certificates) -> dict[str, Any]:
    return {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": folder / "gone.pem"}


def server_authority_broken(folder: Path, certificates: Certificates) -> dict[str, Any]:
    (folder / "broken.pem").write_text("no certificate")
    return {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": folder / "broken.pem"}


def keepalive_out_of_range(folder: Path, certificates: Certificates) -> dict[str, Any]:
    return {"tcp_keepidle": 1_000_000}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (key_of_another, r"client_tls_key_file: the key in \S+/key.pem does not fit the certificate in \S+/cert.pem"),
        (no_certificate, r"client_tls_cert_file: the file \S+/cert.pem has no certificate"),
        (key_gone, r"client_tls_key_file: the file \S+/key.pem can't be read: No such file"),
        (log_in_a_directory, r"logfile: the file \S+ can't be opened: Is a directory"),
        (auth_file_gone, r"auth_file: the file \S+/gone.txt can't be read"),
        (server_authority_gone, r"server_tls_ca_file: the file \S+/gone.pem can't be read"),
        (server_authority_broken, r"server_tls_ca_file: the file \S+/broken.pem can't be used"),
        (keepalive_out_of_range, r"tcp_keepidle: the kernel does not take 1000000"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_named(
    pooler: MakePooler, cluster: Cluster, certificates: Certificates, tmp_path: Path, damage: Break, said: str
) -> None:
    good = tls(certificates, tmp_path)
    pool = pooler(workers=WORKERS, databases={"app": {}, "other": {}}, **good)
    assert everywhere(pool, "other", there=True)
    whole = pool.path.read_text()
    bad = good | damage(tmp_path, certificates)
    # In the same reload a database goes, one comes, and clients need a password.
    users = {"app": {"password": "secret"}}
    databases: dict[str, Any] = {"app": {}, "added": {"dbname": "other"}}
    write(pool, cluster, databases=databases, users=users, auth_type="scram-sha-256", **bad)
    told = Reload(pool)
    assert told.code == "F0000"
    assert str(pool.path) in told.error
    pool.logs(rf"error control: reload: {pool.path}\S*: {said}")
    pool.logs("error control: reload failed, the old configuration stays in force")
    assert "reload: done" not in pool.log
    assert "auth_type" not in pool.log
    assert everywhere(pool, "other", there=True)
    assert everywhere(pool, "added", there=False)
    assert accepts_tls(pool, certificates)
    # What was in force is what a successor works with, whatever is in the files.
    for worker in pool.workers():
        worker.kill()
        worker.wait(10)
    eventually(lambda: all_ready(pool), within=20)
    assert accepts_tls(pool, certificates)
    assert everywhere(pool, "other", there=True)
    assert everywhere(pool, "added", there=False)
    # And the right files help.
    tls(certificates, tmp_path)
    pool.path.write_text(whole)
    assert Reload(pool).error == ""


def test_successors_need_no_file(
    pooler: MakePooler, cluster: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    users = folder / "users.txt"
    users.write_text('"app" "secret"\n')
    log = folder / "own.log"
    pool = pooler(
        workers=WORKERS, logfile=log, auth_file=users, server_tls_sslmode="prefer", **tls(certificates, folder)
    )
    pool.wire().bye()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    pool.path.unlink()
    for _ in range(2):
        for worker in pool.workers():
            worker.kill()
            worker.wait(10)
        eventually(lambda: accepts_tls(pool, certificates), within=20)
        assert everywhere(pool, "other", there=True)
    assert pool.process is not None
    assert pool.process.poll() is None


def accepts_tls(pool: Pooler, certificates: Certificates) -> bool:
    try:
        with Wire.dial(pool.address) as wire:
            wire.sock.settimeout(5)
            wire.start_tls(certificates.client_context())
            return wire.login().one("SELECT 1") == "1"
    except (OSError, Closed, ServerError, ssl.SSLError):
        return False


def test_a_worker_that_hangs_does_not_hold_a_reload_up(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=WORKERS, worker_timeout=600, databases={"app": {}})
    victim = next(psutil.Process(int(row["pid"] or 0)) for row in pool.console("SHOW WORKERS"))
    victim.suspend()
    try:
        pool.logs("worker 0 .* has not moved")
        write(pool, cluster, worker_timeout=600, databases={"app": {}, "added": {"dbname": "other"}})
        told = Reload(pool)
        assert told.error == ""
        assert len(told.notices) == 1
        assert f"worker 0 (process {victim.pid})" in told.notices[0]
        assert everywhere(pool, "added", there=True)
    finally:
        victim.resume()
    eventually(lambda: all_ready(pool))
    eventually(lambda: {0, 1} == {worker for worker, known in tried(pool, "added") if known})
    assert everywhere(pool, "added", there=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("listen_port", 1), ("listen_addr", "127.0.0.2"), ("listen_backlog", 7), ("unix_socket_dir", "/nowhere")],
)
def test_what_needs_a_restart_is_said_by_the_answer_and_the_log(
    key: str, value: object, pooler: MakePooler, cluster: Cluster
) -> None:
    """Each time, for it is not in force; the rest of the reload is, and what is listened on stays."""
    pool = pooler(workers=WORKERS, query_timeout=5)

    def shown() -> dict[str | None, str | None]:
        return {row["key"]: row["value"] for row in pool.console("SHOW CONFIG")}

    before = shown()
    write(pool, cluster, **{"query_timeout": 6, key: value})
    for _ in range(2):
        (told,) = [text for text in Reload(pool).notices if "restart" in text]
        assert re.fullmatch(rf"reload: {key}: .* -> {value} \(needs a restart\)", told)
    pool.logs(rf"warning control: reload: {key}: .* \(needs a restart\)")
    assert {name for name, value in shown().items() if value != before[name]} == {"query_timeout"}
    write(pool, cluster, query_timeout=6)
    assert [text for text in Reload(pool).notices if "restart" in text] == []


def test_two_consoles_that_reload_at_once(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=WORKERS, databases={"app": {}})
    write(pool, cluster, databases={"app": {}, "added": {"dbname": "other"}})
    with Meanwhile(lambda: Reload(pool)) as first, Meanwhile(lambda: Reload(pool)) as second:
        assert first.result().error == ""
        assert second.result().error == ""
    assert everywhere(pool, "added", there=True)


@pytest.mark.parametrize("whom", ["who has answered", "who has not", "both", "nobody"])
def test_workers_that_are_killed_between_the_phases_never_differ(
    pooler: MakePooler, cluster: Cluster, whom: str
) -> None:
    pool = pooler(workers=WORKERS, worker_timeout=600, databases={"app": {}})
    for turn in range(4):
        eventually(lambda: all_ready(pool), within=20)
        there = not everywhere(pool, "added", there=True)
        write(
            *(pool, cluster),
            worker_timeout=600,
            databases={"app": {}} | ({"added": {"dbname": "other"}} if there else {}),
        )
        slow, quick = pool.workers()
        slow.suspend()  # draws the first phase out
        pool.signal(signal.SIGHUP)
        eventually(lambda turn=turn: pool.log.count("got SIGHUP") == turn + 1)
        for process in {"who has answered": [quick], "who has not": [slow], "both": [slow, quick]}.get(whom, []):
            process.kill()
        with suppress(psutil.NoSuchProcess):
            slow.resume()
        eventually(lambda turn=turn: len(outcomes(pool)) == turn + 1)
        eventually(lambda: all_ready(pool), within=20)
        decided = there if outcomes(pool)[-1] == "reload: done" else not there
        assert everywhere(pool, "added", there=decided)
        assert whom == "both" or decided == there


def outcomes(pool: Pooler) -> list[str]:
    """How each reload ended."""
    return re.findall("reload: done|reload failed", pool.log)


def all_ready(pool: Pooler) -> bool:
    """Whether all workers serve, so far as anybody can tell."""
    try:
        return {row["state"] for row in pool.console("SHOW WORKERS")} == {"ready"}
    except (Closed, OSError, ServerError):
        return False


def test_setting_that_is_set_on_the_console_holds_in_all_workers_until_a_reload(pooler: MakePooler) -> None:
    pool = pooler(workers=3, default_pool_size=30)
    wires = [pool.wire() for _ in range(15)]
    pool.console("SET query_timeout = 0.2")
    pool.workers()[0].kill()
    eventually(lambda: pool.log.count("is ready (process") == 4)
    wires = [wire for wire in wires if alive(wire)] + [pool.wire() for _ in range(15)]
    for wire in wires:
        wire.send(m.query("SELECT pg_sleep(60)"))
    for wire in wires:
        assert error_in(wire.rest())["M"] == "query timeout"
    pool.console("RELOAD")
    assert pool.wire().one("SELECT 1 FROM pg_sleep(0.5)") == "1"
