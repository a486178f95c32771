"""The table is sound, and a pool's settings follow the precedence user, database, global."""

from __future__ import annotations

import typing

import msgspec

from pglido.config.builder import defaults
from pglido.config.enums import tls_range
from pglido.config.model import (
    Config,
    Database,
    Dialect,
    Host,
    PoolMode,
    PoolSettings,
    Settings,
    User,
    rows,
)
from pglido.config.schema import Kind
from pglido.config.settings import CHAPTERS


def test_every_field_is_a_row_with_a_kind_that_fits_its_type() -> None:
    for table, scope in ((Settings, "pglido"), (Database, "databases"), (User, "users")):
        assert list(rows(scope)) == list(table.__struct_fields__)
    plain = {
        Kind.FLAG: bool,
        Kind.COUNT: int,
        Kind.SIZE: int,
        Kind.MODE: int,
        Kind.WORKERS: int,
        Kind.DURATION: float,
        Kind.FRACTION: float,
        Kind.TEXT: str,
        Kind.PATH: str,
        Kind.LIST: tuple[str, ...],
        Kind.PORTS: tuple[int, ...],
    }
    for scope in ("pglido", "databases", "users"):
        for field in rows(scope).values():
            assert field.kind is Kind.CHOICE or plain[field.kind] == field.type, field.name
            assert field.row.help.endswith("."), field.name
    assert set(CHAPTERS) <= set(rows())


def test_the_effective_settings_have_the_types_of_the_table() -> None:
    effective = typing.get_type_hints(PoolSettings)
    for scope in ("pglido", "databases", "users"):
        for name, field in rows(scope).items():
            if name in effective and name != "user":
                assert effective[name] == field.type, name


def test_every_key_of_a_database_and_a_user_has_an_effect_on_a_pool() -> None:
    where = {"host", "port", "user", "password"}
    effective = set(PoolSettings.__struct_fields__)
    assert set(rows("databases")) - where <= effective
    assert set(rows("users")) - {"password"} <= effective


def test_user_goes_before_database_and_database_before_global() -> None:
    config = Config(
        settings=Settings(pool_mode=PoolMode.SESSION, default_pool_size=1, query_timeout=1.0),
        databases={
            "d": Database(pool_mode=PoolMode.STATEMENT, pool_size=2),
            "e": Database(query_timeout=0.0),
        },
        users={"u": User(pool_size=0)},
    )
    pool = config.pool("d", "u")
    assert pool is not None
    assert (pool.pool_mode, pool.pool_size, pool.query_timeout) == (PoolMode.STATEMENT, 0, 1.0)
    other = config.pool("e", "v")
    assert other is not None
    assert (other.pool_mode, other.pool_size, other.query_timeout) == (PoolMode.SESSION, 1, 0.0)


def test_a_forced_user_owns_the_pool_and_the_client_keeps_its_timeouts() -> None:
    config = Config(
        databases={"d": Database(user="app", password="pw")},
        users={"app": User(pool_size=5, query_timeout=1.0), "joe": User(pool_size=7, query_timeout=2.0)},
    )
    joe = config.pool("d", "joe")
    assert joe is not None
    assert joe.key == ("d", "app")
    assert (joe.user, joe.server_user, joe.server_password) == ("joe", "app", "pw")
    assert (joe.pool_size, joe.query_timeout) == (5, 2.0)
    shared = config.pool(*joe.key)
    assert shared is not None
    assert shared.pool_size == joe.pool_size
    assert shared.key == joe.key


def test_star_stands_for_every_name_but_the_consoles() -> None:
    config = Config(databases={"*": Database(host=("h",)), "a": Database(dbname="b")})
    pool = config.pool("anything", "u")
    assert pool is not None
    assert (pool.database, pool.dbname, pool.server_user) == ("anything", "anything", None)
    assert config.pool("a", "u").dbname == "b"
    assert config.pool("pgbouncer", "u") is None
    assert config.pool("pglido", "u") is None
    assert config.pool("*", "u") is None
    assert Config().pool("a", "u") is None


def test_hosts_and_ports() -> None:
    config = Config(
        settings=Settings(unix_socket_dir="/run"),
        databases={
            "none": Database(),
            "one": Database(host=("a", "b"), port=(7,)),
            "each": Database(host=("a", "@x"), port=(7, 8)),
        },
    )
    assert config.pool("none", "u").hosts == (Host("/run", 5432),)
    assert config.pool("none", "u").hosts[0].socket_path == "/run/.s.PGSQL.5432"
    assert config.pool("one", "u").hosts == (Host("a", 7), Host("b", 7))
    assert config.pool("each", "u").hosts == (Host("a", 7), Host("@x", 8))
    assert Host("@x", 8).socket_path == "\0x/.s.PGSQL.8"
    assert [host.is_unix for host in (Host("a", 1), Host("/a", 1), Host("@a", 1))] == [False, True, True]


def test_startup_parameters_of_a_database() -> None:
    config = Config(databases={"d": Database(timezone="UTC", application_name="x")})
    assert config.pool("d", "u").startup_parameters == {"timezone": "UTC", "application_name": "x"}


def test_a_config_survives_the_way_to_a_worker() -> None:
    for dialect in Dialect:
        config = Config(
            path="/x",
            dialect=dialect,
            settings=defaults(dialect),
            databases={"d": Database(host=("a",), port=(1,), pool_mode=PoolMode.SESSION, query_timeout=3)},
            users={"u": User(pool_size=3)},
            warnings=("w",),
        )
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config) == config
        pool = config.pool("d", "u")
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(pool), type=PoolSettings) == pool


def test_range_of_tls_versions() -> None:
    assert tls_range(("secure",)) == ("tlsv1.2", "tlsv1.3")
    assert tls_range(("all",)) == ("tlsv1.0", "tlsv1.3")
    assert tls_range(("tlsv1.3", "tlsv1.1")) == ("tlsv1.1", "tlsv1.3")
    assert tls_range(()) == ("tlsv1.2", "tlsv1.3")


def test_verbose_is_a_log_level() -> None:
    assert Settings().effective_log_level == "info"
    assert Settings(verbose=1).effective_log_level == "debug"
