"""A server process that stands in for a client which is to be cancelled or terminated: what hits it hits the client.

Between two transactions a client has no process, and in one its server may be another's a moment later. So for a client
that wants to cancel or terminate another a connection is opened as which that one's pool logs in, for this alone:
PostgreSQL itself judges who may, and nobody else is hit.

Rules:
1. It belongs to no pool: it has a slot of its own, and needs no lease.
2. One that is to be cancelled sleeps, from before its process id is told until `NAP` is over.
3. It is closed when who wants it is done, or after `NAP`, but not while it sleeps, nor before it has answered something
   else: a signal that was sent before has come then.
"""

import asyncio
from collections.abc import Callable

from ...auth.errors import LoginRefused
from ...pooling.pool import ServerSlot
from ...pooling.states import BUSY
from ...protocol import codes, messages
from ...session.state import parameters as _parameters
from ...transport.stream import Gone, Stream, Unsafe
from ..connections import ClientConnection, ServerConnection
from ..errors import CannotOpen
from ..lifecycle import Lifecycle
from ..pool_runtime import startup_params_of
from ..read_message import read_message

# Seconds for which it stands in at most.
NAP = 10
NAME = "pglido signal"
# COMMIT outside of a transaction is answered by a warning, which PostgreSQL sends at once: then it sleeps.
SLEEP = messages.query(
    f"SET client_min_messages TO notice;SET statement_timeout TO 0;COMMIT;SELECT pg_catalog.pg_sleep({NAP})"
)
# query_canceled, admin_shutdown
CANCELLED, TERMINATED = "57014", "57P01"
LIMIT = 1 << 20


class StandIn:
    """Stands in for `target`; `struck` is called with the SQLSTATE and the body of the error that it was hit by."""

    def __init__(
        self, lifecycle: Lifecycle, target: ClientConnection, struck: Callable[[ClientConnection, str, bytes], None]
    ) -> None:
        self.lifecycle = lifecycle
        self.target = target
        self._struck = struck
        self._server: ServerConnection | None = None
        self._stream: Stream | None = None
        self._sleeps = False
        self._done = False
        self._asked = False
        self._owed = 0

    async def open(self, address: str, sleeps: bool) -> int:
        """The process id, once it sleeps if it is to; 0 where none can be had on the server at this address."""
        runtime = self.target.runtime
        if runtime is None:
            return 0
        values = startup_params_of(runtime.settings, _parameters.EMPTY).values | {"application_name": NAME}
        slot = ServerSlot(runtime.pool, _parameters.intern(values), self.lifecycle.transport.now)
        slot.state = BUSY
        try:
            server = self._server = await self.lifecycle.log_in(runtime, slot)
            if server.address != address:
                self.close()
                return 0
            self.lifecycle.transport.collect(server)
            self._stream = Stream(self.lifecycle.transport, server)
            if sleeps:
                self._stream.send(SLEEP)
            while sleeps and (await read_message(self._stream, LIMIT))[0] != codes.NOTICE_RESPONSE:
                pass
        except (LoginRefused, CannotOpen, Gone, Unsafe):
            self.close()
            return 0
        except BaseException:
            self.close()
            raise
        self._sleeps = sleeps
        self._owed = int(sleeps)
        asyncio.get_running_loop().call_later(NAP, self.done)
        return server.pid

    async def stand(self) -> None:
        """Until it is over: what hits it hits the client."""
        assert self._stream is not None
        try:
            while True:
                kind, body = await read_message(self._stream, LIMIT)
                if kind == codes.ERROR_RESPONSE:
                    sqlstate = messages.report_fields(body).get("C", "")
                    self._sleeps = self._sleeps and sqlstate != CANCELLED
                    self._struck(self.target, sqlstate, body)
                elif kind == codes.READY_FOR_QUERY:
                    self._owed -= 1
                    if self._asked and not self._owed:
                        return
                    if (self._sleeps or self._done) and not self._asked:
                        # It has slept long enough, or is not needed any more.
                        self._sleeps = False
                        self._ask()
        except (Gone, Unsafe):
            return
        finally:
            self.close()

    def done(self) -> None:
        """Who wanted it is done, or time is over."""
        self._done = True
        if not self._sleeps and not self._asked and self._server is not None:
            self._ask()

    def _ask(self) -> None:
        assert self._stream is not None
        self._asked = True
        self._owed += 1
        self._stream.send(messages.EMPTY_QUERY)

    def close(self) -> None:
        """Close the connection, if there is one."""
        server, self._server = self._server, None
        if server is not None:
            server.waiter = None
            if not server.eof:
                self.lifecycle.transport.send(server, messages.TERMINATE)
            self.lifecycle.close_server(server, "it stood in for a client")
