"""The same exchanges with real peers: PostgreSQL as the server, libpq as the client."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from harness.cluster import PASSWORD_ROLES, Cluster
from harness.tls import Certificates
from pglido.auth.channel_binding import end_point
from pglido.auth.decoys import SecretPopulation
from pglido.auth.errors import AuthError
from pglido.auth.log_in_to_server import answer
from pglido.auth.scram import Keys
from pglido.auth.scram_server import ScramTerms
from pglido.auth.secrets import Credentials, Plain, Secret, md5_secret, parse
from pglido.auth.verify_client import verify
from pglido.config.enums import AuthType
from pglido.protocol import codes
from pglido.protocol.messages import AUTHENTICATION_OK, READY_IDLE, backend_key_data, error, startup

from .dialogue import make_verifier, scramp_login, start

TIMEOUT = 20.0


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def read_message(sock: socket.socket) -> tuple[int, bytes]:
    kind, size = struct.unpack("!BI", read(sock, 5))
    return kind, read(sock, size - 4)


# PostgreSQL as the server


def log_in(
    cluster: Cluster, user: str, credentials: Credentials, tls: ssl.SSLContext | None = None
) -> list[int]:
    """Log in; gives the authentication codes the server sent; its refusal is ConnectionRefusedError."""
    seen = []
    with socket.create_connection(cluster.address, TIMEOUT) as sock:
        binding = None
        if tls is not None:
            sock.sendall(struct.pack("!ii", 8, codes.SSL_REQUEST))
            assert read(sock, 1) == b"S"
            sock = wrapped = tls.wrap_socket(sock, server_hostname="localhost")
            certificate = wrapped.getpeercert(binary_form=True)
            assert certificate is not None
            binding = end_point(certificate)
        with sock:
            sock.sendall(startup(codes.PROTOCOL_3_0, [("user", user), ("database", "app")]))
            dialogue = answer(user, credentials, binding=binding, rng=os.urandom)
            next(dialogue)
            while True:
                kind, data = read_message(sock)
                if kind == codes.ERROR_RESPONSE:
                    raise ConnectionRefusedError(data)
                assert kind == codes.AUTHENTICATION
                code = struct.unpack_from("!i", data)[0]
                seen.append(code)
                try:
                    reply = dialogue.send((code, data[4:]))
                except StopIteration:
                    return seen
                if reply is not None:
                    sock.sendall(reply)
                    assert code != codes.AUTH_SASL or (b"-PLUS\0" in reply) == (tls is not None)


IN_SCRAM = [codes.AUTH_SASL, codes.AUTH_SASL_CONTINUE, codes.AUTH_SASL_FINAL, codes.AUTH_OK]


@pytest.mark.parametrize(
    ("user", "seen"),
    [
        ("app", [codes.AUTH_OK]),
        ("u_password", [codes.AUTH_CLEARTEXT, codes.AUTH_OK]),
        ("u_md5", [codes.AUTH_MD5, codes.AUTH_OK]),
        ("u_scram", IN_SCRAM),
        ("u_unicode", IN_SCRAM),
    ],
)
def test_postgresql_takes_a_password_in_clear_by_each_method(
    cluster: Cluster, user: str, seen: list[int]
) -> None:
    password = PASSWORD_ROLES.get(user, ("",))[0]
    assert log_in(cluster, user, Plain(password)) == seen


def test_postgresql_takes_a_stored_md5_secret(cluster: Cluster) -> None:
    secret = parse(cluster.verifier("u_md5"))
    assert secret == md5_secret(PASSWORD_ROLES["u_md5"][0], "u_md5")
    assert log_in(cluster, "u_md5", secret)[-1] == codes.AUTH_OK


def test_postgresql_takes_the_keys_of_a_clients_login(cluster: Cluster) -> None:
    secret = parse(cluster.verifier("u_scram"))
    proof = scramp_login(start(AuthType.SCRAM_SHA_256, "u_scram", secret), PASSWORD_ROLES["u_scram"][0])
    assert isinstance(proof.credentials, Keys)
    assert log_in(cluster, "u_scram", proof.credentials) == IN_SCRAM
    with pytest.raises(AuthError, match="another SCRAM verifier"):
        log_in(cluster, "u_shared", proof.credentials)


@pytest.mark.parametrize("user", ["u_password", "u_md5", "u_scram"])
def test_postgresql_refuses_a_wrong_password(cluster: Cluster, user: str) -> None:
    with pytest.raises(ConnectionRefusedError, match="28P01"):
        log_in(cluster, user, Plain("wrong"))


def test_postgresql_checks_the_channel_binding(tls_cluster: Cluster, certificates: Certificates) -> None:
    password = Plain(PASSWORD_ROLES["u_scram"][0])
    assert log_in(tls_cluster, "u_scram", password, certificates.client_context()) == IN_SCRAM


# libpq as the client


Tls = tuple[ssl.SSLContext, bytes | None]


def serve(listener: socket.socket, method: AuthType, secret: Secret | None, tls: Tls | None) -> None:
    """Take one client, let it prove itself, and tell it that it may come in."""
    sock, _ = listener.accept()
    sock.settimeout(TIMEOUT)
    binding = None
    if tls is not None:
        context, binding = tls
        read(sock, 8)
        sock.sendall(b"S")
        sock = context.wrap_socket(sock, server_side=True)
    with sock:
        read(sock, struct.unpack("!i", read(sock, 4))[0] - 4)
        exchange = verify(method, "joe", secret, binding, ScramTerms(SecretPopulation(), 4096, os.urandom, bytes(32)))
        try:
            message = next(exchange)
            while True:
                sock.sendall(message)
                kind, data = read_message(sock)
                assert kind == codes.PASSWORD
                message = exchange.send(data)
        except StopIteration as end:
            sock.sendall(end.value.last + AUTHENTICATION_OK + backend_key_data(1, b"key.") + READY_IDLE)
            read_message(sock)
        except AuthError as refusal:
            sock.sendall(error("FATAL", refusal.sqlstate, refusal.text))


@contextmanager
def door(method: AuthType, secret: Secret | None, tls: Tls | None = None) -> Iterator[int]:
    """A port behind which one client is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        thread = threading.Thread(target=serve, args=(listener, method, secret, tls))
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def connect(port: int, password: str, **more: str) -> str:
    """Connect with libpq; gives its error, or nothing when it came in."""
    words = {"host": "127.0.0.1", "user": "joe", "sslmode": "disable", "connect_timeout": "20"} | more
    try:
        psycopg.connect(port=port, password=password, **words).close()
    except psycopg.OperationalError as failure:
        return str(failure)
    return ""


SECRETS = [Plain("pässword"), md5_secret("pässword", "joe"), make_verifier("pässword")]


@pytest.mark.parametrize("method", [AuthType.PASSWORD, AuthType.MD5, AuthType.SCRAM_SHA_256])
@pytest.mark.parametrize("secret", SECRETS, ids=repr)
def test_libpq_proves_itself(method: AuthType, secret: Secret) -> None:
    possible = method is not AuthType.SCRAM_SHA_256 or secret is not SECRETS[1]
    with door(method, secret) as port:
        text = connect(port, "pässword")
    assert text == "" if possible else 'password authentication failed for user "joe"' in text


@pytest.mark.parametrize("method", [AuthType.PASSWORD, AuthType.MD5, AuthType.SCRAM_SHA_256])
@pytest.mark.parametrize("secret", [*SECRETS, None], ids=repr)
def test_libpq_is_refused(method: AuthType, secret: Secret | None) -> None:
    with door(method, secret) as port:
        assert 'FATAL:  password authentication failed for user "joe"' in connect(port, "wrong")


@pytest.mark.parametrize("channel_binding", ["require", "prefer", "disable"])
def test_libpq_binds_the_channel(channel_binding: str, certificates: Certificates) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificates.server.certificate.read_text())
    tls = (certificates.server_context(), end_point(der))
    with door(AuthType.SCRAM_SHA_256, SECRETS[2], tls) as port:
        assert connect(port, "pässword", sslmode="require", channel_binding=channel_binding) == ""
