"""The console over the wire, by raw messages and by drivers, over all workers; and what the log says."""

import json
import re
import socket

import asyncpg
import psutil
import psycopg
import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.tls import Certificates
from harness.waiting import eventually
from harness.wire import ServerError, Wire, error_in, kinds

SOCKETS = """type user database replication state addr port local_addr local_port connect_time request_time wait
    wait_us close_needed ptr link remote_pid tls application_name prepared_statements id"""
SHOWS = {
    "VERSION": "version",
    "POOLS": """database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active
        sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode
        load_balance_hosts""",
    "DATABASES": """name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime
        pool_mode load_balance_hosts max_connections current_connections max_client_connections
        current_client_connections paused disabled""",
    "CLIENTS": SOCKETS,
    "SERVERS": SOCKETS,
    "STATS": "database total_server_assignment_count total_xact_count total_query_count total_received",
    "LISTS": "list items",
    "CONFIG": "key value default changeable",
}


@pytest.mark.parametrize("name", ["pglido", "pgbouncer"])
@pytest.mark.parametrize("what", SHOWS)
def test_show_has_pgbouncers_columns_first(shared_pooler: MakePooler, cluster: Cluster, name: str, what: str) -> None:
    pool = shared_pooler(cluster)
    pool.wire().run("SELECT 1")
    wire = pool.wire("postgres", name)
    columns = wire.ask(f"SHOW {what}")[0].columns
    expected = SHOWS[what].split()
    assert columns[: len(expected)] == expected
    assert wire.table(f"show {what.lower()};")


def test_show_help(shared_pooler: MakePooler, cluster: Cluster) -> None:
    wire = shared_pooler(cluster).wire("postgres", "pglido")
    assert any(b"POOLS" in one.body for one in wire.ask("SHOW HELP"))


def test_numbers_are_of_all_workers(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=3, default_pool_size=7)
    wires = [pool.wire() for _ in range(30)]
    for wire in wires[:4]:
        wire.send(m.query("BEGIN"))
    cluster.settles(4, "state = 'idle in transaction'")
    row = pool.pool()
    assert (row["cl_active"], row["cl_waiting"], row["sv_active"]) == (30, 0, 4)
    clients = [one for one in pool.console("SHOW CLIENTS") if one["database"] == "app"]
    assert len(clients) == 30
    ports = {str(wire.sock.getsockname()[1]) for wire in wires}
    assert {one["port"] for one in clients} == ports
    servers = pool.console("SHOW SERVERS")
    assert {int(one["remote_pid"] or 0) for one in servers} == set(cluster.backends())
    databases = {one["name"]: one for one in pool.console("SHOW DATABASES")}
    assert databases["app"]["port"] == str(cluster.port)
    assert databases["app"]["current_connections"] == str(len(cluster.backends("datname = 'app'")))


def test_stats_count(pooler: MakePooler) -> None:
    pool = pooler(workers=2)

    def total(column: str) -> int:
        rows = {row["database"]: row for row in pool.console("SHOW STATS")}
        return int((rows.get("app") or {}).get(column) or 0)

    wires = [pool.wire() for _ in range(6)]
    for wire in wires:
        for _ in range(5):
            wire.run("SELECT 1")
        wire.run("BEGIN")
        wire.run("SELECT 1")
        wire.run("COMMIT")
    eventually(lambda: total("total_query_count") == 6 * 8)
    assert total("total_xact_count") == 6 * 6
    # A server that was needed to let somebody in was given to nobody.
    assert total("total_server_assignment_count") == 6 * 6
    assert total("total_received") > 6 * 8 * 10
    assert total("total_sent") > total("total_received")


def test_waiting_clients_are_seen(pooler: MakePooler) -> None:
    pool = pooler(default_pool_size=1)
    holder, waiting = pool.wire(), pool.wire()
    holder.run("BEGIN")
    waiting.send(m.query("SELECT 1"))
    eventually(lambda: pool.pool()["cl_waiting"] == 1)
    eventually(lambda: pool.pool()["maxwait_us"] + pool.pool()["maxwait"] * 1_000_000 > 300_000)
    holder.run("COMMIT")
    waiting.until()
    assert pool.pool()["cl_waiting"] == 0


def test_reload_and_shutdown(pooler: MakePooler) -> None:
    pool = pooler()
    pool.console("RELOAD")
    pool.path.write_text("[pglido\n")
    with pytest.raises(ServerError, match=r"(?i)reload failed"):
        pool.console("RELOAD")
    pool.wire("postgres", "pglido").send(m.query("SHUTDOWN"))
    assert pool.ended() == 0


def test_who_may(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster)
    stats = pool.wire("app2", "pglido")
    assert stats.table("SHOW POOLS") is not None
    for command in ("RELOAD", "SHUTDOWN", "SET verbose = 1"):
        with pytest.raises(ServerError):
            stats.run(command)
    assert stats.table("SHOW VERSION")
    with pytest.raises(ServerError, match="not allowed"):
        pool.wire("app3", "pglido")


def test_console_needs_the_password(pooler: MakePooler) -> None:
    pool = pooler(auth_type="scram-sha-256", users={"postgres": {"password": "right"}})
    assert pool.wire("postgres", "pglido", password="right").table("SHOW VERSION")
    with pytest.raises(ServerError, match="password authentication failed"):
        pool.wire("postgres", "pglido", password="wrong")


def test_unknown_commands_are_errors_and_no_more(shared_pooler: MakePooler, cluster: Cluster) -> None:
    wire = shared_pooler(cluster).wire("postgres", "pglido")
    for command in ("NONSENSE", "SHOW NONSENSE", "SELECT 1 FROM nowhere", "SHOW", "DROP DATABASE app"):
        assert error_in(wire.ask(command))["C"]
    assert wire.table("SHOW VERSION")


def test_console_over_tls(pooler: MakePooler, certificates: Certificates) -> None:
    pair = certificates.server
    pool = pooler(client_tls_sslmode="require", client_tls_cert_file=pair.certificate, client_tls_key_file=pair.key)
    wire = pool.dial()
    wire.start_tls(certificates.client_context())
    wire.login("postgres", "pglido")
    assert wire.table("SHOW POOLS") is not None
    assert wire.table("SHOW CONFIG")


async def test_drivers_at_the_console(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster)
    pool.wire().run("SELECT 1")
    with psycopg.connect(pool.conninfo("postgres", "pglido"), autocommit=True) as connection:
        assert connection.execute("SHOW VERSION").fetchone()
        assert connection.execute("SHOW POOLS").fetchall()
        assert connection.execute("SHOW POOLS", prepare=True).fetchall()
    connection = await asyncpg.connect(host="127.0.0.1", port=pool.port, user="postgres", database="pglido")
    try:
        assert await connection.fetch("SHOW POOLS")
    finally:
        await connection.close()


def test_nonsense_at_the_console_disturbs_nobody(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster)
    for data in (b"\xff" * 100, b"Q\xff\xff\xff\xff", b"Q\0\0\0\3", m.message("B", b""), m.message("P", b"x")):
        with pool.wire("postgres", "pglido") as wire:
            wire.send(data + m.SYNC)
            wire.message()
    wires = [pool.wire("postgres", "pglido") for _ in range(30)]
    assert all(wire.table("SHOW VERSION") for wire in wires)
    assert pool.wire().one("SELECT 1") == "1"


def test_errors_of_pglido_name_the_connection(pooler: MakePooler) -> None:
    pool = pooler(query_wait_timeout=0.3, default_pool_size=1, workers=1)
    holder, waiting = pool.wire(), pool.wire()
    holder.run("BEGIN")
    waiting.send(m.query("SELECT 1"))
    fields = error_in(waiting.rest())
    uuid = re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", str(fields))
    assert uuid, fields
    pool.logs(f"query_wait_timeout.*{uuid[0]}|{uuid[0]}.*query_wait_timeout")


def test_log_lines_as_json(pooler: MakePooler) -> None:
    pool = pooler(log_format="json")
    with pool.wire(application_name="json") as wire:
        port = wire.sock.getsockname()[1]
        wire.run("SELECT 1")
        wire.bye()
    eventually(lambda: str(port) in pool.log)
    lines = [json.loads(line) for line in pool.log.splitlines()]
    (login, *_) = [line for line in lines if str(port) in line.get("address", "")]
    assert {"time", "level", "uuid", "user", "database", "address"} <= set(login)
    assert (login["user"], login["database"]) == ("app", "app")


def test_connects_and_disconnects_are_logged_with_their_reason(pooler: MakePooler) -> None:
    pool = pooler()
    pool.wire().bye()
    pool.logs("closing because: client close request")
    pool.wire().close()
    pool.logs("closing because: client unexpected eof")
    quiet = pooler(log_connections=False, log_disconnections=False)
    quiet.wire().bye()
    Wire.dial(quiet.address).close()
    eventually(lambda: quiet.pool()["cl_active"] == 0)
    assert "closing because" not in quiet.log


def test_who_does_not_read_is_not_written_to(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    control = psutil.Process(pool.pid)
    deaf = pool.wire("app2", "pglido")
    before = control.memory_info().rss
    deaf.send(m.parse("s", "SHOW CONFIG"), (m.bind("", "s") + m.execute()) * 2000)
    with pool.wire("app2", "pglido") as other:
        for _ in range(20):
            assert other.table("SHOW VERSION")
    assert control.memory_info().rss - before < 4 << 20
    deaf.send(m.SYNC)
    assert len([one for one in deaf.until() if one.kind == "C"]) == 2000


def test_the_console_keeps_so_much_and_no_more(shared_pooler: MakePooler, cluster: Cluster) -> None:
    wire = shared_pooler(cluster).wire("app2", "pglido")
    for most, what, one in (
        (100, "prepared statements", lambda name: m.parse(name, "SHOW VERSION")),
        (10, "portals", lambda name: m.bind(name, "0")),
    ):
        wire.send(*(one(str(number)) for number in range(most)), m.FLUSH)
        assert "E" not in kinds([wire.message() for _ in range(most)])
        wire.send(one("another"), m.SYNC)
        error = error_in(wire.until())
        assert error is not None
        assert (error["C"], error["M"]) == ("53400", f"too many {what} (at most {most} on the console)")


@pytest.mark.parametrize("text", ["/* " * 20000, "$1" * 30000, "--" * 30000, "SELECT " * 9000, "$" + "1" * 60000])
def test_long_nonsense_is_refused_at_once(shared_pooler: MakePooler, cluster: Cluster, text: str) -> None:
    wire = shared_pooler(cluster).wire("app2", "pglido")
    wire.ask(text)
    wire.send(m.parse("", text), m.bind("", "", "x" * 1000), m.SYNC)
    wire.until()
    assert wire.table("SHOW VERSION")


def test_a_message_that_nobody_types_ends_the_console(shared_pooler: MakePooler, cluster: Cluster) -> None:
    pool = shared_pooler(cluster)
    for _ in range(20):
        with pool.wire("app2", "pglido") as wire:
            wire.send(m.query("x" * (1 << 16)))
            error = error_in(wire.until("E"))
            assert error is not None
            assert error["M"].startswith("invalid message length")
    assert pool.console("SHOW VERSION")


def test_who_drains_leaves_the_port(pooler: MakePooler) -> None:
    pool = pooler(workers=2)
    stays = pool.wire()
    pool.wire("postgres", "pglido").ask("SHUTDOWN WAIT_FOR_CLIENTS")

    def refused() -> bool:
        try:
            socket.create_connection(pool.address).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refused)
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(pool.address)
        successor.listen()
        assert stays.one("SELECT 'still served'") == "still served"
        stays.bye()
        assert pool.ended() == 0
