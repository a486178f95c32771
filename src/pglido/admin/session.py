"""One admin client: speaks PostgreSQL's simple and extended protocol over the stream that a worker relays."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress

from ..ipc.messages import Console
from ..protocol import codes
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
from .commands import REFUSED, WELCOME, Command, CommandError, filled, prepare, split
from .control_api import ControlApi

log = logging.getLogger("pglido.control")

# Nobody types messages of more than 64 kB. A portal keeps the rows of its command.
RULES = Rules(longest=1 << 16, statements=100, portals=10, place="on the console", split=split)
# Seconds that a client which must go has for taking its last message.
FAREWELL = 5.0
# Bytes that are read at a time.
READ_SIZE = 1 << 16


async def serve(control: ControlApi, client: Console, sock: socket.socket) -> None:
    """Talk to one client until it or the pooler goes."""
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock)
    extra = {"uuid": client.uuid, "user": client.user, "database": client.database, "address": client.address}
    log.info("console: login%s", " as admin" if client.admin else "", extra=extra)
    session = Session(control, client, reader, writer)
    try:
        await session.run()
    except ConnectionError:
        pass
    finally:
        session.settle()
        log.info("console: closed", extra=extra)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def refuse(client: Console, sock: socket.socket, sqlstate: str, text: str) -> None:
    """Tell one client why it is not talked to."""
    with sock, suppress(OSError):
        sock.setblocking(False)
        sock.send(error("FATAL", sqlstate, text, f"client {client.uuid}"))


class Session:
    """The state of one console. What clients say is carried out one by one, and written before more is read."""

    def __init__(
        self, control: ControlApi, client: Console, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._control = control
        self._client = client
        self._reader = reader
        self._writer = writer
        self._responder: Responder[Command | str] = Responder(RULES)
        self._afterwards: list[Callable[[], None]] = []

    async def run(self) -> None:
        """From the welcome to the end of the stream."""
        try:
            await self._converse()
        except ProtocolViolation as violation:
            await self._fatal(violation)

    async def _converse(self) -> None:
        self._welcome()
        while True:
            event = self._responder.next()
            if event is None:
                data = await self._reader.read(READ_SIZE)
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
        # The index of no worker is in the number, so a CancelRequest with it goes nowhere.
        key = secrets.token_bytes(32 if self._client.protocol >= codes.PROTOCOL_3_2 else 4)
        self._writer.write(
            AUTHENTICATION_OK
            + b"".join([parameter_status(name, value) for name, value in settings.items()])
            + backend_key_data(secrets.randbelow(1 << 23), key)
            + READY_IDLE
        )

    async def _rest(self) -> None:
        """Wait until the client has taken what it got, and let others do something."""
        self._writer.write(self._responder.taken())
        await self._writer.drain()
        await asyncio.sleep(0)

    def settle(self) -> None:
        """Do what was ordered for the time after the answer; also when the client is gone."""
        while self._afterwards:
            self._afterwards.pop(0)()

    async def _reply(self, event: Event[Command | str]) -> Reply[Command | str]:
        """What is said to an event of the responder."""
        try:
            match event:
                case Prepare():
                    await self._rest()
                    return prepare(event, self._client.admin)
                case Fill(statement, values):
                    return filled(statement, values, self._client.admin)
                case Run(statement):
                    assert isinstance(statement.meaning, Command)
                    return await self._run(statement.meaning)
                case FunctionCall():
                    raise CommandError(REFUSED, "function calls are not supported on the console")
                case Failed(problem):
                    return PgError(problem.sqlstate, problem.text, f"client {self._client.uuid}", problem.hint)
        except CommandError as problem:
            return problem
        return None

    async def _run(self, command: Command) -> Answer:
        result = await command.run(self._control)
        for one in result.notices:
            self._responder.tell(notice(one.message, one.detail))
        if result.afterwards is not None:
            self._afterwards.append(result.afterwards)
        return Answer(result.tag, result.rows, status=result.status)

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
