"""Every column of every SHOW says something: real traffic changes its value, and makes it other than 0.

Columns that nothing changes stand in `CONSTANT`, each with the one value that it has, so that they are missed here
as soon as something does.
"""

import itertools
import os
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.pooler import Pooler, default_config
from harness.proxy import Proxy
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import ServerError, Wire

CONSTANT: dict[str, dict[str, str | None]] = {
    "POOLS": {"cl_waiting_cancel_req": "0"},  # a cancel request is passed on at once
    "CLIENTS": {"type": "C"},
    # Who waits is a client, and what is kept is kept for a client.
    "SERVERS": {"type": "S", "wait": "0", "wait_us": "0", "held_bytes": "0"},
    "WORKERS": {"bugs": "0"},
    "MEM": {"free": "0"},  # nothing is kept for later
}
# Rows of SHOW LISTS that are there for PgBouncer's sake: there are no peers, and no cache of free objects or names.
CONSTANT_LISTS = {
    *("peers", "peer_pools", "free_clients"),
    *("dns_names", "dns_zones", "dns_queries", "dns_pending"),
}


class Seen:
    """The values that were seen in each column of some SHOW commands."""

    def __init__(self, pool: Pooler) -> None:
        self.pool = pool
        self.values: dict[str, dict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))

    def look(self, show: str) -> list[dict[str, str | None]]:
        """Ask once, and remember what was answered."""
        rows = self.pool.console(f"SHOW {show}")
        self.take(show, rows)
        return rows

    def take(self, show: str, rows: list[dict[str, str | None]]) -> None:
        """Remember rows."""
        for row in rows:
            for column, value in row.items():
                self.values[show][column].add(value)

    def until(self, show: str, fits: Callable[[dict[str, str | None]], bool]) -> dict[str, str | None]:
        """Look until a row fits."""

        def found() -> dict[str, str | None] | None:
            return next((row for row in self.look(show) if fits(row)), None)

        return eventually(found, 20, f"a row of SHOW {show}")

    def dull(self, show: str) -> set[str]:
        """The columns that have not had two values, one of them neither 0 nor empty."""
        return {name for name, values in self.values[show].items() if len(values) < 2 or values <= {"0", "", None}}

    def check(self, show: str) -> None:
        """Each column has had two values at least, and one that is neither 0 nor empty."""
        constant = CONSTANT.get(show, {})
        columns = self.values[show]
        assert constant.keys() <= columns.keys()
        dull = self.dull(show)
        assert dull == constant.keys(), {name: columns[name] for name in dull ^ constant.keys()}
        assert {name: columns[name] for name in constant} == {name: {value} for name, value in constant.items()}


def test_clients_and_servers(
    pooler: MakePooler, cluster: Cluster, tls_cluster: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    databases = {
        "app": {},
        "other": {"port": tls_cluster.port, "server_tls_sslmode": "require"},
        "sessions": {"host": str(cluster.server.socket_dir), "dbname": "app", "pool_mode": "session"},
    }
    more = {
        "client_tls_sslmode": "allow",
        "client_tls_cert_file": str(certificates.server.certificate),
        "client_tls_key_file": str(certificates.server.key),
        "unix_socket_dir": str(tmp_path),
        "default_pool_size": 1,
    }
    pool = pooler(databases=databases, **more)
    seen = Seen(pool)
    local = Wire.dial(f"{tmp_path}/.s.PGSQL.{pool.port}").login("app", "app")
    holder = pool.wire(application_name="holder")
    holder.run("CREATE TEMP TABLE kept ()")
    holder.send(m.parse("named", "SELECT 2"), m.SYNC)
    holder.until()
    local.send(m.query("SELECT 1"))
    safe = pool.dial()
    safe.start_tls(certificates.client_context())
    safe.login("app", "other").run("SELECT 1")
    replica = pool.wire("rep", "app", replication="database")
    seen.until("CLIENTS", lambda row: row["state"] == "waiting" and row["wait"] not in ("0", None))
    pool.wire("app", "sessions").run("SELECT 1")
    for _ in range(20):  # clients of both workers
        pool.wire("app2", "app")
        seen.look("SERVERS")
    changed = {**databases, "app": {"dbname": "other"}}
    pool.reload(default_config(pool.port, cluster.port, databases=changed, **more))
    seen.until("SERVERS", lambda row: row["close_needed"] == "1")
    with pool.wire("postgres", "pglido") as console:
        console.ask("SHOW VERSION")
        pool.wire("postgres", "pglido").ask("SHUTDOWN WAIT_FOR_CLIENTS")
        eventually(lambda: {row["close_needed"] for row in console.table("SHOW CLIENTS")} == {"1"})
        seen.take("CLIENTS", console.table("SHOW CLIENTS"))
    seen.check("CLIENTS")
    seen.check("SERVERS")
    for wire in (holder, local, safe, replica):
        wire.close()


def test_pools(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        databases = {
            "app": {"port": proxy.port, "pool_size": 2, "reserve_pool_size": 1},
            "other": {"host": "127.0.0.1,localhost", "load_balance_hosts": "disable", "pool_mode": "session"},
        }
        pool = pooler(databases=databases, workers=1, server_check_delay=0.5, server_check_query="SELECT 'checked'")
        seen = Seen(pool)
        pool.wire("app2", "other").run("SELECT 1")
        active, waiting, third = pool.wire(), pool.wire(), pool.wire()
        active.run("BEGIN")
        waiting.run("SELECT 1")
        seen.until("POOLS", lambda row: row["sv_idle"] == "1")
        seen.until("POOLS", lambda row: row["sv_used"] == "1")
        proxy.hang()
        waiting.send(m.query("SELECT 1"))
        seen.until("POOLS", lambda row: row["sv_tested"] == "1")
        proxy.thaw()
        waiting.until()
        waiting.run("BEGIN")
        active.send(m.query("SELECT pg_sleep(60)"))
        cluster.settles(1, "state = 'active' AND query LIKE '%pg_sleep(60)'")
        proxy.freeze()
        third.send(m.query("SELECT 1"))
        seen.until("POOLS", lambda row: row["maxwait"] not in ("0", None))
        pool.dial().send(m.cancel_request(active.pid, active.key))
        seen.until("POOLS", lambda row: row["sv_being_canceled"] == "1")
        proxy.thaw()
        active.until()
        active.run("ROLLBACK")
        waiting.run("ROLLBACK")
        third.until()
        proxy.freeze()
        pool.signal(signal.SIGHUP)
        fresh = pool.dial()
        fresh.hello("app3", "app")
        seen.until("POOLS", lambda row: row["sv_login"] == "1")
        proxy.thaw()
        fresh.until()
        seen.check("POOLS")


def test_databases_and_users(pooler: MakePooler, cluster: Cluster) -> None:
    own = {"pool_size": 7, "reserve_pool_size": 2, "max_user_connections": 5, "max_user_client_connections": 6}
    databases = {
        "app": {"min_pool_size": 1, "user": "app", "pool_mode": "session", "load_balance_hosts": "disable"},
        "other": {"host": "localhost", "pool_size": 3, "reserve_pool_size": 2, "max_db_client_connections": 9},
        "third": {"dbname": "app", "port": 1, "max_db_connections": 4, "server_lifetime": 50},
    }
    pool = pooler(databases=databases, users={"app": {**own, "pool_mode": "statement"}})
    seen = Seen(pool)
    pool.wire().run("SELECT 1")
    seen.until("DATABASES", lambda row: row["current_connections"] != "0")
    for order in ("PAUSE other", "DISABLE other"):
        pool.console(order)
    seen.until("DATABASES", lambda row: (row["paused"], row["disabled"]) == ("1", "1"))
    seen.check("DATABASES")
    (row,) = [row for row in seen.look("DATABASES") if row["name"] == "pglido"]
    assert (row["current_client_connections"], row["current_connections"]) == ("1", "0")
    seen.look("USERS")
    seen.check("USERS")
    (row,) = [row for row in seen.look("USERS") if row["name"] == "postgres"]
    assert row["current_client_connections"] == "1"


def test_workers_lists_and_leases(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(databases={"app": {}, "other": {"pool_size": 1}}, default_pool_size=2)
    seen = Seen(pool)
    others = [pool.wire("app2", "other") for _ in range(12)]  # of both workers, of which one has the only lease
    for wire in others:
        wire.send(m.query("BEGIN"))
    seen.until("LEASES", lambda row: row["database"] == "other" and row["held"] == "0")
    for wire in others:
        wire.close()
    newcomers = [pool.dial() for _ in range(20)]
    for newcomer in newcomers:
        newcomer.send(m.SSL_REQUEST[:4])  # a connection that says nothing is not accepted yet
    wires = [pool.wire() for _ in range(20)]
    for wire in wires:
        wire.send(m.query("BEGIN"))
    seen.until("LISTS", lambda row: row["list"] == "login_clients" and row["items"] == "20")
    seen.until("LISTS", lambda row: row["list"] == "used_servers" and row["items"] == "2")
    seen.until("WORKERS", lambda row: row["servers"] not in ("0", None))
    counts = [int(row["logins"] or 0) for row in seen.look("WORKERS")]
    assert (sum(counts), min(counts) > 0) == (20, True)
    seen.until("LEASES", lambda row: row["wanted"] not in ("0", None))
    items = {str(row["list"]): row["items"] for row in seen.look("LISTS")}
    assert {name for name, value in items.items() if value == "0"} - {"free_servers"} == CONSTANT_LISTS
    victim, other = pool.workers()
    victim.kill()
    seen.until("WORKERS", lambda row: row["crashes"] == "1")
    seen.until("WORKERS", lambda row: row["state"] == "ready" and row["pid"] not in (str(victim.pid), str(other.pid)))
    os.kill(other.pid, signal.SIGSTOP)
    try:
        hangs = seen.until("WORKERS", lambda row: row["state"] == "hanging" and row["silent"] != "0")
    finally:
        os.kill(other.pid, signal.SIGCONT)
    other.kill()
    seen.until("WORKERS", lambda row: row["worker"] == hangs["worker"] and row["started"] != hangs["started"])
    seen.until("WORKERS", lambda row: row["worker"] == hangs["worker"] and row["state"] == "ready")
    pool.wire("app2").run("SELECT 1")
    pool.wire("app2", "other").run("SELECT 1")
    seen.look("LEASES")
    seen.check("WORKERS")
    seen.check("LEASES")
    seen.until("LISTS", lambda row: row["list"] == "free_servers" and row["items"] != "0")
    for wire in [*newcomers, *wires]:
        wire.close()


def test_admin_clients_are_counted(pooler: MakePooler) -> None:
    limits = {"max_user_client_connections": 1, "max_db_client_connections": 2}
    pool = pooler(**limits, stats_users=["app", "app2", "app3"])
    first = pool.wire("app2", "pglido")
    with pytest.raises(ServerError, match="max_user_client_connections"):
        pool.wire("app2", "pglido")
    second = pool.wire("app3", "pglido")
    with pytest.raises(ServerError, match="max_user_client_connections"):
        pool.wire("app3", "pgbouncer")
    with pytest.raises(ServerError, match="max_db_client_connections"):
        pool.wire("app", "pglido")
    # Admins are exempt from both.
    admins = [pool.wire("postgres", "pglido") for _ in range(3)]
    rows = admins[0].table("SHOW CLIENTS")
    assert [row["database"] for row in rows] == ["pglido"] * 5
    assert sorted(str(row["user"]) for row in rows) == ["app2", "app3", *["postgres"] * 3]
    first.bye()
    eventually(lambda: len(admins[0].table("SHOW CLIENTS")) == 4)
    pool.wire("app2", "pglido").bye()
    second.bye()


@pytest.mark.parametrize("mode", ["", "WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"])
def test_shutdown_is_answered_first(pooler: MakePooler, mode: str) -> None:
    pool = pooler()
    console = pool.wire("postgres", "pglido")
    answer = console.ask(f"SHUTDOWN {mode}")
    assert [one.kind for one in answer] == ["C", "Z"]
    assert answer[0].tag == "SHUTDOWN"
    assert pool.ended() == 0


def test_statistics(pooler: MakePooler) -> None:
    pool = pooler(stats_period=1, default_pool_size=1)
    seen = Seen(pool)
    holder, waiting = pool.wire(), pool.wire()
    other = pool.wire("app2", "other")
    numbers = itertools.count()
    shows = ("STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS")

    def statement() -> bytes:
        name = f"s{next(numbers)}"
        return m.parse(name, f"SELECT '{name}'") + m.bind("", name) + m.execute()

    def work() -> bool:
        holder.run("BEGIN")
        # So many that there is one in each second even where everything is slow.
        waiting.send(*(statement() for _ in range(20)), m.SYNC)
        holder.run("SELECT pg_sleep(0.01)")
        holder.run("COMMIT")
        waiting.until()
        other.run("SELECT 1")
        pool.wire().bye()
        for show in shows:
            seen.look(show)
        return not any(map(seen.dull, shows))

    eventually(work, 30, "averages of everything")
    for show in shows:
        seen.check(show)


def test_pins_and_memory(pooler: MakePooler) -> None:
    pool = pooler()
    seen = Seen(pool)
    seen.look("MEM")
    one, two = pool.wire(), pool.wire("app2", "other")
    one.run("CREATE TEMP TABLE kept ()")
    seen.until("PINS", lambda row: row["idle"] not in ("0", None))
    two.run("SELECT pg_advisory_lock(1)")
    eventually(lambda: len(seen.look("PINS")) == 2)
    statements = [row["statement"] for row in seen.look("PINS")]
    assert statements == ["CREATE TEMP TABLE kept ()", "SELECT pg_advisory_lock(1)"]
    one.send(m.query("SELECT '" + "x" * 100_000)[:50_000])
    seen.until("MEM", lambda row: row["name"] == "held" and row["used"] != "0")
    seen.check("PINS")
    seen.check("MEM")
    one.close()
