"""The embedded PostgreSQL: every version starts, is what was asked for, and leaves nothing behind."""

import subprocess
from pathlib import Path

import pytest

from harness.tls import Certificates
from pglido import embedded


def psql(pg: embedded.Postgres, sql: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [pg.psql, "-XAtc", sql], env=pg.env | env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("version", sorted(embedded.WHEELS))
def test_every_version_starts_and_is_gone_afterwards(version: int) -> None:
    with embedded.start(version, settings={"work_mem": "5MB", "jit": False}) as pg:
        assert psql(pg, "show server_version").stdout.startswith(f"{version}.")
        assert psql(pg, "show work_mem").stdout == "5MB\n"
        assert psql(pg, "show jit").stdout == "off\n"
        home = pg.home
    assert not pg.running
    assert not home.exists()


@pytest.mark.parametrize("auth", ["password", "scram"])
def test_a_wrong_password_is_refused_over_tcp(auth: embedded.Auth) -> None:
    with embedded.start(auth=auth) as pg:
        assert psql(pg, "select 1").stdout == "1\n"
        assert "password authentication failed" in psql(pg, "select 1", PGPASSWORD="wrong").stderr
        assert pg.sql("select 1") == "1"


def test_lines_of_pg_hba_come_first() -> None:
    with embedded.start(hba=["host all postgres all reject"]) as pg:
        assert "pg_hba.conf rejects" in psql(pg, "select 1").stderr


def test_tls_is_spoken_where_it_was_asked_for(certificates: Certificates) -> None:
    pair = certificates.server.certificate, certificates.server.key
    with embedded.start(tls=pair) as pg:
        tls = psql(pg, "select ssl from pg_stat_ssl where pid = pg_backend_pid()", PGSSLMODE="require")
        assert tls.stdout == "t\n"


def test_a_version_without_tls_says_which_has_it(tmp_path: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match="version 17 has it"):
        embedded.start(18, tls=(tmp_path, tmp_path))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_port_and_data(mode: embedded.Stop) -> None:
    with embedded.start() as pg:
        pg.sql("create table kept (n int); insert into kept values (1); checkpoint")
        port, pid = pg.port, pg.pid
        pg.restart(mode)
        assert (pg.port, pg.sql("select n from kept")) == (port, "1")
        assert pg.pid != pid


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(embedded.EmbeddedError, match="unrecognized configuration parameter"):
        embedded.start(settings={"no_such_setting": 1})


def test_sql_that_fails_raises_with_the_message_of_the_server() -> None:
    with embedded.start() as pg, pytest.raises(embedded.EmbeddedError, match="division by zero"):
        pg.sql("select 1/0")


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(embedded.EmbeddedError, match="no embedded PostgreSQL 9"):
        embedded.start(9)


def test_a_taken_port_is_an_error_when_it_was_asked_for() -> None:
    with (
        embedded.start() as pg,
        pytest.raises(embedded.EmbeddedError, match="could not create any TCP/IP sockets"),
    ):
        embedded.start(port=pg.port)
