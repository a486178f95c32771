"""`pglido check`: is a configuration right, and can its databases be reached?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..auth import secrets
from ..auth.secrets import Credentials
from ..config.errors import ConfigError
from ..config.model import Config, Host, PoolSettings
from ..control.reload import Loaded, read
from .reach import NoSecret, ReachError, login, try_tls

TRIED = 5  # users of whom one must get in, where a database names none


class Login(NamedTuple):
    """A user to try a login as."""

    user: str
    credentials: Credentials


def run(file: Path, *, connect: bool) -> int:
    """Check, print what was found, and return the exit status: 0 right, 1 not."""
    try:
        loaded = read(str(file))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    for warning in loaded.config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    databases, users = len(loaded.config.databases), len(loaded.users)
    print(f"{file}: right ({_count(databases, 'database')}, {_count(users, 'user')})")
    if not connect:
        return 0
    failed = False
    for line, works in tries(loaded):
        print(line, flush=True)
        failed |= not works
    return int(failed)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def tries(loaded: Loaded) -> Iterator[tuple[str, bool]]:
    """Try every host of every database; gives a line for each, and whether it works."""
    for name in loaded.config.databases:
        logins = list(who(loaded, name))
        pool = _pool(loaded.config, name, logins)
        for host in pool.hosts:
            where = f"{name}: {host.host}" + ("" if host.is_unix else f":{host.port}")
            try:
                yield f"{where}: {_try(loaded.config, name, host, logins)}", True
            except ReachError as error:
                yield f"{where}: {error}", False


def who(loaded: Loaded, name: str) -> Iterator[Login]:
    """Whom to log in as: the user the database names, else the one of auth_query, else those who are known.

    Those whose secret answers every challenge come first. For `*` nobody: any name would do.
    """
    if name == "*":
        return
    config = loaded.config
    pool = _pool(config, name, [])
    if pool.server_user:
        stored = pool.server_password or loaded.users.get(pool.server_user)
        yield Login(pool.server_user, secrets.parse(stored))
        return
    if pool.auth_user:
        yield Login(pool.auth_user, secrets.parse(loaded.users.get(pool.auth_user)))
        return
    known = [Login(user, secrets.parse(stored)) for user, stored in loaded.users.items()]
    known.sort(key=lambda each: not isinstance(each.credentials, secrets.Plain))
    yield from known[:TRIED]


def _pool(config: Config, name: str, logins: list[Login]) -> PoolSettings:
    found = config.pool("template1" if name == "*" else name, logins[0].user if logins else "")
    assert found is not None, "the name is one of its databases"
    return found


def _try(config: Config, name: str, host: Host, logins: list[Login]) -> str:
    """Try all logins at one host; returns the line for the first that works. Raises ReachError if none does.

    Where only clients know the passwords it is enough that a PostgreSQL server answers.
    """
    problems: list[ReachError] = []
    for each in logins:
        pool = _pool(config, name, [each])
        try:
            reached = login(pool, host, each.user, each.credentials)
        except ReachError as error:
            problems.append(error)
            continue
        tls = f", {reached.tls}" if reached.tls else ""
        return f"PostgreSQL {reached.version}, logged in as {each.user}{tls}, {reached.milliseconds:.0f} ms"
    pool = _pool(config, name, logins)
    named = bool(pool.server_user or pool.auth_user)  # its secret can't come from a client
    for each, problem in zip(logins, problems, strict=True):
        if named or not isinstance(problem, NoSecret):
            raise ReachError(f"login as {each.user}: {problem}")
    try_tls(pool, host)
    return "a PostgreSQL server answers; no login tried, as only clients know their passwords"
