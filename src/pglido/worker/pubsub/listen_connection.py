"""One server connection that listens: opened again when lost, asked one thing at a time, its messages taken apart.

Rules:
1. It belongs to no pool: it has a slot of its own, and needs no lease.
2. One query is under way at a time; `Hub.answered` is told of its end. An empty query now and then shows that the
   server is still there.
3. Whoever closes the connection, and why ever, the hub is told: by the link's waiter.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, Protocol

from ...auth.errors import LoginRefused
from ...pooling.outage import Outage, last_error
from ...pooling.pool import ServerSlot
from ...pooling.states import BUSY
from ...protocol import codes, messages
from ...session.server.notification_signature import CHANNEL as SIGNATURES
from ...session.state import parameters as _parameters
from ...transport.connection import Link
from ...transport.transport import Transport
from ..connections import ServerConnection
from ..errors import CannotOpen
from ..pool_runtime import PoolRuntime, startup_params_of
from .senders import Senders

log = logging.getLogger("pglido.worker")

# Seconds of silence after which the server is asked whether it is there (allas does the same).
PING = 60.0
# A notification has up to 8063 bytes (NOTIFY_PAYLOAD_MAX_LENGTH and NAMEDATALEN); an error may be longer.
MESSAGE_LIMIT = 1 << 20

# What clients rely on: names and payloads come in this encoding.
ENCODING = "UTF8"
NAME = "pglido listen"


class ServerHost(Protocol):
    """Who opens and closes servers."""

    transport: Transport

    def spawn(self, job: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a coroutine that reports its own errors."""

    async def log_in(self, runtime: PoolRuntime, slot: ServerSlot) -> ServerConnection:
        """A server that belongs to no pool. Raises LoginRefused, CannotOpen."""

    def close_server(self, server: ServerConnection, why: str) -> None:
        """Close a server connection."""


class Listener(Protocol):
    """Who hears what comes by the connection: the hub. `senders` says who sent it."""

    senders: Senders

    def wanted(self) -> bool:
        """Is a connection needed?"""

    def opened(self) -> None:
        """There is a connection; it listens to nothing yet."""

    def failed(self, problem: str) -> None:
        """It could not be opened, and is tried again."""

    def heard(self, notifications: list[bytes]) -> None:
        """Whole NotificationResponses, that came together."""

    def answered(self, error: str) -> None:
        """The server has done what it was asked for, or refused all of it (`error` not empty)."""

    def lost(self) -> None:
        """The connection is gone."""


class ListenConnection:
    """The connection of `hub`; `outage` tells of attempts to connect that failed."""

    def __init__(self, lifecycle: ServerHost, runtime: PoolRuntime, hub: Listener) -> None:
        self.lifecycle = lifecycle
        self.runtime = runtime
        self.hub = hub
        self.server: ServerConnection | None = None
        self.outage = Outage()
        self._opening: asyncio.Task[None] | None = None
        self._rest = b""
        self._asked = 0.0
        self._heard = 0.0
        self._error = ""
        self._greets = False

    @property
    def ready(self) -> bool:
        """Is it there, and nothing asked of it?"""
        return self.server is not None and not self._asked

    def answers(self, patience: float) -> bool:
        """Is it there, and has it not been silent for so many seconds since it was asked?"""
        silent = self.lifecycle.transport.now - max(self._asked, self._heard) if self._asked else 0.0
        return self.server is not None and silent < patience

    def last_error(self) -> str:
        """Why it is not there; empty where that is not known."""
        return last_error(self.outage.problem)

    def open(self) -> None:
        """See that there is a connection, now or as soon as the server is back."""
        if self.server is None and self._opening is None:
            self._opening = self.lifecycle.spawn(self._open())

    async def _open(self) -> None:
        try:
            while self.hub.wanted():
                slot = self._slot()
                try:
                    self._begin(await self.lifecycle.log_in(self.runtime, slot))
                    return
                except (LoginRefused, CannotOpen) as error:
                    problem = error.sqlstate, str(error)
                now = self.lifecycle.transport.now
                self.outage.failed(slot.born, now, problem, self.runtime.settings.server_login_retry, random.random())
                log.warning("can't listen to the server of %s: %s", "/".join(self.runtime.key), problem[1])
                self.hub.failed(problem[1])
                await asyncio.sleep(self.outage.retry_at - now)
        finally:
            if self._opening is asyncio.current_task():
                self._opening = None
                self.outage.over()

    def _slot(self) -> ServerSlot:
        values = {"client_encoding": ENCODING, "application_name": NAME}
        startup_params = _parameters.intern(values | startup_params_of(self.runtime.settings, _parameters.EMPTY).values)
        slot = ServerSlot(self.runtime.pool, startup_params, self.lifecycle.transport.now)
        slot.state = BUSY
        return slot

    def _begin(self, server: ServerConnection) -> None:
        """Logged in: from now on the transport wakes us."""
        self.server = server
        self.outage.over()
        self._opening = None
        self._rest = b""
        self._asked = 0.0
        self._heard = self.lifecycle.transport.now
        self.lifecycle.transport.collect(server)
        self.hub.opened()
        self._greets = True
        self.ask(b"LISTEN " + SIGNATURES)
        self._news()

    def close(self, why: str) -> None:
        """Close it, or stop trying; the hub knows already."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self.outage.over()
        server, self.server = self.server, None
        if server is not None:
            server.waiter = None
            if not server.eof:
                self.lifecycle.transport.send(server, messages.TERMINATE)
            self.lifecycle.close_server(server, why)

    def ask(self, sql: bytes) -> None:
        """Have the server run `sql`; only while `ready`."""
        assert self.server is not None
        self._error = ""
        self._asked = self.lifecycle.transport.now
        self.lifecycle.transport.send(self.server, messages.message(codes.QUERY, sql + b"\0"))

    def tick(self, now: float) -> None:
        """Time has passed: is the server still there?"""
        limit = self.runtime.settings.server_connect_timeout
        if self.server is None:
            return
        if self._asked and limit and now - max(self._asked, self._heard) > limit:
            self._lost("no answer in time")
        elif not self._asked and now - self._heard > PING:
            self.ask(b"")

    # What comes.

    def _news(self, link: Link | None = None) -> None:
        """The transport's: something came, or the connection is gone."""
        server = self.server
        if server is None:
            return
        data, server.inbox = server.inbox, None
        try:
            if data is not None:
                self._heard = self.lifecycle.transport.now
                self._take(self._rest + data)
        except ValueError as error:
            self._lost(f"it is no PostgreSQL: {error}")
        except Exception:
            log.exception("bug: a listening connection is closed for it")
            self._lost("internal error of the pooler")
        # What was done with it may have been to close it.
        if self.server is not server:
            return
        if server.eof:
            self._lost(self._error or "server conn crashed?")
        else:
            server.waiter = self._news
            self.lifecycle.transport.watch(server)

    def _take(self, data: bytes) -> None:
        """Whole messages go to the hub, the notifications together."""
        at, end = 0, len(data)
        heard: list[bytes] = []
        server = self.server
        while self.server is server and end - at >= 5:
            kind = data[at]
            size = int.from_bytes(data[at + 1 : at + 5], "big")
            if not 4 <= size <= MESSAGE_LIMIT:
                raise ValueError(f"message of {size} bytes")
            stop = at + 1 + size
            if stop > end:
                break
            if kind == codes.NOTIFICATION_RESPONSE:
                heard.append(data[at:stop])
            else:
                if heard:
                    self.hub.heard(heard)
                    heard = []
                self._message(kind, data[at + 5 : stop])
            at = stop
        self._rest = data[at:]
        if heard:
            self.hub.heard(heard)

    def _message(self, kind: int, body: bytes) -> None:
        if kind == codes.READY_FOR_QUERY:
            self._asked = 0.0
            if self._greets:
                self._greets = False
                if not self._error:
                    self.hub.senders.listened()
            self.hub.answered(self._error)
        elif kind == codes.ERROR_RESPONSE:
            fields = messages.report_fields(body)
            self._error = f"{fields.get('M', '')} (SQLSTATE {fields.get('C', '')})"
        elif kind == codes.PARAMETER_STATUS and self.server is not None:
            name, value, *_ = [*body.split(b"\0"), b"", b""]
            self.server.reported[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")

    def _lost(self, why: str) -> None:
        log.warning("the listening connection of %s was lost: %s", "/".join(self.runtime.key), why)
        self.close(why)
        self.hub.lost()
