"""Memory stays bounded: slow readers, slow servers, huge messages, crowds of idle clients."""

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import Meanwhile
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import ServerError, Wire, error_in, kinds, rows_in

MB = 1 << 20
GB = 1 << 30
GROWTH = 24 * MB  # of a worker, whatever is going through


def drain(wire: Wire, stop_at: int | None = None) -> int:
    """Read raw bytes without keeping them; returns how many until the last message was ReadyForQuery."""
    total, tail = 0, b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        got = wire.sock.recv(1 << 20)
        assert got, "closed"
        total += len(got)
        tail = (tail + got)[-6:]
        if stop_at is not None and total >= stop_at:
            break
    return total


def highest(pool: Pooler) -> int:
    """The largest memory any worker ever had, in bytes."""
    peaks = []
    for worker in pool.workers():
        status = Path(f"/proc/{worker.pid}/status").read_text()
        peaks.append(int(status.split("VmHWM:")[1].split()[0]) * 1024)
    return max(peaks)


def test_gigabyte_of_rows_for_a_slow_reader(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    wire, other = pool.wire(), pool.wire()
    other.run("SELECT 1")
    before = highest(pool)
    wire.send(m.query("SELECT repeat('x', 1000000) FROM generate_series(1, 1074)"))
    # The reader takes nothing: the server must be held up, not the memory filled.
    eventually(lambda: cluster.backends("wait_event = 'ClientWrite'"))
    assert other.one("SELECT 'others go on'") == "others go on"
    assert highest(pool) - before < GROWTH
    assert drain(wire) > GB
    assert highest(pool) - before < GROWTH
    assert wire.one("SELECT 1") == "1"


def test_one_huge_row(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    wire = pool.wire()
    wire.run("SELECT 1")
    before = highest(pool)
    wire.send(m.query("SELECT repeat('0123456789', 25000000)"))
    assert drain(wire) > 250_000_000
    assert highest(pool) - before < GROWTH
    assert wire.one("SELECT 1") == "1"


def test_huge_query(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    wire = pool.wire()
    wire.run("SELECT 1")
    before = highest(pool)
    wire.send(m.query(b"SELECT length('" + b"x" * 100_000_000 + b"')"))
    assert wire.until()[1].row == [b"100000000"]
    assert highest(pool) - before < 2 * GROWTH


@pytest.mark.parametrize("sql", ["SELECT 1", "SET work_mem = '1MB'"])
def test_unnamed_statements_one_after_another(pooler: MakePooler, sql: str) -> None:
    pool = pooler(workers=1)
    wire = pool.wire()
    wire.run("SELECT 1")
    before = pool.worker_memory()
    for number in range(40):
        wire.send(m.parse("", f"{sql} -- {number}" + "x" * 5_000_000), m.SYNC)
        assert kinds(wire.until()) == "1Z"
    assert pool.worker_memory() - before < 2 * GROWTH
    wire.run("SELECT 1")
    assert pool.worker_memory() - before < GROWTH


def test_unnamed_statements_of_idle_clients(pooler: MakePooler) -> None:
    pool = pooler(workers=1, max_held_bytes="100MB")
    wires = [pool.wire() for _ in range(20)]
    before = pool.worker_memory()
    for number, wire in enumerate(wires):
        wire.send(m.parse("", f"SELECT {number}" + " " * 20_000_000), m.SYNC)
        assert kinds(wire.until()) == ("1Z" if number < 5 else "EZ")
    assert pool.worker_memory() - before < 100 * MB + 2 * GROWTH
    pool.logs("1?[0-9] statements refused .53200., the last one for: more than max_held_bytes")
    assert wires[-1].one("SELECT 1") == "1"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(set_config('pooled.large', repeat('x', 30000000), false))",
        "SET pooled.large = '" + "x" * 3_000_000 + "'",
        "SELECT sum(length(set_config('pooled.a' || n, repeat('x', 100000), false))) FROM generate_series(1, 90) n",
    ],
    ids=["set_config", "set", "many"],
)
def test_a_large_setting_stays_on_its_server_and_is_not_kept_here(pooler: MakePooler, sql: str) -> None:
    """The client goes on with it, and nobody else meets it."""
    pool = pooler(workers=1, default_pool_size=2)
    client, other = pool.wire(), pool.wire()
    names = "'pooled.large', 'pooled.a1'"
    known = f"(SELECT coalesce(sum(length(current_setting(name, true))), 0) FROM unnest(ARRAY[{names}]) AS name)"
    client.run("SELECT 1")
    before = pool.worker_memory()
    small = other.one(f"SELECT {known}")
    for _ in range(5):
        client.run(sql)
        large = client.one(f"SELECT {known}")
        assert int(large or 0) > 50_000
    assert pool.worker_memory() - before < 8 * MB
    (row,) = pool.console("SHOW PINS")
    assert "too large to be kept" in str(row["reason"]) or "unknown name" in str(row["reason"])
    assert other.one(f"SELECT {known}") == small
    client.bye()
    eventually(lambda: not pool.console("SHOW PINS"))
    assert [pool.wire().one(f"SELECT {known}") for _ in range(3)] == [small] * 3


def test_max_memory(pooler: MakePooler) -> None:
    pool = pooler(workers=2, max_memory="200MB")
    admin, worker, fresh = pool.wire("postgres", "pglido"), pool.wire(), pool.wire()
    worker.send(m.parse("s", "SELECT 'prepared before'"), m.SYNC)
    assert kinds(worker.until()) == "1Z"
    # Little by little: what a large message takes while it is on its way could be the first to be too much.
    hogs = [pool.wire() for _ in range(100)]
    for number, wire in enumerate(hogs):
        assert parse_outcome(wire, "", f"SELECT {number}" + " " * 2_000_000) in ("", "53200")
    pool.logs("memory is short, new clients and statements are refused: .* max_memory is 200 MB")
    eventually(lambda: refusal(pool) == ("FATAL", "53200"))
    # Each worker learns of it at its next look at the clock; until then a name may have been taken.
    numbers = itertools.count()
    eventually(lambda: parse_outcome(fresh, f"t{next(numbers)}", "SELECT 1") == "53200")
    eventually(lambda: parse_outcome(worker, f"u{next(numbers)}", "SELECT 'prepared before'") == "53200")
    worker.send(m.bind("", "s"), m.execute(), m.SYNC)
    assert rows_in(worker.until()) == [[b"prepared before"]]
    assert fresh.one("SELECT 1") == "1"
    assert parse_outcome(fresh, "", "SELECT 1") == ""
    assert admin.run("SHOW MEM")
    assert pool.console("SHOW WORKERS")
    for wire in hogs:
        wire.close()
    pool.logs("memory is not short any more")
    eventually(lambda: refusal(pool) is None)
    eventually(lambda: parse_outcome(fresh, "t", "SELECT 1") == "")
    assert pool.log.count("memory is short") == pool.log.count("memory is not short any more") == 1


def refusal(pool: Pooler) -> tuple[str, str] | None:
    """How a client is refused that comes now; None if it is not."""
    try:
        pool.wire().bye()
    except ServerError as error:
        return error.severity, error.sqlstate
    return None


def parse_outcome(wire: Wire, name: str, sql: str) -> str:
    """The SQLSTATE with which a Parse is refused, empty if it is not."""
    wire.send(m.parse(name, sql), m.SYNC)
    read = wire.until()
    return error_in(read)["C"] if kinds(read) == "EZ" else ""


def test_large_values_leave_no_memory_behind(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    before = pool.worker_memory()
    wires = [pool.wire() for _ in range(10)]
    for number, wire in enumerate(wires):
        for size in (3_000_000, 200_000, 9_000_000):
            wire.send(m.parse(f"{size}", f"SELECT {number}" + " " * size), m.SYNC)
            assert kinds(wire.until()) == "1Z"
    assert pool.worker_memory() - before > 100 * MB
    for wire in wires:
        wire.run("DEALLOCATE ALL")
        wire.send(m.parse("s", "SELECT 1"), m.SYNC)
        wire.until()
        wire.close()
    eventually(lambda: pool.worker_memory() - before < GROWTH)


def test_copy_in_for_a_server_that_waits(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1)
    wire = pool.wire()
    wire.run("SELECT 1")
    before = highest(pool)
    # A trigger that waits for a lock makes the server stop reading.
    cluster.admin(
        "CREATE TABLE slow_target (t text);"
        " CREATE FUNCTION wait_a_while() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;"
        " CREATE TRIGGER w BEFORE INSERT ON slow_target FOR EACH ROW EXECUTE FUNCTION wait_a_while();"
        " GRANT ALL ON slow_target TO PUBLIC",
        "app",
    )
    try:
        with cluster.wire("postgres") as holder:
            holder.run("SELECT pg_advisory_lock(4711)")
            wire.send(m.query("COPY slow_target FROM STDIN"))
            wire.until("G")
            chunk = m.copy_data((b"y" * 999 + b"\n") * 100)

            def send_all() -> None:
                for _ in range(1500):
                    wire.sock.sendall(chunk)
                wire.send(m.COPY_DONE)

            with Meanwhile(send_all) as sending:
                eventually(lambda: cluster.backends("wait_event_type = 'Lock'"))
                wait_for_quiet(pool)
                assert not sending.done
                assert highest(pool) - before < GROWTH
                holder.bye()
                sending.result(60)
            assert kinds(wire.until()) == "CZ"
        assert highest(pool) - before < GROWTH
    finally:
        cluster.admin("DROP TABLE slow_target; DROP FUNCTION wait_a_while()", "app")


def processor_time(pool: Pooler) -> float:
    """Seconds that all workers have computed so far."""
    return float(sum(sum(worker.cpu_times()[:2]) for worker in pool.workers()))


def wait_for_quiet(pool: Pooler) -> None:
    """Wait until the worker uses no more processor time."""
    seen = [processor_time(pool), time.monotonic()]

    def quiet() -> bool:
        now = processor_time(pool)
        if now != seen[0]:
            seen[:] = [now, time.monotonic()]
        return time.monotonic() - seen[1] > 0.3

    eventually(quiet, within=20)


def test_many_slow_readers(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(workers=1, default_pool_size=40)
    wires = [pool.wire() for _ in range(40)]
    for wire in wires:
        wire.run("SELECT 1")
    before = highest(pool)
    for wire in wires:
        wire.send(m.query("SELECT repeat('x', 100000) FROM generate_series(1, 1000)"))
    cluster.settles(40, "wait_event = 'ClientWrite'", within=20)
    assert highest(pool) - before < 40 * MB
    for wire in wires:
        wire.close()
    cluster.settles(0, "state = 'active' AND query LIKE '%repeat%'", within=20)


# --- ten thousand idle clients ---

_CROWD = """
import json, resource, socket, struct, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
body = b"user\\0app\\0database\\0app\\0\\0"
hello = struct.pack("!ii", len(body) + 8, 196608) + body
socks = []
for start in range(0, count, 50):
    new = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(min(50, count - start))]
    for sock in new:
        sock.sendall(hello)
    for sock in new:
        data = b""
        while not data.endswith(b"Z\\0\\0\\0\\5I"):
            got = sock.recv(4096)
            assert got, "refused"
            data += got
        assert data[:1] == b"R", data
    socks += new
print(json.dumps(len(socks)), flush=True)
sys.stdin.readline()
question = b"Q\\0\\0\\0\\x0dSELECT 1\\0"
answers = 0
for sock in socks[::50]:
    sock.sendall(question)
    data = b""
    while not data.endswith(b"Z\\0\\0\\0\\5I"):
        data += sock.recv(4096)
    answers += 1
print(json.dumps(answers), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("count", [10_000])
def test_ten_thousand_idle_clients(pooler: MakePooler, cluster: Cluster, count: int) -> None:
    pool = pooler(max_client_conn=count + 100, default_pool_size=5, log_connections=False, log_disconnections=False)
    with pool.wire() as witness:
        witness.run("SELECT 1")
        before = pool.worker_memory()
        sources = 4  # so that no process needs more than 4096 descriptors
        crowds = [
            subprocess.Popen(
                [sys.executable, "-c", _CROWD, str(pool.port), str(count // sources)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(sources)
        ]
        try:
            assert sum(int(answer(crowd)) for crowd in crowds) == count
            assert pool.pool()["cl_active"] >= count
            grown = (pool.worker_memory() - before) / count
            assert grown < 8192, f"{grown:.0f} bytes for each idle client"
            spent = processor_time(pool)
            for _ in range(200):
                assert witness.one("SELECT 1") == "1"
            assert processor_time(pool) - spent < 2
            assert pool.wire().one("SELECT 1") == "1"
            for crowd in crowds:
                go_on(crowd)
            assert sum(int(answer(crowd)) for crowd in crowds) == count // 50
            assert len(cluster.backends()) <= 5
        finally:
            for crowd in crowds:
                crowd.kill()
                crowd.communicate()
        eventually(lambda: pool.pool()["cl_active"] <= 2, within=30)
        assert witness.one("SELECT 1") == "1"


def answer(crowd: "subprocess.Popen[str]") -> str:
    """The next line a crowd says."""
    assert crowd.stdout is not None
    line = crowd.stdout.readline()
    assert line, "the crowd gave up"
    return str(json.loads(line))


def go_on(crowd: "subprocess.Popen[str]") -> None:
    """Let a crowd go on."""
    assert crowd.stdin is not None
    crowd.stdin.write("\n")
    crowd.stdin.flush()


def test_show_mem_tells_what_things_cost(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    wires = [pool.wire() for _ in range(20)]
    wires[0].send(m.parse("s", "SELECT 'a statement', $1::int"), m.SYNC)
    wires[0].until()
    numbers = ("size", "used", "memtotal")
    rows = {row["name"]: {key: int(row[key] or 0) for key in numbers} for row in pool.console("SHOW MEM")}
    assert rows["client"]["used"] >= 20
    assert 200 < rows["client"]["size"] < 4096
    assert rows["server"]["used"] == 1
    assert rows["prepared_statement"]["used"] == 1
    assert rows["prepared_statement"]["size"] > len("SELECT 'a statement', $1::int")
    assert rows["process"]["memtotal"] > rows["client"]["memtotal"]
    assert rows["buffer"]["used"] == 4
    assert 1_000_000 < rows["buffer"]["memtotal"] < 4_000_000
    for row in rows.values():
        assert row["size"] == row["memtotal"] // max(1, row["used"])
