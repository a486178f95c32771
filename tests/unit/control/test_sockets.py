"""Listening sockets: one per worker and address, a clear word when an address is taken, no litter."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from harness.waiting import free_port
from pglido.config.model import Settings
from pglido.control import sockets
from pglido.control.sockets import CannotListen, Listeners, adopted


def wanted(**changes: object) -> Settings:
    base = Settings(listen_addr=("127.0.0.1",), listen_port=free_port(), unix_socket_dir="")
    return msgspec.structs.replace(base, **changes)


@pytest.fixture
def opened():
    made: list[Listeners] = []

    def open_(settings: Settings, workers: int = 1) -> Listeners:
        made.append(Listeners.open(settings, workers))
        return made[-1]

    yield open_
    for listeners in made:
        listeners.close()


def test_each_worker_has_its_own_tcp_socket_and_shares_the_unix_one(opened, tmp_path):
    listeners = opened(wanted(unix_socket_dir=str(tmp_path)), 2)
    first, second = listeners.of(0), listeners.of(1)
    assert [sock.family for sock in first] == [socket.AF_INET, socket.AF_UNIX]
    assert first[0].getsockname() == second[0].getsockname()
    assert first[0] is not second[0]
    assert first[1] is second[1]


def test_a_port_in_use_is_said_clearly_even_if_by_another_pglido(opened):
    settings = wanted()
    opened(settings)
    with pytest.raises(CannotListen, match=f"127.0.0.1:{settings.listen_port}: Address already in use"):
        Listeners.open(settings, 1)


def test_when_one_address_fails_none_stays_open(opened, tmp_path):
    settings = wanted(unix_socket_dir=str(tmp_path / "missing"))
    with pytest.raises(CannotListen, match="No such file or directory"):
        Listeners.open(settings, 2)
    opened(msgspec.structs.replace(settings, unix_socket_dir=""))


def test_star_listens_on_every_address(opened):
    listeners = opened(wanted(listen_addr=("*",)))
    assert ("0.0.0.0", socket.AF_INET) in [(s.getsockname()[0], s.family) for s in listeners.of(0)]


def test_an_unknown_address_is_the_operators_mistake():
    with pytest.raises(CannotListen, match=r"listen_addr no\.such\.host\.invalid"):
        Listeners.open(wanted(listen_addr=("no.such.host.invalid",)), 1)


def test_nowhere_to_listen_is_an_error():
    with pytest.raises(CannotListen, match="nobody could connect"):
        Listeners.open(wanted(listen_addr=()), 1)


def test_the_socket_file_has_its_mode_and_is_removed(opened, tmp_path):
    settings = wanted(unix_socket_dir=str(tmp_path), unix_socket_mode=0o700)
    listeners = opened(settings)
    path = tmp_path / f".s.PGSQL.{settings.listen_port}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    listeners.close()
    assert not path.exists()


def test_the_socket_file_of_a_successor_is_left_alone(opened, tmp_path):
    settings = wanted(unix_socket_dir=str(tmp_path))
    listeners = opened(settings)
    path = tmp_path / f".s.PGSQL.{settings.listen_port}"
    path.unlink()
    path.write_text("another's")
    listeners.close()
    assert path.read_text() == "another's"


def test_a_stale_socket_file_is_replaced_a_live_one_is_not(opened, tmp_path):
    settings = wanted(unix_socket_dir=str(tmp_path), listen_addr=())
    path = str(tmp_path / f".s.PGSQL.{settings.listen_port}")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    opened(settings)
    with pytest.raises(CannotListen, match="another process does"):
        Listeners.open(settings, 1)
    assert os.path.exists(path)


def test_a_file_in_the_way_is_not_deleted(tmp_path):
    settings = wanted(unix_socket_dir=str(tmp_path), listen_addr=())
    path: Path = tmp_path / f".s.PGSQL.{settings.listen_port}"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="no socket"):
        Listeners.open(settings, 1)
    assert path.read_text() == "precious"


def test_an_abstract_socket_has_no_file(opened):
    settings = wanted(unix_socket_dir="@pglido-test", listen_addr=())
    listeners = opened(settings)
    name = listeners.of(0)[0].getsockname()
    assert name == f"\0pglido-test/.s.PGSQL.{settings.listen_port}".encode()


def test_an_unknown_group_is_said(tmp_path):
    with pytest.raises(CannotListen, match="no group 'nosuchgroup'"):
        Listeners.open(wanted(unix_socket_dir=str(tmp_path), unix_socket_group="nosuchgroup"), 1)


def test_accepted_connections_inherit_the_tcp_settings(opened):
    settings = wanted(tcp_keepidle=77.0, tcp_keepcnt=3, tcp_user_timeout=1.5, tcp_defer_accept=0.0)
    (listener,) = opened(settings).of(0)
    with socket.create_connection(("127.0.0.1", settings.listen_port)):
        listener.setblocking(True)
        accepted, _ = listener.accept()
    with accepted:
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT, socket.TCP_NODELAY)
        assert [accepted.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [77, 3, 1500, 1]


def environment(**more: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "pglido.socket", "HOME": "/", **more}


@pytest.fixture
def passed_on(monkeypatch):
    """Have copies of descriptors be those that a service manager passes on."""
    first = 500  # those from 3 on are in use here
    monkeypatch.setattr(sockets, "FIRST_ADOPTED", first)

    def put(*fds: int) -> None:
        for place, fd in enumerate(fds, first):
            os.dup2(fd, place)

    return put


def test_sockets_of_a_service_manager_are_shared_by_all_workers(passed_on, tmp_path):
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        passed_on(tcp.fileno(), unix.fileno())
        environ = environment(LISTEN_FDS="2")
        listeners = Listeners.of_manager(adopted(environ), wanted())
        assert environ == {"HOME": "/"}
        assert listeners.addresses == [f"127.0.0.1:{tcp.getsockname()[1]}", path]
        assert listeners.of(0) == listeners.of(1)
        assert all(not sock.getblocking() and not sock.get_inheritable() for sock in listeners.of(0))
        assert listeners.of(0)[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        listeners.close()
        assert os.path.exists(path)


@pytest.mark.parametrize("more", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": ""}, {"LISTEN_FDS": "0"}])
def test_sockets_for_another_process_are_not_taken(more):
    environ = environment(**more)
    assert adopted(environ) == []
    assert environ == {"HOME": "/"}


def test_what_a_service_manager_passes_on_must_listen(passed_on):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as deaf, open("/dev/null") as file:
        for fd in (file.fileno(), udp.fileno(), deaf.fileno()):
            passed_on(fd)
            with pytest.raises(CannotListen, match="descriptor 500 of the service manager is no stream socket"):
                adopted(environment())
    with pytest.raises(CannotListen, match="LISTEN_FDS is no number: many"):
        adopted(environment(LISTEN_FDS="many"))
