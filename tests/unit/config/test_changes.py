"""What a reload changes, and what it can't."""

from __future__ import annotations

from pglido.config.changes import diff, without_restart
from pglido.config.model import Config, Database, PoolMode, Settings, User

OLD = Config(
    settings=Settings(pool_mode=PoolMode.SESSION),
    databases={"a": Database(host=("x",), password="old"), "gone": Database()},
    users={"u": User(pool_size=1)},
)
NEW = Config(
    settings=Settings(listen_port=7000),
    databases={"a": Database(host=("x", "y"), password="new"), "come": Database()},
    users={"u": User()},
)


def test_nothing_differs_from_itself() -> None:
    assert diff(OLD, OLD) == ()


def test_every_change_is_told_and_secrets_are_not() -> None:
    assert list(map(str, diff(OLD, NEW))) == [
        "listen_port: 6432 -> 7000 (needs a restart)",
        "pool_mode: session -> transaction",
        "databases.a.host: x -> x,y",
        "databases.a.password: **** -> ****",
        "databases.gone: defined -> not set",
        "databases.come: not set -> defined",
        "users.u.pool_size: 1 -> not set",
    ]


def test_what_needs_a_restart_stays_as_it_was() -> None:
    config = without_restart(OLD, NEW)
    assert config.settings.listen_port == 6432
    assert config.settings.pool_mode is PoolMode.TRANSACTION
    assert config.databases == NEW.databases
    assert not any(change.restart for change in diff(OLD, config))
