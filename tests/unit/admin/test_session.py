"""Drivers can talk to the console, simple and extended, and get what PgBouncer would say."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from contextlib import suppress

import asyncpg
import pg8000.dbapi
import psycopg
import psycopg2
import pytest

from harness.control import Running, write_config
from pglido.admin.commands import PARAMETERS, QUERIES
from pglido.admin.show import SHOWS


async def connect(it: Running, user: str = "admin", **more: object) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1",
        port=it.port,
        user=user,
        dbname="pgbouncer",
        autocommit=True,
        sslmode="disable",
        **more,
    )


async def rows(connection: psycopg.AsyncConnection, sql: str) -> list[dict[str, object]]:
    cursor = await connection.execute(sql)
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


@pytest.fixture
async def admin(it: Running):
    async with await connect(it) as connection:
        yield connection


@pytest.mark.parametrize("name", sorted(SHOWS))
async def test_every_show_gives_its_columns_in_both_protocols(it: Running, admin, name):
    columns = [(column.name, column.type) for column in SHOWS[name].columns]
    simple = await admin.execute(f"SHOW {name}")
    assert [(column.name, column.type_code) for column in simple.description] == columns
    assert simple.statusmessage == "SHOW"
    for binary in (False, True):
        cursor = admin.cursor(binary=binary)
        await cursor.execute(f"show {name.lower()};", prepare=True)
        assert [(column.name, column.type_code) for column in cursor.description] == columns
        found = await cursor.fetchall()
        if name not in ("WORKERS", "LEASES", "TOTALS", "STATS", "STATS_AVERAGES"):
            assert found == await (await admin.execute(f"SHOW {name}")).fetchall()


async def test_pools_are_summed_over_the_workers(admin):
    (pool,) = await rows(admin, "SHOW POOLS")
    assert (pool["database"], pool["user"]) == ("app", "alice")
    assert (pool["cl_active"], pool["cl_waiting"], pool["sv_idle"], pool["sv_login"]) == (4, 2, 6, 0)
    assert (pool["maxwait"], pool["maxwait_us"]) == (3, 0)
    assert (pool["pool_mode"], pool["leased"]) == ("transaction", 0)


async def test_clients_and_servers_of_all_workers_are_listed(admin):
    clients = await rows(admin, "SHOW CLIENTS")
    assert [(row["ptr"], row["worker"]) for row in clients] == [("C-0", 0), ("C-1", 1)]
    assert clients[0]["connect_time"] == "2023-11-14 22:13:20 UTC"
    assert (clients[0]["wait"], clients[0]["wait_us"], clients[0]["id"]) == (2, 500000, 7)
    assert [row["type"] for row in await rows(admin, "SHOW SERVERS")] == ["S", "S"]


async def test_stats_are_totals_over_the_workers_and_averages(admin):
    (stats,) = await rows(admin, "SHOW STATS")
    assert (stats["database"], stats["total_xact_count"], stats["total_query_count"]) == ("app", 20, 40)
    assert stats["avg_query_time"] == 200
    totals = {row["name"]: row["value"] for row in await rows(admin, "SHOW TOTALS")}
    assert totals["total_query_count"] == 40
    assert totals["total_client_bytes"] == 10


async def test_databases_users_lists_and_config_tell_what_is_in_force(it: Running, admin):
    database, pgbouncer, pglido = await rows(admin, "SHOW DATABASES")
    assert (database["name"], database["host"], database["port"]) == ("app", "127.0.0.1", 5432)
    assert (database["database"], database["force_user"], database["pool_size"]) == ("app", None, 4)
    assert database["current_client_connections"] == 6
    assert (pglido["name"], pglido["port"], pglido["current_client_connections"]) == ("pglido", it.port, 2)
    assert (pgbouncer["name"], pgbouncer["pool_mode"], pgbouncer["host"]) == ("pgbouncer", "statement", None)
    (user,) = await rows(admin, "SHOW USERS")
    assert (user["name"], user["current_client_connections"]) == ("alice", 2)
    lists = {row["list"]: row["items"] for row in await rows(admin, "SHOW LISTS")}
    assert (lists["databases"], lists["users"], lists["used_clients"], lists["dns_names"]) == (1, 1, 4, 4)
    config = {row["key"]: row for row in await rows(admin, "SHOW CONFIG")}
    assert config["listen_port"]["value"] == str(it.port)
    assert config["listen_port"]["changeable"] == "no"
    assert list(config) == sorted(config)


async def test_help_is_a_notice(admin):
    heard = []
    admin.add_notice_handler(lambda found: heard.append((found.message_primary, found.message_detail)))
    await admin.execute("SHOW HELP")
    ((message, detail),) = heard
    assert message == "Console usage"
    assert "SHOW HELP|CLIENTS|CONFIG" in detail


async def test_the_version_tells_monitoring_which_columns_to_expect(admin):
    ((version,),) = [row.values() for row in await rows(admin, "SHOW VERSION")]
    assert re.findall(r"\d+\.\d+\.\d+", version)[0] == "1.25.0"


@pytest.mark.parametrize(
    "sql", ["SHOW BOGUS", "SELECT 2", "KILL app now", "SHOW POOLS now", "nonsense", "RELOAD twice"]
)
async def test_what_is_not_known_says_what_is(admin, sql):
    with pytest.raises(psycopg.Error) as refused:
        await admin.execute(sql)
    assert refused.value.sqlstate == "08P01"
    assert refused.value.diag.message_primary == f"invalid command '{sql}', use SHOW HELP;"
    assert "SHOW HELP, CLIENTS" in refused.value.diag.message_hint
    assert refused.value.diag.message_detail == "client uuid-admin"
    assert await rows(admin, "SHOW STATE")


async def test_a_setting_that_needs_a_restart_is_not_silently_accepted(admin):
    with pytest.raises(psycopg.Error, match='"listen_port" cannot be changed without a restart') as refused:
        await admin.execute("SET listen_port = 7")
    assert refused.value.sqlstate == "55P02"
    await admin.execute("SET extra_float_digits = 3")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("query_timeout = 5", "5"),
        ("query_timeout=5", "5"),
        ("QUERY_TIMEOUT TO '5s'", "5"),
        ("log_stats = off", "0"),
        ("pool_mode = 'session'", "session"),
        ("ignore_startup_parameters = 'a, b'", "a,b"),
        ("server_reset_query = 'DISCARD TEMP; RESET ALL -- it''s all'", "DISCARD TEMP; RESET ALL -- it's all"),
    ],
)
async def test_a_setting_is_set_until_the_next_reload(admin, written, value):
    key = written.split("=")[0].split()[0].lower()

    async def shown() -> dict[str, str]:
        return {row["key"]: row for row in await rows(admin, "SHOW CONFIG")}[key]

    before = await shown()
    assert before["in_file"] is None
    await admin.execute(f"SET {written}")
    after = await shown()
    assert (after["value"], after["in_file"]) == (value, before["value"])
    await admin.execute("RELOAD")
    assert await shown() == before


@pytest.mark.parametrize(
    "written", ["query_timeout = x", "query_timeout = -1", "pool_mode = sesion", "query_timeout ="]
)
async def test_a_value_that_is_wrong_is_refused_and_what_is_wrong_told(admin, written):
    before = await rows(admin, "SHOW CONFIG")
    with pytest.raises(psycopg.Error, match="SET failed") as refused:
        await admin.execute(f"SET {written}")
    assert written.split()[0] in refused.value.diag.message_hint
    assert await rows(admin, "SHOW CONFIG") == before


async def test_a_setting_that_is_set_back_is_as_in_the_file(admin):
    for value in ("5", "6", "0"):
        await admin.execute(f"SET query_timeout = {value}")
    config = {row["key"]: row for row in await rows(admin, "SHOW CONFIG")}
    assert config["query_timeout"]["in_file"] is None


async def test_stats_users_may_look_and_not_touch(it: Running):
    async with await connect(it, "viewer") as viewer:
        assert await rows(viewer, "SHOW POOLS")
        for sql in ("RELOAD", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS"):
            with pytest.raises(psycopg.errors.ProtocolViolation, match="admin access needed"):
                await viewer.execute(sql)


async def test_reload_takes_what_has_changed(it: Running, admin):
    write_config(it.config, it.port, pool_size=9)
    cursor = await admin.execute("RELOAD")
    assert cursor.statusmessage == "RELOAD"
    assert (await rows(admin, "SHOW DATABASES"))[0]["pool_size"] == 9
    line = await it.line()
    assert "Prepare,Commit:1" in await line.say("told")


async def test_a_broken_file_changes_nothing_and_says_why(it: Running, admin):
    write_config(it.config, it.port, pool_size=9, more="\n[databases.other]\nprot = 5\n")
    with pytest.raises(psycopg.Error) as refused:
        await admin.execute("RELOAD")
    assert refused.value.sqlstate == "F0000"
    assert "prot" in refused.value.diag.message_hint
    assert (await rows(admin, "SHOW DATABASES"))[0]["pool_size"] == 4


async def test_what_needs_a_restart_stays(it: Running, admin):
    write_config(it.config, it.port + 1, pool_size=9)
    await admin.execute("RELOAD")
    config = {row["key"]: row["value"] for row in await rows(admin, "SHOW CONFIG")}
    assert config["listen_port"] == str(it.port)
    assert (await rows(admin, "SHOW DATABASES"))[0]["pool_size"] == 9


def refused(port: int) -> bool:
    """Does nobody listen there?"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_shutdown_stops_the_workers(it: Running, admin):
    with suppress(psycopg.OperationalError):  # the worker may be gone before it could pass the answer on
        await admin.execute("SHUTDOWN")
    await it.until(lambda: not it.pooler.supervisor.alive())
    # The control process, which holds the doors as well, closes them a moment later.
    await it.until(lambda: refused(it.port))


# ---- drivers


async def test_psycopg_with_transactions_parameters_and_pipelines(it: Running):
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=it.port, user="admin", dbname="pglido", options="-c search_path=x"
    ) as connection:
        await connection.execute("SHOW POOLS")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        await connection.commit()
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        found = await (await connection.execute("SHOW %s", ["VERSION"])).fetchone()
        assert found is None or "pglido" in found[0]
        async with connection.pipeline():
            one = await connection.execute("SHOW POOLS")
            two = await connection.execute("SHOW LISTS")
        assert (await one.fetchall(), len(await two.fetchall()))[1] == 14


async def test_an_error_in_a_pipeline_skips_up_to_the_sync(admin):
    async def together() -> None:
        async with admin.pipeline():
            await admin.execute("SHOW POOLS")
            await admin.execute("SHOW NOTHING")
            await admin.execute("SHOW LISTS")

    with pytest.raises(psycopg.Error, match="invalid command"):
        await together()
    assert len(await rows(admin, "SHOW LISTS")) == 14


async def test_asyncpg(it: Running):
    connection = await asyncpg.connect(
        host="127.0.0.1", port=it.port, user="admin", database="pgbouncer", ssl=False, statement_cache_size=10
    )
    pools = await connection.fetch("SHOW POOLS")
    assert pools[0]["cl_active"] == 4
    stats = await connection.fetch("SHOW STATS")
    assert stats[0]["total_query_count"] == 40
    assert await connection.fetchval("SELECT 1") == "1"
    with pytest.raises(asyncpg.PostgresError, match="invalid command"):
        await connection.fetch("SHOW NOTHING")
    assert await connection.execute("RELOAD") == "RELOAD"
    await connection.reset()
    await connection.close()


async def test_asyncpg_pool(it: Running):
    async with asyncpg.create_pool(
        host="127.0.0.1", port=it.port, user="admin", database="pgbouncer", ssl=False, min_size=2, max_size=3
    ) as pool:
        for _ in range(5):
            assert await pool.fetch("SHOW LISTS")


async def test_psycopg2(it: Running):
    def work() -> tuple[int, int]:
        connection = psycopg2.connect(host="127.0.0.1", port=it.port, user="admin", dbname="pgbouncer")
        cursor = connection.cursor()
        cursor.execute("SHOW POOLS")
        found = cursor.fetchall()
        connection.commit()
        version = connection.server_version
        connection.close()
        return len(found), version

    assert await asyncio.to_thread(work) == (1, 12500)


async def test_pg8000(it: Running):
    def work() -> int:
        connection = pg8000.dbapi.connect(user="admin", host="127.0.0.1", port=it.port, database="pgbouncer")
        cursor = connection.cursor()
        cursor.execute("SHOW LISTS")
        found = cursor.fetchall()
        connection.commit()
        connection.close()
        return len(found)

    assert await asyncio.to_thread(work) == 14


async def test_psql_shows_tables_and_its_own_start_works(it: Running):
    process = await asyncio.create_subprocess_exec(
        *("psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(it.port), "-U", "admin", "pgbouncer"),
        *("-c", "SHOW POOLS; SHOW STATE", "-c", "\\conninfo"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"app|alice|4|2|" in out
    assert b"active|yes" in out


@pytest.mark.parametrize("name", sorted(PARAMETERS))
async def test_what_drivers_ask_at_start_is_answered(admin, name):
    assert await rows(admin, f"SHOW {name}") == [{name: PARAMETERS[name]}]


@pytest.mark.parametrize("sql", sorted(QUERIES))
async def test_what_pools_ask_is_answered(admin, sql):
    ((value,),) = [row.values() for row in await rows(admin, sql.upper())]
    assert value == QUERIES[sql][1]


@pytest.mark.parametrize(
    ("sql", "tag"),
    [
        ("SET client_encoding TO 'UTF8'", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("RESET ALL", "RESET"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("begin; commit", "BEGIN"),
        ("/* ping */ -- nothing\n", None),
        ("", None),
    ],
)
async def test_small_talk_is_answered_with_its_tag(admin, sql, tag):
    assert (await admin.execute(sql)).statusmessage in (tag, "")
