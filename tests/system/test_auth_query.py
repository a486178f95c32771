"""auth_query: what is remembered is never in the way of what is true now, and tells nobody who exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import PASSWORD_ROLES, Cluster
from harness.pooler import Pooler, new_port
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire
from pglido.cli.child import own_user

READER = PASSWORD_ROLES["auth_reader"][0]
TWO_COLUMNS = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1"
# In the file, existing, missing.
KINDS = ("stored", "u_changing", "missing")


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """A role with the password "one"; its server connections are closed before it goes."""
    cluster.admin("CREATE ROLE u_changing LOGIN PASSWORD 'one'")
    yield "u_changing"
    cluster.admin("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'u_changing'")
    cluster.admin("DROP ROLE u_changing")


def asking(pooler: MakePooler, **more: object) -> Pooler:
    """A pooler that knows auth_reader and "stored", asks for everybody else, and remembers for long."""
    users = {"auth_reader": {"password": READER}, "stored": {"password": "x"}}
    settings = {"auth_type": "scram-sha-256", "auth_user": "auth_reader", "auth_query_ttl": 600, "users": users}
    pool: Pooler = pooler(**{**settings, **more})
    return pool


def logs_in(pool: Pooler, user: str, secret: str) -> bool:
    """Whether a login works; a refusal must be that of a wrong password."""
    try:
        with pool.wire(user, password=secret) as wire:
            return wire.one("SELECT current_user") == user
    except ServerError as error:
        if error.text != f'password authentication failed for user "{user}"':
            raise
        return False


class Questions:
    """How often auth_query was run since."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.admin("ALTER ROLE auth_reader SET log_statement = 'all'")
        self.before = self._all()

    def _all(self) -> int:
        return self.cluster.server.log_text().count("FROM pg_authid WHERE rolname")

    def new(self) -> int:
        """Those since the last time."""
        now, before = self._all(), self.before
        self.before = now
        return now - before


@pytest.fixture
def questions(cluster: Cluster) -> Iterator[Questions]:
    """Counts questions."""
    yield Questions(cluster)
    cluster.admin("ALTER ROLE auth_reader RESET log_statement")


@pytest.mark.parametrize("method", ["password", "scram-sha-256"])
def test_new_password_is_taken_by_all_workers(pooler: MakePooler, cluster: Cluster, role: str, method: str) -> None:
    pool = asking(pooler, auth_type=method, workers=3)
    assert all(logs_in(pool, role, "one") for _ in range(20))
    cluster.admin("ALTER ROLE u_changing PASSWORD 'two'")
    worked = [logs_in(pool, role, "two") for _ in range(20)]
    # By SCRAM the first may have been shown the old salt, but no other.
    assert worked[0] or method == "scram-sha-256"
    assert worked[1:] == [True] * 19
    assert not logs_in(pool, role, "one")


def test_password_that_is_changed_through_the_pooler_is_never_taken_for_the_old_one(
    pooler: MakePooler, cluster: Cluster, role: str
) -> None:
    pool = asking(pooler, workers=3, users={"auth_reader": {"password": READER}, "app": {"password": "x"}})
    cluster.admin("ALTER ROLE app CREATEROLE")
    cluster.admin("GRANT u_changing TO app WITH ADMIN OPTION")
    try:
        admin = pool.wire("app", password="x")
        for number in range(5):
            admin.run(f"ALTER ROLE u_changing PASSWORD 'p{number}'")
            assert all(logs_in(pool, role, f"p{number}") for _ in range(8))
    finally:
        cluster.admin("ALTER ROLE app NOCREATEROLE")


def test_same_password_set_again(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = asking(pooler, server=own_cluster, workers=1)
    secret = PASSWORD_ROLES["u_shared"][0]
    for turn in range(3):
        assert logs_in(pool, "u_shared", secret)
        own_cluster.admin(f"ALTER ROLE u_shared PASSWORD '{secret}'")
        own_cluster.admin("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'u_shared'")
        eventually(lambda seen=turn: pool.log.count("57P01") > seen)
        # What the client has proved itself by is not what the server has: that of a later login is.
        assert not tries(pool, "u_shared", secret)
        assert pool.log.count("can't connect to the server of app/u_shared: server login failed: the server has") > turn
        eventually(lambda: tries(pool, "u_shared", secret))


def tries(pool: Pooler, user: str, secret: str) -> bool:
    """Whether a login works, whatever keeps it from that."""
    try:
        with pool.wire(user, password=secret) as wire:
            return wire.one("SELECT 1") == "1"
    except (ServerError, Closed):
        return False


def test_expiry_is_not_hidden(pooler: MakePooler, cluster: Cluster, role: str) -> None:
    pool = asking(pooler, workers=2)
    ((until,),) = cluster.admin("SELECT clock_timestamp() + interval '3 s'")
    cluster.admin(f"ALTER ROLE u_changing VALID UNTIL '{until}'")

    def expired() -> bool:
        return cluster.admin(f"SELECT clock_timestamp() > '{until}'") == [["t"]]

    for _ in range(10):
        assert logs_in(pool, role, "one") or expired()
    eventually(expired)
    assert not any(logs_in(pool, role, "one") for _ in range(10))


def test_every_kind_of_name_is_asked_for_alike(
    pooler: MakePooler, cluster: Cluster, role: str, questions: Questions
) -> None:
    pool = asking(pooler, workers=1)
    for name in KINDS:
        assert not logs_in(pool, name, "wrong")
        # Never asked before: that is true now, and not asked again.
        assert questions.new() == 1
        assert not logs_in(pool, name, "wrong")
        # Remembered: asked again before the refusal.
        assert questions.new() == 1
    assert cluster.admin("SELECT count(*) FROM pg_authid WHERE rolname = 'stored'") == [["0"]]


@pytest.mark.parametrize("more", [{"auth_query": TWO_COLUMNS}, {"auth_query_ttl": 0}])
def test_what_does_not_tell_its_end_is_asked_for_each_time(
    pooler: MakePooler, role: str, questions: Questions, more: dict[str, object]
) -> None:
    pool = asking(pooler, workers=1, **more)
    for name in KINDS:
        for _ in range(3):
            assert not logs_in(pool, name, "wrong")
            assert questions.new() == 1


def test_with_a_pgbouncer_ini_nothing_is_remembered(
    tmp_path: Path, cluster: Cluster, role: str, questions: Questions
) -> None:
    (tmp_path / "users").write_text(f'"auth_reader" "{READER}"\n')
    port = new_port()
    text = (
        f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_user = auth_reader\n"
        f"auth_file = {tmp_path}/users\nuser = {own_user()}\n"
    )
    pool = Pooler(tmp_path, text, port, "ini").start()
    try:
        for turn in range(3):
            cluster.admin(f"ALTER ROLE u_changing PASSWORD 'p{turn}'")
            assert logs_in(pool, role, f"p{turn}")
            assert not logs_in(pool, role, "one")
        assert questions.new() == 6
    finally:
        pool.stop()


def test_user_of_the_file_depends_on_no_question(pooler: MakePooler) -> None:
    users = {"auth_reader": {"password": "wrong"}, "app": {"password": "x"}}
    pool = asking(pooler, users=users, workers=1)
    for _ in range(3):
        assert logs_in(pool, "app", "x")
        assert not logs_in(pool, "app", "y")


def test_another_spelling_of_the_name(pooler: MakePooler, role: str) -> None:
    pool = asking(pooler, auth_query="SELECT rolname, rolpassword FROM pg_authid WHERE rolname = lower($1)")
    with pool.wire("U_Changing", password="one") as wire:
        assert wire.one("SELECT current_user") == role
    with pytest.raises(ServerError, match='password authentication failed for user "U_Changing"'):
        pool.wire("U_Changing", password="two")


def test_long_names_are_cut_as_postgresql_cuts_them(pooler: MakePooler, cluster: Cluster) -> None:
    name = "u" * 63
    cluster.admin(f"CREATE ROLE {name} LOGIN PASSWORD 'one'")
    pool = asking(pooler)
    try:
        for longer in (name, name + "u", name + "v" * 100):
            with pool.wire(longer, password="one") as wire:
                assert wire.one("SELECT current_user") == name
            for user, cut in ((longer, name), ("x" * 100, "x" * 63)):
                with pytest.raises(ServerError) as refused:
                    pool.wire(user, password="two")
                assert refused.value.text == f'password authentication failed for user "{cut}"'
    finally:
        pool.stop()
        cluster.admin(f"DROP ROLE {name}")


def test_questions_of_clients_that_have_gone_are_not_asked(
    pooler: MakePooler, cluster: Cluster, questions: Questions
) -> None:
    lock = 4712
    takes = f"pg_advisory_xact_lock_shared({lock})::text = ''"
    slow = f"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND {takes}"
    waits = f"SELECT count(*) FROM pg_locks WHERE objid = {lock} AND NOT granted"
    pool = asking(pooler, workers=1, auth_query=slow, default_pool_size=1, stats_users=["stored"])
    console = Wire.dial(pool.address).login("stored", "pglido", password="x")

    def logging_in() -> int:
        return next(int(row["items"] or 0) for row in console.table("SHOW LISTS") if row["list"] == "login_clients")

    with cluster.wire("postgres", "app") as holder, pool.dial() as first, pool.dial() as last:
        holder.run(f"SELECT pg_advisory_lock({lock})")
        first.hello("u_shared", "app")
        eventually(lambda: cluster.admin(waits) == [["1"]])
        crowd = [pool.dial() for _ in range(40)]
        for number, wire in enumerate(crowd):
            wire.hello(f"nobody{number}", "app")
        last.hello("u_scram", "app")
        eventually(lambda: logging_in() == 42)
        first.close()
        servers = cluster.backends("usename = 'auth_reader'")
        for wire in crowd:
            wire.close()
        eventually(lambda: logging_in() == 1)
        holder.run(f"SELECT pg_advisory_unlock({lock})")
        assert last.message().kind == "R"
        # What had been asked was answered: no server was closed for it.
        assert questions.new() == 2
        assert cluster.backends("usename = 'auth_reader'") == servers


def first_code(pool: Pooler, user: str) -> int:
    """The code of the first authentication request."""
    with pool.dial() as wire:
        wire.hello(user, "app")
        return int.from_bytes(wire.message().body[:4], "big")


def iterations(pool: Pooler, user: str) -> int:
    """Those of the SCRAM challenge."""
    with pool.dial() as wire:
        wire.hello(user, "app")
        wire.message()
        wire.send(m.sasl_initial("SCRAM-SHA-256", "n,,n=,r=abcdefghijklmnopqrstuvwx"))
        return int(wire.message().body.decode().split(",i=")[1])


def missing(count: int) -> list[str]:
    return [f"missing{number}" for number in range(count)]


def test_with_md5_missing_names_are_asked_like_those_of_the_server(pooler: MakePooler) -> None:
    pool = pooler(workers=2, auth_type="md5", auth_user="auth_reader", users={"auth_reader": {"password": READER}})
    sasl = 10
    # Also before any role of the server has been met.
    assert {first_code(pool, name) for name in missing(20)} == {sasl}
    assert {first_code(pool, name) for name in ("u_scram", "u_shared")} == {sasl}
    assert {first_code(pool, name) for name in missing(20)} == {sasl}


def test_missing_names_have_the_iterations_of_those_that_were_met(pooler: MakePooler, cluster: Cluster) -> None:
    cluster.admin("SET scram_iterations = 10000; CREATE ROLE u_ten LOGIN PASSWORD 'x'")
    try:
        pool = pooler(
            workers=2, auth_type="scram-sha-256", auth_user="auth_reader", users={"auth_reader": {"password": READER}}
        )
        assert {iterations(pool, name) for name in missing(10)} == {4096}
        assert iterations(pool, "u_ten") == 10_000
        eventually(lambda: {iterations(pool, name) for name in missing(10)} == {10_000})
        assert iterations(pool, "u_scram") == 4096
        looks = {name: iterations(pool, name) for name in missing(30)}
        assert set(looks.values()) == {4096, 10_000}
        # Each worker says the same, each time, and so do those that begin later.
        for _ in range(3):
            assert {name: iterations(pool, name) for name in looks} == looks
        for worker in pool.workers():
            worker.kill()
        eventually(lambda: len(re.findall("is ready", pool.log)) == 4)
        for _ in range(3):
            assert {name: iterations(pool, name) for name in looks} == looks
    finally:
        pool.stop()
        cluster.admin("DROP ROLE u_ten")
