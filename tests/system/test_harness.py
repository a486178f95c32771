"""The harness itself: what the other tests rely on holds against PostgreSQL directly."""

import socket

import pytest

from harness.cluster import PASSWORD_ROLES, Cluster
from harness.tls import Certificates
from harness.waiting import wait_until_read
from harness.wire import ServerError, Wire


def test_every_password_role_logs_in(cluster: Cluster) -> None:
    for role, (secret, _, _) in PASSWORD_ROLES.items():
        if role == "u_expired":
            with pytest.raises(ServerError, match="password authentication failed"):
                cluster.wire(role, password=secret)
        else:
            assert cluster.wire(role, password=secret).one("SELECT current_user") == role


def test_tls_server_speaks_tls(tls_cluster: Cluster, certificates: Certificates) -> None:
    with Wire.dial(tls_cluster.address) as wire:
        wire.start_tls(certificates.client_context())
        wire.login()
        assert wire.one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


def test_wait_until_read_knows_what_the_peer_has_read() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            client.sendall(b"hello")
            assert not wait_until_read(client, within=0.02)
            server.recv(2)
            assert not wait_until_read(client, within=0.02)
            server.recv(3)
            assert wait_until_read(client)
        assert wait_until_read(client)
