"""Who the users are, as one worker knows it: stored secrets, and auth_query with its memory.

Rules: time tells nothing of who exists. Where auth_query is asked for names that no file knows, it is asked for all
names: those of the file are remembered and asked for again like the others, though what the file says holds. An answer
is given when a whole number of `TICK` has gone by since the client has spoken, which hides what one question takes
longer than another. A file's names do not depend on who is asked: they wait no longer than `PATIENCE`, and not at all
while nobody answers.

Users who don't exist look like those who do (`auth.decoys`): where auth_query is asked, like the file's and those that
it has answered for so far, in any worker, up to `ipc.MET` of them. auth_user is not counted: its secret is mostly the
only one of its kind.
"""

import asyncio
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import NamedTuple, Protocol

from ...auth.auth_query import NEVER, AuthQueryAnswer, AuthQueryCache, Key, QueryError, read_answer
from ...auth.decoys import ChallengeShape, SecretPopulation, shape_of
from ...auth.scram_server import ScramTerms
from ...auth.secrets import Secret, parse
from ...config.model import AuthType, Config, PoolSettings
from ...ipc import messages as ipc
from ...ipc.shared_counters import SharedCounter
from ...protocol import codes, messages
from ...session.state import parameters as _parameters
from ...transport.stream import Stream
from ...transport.timerfd import Timerfd
from ..connections import ServerConnection
from ..errors import PoolRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime, startup_params_of
from ..servers.queries import Rows, ask, on_server
from .networks import MOST, WaitingByNetwork

log = logging.getLogger("pglido.worker")

# Seconds. A question takes about 0.4 ms, for an existing role some 0.03 ms more.
TICK = 0.002
PATIENCE = 1.0
# What is supposed of users of auth_query as long as none has been met: PostgreSQL's default since version 14.
SUPPOSED = ChallengeShape(4096)


class KnownUser(NamedTuple):
    """A user's name, as it is to be used, and the secret, None where there is no such user, as asked for at `began`."""

    name: str
    secret: Secret | None
    began: float = NEVER


class UserLookup:
    """A question to a server: how many clients wait for the answer, and whether a server has been `asked` already."""

    __slots__ = ("asked", "task", "waiting")

    def __init__(self) -> None:
        self.asked = False
        self.waiting = 0
        self.task: asyncio.Task[AuthQueryAnswer]


class PoolLookup(Protocol):
    """What the configuration in force says of pools, and those that run."""

    def pool_of(self, database: str, user: str) -> PoolSettings | None:
        """What the configuration says of this pair."""

    def runtime(self, settings: PoolSettings) -> PoolRuntime:
        """The running pool of these settings, made now if need be."""


class UserDirectory:
    """Secrets by user name, and the `terms` on which they are asked for where no server is asked.

    `pools` are those whose servers are asked; `post` tells the other workers. `asks`: may there be users that only a
    server knows?
    """

    def __init__(self, lifecycle: Lifecycle, pools: PoolLookup, post: Callable[[ipc.Met], None]) -> None:
        self.lifecycle = lifecycle
        self.pools = pools
        self.post = post
        self.texts: dict[str, str] = {}
        self.terms = self._terms_of_all = ScramTerms(SecretPopulation(), 0, os.urandom, b"")
        self._met: dict[bytes, tuple[int, int]] = {}
        self._file: Counter[ChallengeShape] = Counter()
        self.asks = False
        self.secrets: dict[str, Secret] = {}
        self._ttl = 0.0
        self._hides = False
        self._answers = AuthQueryCache()
        self._asking: dict[Key, UserLookup] = {}
        self._waiting = WaitingByNetwork()
        self._silent: set[tuple[str, str, str]] = set()
        self._changes: tuple[int, ...] = ()
        self._ticks = Timerfd()  # from the beginning: later there may be no descriptor for it

    def adopt(self, config: Config, stored: dict[str, bytes], mock_seed: bytes) -> None:
        """Take a configuration and the secrets of all users that are known without a question."""
        self.texts = {name: secret.decode("utf-8", "surrogateescape") for name, secret in stored.items()}
        self.secrets = {name: parse(text) for name, text in self.texts.items()}
        databases = config.databases.values()
        self.asks = bool(config.settings.auth_user) or any(database.auth_user for database in databases)
        population = SecretPopulation.of(self.secrets.values())
        self.terms = ScramTerms(population, config.settings.scram_iterations, os.urandom, mock_seed)
        asking = {config.settings.auth_user, *(database.auth_user for database in databases)}
        shapes = [shape_of(secret) for name, secret in self.secrets.items() if name not in asking]
        self._file = Counter([shape for shape in shapes if shape is not None])
        self._count()
        self._ttl = config.settings.auth_query_ttl
        # Trust tells openly who exists.
        self._hides = config.settings.auth_type != AuthType.TRUST
        self._answers = AuthQueryCache()
        # Nobody joins a question that was asked under another configuration.
        self._asking.clear()
        self._silent.clear()

    def terms_of(self, pool: PoolSettings | None) -> ScramTerms:
        """On which terms clients of this pool are asked for a proof."""
        return self._terms_of_all if self.asks_for(pool) else self.terms

    def met(self, message: ipc.Met) -> bool:
        """Users of auth_query have secrets that look like this; returns whether that is news."""
        news = message.learn(self._met)
        if news:
            self._count()
        return news

    def _count(self) -> None:
        found = Counter([ChallengeShape(*shape) for shape in self._met.values()]) or Counter([SUPPOSED])
        population = SecretPopulation.counted(self._file + found)
        self._terms_of_all = ScramTerms(population, self.terms.iterations, self.terms.rng, self.terms.seed)

    def _learn(self, key: Key, secret: Secret | None) -> None:
        """Count a secret that auth_query has answered with, in all workers."""
        shape = shape_of(secret)
        if shape is None or key[1] in self.secrets:
            return
        user = blake2b(repr(key).encode("utf-8", "surrogateescape"), digest_size=8).digest()
        message = ipc.Met({user: shape})
        if self.met(message):
            self.post(message)

    def asks_for(self, pool: PoolSettings | None) -> bool:
        """Is auth_query asked for clients of this pool?"""
        return pool is not None and bool(pool.auth_user) and bool(pool.auth_query)

    async def look_up(self, user: str, pool: PoolSettings | None, address: str) -> KnownUser:
        """What is known of `user`, for a client at `address`. Raises PoolRefused when nobody can tell."""
        stored = self.secrets.get(user)
        if pool is None or not self.asks_for(pool) or (stored is not None and not self._hides):
            return KnownUser(user, stored)
        began = time.monotonic()
        key = _key(user, pool)
        self._notice_changes()
        answer = self._answers.get(key, began)
        if answer is None:
            answer = await self._asked(key, pool, stored, began, address)
        return KnownUser(answer.name, answer.secret, began) if stored is None else KnownUser(user, stored, began)

    async def look_again(self, user: str, pool: PoolSettings | None, known: KnownUser, address: str) -> KnownUser:
        """What is known now of `user`, who did not prove what was `known`.

        Where that was remembered it is asked for at once, though not more than once in a while; otherwise, or if nobody
        can tell, it is the same.
        """
        now = time.monotonic()
        if pool is None or not self._answers.doubtful(key := _key(user, pool), known.began, now):
            return known
        stored = self.secrets.get(user)
        try:
            fresh = await self._asked(key, pool, stored, now, address)
        except PoolRefused:
            return known
        return KnownUser(fresh.name, fresh.secret, now) if stored is None else known

    def doubt(self, pool: PoolSettings) -> None:
        """A server has another verifier than the one that a client of this pool proved itself by: ask again."""
        key, now = _key(pool.user, pool), time.monotonic()
        if pool.user not in self.secrets and self._answers.doubtful(key, now, now):
            # It is asked whether or not clients wait.
            self._question(key, pool).waiting += 1

    async def _asked(
        self, key: Key, pool: PoolSettings, stored: Secret | None, began: float, address: str
    ) -> AuthQueryAnswer:
        """The answer to a question of now, which others may have asked already. Raises PoolRefused."""
        if self._waiting.full(address):
            raise PoolRefused("53300", "too many users are being looked up", f"{MOST} clients of this network wait")
        with self._waiting.one(address):
            if stored is None:
                answer = await self._answer(key, pool)
            else:
                answer = await self._pretend(key, pool)
        await self._ticks.at(next_tick(began, time.monotonic()))
        return answer

    async def _answer(self, key: Key, pool: PoolSettings) -> AuthQueryAnswer:
        """What comes of a question, which nobody asks any more when the last client that waits for it has gone."""
        question = self._question(key, pool)
        question.waiting += 1
        try:
            return await asyncio.shield(question.task)
        except asyncio.CancelledError:
            self._left(key, question)
            raise

    def _left(self, key: Key, question: UserLookup) -> None:
        """A client that waited has gone. What a server has been asked already costs least if it is answered."""
        question.waiting -= 1
        if not question.waiting and not question.asked:
            if self._asking.get(key) is question:
                del self._asking[key]
            question.task.cancel()

    async def _pretend(self, key: Key, pool: PoolSettings) -> AuthQueryAnswer:
        """Ask for somebody whose secret is known, as long as others would have to wait."""
        unknown = AuthQueryAnswer(key[1], None)
        if key[0] in self._silent:
            return unknown
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def end(*_: object) -> None:
            if not over.done():
                over.set_result(None)

        question = self._question(key, pool)
        question.waiting += 1
        task = question.task
        task.add_done_callback(end)
        late = loop.call_later(PATIENCE, end)
        try:
            await over
        except asyncio.CancelledError:
            self._left(key, question)
            raise
        finally:
            late.cancel()
            task.remove_done_callback(end)
        if not task.done():
            self._silent.add(key[0])
            return unknown
        return unknown if task.cancelled() or task.exception() else task.result()

    def _question(self, key: Key, pool: PoolSettings) -> UserLookup:
        """Ask, or join who has asked already."""
        question = self._asking.get(key)
        if question is None:
            question = self._asking[key] = UserLookup()
            question.task = asyncio.get_running_loop().create_task(self._ask(key, pool, question))
            question.task.add_done_callback(partial(self._ended, key, question))
        return question

    def _ended(self, key: Key, question: UserLookup, task: "asyncio.Task[AuthQueryAnswer]") -> None:
        if self._asking.get(key) is question:
            del self._asking[key]
        if task.cancelled():
            return
        if task.exception() is not None:
            self._silent.add(key[0])
        else:
            self._silent.discard(key[0])

    def _notice_changes(self) -> None:
        """Forget what is remembered if any worker has seen a secret change, or something be changed by SQL."""
        counters = self.lifecycle.counters
        changes = counters.total(SharedCounter.SECRETS), counters.total(SharedCounter.DOUBTS)
        if changes != self._changes:
            self._changes = changes
            self._answers.clear()
            # Nobody joins a question that was asked before.
            self._asking.clear()

    async def _ask(self, key: Key, pool: PoolSettings, question: UserLookup) -> AuthQueryAnswer:
        """Run auth_query as auth_user, and remember the answer for its time."""
        (database, role, query), user = key
        found = self.pools.pool_of(database, role)
        if found is None:
            raise PoolRefused("08P01", f'auth_dbname "{database}" is not configured')
        answers, ttl, changes = self._answers, self._ttl, self._changes
        now, rows = await self._run(found, query, user, question)
        if isinstance(rows, PoolRefused):
            log.error("auth_query failed: %s (SQLSTATE %s)", rows, rows.sqlstate)
            raise PoolRefused("08P01", "auth_query failed")
        try:
            answer = read_answer(user, rows, rows.width, now, ttl)
        except QueryError as error:
            log.error("%s", error)
            raise PoolRefused("08P01", "auth_query failed") from error
        self._learn(key, answer.secret)
        self._notice_changes()
        if self._changes != changes:
            # It may have been asked before the change.
            return answer
        before = answers.get(key, time.monotonic())
        if before is not None:
            answer = replace(answer, again=now)
            if before.secret != answer.secret:
                # What other workers remember is no better.
                self.lifecycle.counters.add(SharedCounter.SECRETS, 1)
                self._notice_changes()
        answers.put(key, answer, time.monotonic())
        return answer

    async def _run(
        self, settings: PoolSettings, query: str, user: str, question: UserLookup
    ) -> tuple[float, Rows | PoolRefused]:
        """Ask on a connection that no client's settings have touched; when that was, and what came of it."""
        runtime = self.pools.runtime(settings)

        async def asked(server: ServerConnection) -> tuple[float, Rows | PoolRefused]:
            question.asked = True
            session = server.session
            stream = Stream(self.lifecycle.transport, server)
            if session.state.settings is not session.state.home:
                path, turns, tries = _parameters.path(session.state.settings, session.state.home)
                reported: dict[str, str] = {}
                cleaned = await ask(stream, path, reported, turns + tries)
                if isinstance(cleaned, PoolRefused):
                    raise cleaned
                session.state.encoding = reported.get("client_encoding", session.state.encoding)
                session.state.settings = session.state.home
            session.prepared.unnamed = 0
            now = time.monotonic()
            return now, await ask(stream, _query(query, user), {})

        startup_params = startup_params_of(runtime.settings, _parameters.EMPTY)
        return await on_server(self.lifecycle, runtime, startup_params, _parameters.EMPTY, asked)


def _key(user: str, pool: PoolSettings) -> Key:
    return (pool.auth_dbname or pool.database, pool.auth_user, pool.auth_query), user


def next_tick(began: float, now: float) -> float:
    """The first moment after `now` at which a whole number of `TICK` has gone by since `began`."""
    return began + (math.floor((now - began) / TICK) + 1) * TICK


def _query(sql: str, user: str) -> bytes:
    """`sql` with the user's name as `$1`, in the extended protocol: no quoting, no injection."""
    name = user.encode("utf-8", "surrogateescape")
    bind = b"\0\0" + b"\0\0" + b"\0\1" + len(name).to_bytes(4, "big") + name + b"\0\0"
    return (
        messages.parse(b"", sql.encode() + b"\0\0\0")
        + messages.message(codes.BIND, bind)
        + messages.message(codes.DESCRIBE, b"P\0")
        + messages.message(codes.EXECUTE, b"\0\0\0\0\0")
        + messages.SYNC
    )
