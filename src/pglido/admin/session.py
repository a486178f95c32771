"""One admin client: speaks PostgreSQL's simple and extended protocol over the stream that a worker relays."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from ..ipc.messages import Console
from ..protocol import codes
from ..protocol.errors import ProtocolViolation
from ..protocol.messages import (
    AUTHENTICATION_OK,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    backend_key_data,
    error,
    notice,
    parameter_status,
)
from . import rows as _rows
from .columns import Rows
from .commands import REFUSED, WELCOME, Command, CommandError, Result, fill, parameters, plain, split, understand
from .control_api import ControlApi

log = logging.getLogger("pglido.control")

# What one client may keep at once; a portal has the rows of its command.
STATEMENTS = 100
PORTALS = 10
# Seconds that a client which must go has for taking its last message.
FAREWELL = 5.0
# Bytes of what it still sends that are read at a time.
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
    except (ConnectionError, asyncio.IncompleteReadError):
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


@dataclass
class ConsoleStatement:
    sql: str
    types: tuple[int, ...]
    command: Command | None  # None: the empty query, or one that its parameters make whole


@dataclass
class Portal:
    sql: str
    command: Command | None
    formats: Sequence[int]
    tag: str = ""
    rows: Rows = ()
    sent: int = 0
    ran: bool = False


class Session:
    """The state of one console: prepared statements, portals, and what has not been flushed yet."""

    def __init__(
        self, control: ControlApi, client: Console, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._control = control
        self._client = client
        self._reader = reader
        self._writer = writer
        self._status = "I"
        self._failed = False  # an error in the extended protocol: everything up to Sync is skipped
        self._statements: dict[str, ConsoleStatement] = {}
        self._portals: dict[str, Portal] = {}
        self._afterwards: list[Callable[[], None]] = []

    async def run(self) -> None:
        """From the welcome to the end of the stream."""
        try:
            await self._converse()
        except ProtocolViolation as violation:
            await self._fatal(violation)

    async def _converse(self) -> None:
        self._welcome()
        await self._writer.drain()
        while True:
            kind = (await self._reader.readexactly(1))[0]
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if not 4 <= size <= _rows.MAX_MESSAGE:
                raise ProtocolViolation(f"invalid message length {size}")
            body = await self._reader.readexactly(size - 4)
            if kind == codes.TERMINATE:
                return
            action = self.ACTIONS.get(kind)
            if action is None:
                raise ProtocolViolation(f"invalid frontend message type {kind}")
            await self._do(kind, action, body)

    def _welcome(self) -> None:
        name = self._client.startup.get("application_name", "")
        settings = {**WELCOME, "application_name": name, "session_authorization": self._client.user}
        # The index of no worker is in the number, so a CancelRequest with it goes nowhere.
        key = secrets.token_bytes(32 if self._client.protocol >= codes.PROTOCOL_3_2 else 4)
        self._send(
            AUTHENTICATION_OK,
            *(parameter_status(key, value) for key, value in settings.items()),
            backend_key_data(secrets.randbelow(1 << 23), key),
            _rows.ready("I"),
        )

    async def _do(self, kind: int, action: Callable[[Session, bytes], Awaitable[None]], body: bytes) -> None:
        if self._failed and kind != codes.SYNC:
            return
        try:
            await action(self, body)
        except CommandError as problem:
            self._error("ERROR", problem.sqlstate, str(problem), problem.hint)
            if kind == codes.QUERY:
                self._send(_rows.ready(self._status))
            else:
                self._failed = True
        await self._rest()
        if kind in (codes.QUERY, codes.SYNC, codes.FLUSH) or self._failed:
            self.settle()

    async def _rest(self) -> None:
        """Wait until the client has taken what it got, and let others do something."""
        await self._writer.drain()
        await asyncio.sleep(0)

    def settle(self) -> None:
        """Do what was ordered for the time after the answer; also when the client is gone."""
        while self._afterwards:
            self._afterwards.pop(0)()

    # ---- simple protocol

    async def _query(self, body: bytes) -> None:
        statements = split(_rows.read_query(body))
        if not statements:
            self._send(_rows.EMPTY_QUERY_RESPONSE)
        for sql in statements:
            await self._rest()
            command = understand(sql, self._client.admin)
            result = await self._run(command)
            if command.columns is not None:
                self._send(_rows.row_description(command.columns))
                self._send(*(_rows.data_row(command.columns, row) for row in result.rows))
            self._send(_rows.command_complete(result.tag))
        self._send(_rows.ready(self._status))

    async def _run(self, command: Command) -> Result:
        result = await command.run(self._control)
        for one in result.notices:
            self._send(notice(one.message, one.detail))
        if result.status:
            self._status = result.status
        if result.afterwards is not None:
            self._afterwards.append(result.afterwards)
        return result

    # ---- extended protocol

    async def _parse(self, body: bytes) -> None:
        found = _rows.read_parse(body)
        if found.name and found.name in self._statements:
            raise CommandError("42P05", f'prepared statement "{found.name}" already exists')
        sql = plain(found.sql)
        if ";" in sql:
            raise CommandError("42601", "cannot insert multiple commands into a prepared statement")
        count = parameters(sql)
        if count > 100:
            raise CommandError("42P02", f"there is no parameter ${count}")
        types = (*found.types, *(0,) * (count - len(found.types)))
        _bounded(self._statements, found.name, STATEMENTS, "prepared statements")
        command = None if count or not sql else understand(sql, self._client.admin)
        self._statements[found.name] = ConsoleStatement(sql, types, command)
        self._send(PARSE_COMPLETE)

    async def _bind(self, body: bytes) -> None:
        found = _rows.read_bind(body)
        prepared = self._statements.get(found.statement)
        if prepared is None:
            raise CommandError("26000", f'prepared statement "{found.statement}" does not exist')
        if len(found.values) != len(prepared.types):
            raise CommandError(
                REFUSED,
                f"bind message supplies {len(found.values)} parameters,"
                f' but prepared statement "{found.statement}" requires {len(prepared.types)}'
            )
        command, sql = prepared.command, prepared.sql
        if found.values and sql:
            sql = fill(
                sql, [None if value is None else value.decode(errors="replace") for value in found.values]
            )
            command = understand(sql, self._client.admin)
        if command is not None and command.columns is not None:
            for number in range(len(command.columns)):
                _rows.format_of(found.result_formats, number)
        _bounded(self._portals, found.portal, PORTALS, "portals")
        self._portals[found.portal] = Portal(sql, command, found.result_formats)
        self._send(_rows.BIND_COMPLETE)

    async def _describe(self, body: bytes) -> None:
        target = _rows.read_target(body)
        formats: Sequence[int] = ()
        if target.kind == "S":
            prepared = self._statements.get(target.name)
            if prepared is None:
                raise CommandError("26000", f'prepared statement "{target.name}" does not exist')
            self._send(_rows.parameter_description(prepared.types))
            command = prepared.command
        else:
            portal = self._portal(target.name)
            command, formats = portal.command, portal.formats
        if command is None or command.columns is None:
            self._send(_rows.NO_DATA)
        else:
            self._send(_rows.row_description(command.columns, formats))

    async def _execute(self, body: bytes) -> None:
        wanted = _rows.read_execute(body)
        portal = self._portal(wanted.portal)
        if portal.command is None:
            self._send(_rows.EMPTY_QUERY_RESPONSE)
            return
        if not portal.ran:
            result = await self._run(portal.command)
            portal.tag, portal.rows, portal.ran = result.tag, result.rows, True
        end = portal.sent + wanted.limit if wanted.limit > 0 else len(portal.rows)
        columns = portal.command.columns or ()
        self._send(
            *(_rows.data_row(columns, row, portal.formats) for row in portal.rows[portal.sent : end])
        )
        portal.sent = min(end, len(portal.rows))
        if portal.sent < len(portal.rows):
            self._send(_rows.PORTAL_SUSPENDED)
        else:
            self._send(_rows.command_complete(portal.tag))

    async def _close(self, body: bytes) -> None:
        target = _rows.read_target(body)
        if target.kind == "S":
            self._statements.pop(target.name, None)
        else:
            self._portals.pop(target.name, None)
        self._send(CLOSE_COMPLETE)

    async def _sync(self, body: bytes) -> None:
        self._failed = False
        if self._status == "I":
            self._portals.clear()
        self._send(_rows.ready(self._status))

    async def _flush(self, body: bytes) -> None:
        """Everything has been written already; `_do` waits until it is taken."""

    def _portal(self, name: str) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise CommandError("34000", f'portal "{name}" does not exist')
        return portal

    # ---- out

    def _send(self, *messages: bytes) -> None:
        self._writer.write(b"".join(messages))

    def _error(self, severity: str, sqlstate: str, text: str, hint: str = "") -> None:
        self._send(error(severity, sqlstate, text, f"client {self._client.uuid}", hint))

    async def _fatal(self, violation: ProtocolViolation) -> None:
        """Say what was wrong, and read on until the other end has closed.

        A socket that is closed with bytes unread makes the worker's next write fail, and what was said is lost.
        """
        self._error("FATAL", violation.sqlstate, violation.text)
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                while await self._reader.read(READ_SIZE):
                    pass

    ACTIONS: ClassVar[dict[int, Callable[[Session, bytes], Awaitable[None]]]] = {
        codes.QUERY: _query,
        codes.PARSE: _parse,
        codes.BIND: _bind,
        codes.DESCRIBE: _describe,
        codes.EXECUTE: _execute,
        codes.CLOSE: _close,
        codes.SYNC: _sync,
        codes.FLUSH: _flush,
    }


def _bounded(kept: Mapping[str, object], name: str, most: int, what: str) -> None:
    """Raises CommandError where one more of them is one too many."""
    if len(kept) >= most and name not in kept:
        raise CommandError("53400", f"too many {what} (at most {most} on the console)")
