"""Who the users are, as one worker knows it: stored secrets, and auth_query with its cache."""

import asyncio
import logging
import os
import time
from typing import Any

from ..auth.challenge import Terms
from ..auth.crowd import Crowd
from ..auth.query import Answers, QueryError, secret_of
from ..auth.secrets import Secret, parse
from ..config.model import Config, PoolSettings
from ..io.stream import Stream
from ..session import settings as _settings
from ..wire import codes, messages
from .host import Host, PoolRefused
from .profiles import ask

log = logging.getLogger("pglido.worker")

Key = tuple[str, str]


class People:
    """Secrets by user name, and the `terms` on which they are asked for.

    `asks`: may there be users that only a server knows?
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.texts: dict[str, str] = {}
        self.terms = Terms(Crowd(), 0, os.urandom, b"")
        self.asks = False
        self.secrets: dict[str, Secret] = {}
        self._answers = Answers(0, 0)
        self._asking: dict[Key, asyncio.Task[Secret | None]] = {}

    def adopt(self, config: Config, stored: dict[str, bytes], mock_seed: bytes) -> None:
        """Take a configuration and the secrets of all users that are known without a question."""
        self.texts = {name: secret.decode("utf-8", "surrogateescape") for name, secret in stored.items()}
        self.secrets = {name: parse(text) for name, text in self.texts.items()}
        databases = config.databases.values()
        self.asks = bool(config.settings.auth_user) or any(database.auth_user for database in databases)
        crowd = Crowd.of(self.secrets.values())
        self.terms = Terms(crowd, config.settings.scram_iterations, os.urandom, mock_seed)
        self._answers = Answers(config.settings.auth_query_ttl, config.settings.auth_query_failure_ttl)

    async def secret(self, user: str, pool: PoolSettings | None) -> Secret | None:
        """The secret of `user`, None if there is no such user. Raises PoolRefused when nobody can tell."""
        known = self.secrets.get(user)
        if known is not None or pool is None or not pool.auth_user or not pool.auth_query:
            return known
        key = (pool.auth_dbname or pool.database, user)
        answer = self._answers.get(key, time.monotonic())
        if answer is not None:
            return answer.secret
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.get_running_loop().create_task(self._ask(key, pool))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    def doubt(self, user: str, pool: PoolSettings | None) -> None:
        """A login failed: the cached answer may be out of date."""
        if pool is not None and pool.auth_user:
            self._answers.doubt((pool.auth_dbname or pool.database, user), time.monotonic())

    async def _ask(self, key: Key, pool: PoolSettings) -> Secret | None:
        """Run auth_query as auth_user, on a connection that no client's settings have touched."""
        database, user = key
        host: Any = self.host
        found = host.outside.pool_of(database, pool.auth_user)
        if found is None:
            raise PoolRefused("08P01", f'auth_dbname "{database}" is not configured')
        live = host.outside.live(found)
        backend = await self.host.borrow(live, live.policy.limits.birth, _settings.EMPTY)
        try:
            session = backend.session
            stream = Stream(self.host.pump, backend)
            if session.setup.settings is not session.setup.home:
                query, turns, tries = _settings.path(session.setup.settings, session.setup.home)
                reported: dict[str, str] = {}
                cleaned = await ask(stream, query, reported, turns + tries)
                if isinstance(cleaned, PoolRefused):
                    raise cleaned
                session.setup.encoding = reported.get("client_encoding", session.setup.encoding)
                session.setup.settings = session.setup.home
            session.prepared.unnamed = None
            async with asyncio.timeout(pool.server_connect_timeout or None):
                rows = await ask(stream, _query(pool.auth_query, user), {})
        except TimeoutError as error:
            self.host.close_server(backend, "auth_query took too long")
            raise PoolRefused("08P01", "auth_query failed") from error
        except BaseException:
            self.host.close_server(backend, "auth_query failed")
            raise
        self.host.bring_back(backend)
        if isinstance(rows, PoolRefused):
            log.error("auth_query failed: %s (SQLSTATE %s)", rows, rows.sqlstate)
            raise PoolRefused("08P01", "auth_query failed")
        try:
            secret = secret_of(user, rows)
        except QueryError as error:
            log.error("%s", error)
            raise PoolRefused("08P01", "auth_query failed") from error
        self._answers.put(key, secret, time.monotonic())
        return secret


def _query(sql: str, user: str) -> bytes:
    """`sql` with the user's name as `$1`, in the extended protocol: no quoting, no injection."""
    name = user.encode("utf-8", "surrogateescape")
    bind = b"\0\0" + b"\0\0" + b"\0\1" + len(name).to_bytes(4, "big") + name + b"\0\0"
    return (
        messages.parse(b"", sql.encode() + b"\0\0\0")
        + messages.message(codes.BIND, bind)
        + messages.message(codes.EXECUTE, b"\0\0\0\0\0")
        + messages.SYNC
    )
