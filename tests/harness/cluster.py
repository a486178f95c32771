"""An embedded PostgreSQL with what the tests need in it: roles for every way to log in, two databases, some tables."""

from pathlib import Path
from typing import Any

from pglido import embedded

from .waiting import eventually, free_port
from .wire import Wire

# Role: password, how its verifier is stored, and the pg_hba.conf method it logs in by.
PASSWORD_ROLES = {
    "u_password": ("plain secret", "scram-sha-256", "password"),
    "u_md5": ("md5 secret", "md5", "md5"),
    "u_scram": ("scram secret", "scram-sha-256", "scram-sha-256"),
    "u_shared": ("shared secret", "scram-sha-256", "scram-sha-256"),
    "u_expired": ("old secret", "scram-sha-256", "scram-sha-256"),
    "u_unicode": ("pässwörd \u2168\u00a0x", "scram-sha-256", "scram-sha-256"),
    "auth_reader": ("reader secret", "scram-sha-256", "scram-sha-256"),
}
# Roles that are trusted.
TRUSTED_ROLES = ("app", "app2", "app3", "u_nobody")

_SETTINGS: dict[str, embedded.Setting] = {
    "max_connections": 400,
    "shared_buffers": "64MB",
    "wal_level": "logical",
    "max_wal_senders": 10,
    "max_prepared_transactions": 5,
    "autovacuum": False,
    "timezone": "UTC",
    "log_connections": True,
    "log_disconnections": True,
}

_SETUP = [
    *(f"CREATE ROLE {role} LOGIN" for role in TRUSTED_ROLES),
    "CREATE ROLE rep LOGIN REPLICATION",
    "ALTER ROLE u_expired VALID UNTIL '2001-01-01'",
    "ALTER ROLE auth_reader SUPERUSER",
    "CREATE DATABASE app OWNER app",
    "CREATE DATABASE other OWNER app",
]

_TABLES = """
CREATE TABLE numbers AS SELECT n, 'number ' || n AS name FROM generate_series(1, 1000) n;
CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL);
CREATE FUNCTION warn(what text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE 'noticed %', what; RETURN length(what); END $$;
GRANT ALL ON numbers, notes TO PUBLIC;
"""


class Cluster:
    """One server of PostgreSQL `version` on 127.0.0.1:`port`. `server` is the process; stop, restart it there."""

    def __init__(self, server: embedded.Postgres) -> None:
        self.server = server
        self.version = server.version
        self.port = server.port
        self.address = (server.host, server.port)
        self._others: list[int] = []

    @classmethod
    def create(cls, version: int = 18, tls: tuple[Path, Path] | None = None, **settings: embedded.Setting) -> "Cluster":
        """A new running server. With `tls` (certificate, key) those who log in by SCRAM may bind the channel."""
        hba = [f"host all {role} 127.0.0.1/32 {how}" for role, (_, _, how) in PASSWORD_ROLES.items()]
        server = embedded.start(version, settings=_SETTINGS | settings, hba=hba, tls=tls, port=free_port())
        self = cls(server)
        with self.wire("postgres", "postgres") as wire:
            for role, (secret, stored, _) in PASSWORD_ROLES.items():
                wire.run(f"SET password_encryption = '{stored}'; CREATE ROLE {role} LOGIN PASSWORD '{secret}'")
            for statement in _SETUP:
                wire.run(statement)
        for database in ("app", "other"):
            with self.wire("app", database) as wire:
                wire.run(_TABLES)
        return self

    def binary(self, name: str) -> str:
        """The path of a program of this version: psql, pgbench, pg_dump, ..."""
        return str(self.server.bin / name)

    def wire(self, user: str = "app", database: str = "app", **more: Any) -> Wire:
        """A raw connection, logged in."""
        return Wire.dial(self.address).login(user, database, **more)

    def admin(self, sql: str, database: str = "postgres") -> list[list[str | None]]:
        """Rows of a statement run by the superuser, directly."""
        with self.wire("postgres", database) as wire:
            rows = wire.run(sql)
            wire.bye()
            return rows

    def verifier(self, role: str) -> str:
        """The stored secret of a role."""
        ((secret,),) = self.admin(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")
        assert secret
        return secret

    def overlook(self) -> None:
        """Leave the sessions of now out of `backends`: they belong to somebody else, such as a shared pooler."""
        self.overlook_nobody()
        self._others = self.backends()

    def overlook_nobody(self) -> None:
        """Let `backends` tell of all sessions again."""
        self._others = []

    def backends(self, where: str = "true") -> list[int]:
        """The process ids of client sessions in the databases app and other that fit, oldest first."""
        rows = self.admin(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
            f"AND datname IN ('app', 'other') AND ({where}) ORDER BY backend_start, pid"
        )
        return [int(pid) for (pid,) in rows if pid and int(pid) not in self._others]

    def settles(self, count: int, where: str = "true", within: float = 10.0) -> list[int]:
        """Wait until exactly `count` sessions fit, and return them."""
        found: list[int] = []

        def fits() -> bool:
            found[:] = self.backends(where)
            return len(found) == count

        eventually(fits, within, f"{count} sessions where {where}")
        return found

    def conninfo(self, user: str = "app", database: str = "app", **more: object) -> str:
        """A libpq connection string for a direct connection."""
        words = {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": database, **more}
        return " ".join(f"{key}='{value}'" for key, value in words.items())
