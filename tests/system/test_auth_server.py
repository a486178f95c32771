"""How pglido logs in to PostgreSQL: each method, with what it has, and auth_query, which asks PostgreSQL itself."""

import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Iterator

import psycopg
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import PASSWORD_ROLES, Cluster
from harness.fake import WELCOME, FakeServer, Peer
from harness.pooler import Pooler
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import ServerError, Wire

LOOKUP = "SELECT usename::text, passwd FROM lookup.user_secret($1)"
READER = PASSWORD_ROLES["auth_reader"][0]
SHARED = PASSWORD_ROLES["u_shared"][0]


@pytest.mark.parametrize("role", ["u_password", "u_md5", "u_scram", "u_unicode"])
def test_forced_user(pooler: MakePooler, role: str) -> None:
    secret = PASSWORD_ROLES[role][0]
    pool = pooler(databases={"app": {"user": role, "password": secret}})
    assert pool.wire().one("SELECT current_user") == role


@pytest.mark.parametrize("role", ["u_password", "u_md5", "u_scram"])
def test_password_of_the_user(pooler: MakePooler, role: str) -> None:
    secret = PASSWORD_ROLES[role][0]
    pool = pooler(auth_type="scram-sha-256", users={role: {"password": secret}})
    assert pool.wire(role, password=secret).one("SELECT current_user") == role


def test_stored_md5_logs_in_by_md5(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(auth_type="md5", users={"u_md5": {"password": cluster.verifier("u_md5")}})
    assert pool.wire("u_md5", password="md5 secret").one("SELECT current_user") == "u_md5"


def test_scram_keys_are_passed_through(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(auth_type="scram-sha-256", users={"u_shared": {"password": cluster.verifier("u_shared")}})
    assert pool.wire("u_shared", password=SHARED).one("SELECT current_user") == "u_shared"
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire("u_shared", password="wrong")


def test_cleartext_proof_is_passed_through(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(auth_type="password", users={"u_shared": {"password": cluster.verifier("u_shared")}})
    assert pool.wire("u_shared", password=SHARED).one("SELECT current_user") == "u_shared"


def test_wrong_password_for_the_server(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {"user": "u_scram", "password": "wrong"}, "other": {}})
    with pytest.raises(ServerError) as refused:
        pool.wire()
    assert "password authentication failed" in refused.value.text
    assert refused.value.severity == "FATAL"
    assert pool.wire(database="other").one("SELECT 1") == "1"


def test_missing_password_for_the_server_is_said_clearly(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {"user": "u_scram"}})
    with pytest.raises(ServerError) as refused:
        pool.wire()
    assert refused.value.severity == "FATAL"
    pool.logs("u_scram.*password|password.*u_scram")


def test_database_missing_on_the_server(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {}, "other": {"dbname": "not_there"}})
    with pytest.raises(ServerError) as refused:
        pool.wire(database="other")
    assert 'database "not_there" does not exist' in refused.value.text
    assert pool.wire().one("SELECT 1") == "1"


def bound_scram(peer: Peer, secret: str, binding: bytes) -> None:
    """Take a SCRAM-SHA-256-PLUS login whose channel must be bound to `binding`; AssertionError otherwise."""
    salt, iterations = b"some salt bytes!", 4096
    salted = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, iterations)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    peer.send(m.message("R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
    mechanism, _, rest = peer.message()[1].partition(b"\0")
    assert mechanism == b"SCRAM-SHA-256-PLUS"
    header, _, bare = rest[4:].partition(b",,")
    assert header == b"p=tls-server-end-point"
    nonce = bare.partition(b",r=")[2] + b"ours"
    first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt), iterations)
    peer.send(m.message("R", b"\0\0\0\x0b" + first))
    final, _, proof = peer.message()[1].rpartition(b",p=")
    assert final == b"c=" + base64.b64encode(header + b",," + binding) + b",r=" + nonce
    covered = bare + b"," + first + b"," + final
    signature = hmac.digest(hashlib.sha256(client_key).digest(), covered, "sha256")
    assert bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True)) == client_key
    server_signature = base64.b64encode(hmac.digest(server_key, covered, "sha256"))
    peer.send(m.message("R", b"\0\0\0\x0cv=" + server_signature))


def test_channel_binding_towards_the_server(pooler: MakePooler, certificates: Certificates) -> None:
    context = certificates.server_context()
    certificate = ssl.PEM_cert_to_DER_cert(certificates.server.certificate.read_text())
    bound = []

    def script(peer: Peer) -> None:
        assert peer.sock.recv(8) == m.SSL_REQUEST
        peer.send(b"S")
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        if peer.startup():
            bound_scram(peer, "bound secret", hashlib.sha256(certificate).digest())
            bound.append(True)
            peer.send(WELCOME)
            peer.serve()

    with FakeServer(script) as fake:
        forced = {"user": "u", "password": "bound secret"}
        pool = pooler(fake, databases={"app": forced}, server_tls_sslmode="require")
        assert pool.wire().one("SELECT 1") == "fake"
    assert bound


def test_channel_binding_with_real_servers(pooler: MakePooler, tls_cluster: Cluster) -> None:
    users = {role: {"password": PASSWORD_ROLES[role][0]} for role in ("u_scram", "u_md5", "u_password")}
    users["u_shared"] = {"password": tls_cluster.verifier("u_shared")}
    pool = pooler(tls_cluster, auth_type="password", users=users, server_tls_sslmode="require")
    for role in users:
        wire = pool.wire(role, password=PASSWORD_ROLES[role][0])
        assert wire.one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


# --- auth_query ---


@pytest.fixture(scope="module")
def lookup(cluster: Cluster) -> Iterator[None]:
    """A function that tells secrets, in the databases app and other."""
    for database in ("app", "other"):
        cluster.admin(
            "CREATE SCHEMA lookup; CREATE FUNCTION lookup.user_secret(INOUT usename name, OUT passwd text)"
            " LANGUAGE sql SECURITY DEFINER AS 'SELECT usename, passwd FROM pg_shadow WHERE usename = $1';"
            " GRANT USAGE ON SCHEMA lookup TO PUBLIC",
            database,
        )
    yield
    for database in ("app", "other"):
        cluster.admin("DROP SCHEMA lookup CASCADE", database)


def asking(pooler: MakePooler, **more: object) -> Pooler:
    """A pooler that knows only auth_reader and asks for everybody else."""
    settings = {
        "auth_type": "scram-sha-256",
        "auth_user": "auth_reader",
        "users": {"auth_reader": {"password": READER}},
        **more,
    }
    pool: Pooler = pooler(**settings)
    return pool


@pytest.mark.usefixtures("lookup")
@pytest.mark.parametrize("query", ["default", "own"])
def test_auth_query(pooler: MakePooler, query: str) -> None:
    pool = asking(pooler, **({} if query == "default" else {"auth_query": LOOKUP}))
    assert pool.wire("u_shared", password=SHARED).one("SELECT current_user") == "u_shared"
    with pytest.raises(ServerError, match='password authentication failed for user "u_shared"'):
        pool.wire("u_shared", password="wrong")
    with pytest.raises(ServerError, match='password authentication failed for user "no_such_role"'):
        pool.wire("no_such_role", password="wrong")
    with psycopg.connect(pool.conninfo("u_shared", password=SHARED)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("u_shared",)


def test_auth_query_respects_valid_until(pooler: MakePooler) -> None:
    pool = asking(pooler)
    with pytest.raises(ServerError, match='password authentication failed for user "u_expired"'):
        pool.wire("u_expired", password=PASSWORD_ROLES["u_expired"][0])


def test_auth_query_names_are_parameters(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin(f"""CREATE ROLE "it's; DROP" LOGIN PASSWORD '{SHARED}'""")
    pool = asking(pooler)
    try:
        assert pool.wire("it's; DROP", password=SHARED).one("SELECT current_user") == "it's; DROP"
    finally:
        pool.stop()
        cluster.admin("""DROP ROLE "it's; DROP\"""")


@pytest.mark.usefixtures("lookup")
def test_auth_dbname(pooler: MakePooler, cluster: Cluster) -> None:
    pool = asking(pooler, auth_dbname="other", auth_query=LOOKUP)
    assert pool.wire("u_shared", password=SHARED).one("SELECT current_database()") == "app"
    assert len(cluster.backends("usename = 'auth_reader' AND datname = 'other'")) == 1
    assert cluster.backends("usename = 'auth_reader' AND datname = 'app'") == []


def test_auth_query_answers_are_kept_for_their_time(pooler: MakePooler, cluster: Cluster) -> None:
    pool = asking(pooler, auth_query_ttl=1, workers=1)
    cluster.admin("CREATE ROLE u_changing LOGIN PASSWORD 'one'")
    try:
        assert pool.wire("u_changing", password="one").one("SELECT 1") == "1"
        with pytest.raises(ServerError):
            pool.wire("u_later", password="x")
        cluster.admin("ALTER ROLE u_changing PASSWORD 'two'; CREATE ROLE u_later LOGIN PASSWORD 'x'")
        eventually(lambda: logs_in(pool, "u_changing", "two"))
        eventually(lambda: logs_in(pool, "u_later", "x"))
        assert not logs_in(pool, "u_changing", "one")
    finally:
        pool.stop()
        cluster.admin("DROP ROLE u_changing; DROP ROLE IF EXISTS u_later")


def logs_in(pool: Pooler, user: str, secret: str) -> bool:
    """Whether a login works."""
    try:
        with pool.wire(user, password=secret) as wire:
            return wire.one("SELECT 1") == "1"
    except ServerError:
        return False


def test_auth_query_connection_is_never_touched_by_a_client(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("ALTER ROLE auth_reader SET log_statement = 'all'")
    cluster.admin("CREATE SCHEMA evil; CREATE TABLE evil.pg_authid AS SELECT * FROM pg_authid", "app")
    try:
        pool = asking(pooler, auth_query_ttl=0)
        for turn in range(3):
            wire = pool.wire(
                "u_shared", password=SHARED, search_path="evil", TimeZone="Asia/Tokyo", options="-c role=u_shared"
            )
            assert wire.one("SELECT current_user") == "u_shared"
            with pytest.raises(ServerError):
                pool.wire(f"nobody{turn}", password="x", search_path="evil", application_name="me")
        lines = [line for line in cluster.server.log_text().splitlines() if " auth_reader@" in line]
        assert any("pg_authid" in line for line in lines)
        for line in lines:
            assert "evil" not in line
            assert "Tokyo" not in line
    finally:
        cluster.admin("ALTER ROLE auth_reader RESET log_statement")
        cluster.admin("DROP SCHEMA evil CASCADE", "app")


def test_auth_query_is_asked_once_by_a_crowd(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("ALTER ROLE auth_reader SET log_statement = 'all'")
    try:
        pool = asking(pooler, workers=1)
        before = cluster.server.log_text().count("pg_authid WHERE")
        wires = [pool.dial() for _ in range(20)]
        for wire in wires:
            wire.hello("u_shared", "app")
        for wire in wires:
            wire.authenticate("u_shared", SHARED)
        assert cluster.server.log_text().count("pg_authid WHERE") - before <= 2
    finally:
        cluster.admin("ALTER ROLE auth_reader RESET log_statement")


@pytest.mark.parametrize("query", ["SELECT $1, 1/0", "SELECT $1", "SELECT $1, 'b', 'c'", "SELEC $1"])
def test_auth_query_that_fails_lets_nobody_in(pooler: MakePooler, query: str) -> None:
    pool = asking(pooler, auth_query=query)
    with pytest.raises(ServerError) as refused:
        pool.wire("u_shared", password=SHARED)
    assert refused.value.severity == "FATAL"
    pool.logs("auth_query")


def test_auth_user_that_cannot_log_in_lets_nobody_in(pooler: MakePooler) -> None:
    pool = asking(pooler, users={"auth_reader": {"password": "wrong"}})
    with pytest.raises(ServerError) as refused:
        pool.wire("u_shared", password=SHARED)
    assert refused.value.severity == "FATAL"
    pool.logs("auth_reader")


@pytest.mark.parametrize("salt", ["the same", "another"])
def test_a_crowd_of_wrong_passwords_keeps_no_server_from_being_opened(
    pooler: MakePooler, cluster: Cluster, salt: str
) -> None:
    cluster.admin("SET scram_iterations = 1000000; CREATE ROLE u_costly PASSWORD 'x'")
    secret = PASSWORD_ROLES["u_scram"][0]
    try:
        pool = pooler(
            workers=1,
            auth_type="password",
            server_connect_timeout=4,
            users={"u_costly": {"password": cluster.verifier("u_costly")}, "app": {"password": "y"}},
            databases={"app": {"user": "u_scram", "password": secret}},
        )
        with pool.wire("app", password="y") as inside:
            assert inside.one("SELECT current_user") == "u_scram"
            wrong = [says_wrong(pool, "u_costly", f"127.0.1.{number + 1}") for number in range(60)]
            if salt == "another":
                cluster.admin(f"ALTER ROLE u_scram PASSWORD '{secret}'")
            cluster.admin("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'u_scram'")
            assert inside.one("SELECT current_user") == "u_scram"
        assert "can't connect" not in pool.log
        for wire in wrong:
            wire.close()
    finally:
        pool.stop()
        cluster.admin("DROP ROLE u_costly")


def says_wrong(pool: Pooler, user: str, address: str) -> Wire:
    """A client of this address, whose password is being checked."""
    sock = socket.socket()
    sock.bind((address, 0))
    sock.connect(pool.address)
    wire = Wire(sock)
    wire.hello(user, "app")
    assert wire.message().kind == "R"
    wire.send(m.password("wrong"))
    return wire
