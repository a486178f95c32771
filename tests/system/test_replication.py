"""Replication connections pass through, each with a server of its own."""

import subprocess
from pathlib import Path

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.waiting import eventually
from harness.wire import kinds, rows_in


def test_identify_system(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    direct = cluster.wire("rep", "app", replication="database")
    pooled = pool.wire("rep", "app", replication="database")
    assert rows_in(direct.ask("IDENTIFY_SYSTEM"))[0][0] == rows_in(pooled.ask("IDENTIFY_SYSTEM"))[0][0]
    physical = pool.wire("rep", "app", replication="true")
    assert kinds(physical.ask("IDENTIFY_SYSTEM")) == "TDCZ"


def test_each_replication_connection_has_a_server_of_its_own(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    wires = [pool.wire("rep", "app", replication="database") for _ in range(3)]
    pids = {rows_in(wire.ask("SELECT pg_backend_pid()"))[0][0] for wire in wires}
    assert len(pids) == 3
    assert pool.wire("rep").one("SELECT pg_backend_pid()") not in pids
    for wire in wires:
        wire.bye()
    eventually(lambda: cluster.admin("SELECT FROM pg_stat_activity WHERE backend_type = 'walsender'") == [])


def test_logical_replication_streams(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler()
    cluster.admin("CREATE TABLE streamed (n int PRIMARY KEY); CREATE PUBLICATION all_of_it FOR TABLE streamed", "app")
    wire = pool.wire("rep", "app", replication="database")
    try:
        wire.run("CREATE_REPLICATION_SLOT slot TEMPORARY LOGICAL pgoutput")
        options = "(proto_version '1', publication_names 'all_of_it')"
        wire.send(m.query(f"START_REPLICATION SLOT slot LOGICAL 0/0 {options}"))
        assert wire.message().kind == "W"
        cluster.admin("INSERT INTO streamed VALUES (424242)", "app")
        while b"424242" not in wire.message().body:
            pass
        wire.send(m.COPY_DONE)
        wire.until("Z")
        assert kinds(wire.ask("IDENTIFY_SYSTEM")) == "TDCZ"
    finally:
        wire.close()
        cluster.admin("DROP PUBLICATION all_of_it; DROP TABLE streamed", "app")


def test_base_backup(pooler: MakePooler, cluster: Cluster, tmp_path: Path) -> None:
    pool = pooler()
    target = tmp_path / "backup"
    command = [cluster.binary("pg_basebackup"), "-h", "127.0.0.1", "-p", str(pool.port), "-U", "rep"]
    done = subprocess.run(
        [*command, "-d", "dbname=app", "-D", str(target), "-X", "stream", "-c", "fast", "--no-sync"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (target / "PG_VERSION").exists()
