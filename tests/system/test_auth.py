"""Who may in from the client's side: each method, each kind of stored secret, and nothing to learn from a refusal."""

import hashlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from scramp import ScramClient

import harness.messages as m
from conftest import MakePooler
from harness.cluster import PASSWORD_ROLES, Cluster
from harness.pooler import Pooler, new_port
from harness.tls import Certificates
from harness.wire import ServerError, Wire, kinds
from pglido.auth import scram
from pglido.auth.secrets import Verifier
from pglido.cli.child import own_user

SECRET = "the secret"
ITERATIONS = 4096


def md5_of(user: str, secret: str) -> str:
    """A secret as PostgreSQL stores it for md5."""
    return "md5" + hashlib.md5((secret + user).encode()).hexdigest()


@pytest.fixture(scope="module")
def verifiers(cluster: Cluster) -> dict[str, str]:
    """SCRAM verifiers of SECRET as PostgreSQL makes them, by user."""
    made = {}
    for user in ("app", "app2", "app3"):
        cluster.admin(f"ALTER ROLE {user} PASSWORD '{SECRET}'")
        made[user] = cluster.verifier(user)
        cluster.admin(f"ALTER ROLE {user} PASSWORD NULL")
    return made


# What is stored in the forms plain, md5 and SCRAM can prove itself by these methods.
METHODS = {
    "trust": {"plain": True, "md5": True, "scram": True, "none": True},
    "password": {"plain": True, "md5": True, "scram": True, "none": False},
    "md5": {"plain": True, "md5": True, "scram": True, "none": False},
    "scram-sha-256": {"plain": True, "md5": False, "scram": True, "none": False},
}
# The first authentication request: cleartext 3, md5 5, SASL 10, none 0.
ASKED = {"trust": 0, "password": 3, "md5": 5, "scram-sha-256": 10}


@pytest.mark.parametrize("method", METHODS)
def test_methods_and_stored_secrets(pooler: MakePooler, verifiers: dict[str, str], method: str) -> None:
    users = {
        "app": {"password": SECRET},
        "app2": {"password": md5_of("app2", SECRET)},
        "app3": {"password": verifiers["app3"]},
    }
    pool = pooler(auth_type=method, users=users)
    for user, form in (("app", "plain"), ("app2", "md5"), ("app3", "scram"), ("postgres", "none")):
        if METHODS[method][form]:
            with pool.wire(user, password=SECRET) as wire:
                assert wire.one("SELECT current_user") == user
                expected = 10 if (method, form) == ("md5", "scram") else ASKED[method]
                assert struct.unpack_from("!i", wire.welcome[0].body)[0] == expected
        if method != "trust":
            for wrong in ("wrong", SECRET + " ", "", SECRET.upper()):
                if wrong != SECRET or not METHODS[method][form]:
                    with pytest.raises(ServerError) as refused:
                        pool.wire(user, password=wrong)
                    assert refused.value.severity == "FATAL"
                    assert refused.value.sqlstate in ("28P01", "28000", "08P01")


@pytest.mark.parametrize("method", METHODS)
def test_psycopg_logs_in(pooler: MakePooler, method: str) -> None:
    pool = pooler(auth_type=method, users={"app": {"password": SECRET}})
    with psycopg.connect(pool.conninfo(password=SECRET)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app",)


def refusal(pool: Pooler, user: str, secret: str) -> tuple[str, dict[str, str], list[int]]:
    """The types of all messages of a refused login, the error, and the sizes of the other messages."""
    wire = pool.dial()
    wire.hello(user, "app")
    with pytest.raises(ServerError) as refused:
        wire.authenticate(user, secret)
    wire.welcome += wire.rest()
    fields = {code: value.replace(user, "USER") for code, value in refused.value.fields.items() if code != "D"}
    return kinds(wire.welcome), fields, [len(one.body) for one in wire.welcome if one.kind != "E"]


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_unknown_user_cannot_be_told_from_a_wrong_password(pooler: MakePooler, method: str) -> None:
    pool = pooler(auth_type=method, users={"app": {"password": SECRET}})
    wrong, unknown = refusal(pool, "app", "wrong"), refusal(pool, "usr", "wrong")
    assert wrong == unknown
    assert wrong[1]["M"] == 'password authentication failed for user "USER"'
    assert (wrong[1]["S"], wrong[1]["C"]) == ("FATAL", "28P01")
    assert refusal(pool, "usr", "wrong")[1:] == unknown[1:]


def challenge(pool: Pooler, user: str) -> bytes:
    """The salt and the iterations that a SCRAM challenge shows."""
    wire = pool.dial()
    wire.hello(user, "app")
    wire.until("R")
    wire.send(m.sasl_initial("SCRAM-SHA-256", "n,,n=,r=abcdefghijklmnopqrstuvwx"))
    first = wire.until("R")[-1].body[4:]
    wire.close()
    return first.split(b",", 1)[1]


def test_unknown_users_challenge_is_always_the_same(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", workers=3, users={"app": {"password": SECRET}})
    assert len({challenge(pool, "app") for _ in range(10)}) == 1
    assert len({challenge(pool, "unknown") for _ in range(10)}) == 1
    assert challenge(pool, "unknown") != challenge(pool, "unknown2")


def challenges_of_two_lives(pool: Pooler) -> list[dict[str, bytes]]:
    """What names are shown before a restart and after it."""
    seen = []
    for _ in range(2):
        seen.append({name: challenge(pool, name) for name in ("app", "usr", "unknown")})
        pool.stop()
        pool.start()
    return seen


@pytest.mark.parametrize("lasting", ["auth_mock_seed", "client_tls_key_file"])
def test_a_restart_does_not_tell_which_names_there_are(
    pooler: MakePooler, verifiers: dict[str, str], certificates: Certificates, lasting: str
) -> None:
    """A verifier's salt stays: so must those of names that nobody has, and of passwords in clear."""
    own = certificates.server
    tls = {"client_tls_sslmode": "allow", "client_tls_cert_file": own.certificate, "client_tls_key_file": own.key}
    more: dict[str, object] = {"auth_mock_seed": "something secret"} if lasting == "auth_mock_seed" else {**tls}
    users = {"app": {"password": verifiers["app"]}, "usr": {"password": SECRET}}
    before, after = challenges_of_two_lives(pooler(auth_type="scram-sha-256", workers=1, users=users, **more))
    assert before == after
    assert len(set(before.values())) == 3


def test_poolers_with_the_same_seed_show_the_same_challenges(pooler: MakePooler, verifiers: dict[str, str]) -> None:
    users = {"app": {"password": verifiers["app"]}}
    seen = [
        challenge(pooler(auth_type="scram-sha-256", workers=1, users=users, auth_mock_seed=seed), "unknown")
        for seed in ("one", "one", "another")
    ]
    assert seen[0] == seen[1] != seen[2]


def test_trust_refuses_users_it_does_not_know(pooler: MakePooler) -> None:
    with pytest.raises(ServerError, match='"trust" authentication failed'):
        pooler().wire("nobody_at_all")


@pytest.fixture
def ini(tmp_path: Path, cluster: Cluster) -> Iterator[Callable[[str, str], Pooler]]:
    """A pooler with a pgbouncer.ini: what stands in [pgbouncer] besides its port, and in [users]."""
    made: list[Pooler] = []

    def make(settings: str, users: str) -> Pooler:
        port = new_port()
        text = (
            f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = transaction\n"
            f"user = {own_user()}\n{settings}\n[users]\n{users}\n"
        )
        made.append(Pooler(tmp_path, text, port, "ini"))
        return made[0].start()

    yield make
    for one in made:
        one.stop()


def test_options_of_a_user_open_no_door(ini: Callable[[str, str], Pooler], tmp_path: Path) -> None:
    users = tmp_path / "userlist.txt"
    users.write_text('"app2" ""\n')
    pool = ini(f"auth_type = trust\nauth_file = {users}", "app = pool_mode=session\napp2 = pool_mode=session")
    with pytest.raises(ServerError, match='"trust" authentication failed'):
        pool.wire("app")
    assert pool.wire("app2").one("SELECT current_user") == "app2"


def test_options_of_a_user_shut_no_door(ini: Callable[[str, str], Pooler], tmp_path: Path) -> None:
    users = tmp_path / "userlist.txt"
    users.write_text(f'"auth_reader" "{PASSWORD_ROLES["auth_reader"][0]}"\n')
    asks = f"auth_user = auth_reader\nauth_file = {users}"
    pool = ini(f"auth_type = scram-sha-256\n{asks}", "u_shared = pool_mode=session")
    secret = PASSWORD_ROLES["u_shared"][0]
    assert pool.wire("u_shared", password=secret).one("SELECT current_user") == "u_shared"
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire("u_shared", password="wrong")


def test_a_section_of_options_is_no_user_in_toml_either(pooler: MakePooler) -> None:
    pool = pooler()
    known = '[users."app"]\npassword = ""\n'
    assert known in pool.path.read_text()
    pool.reload(pool.path.read_text().replace(known, '[users."app"]\npool_mode = "session"\n'))
    with pytest.raises(ServerError, match='"trust" authentication failed'):
        pool.wire("app")
    assert pool.wire("app2").one("SELECT 1") == "1"


def test_userlist_in_latin_1(ini: Callable[[str, str], Pooler], tmp_path: Path) -> None:
    users = tmp_path / "userlist.txt"
    users.write_bytes('; J\xf6rg\n"app" "gr\xfcn"\n"j\xf6rg" "x"\n'.encode("latin-1"))
    pool = ini(f"auth_type = password\nauth_file = {users}", "")
    wire = pool.dial()
    wire.hello("app", "app")
    wire.until("R")
    wire.send(m.message("p", b"gr\xfcn\0"))
    assert kinds(wire.until("Z"))[-1] == "Z"
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire("app", password="grün")


def test_userlist_with_a_byte_order_mark(ini: Callable[[str, str], Pooler], tmp_path: Path) -> None:
    users = tmp_path / "userlist.txt"
    users.write_text('\ufeff"app" "secret"\n')
    pool = ini(f"auth_type = scram-sha-256\nauth_file = {users}", "")
    assert pool.wire("app", password="secret").one("SELECT current_user") == "app"


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_empty_password_is_refused(pooler: MakePooler, tmp_path: Path, method: str) -> None:
    path = tmp_path / "userlist.txt"
    path.write_text('"app" ""\n"app2" "x"\n')
    pool = pooler(auth_type=method, auth_file=path)
    with pytest.raises(ServerError):
        pool.wire("app", password="")
    assert pool.wire("app2", password="x").one("SELECT 1") == "1"


def test_auth_file(pooler: MakePooler, cluster: Cluster, verifiers: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "userlist.txt"
    path.write_text(
        f'; comment\n"app" "it""s {SECRET}"\n"app2" "{md5_of("app2", SECRET)}"\n"app3" "{verifiers["app3"]}" ""\n'
    )
    pool = pooler(auth_type="md5", auth_file=path)
    assert pool.wire("app", password=f'it"s {SECRET}').one("SELECT 1") == "1"
    assert pool.wire("app2", password=SECRET).one("SELECT 1") == "1"
    assert pool.wire("app3", password=SECRET).one("SELECT 1") == "1"
    path.write_text('"app" "new"\n')
    pool.reload(pool.path.read_text())
    assert pool.wire("app", password="new").one("SELECT 1") == "1"
    with pytest.raises(ServerError):
        pool.wire("app", password=f'it"s {SECRET}')
    assert cluster.wire().one("SELECT 1") == "1"


def test_no_secret_is_logged(pooler: MakePooler, verifiers: dict[str, str]) -> None:
    users = {"app": {"password": SECRET}, "app3": {"password": verifiers["app3"]}}
    pool = pooler(auth_type="password", users=users, log_level="debug")
    pool.wire("app", password=SECRET)
    pool.wire("app3", password=SECRET)
    with pytest.raises(ServerError):
        pool.wire("app", password="my wrong guess")
    pool.logs("password authentication failed|wrong password|authentication failed")
    for hidden in (SECRET, verifiers["app3"], "my wrong guess"):
        assert hidden not in pool.log


def tls_pool(pooler: MakePooler, certificates: Certificates, **more: object) -> Pooler:
    """A pooler that offers TLS and SCRAM, for the user app."""
    pair = certificates.server
    pool: Pooler = pooler(
        auth_type="scram-sha-256",
        users={"app": {"password": SECRET}},
        client_tls_sslmode="prefer",
        client_tls_cert_file=pair.certificate,
        client_tls_key_file=pair.key,
        **more,
    )
    return pool


def test_channel_binding(pooler: MakePooler, certificates: Certificates) -> None:
    pool = tls_pool(pooler, certificates)
    bound = pool.conninfo(password=SECRET, sslmode="require", channel_binding="require")
    with psycopg.connect(bound) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(bound.replace(SECRET, "wrong"))
    with psycopg.connect(pool.conninfo(password=SECRET, sslmode="require", channel_binding="disable")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        psycopg.connect(pool.conninfo(password=SECRET, sslmode="disable", channel_binding="require"))


def test_channel_binding_cannot_be_taken_away(pooler: MakePooler, certificates: Certificates) -> None:
    pool = tls_pool(pooler, certificates)
    # "y": the client could bind but believes that the server can't: someone has removed the offer.
    for flag in ("y,,", "p=tls-server-end-point,,", "p=tls-unique,,"):
        wire = pool.dial()
        wire.start_tls(certificates.client_context())
        wire.hello("app", "app")
        assert b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0" in wire.until("R")[-1].body
        wire.send(m.sasl_initial("SCRAM-SHA-256", f"{flag}n=,r=abcdefghijklmnopqrstuvwx"))
        assert kinds(wire.rest()) == "E"


def test_plus_is_not_offered_without_tls(pooler: MakePooler, certificates: Certificates) -> None:
    pool = tls_pool(pooler, certificates)
    wire = pool.dial()
    wire.hello("app", "app")
    assert b"PLUS" not in wire.until("R")[-1].body
    wire.send(m.sasl_initial("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abcdefghijklmnopqrstuvwx"))
    assert kinds(wire.rest()) == "E"


@pytest.mark.parametrize(
    "answer",
    [
        m.message("p", b""),
        m.message("p", b"SCRAM-SHA-256"),
        m.message("p", b"SCRAM-SHA-256\0"),
        m.message("p", b"SCRAM-SHA-256\0" + struct.pack("!i", 1000) + b"n,,n=,r=x"),
        m.sasl_initial("NO-SUCH-THING", "n,,n=,r=abc"),
        m.sasl_initial("SCRAM-SHA-256", ""),
        m.sasl_initial("SCRAM-SHA-256", "n,,"),
        m.sasl_initial("SCRAM-SHA-256", "n,,m=ext,n=,r=abc"),
        m.sasl_initial("SCRAM-SHA-256", "n,,n=,r="),
        m.sasl_initial("SCRAM-SHA-256", "n,,n=,r=" + "x" * 5000),
        m.sasl_initial("SCRAM-SHA-256", "n,,n=,r=\x01\x02"),
        m.sasl_initial("SCRAM-SHA-256", "z" * 500),
        m.message("p", b"\xff" * 900),
        m.query("SELECT 1"),
        m.SYNC,
    ],
)
def test_nonsense_instead_of_a_proof(shared_pooler: MakePooler, cluster: Cluster, answer: bytes) -> None:
    pool = shared_pooler(cluster, auth_type="scram-sha-256", users={"app": {"password": SECRET}})
    wire = pool.dial()
    wire.hello("app", "app")
    wire.until("R")
    wire.send(answer)
    assert kinds(wire.rest()) in ("E", "")
    assert pool.wire("app", password=SECRET).one("SELECT 1") == "1"


@pytest.mark.parametrize(
    "final",
    [
        "",
        "c=biws",
        "c=biws,r=x,p=x",
        "c=biws,r={nonce}",
        "c=biws,r={nonce},p=AAAA",
        "c=eSws,r={nonce},p=" + "A" * 43 + "=",
        "p=" * 300,
    ],
)
def test_nonsense_instead_of_the_final_message(shared_pooler: MakePooler, cluster: Cluster, final: str) -> None:
    pool = shared_pooler(cluster, auth_type="scram-sha-256", users={"app": {"password": SECRET}})
    wire = pool.dial()
    wire.hello("app", "app")
    wire.until("R")
    wire.send(m.sasl_initial("SCRAM-SHA-256", "n,,n=,r=abcdefghijklmnopqrstuvwx"))
    nonce = wire.until("R")[-1].body[4:].decode().split(",")[0][2:]
    wire.send(m.message("p", final.format(nonce=nonce).encode()))
    (error,) = wire.rest()
    assert error.fields["C"] in ("28P01", "08P01")
    assert pool.wire("app", password=SECRET).one("SELECT 1") == "1"


def test_unicode_password(pooler: MakePooler) -> None:
    secret = PASSWORD_ROLES["u_unicode"][0]
    pool = pooler(auth_type="scram-sha-256", users={"u_unicode": {"password": secret}})
    with psycopg.connect(pool.conninfo("u_unicode", password=secret)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("u_unicode",)


def test_password_is_asked_for_before_the_database_is_looked_up(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users={"app": {"password": SECRET}})
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire("app", "no_such_database", password="wrong")
    with pytest.raises(ServerError, match="no such database: no_such_database"):
        pool.wire("app", "no_such_database", password=SECRET)


def test_same_password_for_two_users(pooler: MakePooler) -> None:
    users = {name: {"password": SECRET} for name in ("app", "app2", "app3")}
    pool = pooler(auth_type="scram-sha-256", users=users)
    wires: list[Wire] = [pool.wire(name, password=SECRET) for name in users]
    assert [wire.one("SELECT current_user") for wire in wires] == list(users)


def test_passwords_are_checked_beside_those_who_work(pooler: MakePooler) -> None:
    """Ten checks of a million iterations each, some seconds in all, in which a client of the one worker is served."""
    derived = scram.derive(SECRET.encode(), b"sixteen bytes...", 1_000_000)
    costly = Verifier(1_000_000, b"sixteen bytes...", derived.stored_key, derived.server_key)
    users = {"app": {"password": SECRET}, "app2": {"password": costly.encoded()}}
    pool = pooler(auth_type="password", users=users, workers=1)
    working = pool.wire(password=SECRET)
    trying = [pool.dial() for _ in range(10)]
    for number, wire in enumerate(trying):
        wire.hello("app2", "app")
        assert wire.message().kind == "R"
        wire.send(m.password(f"wrong {number}"))
    assert working.one("SELECT 1") == "1"
    # One goes after the other: so the last was not answered yet.
    trying[-1].sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        trying[-1].sock.recv(1)
    for wire in trying:
        wire.sock.settimeout(60)
        assert [one.fields["C"] for one in wire.messages()] == ["28P01"]
    with pytest.raises(ServerError, match="28P01"):
        pool.wire("app2", password="wrong")
    assert pool.wire("app2", password=SECRET).one("SELECT current_user") == "app2"


def test_derived_keys_of_scram_are_had_beside_those_who_work(pooler: MakePooler) -> None:
    """A verifier made on the fly from a password in clear: at the first login, and for each proof that fails."""
    pool = pooler(auth_type="scram-sha-256", scram_iterations=100_000, users={"app": {"password": SECRET}}, workers=1)
    for _ in range(2):
        assert pool.wire(password=SECRET).one("SELECT 1") == "1"
    for user in ("app", "nobody"):
        with pytest.raises(ServerError, match="28P01"):
            pool.wire(user, password="wrong")
    gone = pool.dial()
    gone.hello("app", "app")
    gone.message()
    client = ScramClient(["SCRAM-SHA-256"], "app", "wrong")
    gone.send(m.sasl_initial("SCRAM-SHA-256", client.get_client_first()))
    client.set_server_first(gone.message().body[4:].decode())
    gone.send(m.message("p", client.get_client_final().encode()))
    # Nobody waits for the answer any more.
    gone.close()
    assert pool.wire(password=SECRET).one("SELECT 1") == "1"
