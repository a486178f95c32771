"""TLS on both sides: every mode, what is checked, and what is refused before it is up."""

import contextlib
import hashlib
import shutil
import socket
import ssl
import struct
from pathlib import Path

import psycopg
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.fake import WELCOME, FakeServer, Peer
from harness.pooler import Pooler
from harness.proxy import Proxy
from harness.tls import Certificates, Pair
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire, error_in, kinds

from .test_regulars import Drip

IS_TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def serving(pooler: MakePooler, certificates: Certificates, mode: str = "prefer", **more: object) -> Pooler:
    """A pooler with a certificate for its clients."""
    settings = {
        "client_tls_sslmode": mode,
        "client_tls_cert_file": certificates.server.certificate,
        "client_tls_key_file": certificates.server.key,
        **more,
    }
    if mode.startswith("verify"):
        settings["client_tls_ca_file"] = certificates.authority
    pool: Pooler = pooler(**settings)
    return pool


def encrypted(pool: Pooler, context: ssl.SSLContext, *, direct: bool = False) -> Wire:
    """A client logged in over TLS."""
    wire = pool.dial()
    wire.start_tls(context, direct=direct)
    return wire.login()


def alpn(context: ssl.SSLContext, *names: str) -> ssl.SSLContext:
    """The same context, announcing protocols."""
    context.set_alpn_protocols(list(names))
    return context


# --- clients ---


def test_disabled_tls_is_declined(pooler: MakePooler) -> None:
    pool = pooler(client_tls_sslmode="disable")
    wire = pool.dial()
    wire.send(m.SSL_REQUEST)
    assert wire.raw(1) == b"N"
    assert wire.login().one("SELECT 1") == "1"
    with psycopg.connect(pool.conninfo(sslmode="prefer")) as connection:
        assert not connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="SSL"):
        psycopg.connect(pool.conninfo(sslmode="require"))


@pytest.mark.parametrize("mode", ["allow", "prefer"])
def test_optional_tls(pooler: MakePooler, certificates: Certificates, mode: str) -> None:
    pool = serving(pooler, certificates, mode)
    assert pool.wire().one("SELECT 1") == "1"
    assert encrypted(pool, certificates.client_context()).one("SELECT 1") == "1"
    with psycopg.connect(
        pool.conninfo(sslmode="verify-full", sslrootcert=certificates.authority).replace("127.0.0.1", "localhost")
    ) as connection:
        assert connection.pgconn.ssl_in_use


def test_required_tls(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates, "require")
    with pytest.raises(ServerError, match="SSL required") as refused:
        pool.wire()
    assert refused.value.severity == "FATAL"
    assert encrypted(pool, certificates.client_context()).one("SELECT 1") == "1"


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_client_certificates_are_demanded_and_checked(
    pooler: MakePooler, certificates: Certificates, mode: str
) -> None:
    pool = serving(pooler, certificates, mode)
    assert encrypted(pool, certificates.client_context(certificates.client)).one("SELECT 1") == "1"
    for pair in (None, certificates.forged_client):
        with pytest.raises((ssl.SSLError, OSError, Closed)):
            encrypted(pool, certificates.client_context(pair))
    assert encrypted(pool, certificates.client_context(certificates.client)).one("SELECT 1") == "1"


def test_direct_tls(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates)
    wire = encrypted(pool, alpn(certificates.client_context(), "postgresql"), direct=True)
    assert wire.one("SELECT 1") == "1"
    with psycopg.connect(pool.conninfo(sslmode="require", sslnegotiation="direct")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("names", [(), ("http/1.1",)])
def test_direct_tls_needs_its_protocol_name(
    pooler: MakePooler, certificates: Certificates, names: tuple[str, ...]
) -> None:
    pool = serving(pooler, certificates)
    context = certificates.client_context()
    if names:
        alpn(context, *names)
    with pytest.raises((ssl.SSLError, OSError, Closed, ServerError)):
        encrypted(pool, context, direct=True)
    assert pool.wire().one("SELECT 1") == "1"


def test_direct_tls_is_refused_where_tls_is_off(pooler: MakePooler, certificates: Certificates) -> None:
    pool = pooler()
    with pytest.raises((ssl.SSLError, OSError)):
        encrypted(pool, alpn(certificates.client_context(), "postgresql"), direct=True)
    assert pool.wire().one("SELECT 1") == "1"


def test_bytes_before_tls_is_up_are_refused(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates)
    login = m.startup([("user", "app"), ("database", "app")])
    for smuggled in (login, b"x", m.SSL_REQUEST, m.GSSENC_REQUEST):
        wire = pool.dial()
        wire.send(m.SSL_REQUEST + smuggled)
        answer = wire.sock.recv(1)
        if answer == b"S":
            with pytest.raises((ssl.SSLError, OSError)):
                certificates.client_context().wrap_socket(wire.sock, server_hostname="localhost")
        else:
            assert answer in (b"E", b"")
    assert encrypted(pool, certificates.client_context()).one("SELECT 1") == "1"


def test_gss_encryption_is_declined(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates)
    wire = pool.dial()
    wire.send(m.GSSENC_REQUEST)
    assert wire.raw(1) == b"N"
    wire.start_tls(certificates.client_context())
    assert wire.login().one("SELECT 1") == "1"
    wire = pool.dial()
    wire.send(m.GSSENC_REQUEST)
    assert wire.raw(1) == b"N"
    assert wire.login().one("SELECT 1") == "1"


@pytest.mark.parametrize("request_", [m.SSL_REQUEST, m.GSSENC_REQUEST])
def test_asking_again_for_encryption_is_refused(
    pooler: MakePooler, certificates: Certificates, request_: bytes
) -> None:
    pool = serving(pooler, certificates)
    wire = pool.dial()
    wire.start_tls(certificates.client_context())
    wire.send(request_)
    assert kinds(wire.rest()) in ("E", "")
    wire = pool.dial()
    wire.send(m.GSSENC_REQUEST)
    wire.raw(1)
    wire.send(m.GSSENC_REQUEST)
    assert kinds(wire.rest()) in ("E", "")


@pytest.mark.parametrize(
    "hello", [b"\x16\x03\x01", b"\x16\x03\x01\x02\x00" + b"\0" * 512, b"\x16" * 3000, b"GET / HTTP/1.1\r\n\r\n"]
)
def test_broken_handshakes_disturb_nobody(pooler: MakePooler, certificates: Certificates, hello: bytes) -> None:
    pool = serving(pooler, certificates, client_login_timeout=2)
    good = encrypted(pool, certificates.client_context())
    for ask in (b"", m.SSL_REQUEST):
        wire = pool.dial()
        if ask:
            wire.send(ask)
            assert wire.raw(1) == b"S"
        with contextlib.suppress(OSError):
            wire.send(hello)
            wire.sock.shutdown(socket.SHUT_WR)
            while wire.sock.recv(4096):
                pass
    assert good.one("SELECT 1") == "1"


@pytest.mark.parametrize("direct", [False, True])
def test_handshake_in_pieces(pooler: MakePooler, certificates: Certificates, direct: bool) -> None:
    pool = serving(pooler, certificates, "require")
    wire = pool.dial()
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    came, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = certificates.client_context()
    session = (alpn(context, "postgresql") if direct else context).wrap_bio(came, going, server_hostname="localhost")
    drip = Drip(wire.sock)
    if not direct:
        drip.sendall(m.SSL_REQUEST)
        assert wire.raw(1) == b"S"
    while True:
        try:
            session.do_handshake()
            break
        except ssl.SSLWantReadError:
            drip.sendall(going.read())
            came.write(wire.sock.recv(65536))
    # The end of the handshake, and what comes behind it, at once and in pieces.
    session.write(m.startup([("user", "app"), ("database", "app")]))
    drip.sendall(going.read())
    said = b""
    while b"Z\0\0\0\5I" not in said:
        came.write(wire.sock.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := session.read(65536):
                said += piece
    assert said.startswith(b"R\0\0\0\x08\0\0\0\0")


def test_handshake_that_does_not_fit_what_the_kernel_takes(
    pooler: MakePooler, certificates: Certificates, tmp_path: Path
) -> None:
    chain = tmp_path / "chain.pem"
    authority = Path(certificates.authority).read_text()
    chain.write_text(Path(certificates.server.certificate).read_text() + 250 * authority)
    pool = serving(pooler, certificates, client_tls_cert_file=chain, tcp_socket_buffer=4096)
    came, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.client_context().wrap_bio(came, going, server_hostname="localhost")
    with socket.socket() as sock:
        # Before it is connected, so that the other end knows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", pool.port))
        sock.sendall(m.SSL_REQUEST)
        assert sock.recv(1) == b"S"
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(going.read())
                piece = sock.recv(16384)
                assert piece, "closed in the middle of the handshake"
                came.write(piece)
        session.write(m.startup([("user", "app"), ("database", "app")]))
        sock.sendall(going.read())
        said = b""
        while not said:
            piece = sock.recv(16384)
            assert piece, "closed behind the handshake"
            came.write(piece)
            with contextlib.suppress(ssl.SSLWantReadError):
                said = session.read(1)
        assert said == b"R"


@pytest.mark.parametrize("sent", [0, 1, 5, 100, -1])
def test_client_that_leaves_in_the_handshake_is_let_go(
    pooler: MakePooler, certificates: Certificates, sent: int
) -> None:
    pool = serving(pooler, certificates)
    going = ssl.MemoryBIO()
    session = certificates.client_context().wrap_bio(ssl.MemoryBIO(), going, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    hello = going.read()
    wire = pool.dial()
    wire.send(m.SSL_REQUEST)
    assert wire.raw(1) == b"S"
    wire.send(hello[:sent] if sent >= 0 else hello)
    wire.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(Closed):
        wire.raw(1 << 20)
    assert "bug" not in pool.log


def test_plain_words_instead_of_a_handshake_end_the_connection(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates)
    wire = pool.dial()
    wire.send(m.SSL_REQUEST)
    assert wire.raw(1) == b"S"
    wire.send(m.startup([("user", "app"), ("database", "app")]))
    with pytest.raises(Closed):
        wire.raw(1 << 20)
    pool.logs(r"warning worker \d: login refused: TLS handshake failed: [A-Z_]+ uuid=\S+ address=127\.0\.0\.1:\d+$")


def test_protocol_versions(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates, client_tls_protocols=["tlsv1.3"])
    old = certificates.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    # It is told why, by an alert.
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        encrypted(pool, old)
    pool.logs("login refused: TLS handshake failed: UNSUPPORTED_PROTOCOL ")
    wire = encrypted(pool, certificates.client_context())
    assert isinstance(wire.sock, ssl.SSLSocket)
    assert wire.sock.version() == "TLSv1.3"


def test_ciphers(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(
        pooler, certificates, client_tls_protocols=["tlsv1.2"], client_tls_ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"
    )
    wire = encrypted(pool, certificates.client_context())
    assert isinstance(wire.sock, ssl.SSLSocket)
    cipher = wire.sock.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_certificates_are_read_again_on_reload(
    pooler: MakePooler, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("renewed")
    own = Pair(folder / "crt", folder / "key")

    def install(pair: Pair) -> bytes:
        shutil.copy(pair.certificate, own.certificate)
        shutil.copy(pair.key, own.key)
        return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())

    def shown() -> bytes | None:
        wire = encrypted(pool, certificates.client_context())
        assert isinstance(wire.sock, ssl.SSLSocket)
        return wire.sock.getpeercert(binary_form=True)

    first = install(certificates.server)
    pool = serving(pooler, certificates, client_tls_cert_file=own.certificate, client_tls_key_file=own.key)
    old = encrypted(pool, certificates.client_context())
    assert shown() == first
    second = install(certificates.fresh)
    pool.reload(pool.path.read_text())
    eventually(lambda: shown() == second)
    assert old.one("SELECT 1") == "1"
    own.certificate.write_text("broken")
    pool.reload(pool.path.read_text())
    assert shown() == second
    assert old.one("SELECT 1") == "1"


def test_much_data_over_tls(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates, "require")
    wire = encrypted(pool, certificates.client_context())
    value = wire.one("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200000) n")
    assert value is not None
    assert hashlib.md5(value.encode()).hexdigest() == wire.one(
        "SELECT md5(string_agg(md5(n::text), '')) FROM generate_series(1, 200000) n"
    )
    assert len(wire.ask("SELECT repeat('x', 200) FROM generate_series(1, 50000)")) == 50003
    long = "y" * 8_000_000
    assert wire.one(f"SELECT length('{long}')") == "8000000"
    wire.run("BEGIN")
    wire.send(m.query("COPY notes FROM STDIN"))
    wire.until("G")
    for start in range(0, 20000, 1000):
        wire.send(m.copy_data(b"".join(b"%d\t%s\n" % (n, b"z" * 300) for n in range(start, start + 1000))))
    wire.send(m.COPY_DONE)
    assert wire.until()[0].tag == "COPY 20000"
    wire.run("ROLLBACK")


def test_pipeline_over_tls(pooler: MakePooler, certificates: Certificates) -> None:
    wire = encrypted(serving(pooler, certificates), certificates.client_context())
    wire.send(*(m.query(f"SELECT {n}, repeat('x', 5000)") for n in range(300)))
    read = wire.until("Z", 300)
    assert [one.row[0] for one in read if one.kind == "D"] == [str(n).encode() for n in range(300)]


# --- servers ---


@pytest.mark.parametrize(("mode", "expected"), [("disable", "f"), ("allow", None), ("prefer", "t"), ("require", "t")])
def test_modes_towards_a_server_with_tls(
    pooler: MakePooler, tls_cluster: Cluster, mode: str, expected: str | None
) -> None:
    pool = pooler(tls_cluster, server_tls_sslmode=mode)
    got = pool.wire().one(IS_TLS)
    assert got == expected or expected is None


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_modes_that_take_a_server_without_tls(pooler: MakePooler, mode: str) -> None:
    assert pooler(server_tls_sslmode=mode).wire().one("SELECT 1") == "1"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_modes_that_demand_tls_of_the_server(pooler: MakePooler, certificates: Certificates, mode: str) -> None:
    more = {"server_tls_ca_file": certificates.authority} if mode != "require" else {}
    pool = pooler(server_tls_sslmode=mode, databases={"app": {"host": "localhost"}}, **more)
    with pytest.raises(ServerError) as refused:
        pool.wire()
    assert refused.value.severity == "FATAL"
    pool.logs("(?i)(ssl|tls)")


# Mode, the server's certificate (by its name in Certificates), the host name it is reached by, and whether it works.
CHECKS = [
    ("require", "server", "localhost", True),
    ("require", "stranger", "localhost", True),
    ("require", "forged", "localhost", True),
    ("verify-ca", "server", "localhost", True),
    ("verify-ca", "stranger", "localhost", True),
    ("verify-ca", "forged", "localhost", False),
    ("verify-full", "server", "localhost", True),
    ("verify-full", "server", "127.0.0.1", True),
    ("verify-full", "stranger", "localhost", False),
    ("verify-full", "stranger", "127.0.0.1", False),
    ("verify-full", "forged", "localhost", False),
    ("verify-full", "forged", "127.0.0.1", False),
    ("verify-full", "common", "127.0.0.1", True),
    ("verify-full", "common", "localhost", False),
    ("verify-full", "other_common", "127.0.0.1", False),
    ("verify-full", "named", "127.0.0.1", True),
    ("verify-full", "named", "localhost", True),
]


def libpq_connects(conninfo: str) -> bool:
    """What libpq makes of the same server."""
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True


def test_certificate_of_the_server_is_checked(pooler: MakePooler, cluster: Cluster, certificates: Certificates) -> None:
    with contextlib.ExitStack() as proxies:
        databases: dict[str, dict[str, object]] = {}
        for mode, shown, host, _ in CHECKS:
            context = certificates.server_context(getattr(certificates, shown))
            proxy = proxies.enter_context(Proxy(cluster.address, tls=context))
            place = {"host": host, "port": proxy.port, "dbname": "app", "server_tls_sslmode": mode}
            databases[f"{mode} {shown} {host}"] = place
        pool = pooler(databases=databases, server_tls_ca_file=certificates.authority)
        for (mode, _, host, works), (name, place) in zip(CHECKS, databases.items(), strict=True):
            given = f"host={host} port={place['port']} user=app dbname=app sslmode={mode}"
            # With a root certificate libpq takes require for verify-ca.
            assert mode == "require" or libpq_connects(f"{given} sslrootcert={certificates.authority}") == works
            if works:
                assert pool.wire(database=name).one("SELECT 1") == "1"
            else:
                with pytest.raises(ServerError) as refused:
                    pool.wire(database=name)
                assert refused.value.severity == "FATAL"
        pool.logs("(?i)certificate|hostname|verify")


def test_certificate_shown_to_the_server(pooler: MakePooler, cluster: Cluster, certificates: Certificates) -> None:
    context = certificates.server_context()
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # so that a refusal comes within the handshake
    with Proxy(cluster.address, tls=context) as proxy:
        settings = {"server_tls_sslmode": "require"}
        with pytest.raises(ServerError):
            pooler(proxy, **settings).wire()
        own = certificates.client
        settings |= {"server_tls_cert_file": str(own.certificate), "server_tls_key_file": str(own.key)}
        assert pooler(proxy, **settings).wire().one("SELECT 1") == "1"


def test_tls_of_one_database_only(pooler: MakePooler, cluster: Cluster, tls_cluster: Cluster) -> None:
    pool = pooler(
        databases={
            "app": {"server_tls_sslmode": "disable"},
            "other": {"port": tls_cluster.port, "server_tls_sslmode": "require"},
        }
    )
    assert pool.wire().one(IS_TLS) == "f"
    assert pool.wire(database="other").one(IS_TLS) == "t"


def test_bytes_before_the_servers_tls_is_up_are_refused(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(8)
        peer.send(b"S" + WELCOME)
        peer.sock.recv(1000)

    with FakeServer(script) as fake:
        pool = pooler(fake, server_tls_sslmode="require")
        with pytest.raises(ServerError):
            pool.wire()


def test_both_sides_at_once(pooler: MakePooler, tls_cluster: Cluster, certificates: Certificates) -> None:
    pool = serving(
        pooler, certificates, "require", server=tls_cluster, server_tls_sslmode="require", default_pool_size=2
    )
    wires = [encrypted(pool, certificates.client_context()) for _ in range(6)]
    for turn in range(10):
        for number, wire in enumerate(wires):
            assert wire.run(f"SELECT {number}, {turn}") == [[str(number), str(turn)]]
    assert wires[0].one(IS_TLS) == "t"


def test_error_reaches_the_client_over_tls(pooler: MakePooler, certificates: Certificates) -> None:
    pool = serving(pooler, certificates)
    wire = encrypted(pool, certificates.client_context())
    wire.send(b"~" + struct.pack("!i", 4))
    assert error_in(wire.rest())["C"] == "08P01"
