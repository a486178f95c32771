"""One admin client: speaks PostgreSQL's simple and extended protocol over the stream that a worker relays."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ..ipc.messages import Console
from ..protocol.errors import PgError, ProtocolViolation
from ..protocol.messages import (
    AUTHENTICATION_OK,
    READY_IDLE,
    backend_key_data,
    error,
    notice,
    parameter_status,
)
from ..protocol.responder import (
    Answer,
    Answered,
    Event,
    Failed,
    Fill,
    FunctionCall,
    Prepare,
    Reply,
    Responder,
    Rules,
    Run,
    Terminated,
)
from .commands import WELCOME, CommandError, ConsoleCommand, Result, filled, prepare, split
from .control_api import REFUSED, ControlApi

log = logging.getLogger("pglido.control")

# Nobody types messages of more than 64 kB. A portal keeps the rows of its command.
RULES = Rules(longest=1 << 16, statements=100, portals=10, place="on the console", split=split)
# Seconds that a client which must go has for taking its last message.
FAREWELL = 5.0
# Bytes that are read at a time.
READ_SIZE = 1 << 16


class CancelKey(NamedTuple):
    """What a CancelRequest to a console names; see `ipc.cancel_key`."""

    number: int
    secret: bytes


async def serve(
    control: ControlApi, client: Console, sock: socket.socket, key: CancelKey, sessions: dict[int, Session]
) -> None:
    """Talk to one client until it or the pooler goes; meanwhile it is in `sessions`, by the number of its key."""
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock)
    session = sessions[key.number] = Session(control, client, reader, writer, key)
    extra = session.extra
    log.info("console: login%s", " as admin" if client.admin else "", extra=extra)
    try:
        await session.run()
    except ConnectionError:
        pass
    finally:
        del sessions[key.number]
        session.settle()
        log.info("console: closed", extra=extra)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def refuse(client: Console, sock: socket.socket, sqlstate: str, text: str) -> None:
    """Refuse a console client: send it a FATAL error, and close."""
    with sock, suppress(OSError):
        sock.setblocking(False)
        sock.send(error("FATAL", sqlstate, text, f"client {client.uuid}"))


class Session:
    """One console client. Each message is answered, and the answer written, before the next one is looked at."""

    def __init__(
        self,
        control: ControlApi,
        client: Console,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: CancelKey,
    ) -> None:
        self._control = control
        self._client = client
        self._reader = reader
        self._writer = writer
        self._responder: Responder[ConsoleCommand | str] = Responder(RULES)
        self._afterwards: list[Callable[[], None]] = []
        self.extra = {
            "uuid": client.uuid,
            "user": client.user,
            "database": client.database,
            "address": client.address,
        }
        self.key = key
        self._ahead = b""
        self._waiting: asyncio.Task[Result] | None = None

    def cancel(self) -> None:
        """Break off what waits for something that clients do."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> None:
        """Greet the client, and answer it until it disconnects."""
        try:
            await self._converse()
        except ProtocolViolation as violation:
            await self._fatal(violation)

    async def _converse(self) -> None:
        self._welcome()
        while True:
            event = self._responder.next()
            if event is None:
                data, self._ahead = self._ahead or await self._reader.read(READ_SIZE), b""
                if not data:
                    return
                self._responder.feed(data)
                continue
            while not isinstance(event, Answered):
                if isinstance(event, Terminated):
                    return
                event = self._responder.reply(await self._reply(event))
            await self._rest()
            if event.ends:
                self.settle()

    def _welcome(self) -> None:
        name = self._client.startup.get("application_name", "")
        settings = {**WELCOME, "application_name": name, "session_authorization": self._client.user}
        self._writer.write(
            AUTHENTICATION_OK
            + b"".join([parameter_status(name, value) for name, value in settings.items()])
            + backend_key_data(*self.key)
            + READY_IDLE
        )

    async def _rest(self) -> None:
        """Send what was made; wait until the client has taken it, and let other tasks run."""
        self._writer.write(self._responder.taken())
        await self._writer.drain()
        await asyncio.sleep(0)

    def settle(self) -> None:
        """Do what commands have left for after their answer (SHUTDOWN); also if the client is gone."""
        while self._afterwards:
            self._afterwards.pop(0)()

    async def _reply(self, event: Event[ConsoleCommand | str]) -> Reply[ConsoleCommand | str]:
        """The reply to an event of the responder."""
        try:
            match event:
                case Prepare():
                    await self._rest()
                    return prepare(event, self._client.admin)
                case Fill(statement, values):
                    return filled(statement, values, self._client.admin)
                case Run(statement):
                    assert isinstance(statement.meaning, ConsoleCommand)
                    return await self._run(statement.meaning)
                case FunctionCall():
                    raise CommandError(REFUSED, "function calls are not supported on the console")
                case Failed(problem):
                    return PgError(problem.sqlstate, problem.text, f"client {self._client.uuid}", problem.hint)
        except CommandError as problem:
            return problem
        return None

    async def _run(self, command: ConsoleCommand) -> Answer:
        if command.action:
            log.info("console: %s", command.action, extra=self.extra)
        result = await (self._breakable(command) if command.waits else command.run(self._control))
        for one in result.notices:
            self._responder.tell(notice(one.message, one.detail))
        if result.afterwards is not None:
            self._afterwards.append(result.afterwards)
        return Answer(result.tag, result.rows, status=result.status)

    async def _breakable(self, command: ConsoleCommand) -> Result:
        """What comes of a command, unless the client cancels it, or leaves."""
        running = self._waiting = asyncio.ensure_future(command.run(self._control))
        leaving = asyncio.ensure_future(self._leaves())
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting = None
            running.cancel()
            leaving.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)
        if running.cancelled():
            log.info("console: broken off: %s", command.action, extra=self.extra)
            raise CommandError("57014", "canceling statement due to user request")
        return running.result()

    async def _leaves(self) -> None:
        """Returns when the client has hung up; some of what it says meanwhile is read ahead."""
        while len(self._ahead) < READ_SIZE:
            data = await self._reader.read(READ_SIZE)
            if not data:
                return
            self._ahead += data
        await asyncio.Event().wait()

    async def _fatal(self, violation: ProtocolViolation) -> None:
        """Say what was wrong, and read on until the other end has closed.

        A socket that is closed with bytes unread makes the worker's next write fail, and what was said is lost.
        """
        last = error("FATAL", violation.sqlstate, violation.text, f"client {self._client.uuid}")
        self._writer.write(self._responder.taken() + last)
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                while await self._reader.read(READ_SIZE):
                    pass
