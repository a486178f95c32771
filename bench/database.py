"""The PostgreSQL behind all contestants, with pgbench's tables and those of the other scenarios."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from pglido import embedded

NAME = "bench"  # of the role, its password and its database
SCALE = 5  # of pgbench's tables: 500,000 rows, 75 MB
VERSION = 18
TLS_VERSION = 17  # of the pgbench that speaks TLS; the other comes without
LINE = "x" * 99  # a row of COPY, with its newline 100 bytes

TABLES = """
create table thousand_rows as
    select number, md5(number::text) || left(md5((-number)::text), 12) as text from generate_series(1, 1000) number;
create unlogged table copied (line text);
vacuum analyze thousand_rows;
"""


class DatabaseError(RuntimeError):
    """The tables could not be filled; the text says why."""


@dataclass(frozen=True)
class Database:
    """A running server, the secret of its role, and the programs that make load."""

    server: embedded.Postgres
    secret: str

    def env(self, port: int, *, tls: bool = False) -> dict[str, str]:
        """An environment that leads libpq's programs to a pooler on this port."""
        return self.server.env | {
            "PGPORT": str(port),
            "PGUSER": NAME,
            "PGPASSWORD": NAME,
            "PGDATABASE": NAME,
            "PGSSLMODE": "require" if tls else "disable",
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "30",
        }

    def pgbench(self, *, tls: bool = False) -> Path | None:
        """The load generator; None where the one with TLS is not installed."""
        if not tls:
            return self.server.pgbench
        return embedded.bin_directory(TLS_VERSION) / "pgbench" if embedded.available(TLS_VERSION) else None


def start(connections: int, port: int = 0) -> Database:
    """Start and fill it. `port` 0 takes a free one. Raises DatabaseError or embedded.EmbeddedError."""
    server = embedded.start(VERSION, port=port, settings={"max_connections": connections, "shared_buffers": "256MB"})
    try:
        server.sql(f"create role {NAME} login password '{NAME}'")
        server.sql(f"create database {NAME} owner {NAME}")
        database = Database(server, server.sql(f"select rolpassword from pg_authid where rolname = '{NAME}'"))
        _run(database, server.pgbench, "--initialize", f"--scale={SCALE}", "--quiet")
        _run(database, server.psql, "-Xq", "-v", "ON_ERROR_STOP=1", script=TABLES)
    except BaseException:
        server.remove()
        raise
    return database


def _run(database: Database, program: Path, *arguments: str, script: str = "") -> None:
    done = subprocess.run(
        [program, *arguments],
        env=database.env(database.server.port),
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DatabaseError(f"{program.name} failed:\n{done.stderr}")
