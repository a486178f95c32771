"""Timeouts: what is ended when, with PgBouncer's texts, and that nothing is left behind."""

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.fake import WELCOME, FakeServer, Peer
from harness.pooler import Pooler
from harness.proxy import Proxy
from harness.waiting import eventually
from harness.wire import Closed, ServerError, Wire, error_in, kinds

SLEEPING = "state = 'active' AND query LIKE '%sleep%'"


def ended_by(wire: Wire, text: str) -> None:
    """The connection ends with a FATAL error of this text."""
    fields = error_in(wire.rest())
    assert fields["M"].startswith(text), fields
    assert (fields["S"], fields["C"]) == ("FATAL", "08P01")


def test_query_timeout(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(query_timeout=0.5, users={"app": {}, "app2": {"query_timeout": 30}})
    wire, patient = pool.wire(), pool.wire("app2")
    patient.send(m.query("SELECT pg_sleep(1)"))
    wire.send(m.query("SELECT pg_sleep(60)"))
    ended_by(wire, "query timeout")
    assert kinds(patient.until()) == "TDCZ"
    cluster.settles(0, SLEEPING)
    assert pool.wire().one("SELECT 1") == "1"


def test_query_wait_timeout(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, query_wait_timeout=0.5, workers=1)
    holder, waiting = pool.wire(), pool.wire()
    holder.run("BEGIN")
    waiting.send(m.query("SELECT 1"))
    ended_by(waiting, "query_wait_timeout")
    assert holder.one("SELECT 1") == "1"
    eventually(lambda: pool.pool()["cl_waiting"] == 0)


def test_query_wait_notify(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1, query_wait_notify=0.3)
    holder, waiting = pool.wire(), pool.wire()
    holder.run("BEGIN")
    waiting.send(m.query("SELECT 1"))
    notice = waiting.message()
    assert notice.kind == "N"
    assert notice.fields["M"].startswith("No server connection available in postgres backend, client being queued")
    assert notice.fields["S"] == "NOTICE"
    assert waiting.silent(0.5)
    holder.run("COMMIT")
    assert kinds(waiting.until()) == "TDCZ"


def test_client_idle_timeout(pooler: MakePooler) -> None:
    pool = pooler(client_idle_timeout=0.7, users={"app": {}, "app2": {"client_idle_timeout": 60}})
    busy = pool.wire()
    busy.send(m.query("SELECT pg_sleep(1.5)"))
    patient, wire = pool.wire("app2"), pool.wire()
    wire.send(m.query("SELECT 1"))
    assert kinds(wire.until()) == "TDCZ"
    ended_by(wire, "client_idle_timeout")
    assert kinds(busy.until()) == "TDCZ"
    assert patient.one("SELECT 1") == "1"


def test_client_login_timeout(pooler: MakePooler) -> None:
    pool = pooler(client_login_timeout=0.7, auth_type="scram-sha-256", users={"app": {"password": "x"}})
    whole = m.startup([("user", "app"), ("database", "app")])
    for said, answered in ((whole[:4], ""), (whole[:12], ""), (whole, "R"), (m.SSL_REQUEST, "N")):
        wire = pool.dial()
        wire.send(said)
        if answered == "R":
            wire.until("R")
        elif answered:
            assert wire.raw(1) == answered.encode()
        ended_by(wire, "client_login_timeout")
    eventually(lambda: answers(pool, password="x"))


def test_idle_transaction_timeout(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(idle_transaction_timeout=0.7, default_pool_size=1)
    wire = pool.wire()
    wire.send(m.query("BEGIN"), m.query("SELECT pg_sleep(1.2)"))
    assert kinds(wire.until("Z", 2)) == "CZTDCZ"  # not idle
    waiting = pool.wire()
    waiting.send(m.query("SELECT 1"))
    ended_by(wire, "idle transaction timeout")
    assert kinds(waiting.until()) == "TDCZ"
    cluster.settles(0, "state = 'idle in transaction'")
    time_in_pool = pool.wire()
    time_in_pool.run("SELECT 1")
    assert time_in_pool.silent(1.2)  # idle outside a transaction is no matter


def test_transaction_timeout(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(transaction_timeout=1, default_pool_size=1, users={"app": {}, "app2": {"transaction_timeout": 60}})
    wire = pool.wire()
    wire.run("BEGIN")
    wire.send(*(m.query("SELECT pg_sleep(0.05)") for _ in range(60)))
    ended_by(wire, "transaction timeout")
    cluster.settles(0, "state <> 'idle'")
    patient = pool.wire("app2")
    patient.run("BEGIN")
    assert kinds(patient.ask("SELECT pg_sleep(1.5)")) == "TDCZ"


def test_transaction_timeout_of_a_silent_client(pooler: MakePooler) -> None:
    wire = pooler(transaction_timeout=0.7).wire()
    wire.run("BEGIN")
    ended_by(wire, "transaction timeout")


def test_server_connect_timeout(pooler: MakePooler) -> None:
    with FakeServer(lambda peer: peer.until("")) as fake:  # listens, and says nothing
        pool = pooler(fake, server_connect_timeout=0.5, query_wait_timeout=1)
        with pytest.raises(ServerError) as refused:
            pool.wire()
        assert refused.value.severity == "FATAL"
        pool.logs("timeout expired")


def test_server_that_hangs_after_login_began(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        peer.startup()
        peer.send(WELCOME[:30])
        peer.until("")

    with FakeServer(script) as fake:
        pool = pooler(fake, server_connect_timeout=0.5, query_wait_timeout=1)
        with pytest.raises(ServerError):
            pool.wire()
        pool.logs("timeout expired")


def test_server_idle_timeout(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(server_idle_timeout=0.7, min_pool_size=0)
    wire = pool.wire()
    used = wire.one("SELECT pg_backend_pid()")
    cluster.settles(0, f"pid = {used}")
    assert wire.one("SELECT 1") == "1"


def test_server_lifetime(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(server_lifetime=1, server_lifetime_jitter=0, default_pool_size=1)
    wire = pool.wire()
    wire.run("BEGIN")
    first = wire.one("SELECT pg_backend_pid()")
    assert kinds(wire.ask("SELECT pg_sleep(1.5)")) == "TDCZ"
    assert wire.one("SELECT pg_backend_pid()") == first  # never in use
    wire.run("COMMIT")
    cluster.settles(0, f"pid = {first}")
    assert wire.one("SELECT pg_backend_pid()") != first


def test_server_lifetime_of_zero_means_used_once(pooler: MakePooler) -> None:
    pool = pooler(server_lifetime=0, default_pool_size=1, workers=1)
    wire = pool.wire()
    assert len({wire.one("SELECT pg_backend_pid()") for _ in range(5)}) == 5


def test_server_check_query(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, server_check_delay=0, server_check_query="SELECT 'checked'", default_pool_size=1)
        wire = pool.wire()
        for _ in range(3):
            assert wire.one("SELECT 1") == "1"
        assert proxy.sent_by_client.count(b"SELECT 'checked'") >= 2


def test_server_that_does_not_answer_the_check_is_replaced(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, server_check_delay=0, server_connect_timeout=0.5, default_pool_size=1)
        wire = pool.wire()
        wire.run("SELECT 1")
        proxy.hang()
        assert wire.one("SELECT 'alive'") == "alive"


def test_cancel_wait_timeout(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, cancel_wait_timeout=0.5, workers=1)
        wire = pool.wire()
        wire.send(m.query("SELECT pg_sleep(60)"))
        cluster.settles(1, SLEEPING)
        proxy.freeze()
        with pool.dial() as other:
            other.send(m.cancel_request(wire.pid, wire.key))
            assert other.ends()
        pool.logs("cancel_wait_timeout")
        cluster.settles(1, SLEEPING)
        proxy.thaw()
        cluster.admin("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)'")
        wire.until()
        assert wire.one("SELECT 1") == "1"


def test_server_login_retry_tells_the_cached_error(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, server_login_retry=60, query_wait_timeout=1)
    own_cluster.server.stop()
    for _ in range(4):
        with pytest.raises(ServerError) as refused:
            pool.wire()
        assert refused.value.severity == "FATAL"
        assert refused.value.sqlstate == "08001"
        assert "Connection refused" in refused.value.text
    # Each worker says so once.
    assert pool.log.count("can't connect") <= 2


def test_server_is_tried_again_after_a_failure(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, server_login_retry=0.2, query_wait_timeout=1)
    own_cluster.server.stop()
    with pytest.raises(ServerError):
        pool.wire()
    own_cluster.server.launch()
    eventually(lambda: answers(pool))


def answers(pool: Pooler, **login: str) -> bool:
    """Whether a client is served now."""
    try:
        with pool.wire(**login) as wire:
            return wire.one("SELECT 1") == "1"
    except (ServerError, Closed):
        return False


def test_who_took_too_long_to_log_in_leaves_the_line(pooler: MakePooler) -> None:
    pool = pooler(workers=1, default_pool_size=1, client_login_timeout=1)
    with pool.wire() as hog:
        hog.run("BEGIN")
        late = [pool.dial() for _ in range(5)]
        for number, wire in enumerate(late):
            # Startup parameters that are new need a server for a moment.
            wire.hello("app", "app", search_path=f"s{number}")
        eventually(lambda: pool.pool()["maxwait_us"] > 0)
        for wire in late:
            ended_by(wire, "client_login_timeout")
        eventually(lambda: pool.pool()["maxwait_us"] == 0)
        assert hog.one("SELECT 1") == "1"
