"""Clients that begin like others before them: they are let in another way, and must not notice."""

import hashlib
import socket
import time
from collections.abc import Iterator

import pytest
from scramp import ScramClient

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import ServerError, Wire, error_in, kinds

SECRET = "the secret"
USERS = {"app": {"password": SECRET}}


@pytest.fixture
def pool(shared_pooler: MakePooler, cluster: Cluster) -> Iterator[Pooler]:
    """A pooler that knows the packet which all clients of this file begin with."""
    known: Pooler = shared_pooler(cluster, auth_type="scram-sha-256", users=USERS, admin_users=["app"])
    for _ in range(2):
        known.wire(password=SECRET).bye()
    yield known
    assert known.wire(password=SECRET).one("SELECT 1") == "1"


def asked(pool: Pooler) -> Wire:
    """A client that has said who it is."""
    wire = pool.dial()
    wire.hello("app", "app")
    wire.until("R")
    return wire


def final_of(wire: Wire, secret: str = SECRET) -> bytes:
    """The message with the proof, for a client that was asked for one."""
    scram = ScramClient(["SCRAM-SHA-256"], "app", secret)
    wire.send(m.sasl_initial("SCRAM-SHA-256", scram.get_client_first()))
    scram.set_server_first(wire.until("R")[-1].body[4:].decode())
    return m.message("p", scram.get_client_final().encode())


class Drip:
    """A socket that sends byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __getattr__(self, name: str) -> object:
        return getattr(self.sock, name)

    def sendall(self, data: bytes) -> None:
        for byte in data:
            self.sock.sendall(bytes([byte]))
            time.sleep(0.0005)


def test_each_of_them_must_prove_itself(pool: Pooler) -> None:
    for secret in ("wrong", SECRET, "", SECRET + " ", SECRET):
        if secret == SECRET:
            assert pool.wire(password=secret).one("SELECT current_user") == "app"
            continue
        with pytest.raises(ServerError, match='password authentication failed for user "app"') as refused:
            pool.wire(password=secret)
        assert (refused.value.severity, refused.value.sqlstate) == ("FATAL", "28P01")


def test_a_proof_of_another_exchange_is_worth_nothing(pool: Pooler) -> None:
    one, other = asked(pool), asked(pool)
    proof = final_of(one)
    final_of(other)
    other.send(proof)
    assert error_in(other.rest())["M"] == "invalid SCRAM response"


def test_their_welcome_is_the_same(pool: Pooler) -> None:
    wires = [pool.wire(password=SECRET) for _ in range(3)]
    assert len({kinds(wire.welcome) for wire in wires}) == 1
    assert len({tuple(sorted(wire.parameters.items())) for wire in wires}) == 1
    assert len({(wire.pid, wire.key) for wire in wires}) == 3


def test_every_byte_may_come_alone(pool: Pooler) -> None:
    wire = pool.dial()
    wire.sock = Drip(wire.sock)  # type: ignore[assignment]
    wire.login(password=SECRET)
    assert wire.one("SELECT 1") == "1"


def test_a_query_right_behind_the_proof_is_answered(pool: Pooler) -> None:
    wire = asked(pool)
    proof = final_of(wire)
    wire.send(proof, m.query("SELECT 1"), m.query("SELECT 2"))
    assert kinds(wire.until("Z", 3)).endswith("ZTDCZTDCZ")


def test_nobody_is_let_in_who_goes_on_before_he_is_asked(pool: Pooler) -> None:
    wire = asked(pool)
    scram = ScramClient(["SCRAM-SHA-256"], "app", SECRET)
    wire.send(m.sasl_initial("SCRAM-SHA-256", scram.get_client_first()), m.query("SELECT 1"))
    assert kinds(wire.rest()) == "RE"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (m.query("SELECT 1"), "expected password response, got message type 81"),
        (b"p\0\0\0\3", "invalid message length 3"),
        (b"p\xff\xff\xff\xff", "invalid message length 4294967295"),
        (b"p\0\1\0\4" + b"x" * 70000, "invalid message length 65540"),
        (m.message("p", b"x" * 65535), "malformed SASL message"),
        (m.message("p", b"x" * 65536), "invalid message length 65540"),
        (m.message("p", b""), "malformed SASL message"),
    ],
)
def test_nonsense_is_refused_in_the_same_words(pool: Pooler, answer: bytes, text: str) -> None:
    wire = asked(pool)
    wire.send(answer)
    assert error_in(wire.rest())["M"] == text


def test_those_that_leave_half_way_are_forgotten(pool: Pooler) -> None:
    admin = pool.wire("app", "pglido", password=SECRET)

    def counts() -> tuple[int, dict[str | None, str | None]]:
        return len(admin.run("SHOW CLIENTS")), {name: count for name, count, *_ in admin.run("SHOW LISTS")}

    before = counts()
    for step in range(4):
        wire = pool.dial()
        if step:
            wire.hello("app", "app")
            wire.until("R")
        if step == 2:
            final_of(wire)
        if step == 3:
            wire.send(final_of(wire))
        wire.close()
    eventually(lambda: counts() == before)
    assert before[1]["login_clients"] == "0"


def test_limits_hold_for_them(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users=USERS, max_client_conn=3)
    wires = [pool.wire(password=SECRET) for _ in range(3)]
    with pytest.raises(ServerError, match="no more connections allowed"):
        pool.wire(password=SECRET)
    wires.pop().bye()
    eventually(lambda: comes_in(pool))


def comes_in(pool: Pooler) -> bool:
    """Whether there is room for a client."""
    try:
        return pool.wire(password=SECRET).one("SELECT 1") == "1"
    except ServerError:
        return False


def test_a_password_is_another_after_a_reload(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users=USERS)
    for _ in range(2):
        pool.wire(password=SECRET).bye()
    pool.reload(pool.path.read_text().replace(SECRET, "another"))
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire(password=SECRET)
    for _ in range(2):
        assert pool.wire(password="another").one("SELECT 1") == "1"


def test_who_must_prove_nothing_after_a_reload_must_before(pooler: MakePooler) -> None:
    pool = pooler(auth_type="trust", users=USERS)
    for _ in range(2):
        pool.wire().bye()
    pool.reload(pool.path.read_text().replace("trust", "scram-sha-256"))
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire(password="wrong")
    assert pool.wire(password=SECRET).one("SELECT 1") == "1"


@pytest.mark.parametrize("method", ["trust", "scram-sha-256"])
def test_without_tls_nobody_begins_like_those_with_it(
    pooler: MakePooler, certificates: Certificates, method: str
) -> None:
    pool = pooler(
        auth_type=method,
        users=USERS,
        client_tls_sslmode="require",
        client_tls_cert_file=certificates.server.certificate,
        client_tls_key_file=certificates.server.key,
    )
    for _ in range(3):
        wire = pool.dial()
        wire.start_tls(certificates.client_context())
        assert wire.login(password=SECRET).one("SELECT 1") == "1"
    for _ in range(2):
        with pytest.raises(ServerError, match="SSL required"):
            pool.wire(password=SECRET)


# What a reload changes holds for those who were on their way.


def with_tls(config: str, certificates: Certificates, mode: str) -> str:
    pair = certificates.server
    lines = (
        f'client_tls_sslmode = "{mode}"',
        f'client_tls_cert_file = "{pair.certificate}"',
        f'client_tls_key_file = "{pair.key}"',
        f'client_tls_ca_file = "{certificates.authority}"',
    )
    return config.replace("[pglido]", "\n".join(["[pglido]", *lines]), 1)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
@pytest.mark.parametrize("method", ["trust", "scram-sha-256"])
def test_who_came_before_tls_was_required_is_not_let_in_without(
    pooler: MakePooler, certificates: Certificates, method: str, mode: str
) -> None:
    pool = pooler(auth_type=method, users=USERS, workers=1)
    early = [pool.dial() for _ in range(2)]
    for wire in early:
        wire.send(m.SSL_REQUEST)
        assert wire.raw(1) == b"N"
    pool.reload(with_tls(pool.path.read_text(), certificates, mode))
    for _ in range(2):
        if mode == "require":
            wire = pool.dial()
            wire.start_tls(certificates.client_context())
            wire.login(password=SECRET).bye()
        with pytest.raises(ServerError, match="SSL required"):
            pool.wire(password=SECRET)
    for wire in early:
        with pytest.raises(ServerError, match="SSL required"):
            wire.login(password=SECRET)


def test_an_old_password_is_worth_nothing_to_who_was_asked_for_it_before(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users=USERS, workers=1)
    for _ in range(2):
        pool.wire(password=SECRET).bye()
    known, fresh, still = asked(pool), pool.dial(), asked(pool)
    fresh.hello("app", "app", application_name="fresh")
    fresh.until("R")
    proofs = [(wire, final_of(wire)) for wire in (known, fresh)]
    pool.reload(pool.path.read_text().replace(SECRET, "another"))
    for wire, proof in proofs:
        wire.send(proof)
        assert error_in(wire.rest())["M"] == 'password authentication failed for user "app"'
    still.send(final_of(still))
    assert error_in(still.rest())["C"] == "28P01"
    assert pool.wire(password="another").one("SELECT 1") == "1"


@pytest.mark.parametrize("change", ["tls", "admins"])
def test_who_was_asked_before_a_reload_gets_no_console_that_it_may_not_have(
    pooler: MakePooler, certificates: Certificates, change: str
) -> None:
    pool = pooler(auth_type="scram-sha-256", users=USERS, workers=1, admin_users=["app"], stats_users=["postgres"])
    pool.wire(database="pglido", password=SECRET).bye()
    wire = pool.dial()
    wire.hello("app", "pglido")
    wire.until("R")
    proof = final_of(wire)
    config = pool.path.read_text()
    assert 'admin_users = ["app"]' in config
    fewer = config.replace('admin_users = ["app"]', 'admin_users = ["postgres"]')
    pool.reload(with_tls(config, certificates, "require") if change == "tls" else fewer)
    wire.send(proof)
    assert error_in(wire.rest())["M"] == ("SSL required" if change == "tls" else "not allowed")


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_who_was_asked_before_tls_was_required_is_not_let_in_without(
    pooler: MakePooler, certificates: Certificates, method: str
) -> None:
    pool = pooler(auth_type=method, users=USERS, workers=1)
    for _ in range(2):
        pool.wire(password=SECRET).bye()
    if method == "md5":
        wire = pool.dial()
        wire.hello("app", "app")
        salt = wire.until("R")[-1].body[4:]
        inner = hashlib.md5((SECRET + "app").encode()).hexdigest().encode()
        proof = m.message("p", b"md5" + hashlib.md5(inner + salt).hexdigest().encode() + b"\0")
    else:
        wire = asked(pool)
        proof = final_of(wire)
    pool.reload(with_tls(pool.path.read_text(), certificates, "require"))
    wire.send(proof)
    assert error_in(wire.rest())["M"] == "SSL required"


def test_who_is_asked_while_something_else_changes_is_let_in(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users=USERS, workers=1)
    for _ in range(2):
        pool.wire(password=SECRET).bye()
    wire = asked(pool)
    proof = final_of(wire)
    pool.reload(pool.path.read_text().replace("[pglido]", "[pglido]\nlog_pooler_errors = false", 1))
    wire.send(proof)
    wire.until("Z")
    assert wire.one("SELECT 1") == "1"


def changed_meanwhile(pool: Pooler, config: str) -> None:
    """A login with a new packet waits for the only server, while the configuration becomes another."""
    holder = pool.wire(password=SECRET)
    holder.run("BEGIN")
    waits = pool.dial()
    waits.hello("app", "app", DateStyle="German")
    if "scram" in config:
        waits.until("R")
        waits.send(final_of(waits))
    eventually(lambda: pool.pool()["maxwait_us"])
    pool.reload(config)
    holder.run("COMMIT")
    assert kinds(waits.until("Z"))[-1] == "Z"
    holder.bye()
    waits.bye()


def test_a_limit_holds_for_those_that_begin_like_one_who_came_before_it(pooler: MakePooler) -> None:
    pool = pooler(users=USERS, workers=1, default_pool_size=1)
    limited = pool.path.read_text().replace('[users."app"]', '[users."app"]\nmax_user_client_connections = 1')
    changed_meanwhile(pool, limited)
    first = pool.wire(DateStyle="German")
    for _ in range(2):
        with pytest.raises(ServerError, match="client connections exceeded"):
            pool.wire(DateStyle="German")
    assert first.one("SELECT 1") == "1"


def test_a_user_who_was_removed_is_not_let_in_by_who_came_before(pooler: MakePooler) -> None:
    pool = pooler(users={"app": {}}, workers=1, default_pool_size=1)
    text = pool.path.read_text()
    assert '[users."app"]\npassword = ""\n' in text
    changed_meanwhile(pool, text.replace('[users."app"]\npassword = ""\n', ""))
    for _ in range(3):
        with pytest.raises(ServerError, match="authentication failed"):
            pool.wire(DateStyle="German")


def test_a_database_of_one_is_not_that_of_another(pool: Pooler) -> None:
    for _ in range(2):
        assert pool.wire("app", "app", password=SECRET).one("SELECT current_database()") == "app"
        with pytest.raises(ServerError, match="no such database: none"):
            pool.wire("app", "none", password=SECRET)
