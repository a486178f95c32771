"""`pglido check` finds what is wrong in a file and, with --connect, at its databases."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cluster import Cluster
from harness.tls import Certificates
from pglido import embedded
from pglido.cli.main import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pglido.toml"


def check(file: Path, text: str, *options: str) -> Result:
    file.write_text(text)
    return CliRunner().invoke(main, ["check", *options, str(file)])


TRUST = "[pglido]\nauth_type = 'trust'\n"


def connect(file: Path, database: str, more: str = "[users.app]\npassword = ''\n") -> Result:
    return check(file, f"{TRUST}[databases.app]\n{database}\n{more}", "--connect")


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A server that answers the first packet with `reply` and closes; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "client_tls_sslmode = 'require'\nclient_tls_cert_file = 'server.crt'\nclient_tls_key_file = 'fresh.key'\n",
            "client_tls_key_file: the key in",
        ),
        ("server_tls_sslmode = 'verify-ca'\nserver_tls_ca_file = 'server.key'\n", "server_tls_ca_file: the file"),
        ("tcp_keepidle = 1000000\n", "tcp_keepidle: the kernel does not take 1000000"),
    ],
)
def test_files_and_options_are_tried(file: Path, tmp_path: Path, text: str, said: str) -> None:
    Certificates.create(tmp_path)
    result = check(file, f"{TRUST}{text}[databases.app]\nhost = '127.0.0.1'\n")
    assert result.exit_code == 1
    assert said in result.output


def test_a_database_with_files_of_its_own_is_named(file: Path, tmp_path: Path) -> None:
    Certificates.create(tmp_path)
    own = "server_tls_sslmode = 'require'\nserver_tls_cert_file = 'client.crt'\nserver_tls_key_file = 'server.key'\n"
    result = check(file, f"{TRUST}[databases.app]\nhost = '127.0.0.1'\n{own}")
    assert result.exit_code == 1
    assert "databases.app.server_tls_key_file: the key in" in result.output


def test_a_right_file_is_counted(file: Path) -> None:
    result = check(file, "[databases.app]\nhost = '127.0.0.1'\n[users.a]\npassword = 'x'\n")
    assert (result.exit_code, result.stdout) == (0, f"{file}: right (1 database, 1 user)\n")


def test_a_wrong_file_is_told_by_line_with_a_guess(file: Path) -> None:
    result = check(file, "[pglido]\npool_mod = 'session'\n")
    assert result.exit_code == 1
    assert f"{file}:2: " in result.stderr
    assert 'did you mean "pool_mode"?' in result.stderr


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 1
    assert str(file) in result.stderr


def test_a_user_list_is_checked_too(file: Path) -> None:
    (file.parent / "users.txt").write_text("no quotes\n")
    result = check(file, "[pglido]\nauth_file = 'users.txt'\n")
    assert result.exit_code == 1
    assert "users.txt:1: " in result.stderr


def test_a_database_that_lets_in_is_told_with_its_version(file: Path, cluster: Cluster) -> None:
    result = connect(file, f"host = '127.0.0.1'\nport = {cluster.port}")
    assert result.exit_code == 0
    assert f"app: 127.0.0.1:{cluster.port}: PostgreSQL 18" in result.stdout
    assert "logged in as app" in result.stdout


def test_a_password_is_used(file: Path, cluster: Cluster) -> None:
    database = f"host = '127.0.0.1'\nport = {cluster.port}\nuser = 'u_scram'\npassword = "
    assert connect(file, database + "'scram secret'").exit_code == 0
    wrong = connect(file, database + "'something else'")
    assert wrong.exit_code == 1
    assert 'password authentication failed for user "u_scram"' in wrong.stdout


def test_a_unix_socket_is_reached(file: Path, cluster: Cluster) -> None:
    result = connect(file, f"host = '{cluster.server.socket_dir}'\nport = {cluster.port}")
    assert result.exit_code == 0, result.output


def test_where_only_clients_know_passwords_the_server_must_answer(file: Path, cluster: Cluster) -> None:
    place = f"host = '127.0.0.1'\nport = {cluster.port}"
    result = connect(file, place, f"[users.u_scram]\npassword = '{cluster.verifier('u_scram')}'\n")
    assert result.exit_code == 0
    assert "no login tried" in result.stdout


def test_any_database_is_only_knocked_at(file: Path, cluster: Cluster) -> None:
    result = check(
        file, f"{TRUST}[databases.'*']\nhost = '127.0.0.1'\nport = {cluster.port}\n", "--connect"
    )
    assert result.exit_code == 0
    assert "*: 127.0.0.1" in result.stdout


def test_one_of_several_users_suffices(file: Path, cluster: Cluster) -> None:
    users = "[users.nobody_knows]\npassword = 'x'\n[users.app]\npassword = 'x'\n"
    result = connect(file, f"host = '127.0.0.1'\nport = {cluster.port}", users)
    assert result.exit_code == 0
    assert "logged in as app" in result.stdout


def test_each_host_is_tried(file: Path, cluster: Cluster) -> None:
    result = connect(file, f"host = ['127.0.0.1', '127.0.0.1']\nport = [{cluster.port}, 1]")
    assert result.exit_code == 1
    assert f"127.0.0.1:{cluster.port}: PostgreSQL" in result.stdout
    assert "127.0.0.1:1: login as app: Connection refused" in result.stdout


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_is_demanded(file: Path, cluster: Cluster, mode: str) -> None:
    database = f"host = '127.0.0.1'\nport = {cluster.port}\nserver_tls_sslmode = '{mode}'"
    result = connect(file, database)
    assert result.exit_code == 1
    assert "server does not support SSL, but SSL was required" in result.stdout


@pytest.mark.parametrize(("name", "status"), [("server", 0), ("stranger", 1), ("forged", 1)])
def test_the_certificate_must_be_for_the_host(
    file: Path, certificates: Certificates, name: str, status: int
) -> None:
    pair = getattr(certificates, name)
    tls = f"server_tls_sslmode = 'verify-full'\nserver_tls_ca_file = '{certificates.authority}'"
    with embedded.start(tls=(pair.certificate, pair.key)) as pg:
        user = "user = 'postgres'\ndbname = 'postgres'"
        result = connect(file, f"host = 'localhost'\nport = {pg.port}\n{user}\n{tls}")
    assert result.exit_code == status, result.output
    assert ("TLSv1.3" if status == 0 else "TLS failed") in result.stdout


@pytest.mark.parametrize(("mode", "tls"), [("allow", False), ("prefer", True), ("require", True), ("disable", False)])
def test_tls_is_tried_in_the_order_of_the_mode(file: Path, certificates: Certificates, mode: str, tls: bool) -> None:
    pair = certificates.server
    with embedded.start(tls=(pair.certificate, pair.key)) as pg:
        user = "user = 'postgres'\ndbname = 'postgres'"
        result = connect(file, f"host = '127.0.0.1'\nport = {pg.port}\n{user}\nserver_tls_sslmode = '{mode}'")
    assert result.exit_code == 0, result.output
    assert ("TLSv1" in result.stdout) == tls


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"", "it closes the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "this is no PostgreSQL server"),
        (b"SHTTP/1.1 400 Bad Request\r\n\r\n", "this is no PostgreSQL server: invalid message length"),
        (b"N", "it closes the connection during login"),
        (b"NR\xff\xff\xff\xff", "this is no PostgreSQL server: invalid message length 4294967295"),
        (b"NR\x00\x00\x00\x08\x00\x00\x00\x63", "authentication request 99"),
        (b"NE\x00\x00\x00\x0bSFATAL\0", "FATAL"),
        (b"NEcould not fork new process\n\0", "FATAL: could not fork new process"),
        (b"NZ\x00\x00\x00\x05I", "this is no PostgreSQL server: type 0x5a before authentication"),
    ],
)
def test_what_is_no_server_is_told(file: Path, reply: bytes, text: str) -> None:
    with answering(reply) as port:
        result = connect(file, f"host = '127.0.0.1'\nport = {port}")
    assert result.exit_code == 1
    assert text in result.stdout


def test_a_host_that_does_not_exist_is_told(file: Path) -> None:
    result = connect(file, "host = 'no-such-host.invalid'")
    assert result.exit_code == 1
    assert 'could not translate host name "no-such-host.invalid"' in result.stdout
