"""A raw asyncio client of PostgreSQL, which can leave in the middle of anything."""

import asyncio
import socket
import struct
import time
from collections import deque
from typing import NoReturn

import harness.messages as m
from harness.wire import Message, ServerError


class WentOn(Exception):
    """The connection did not end after a FATAL error."""


class RawClient:
    """One connection. `status` is that of the last ReadyForQuery."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = "I"
        self.key = b""
        self.over = False  # FATAL was said
        self.history: deque[str] = deque(maxlen=250)  # types sent (<) and read (>), shown with a fault

    @classmethod
    async def open(cls, port: int, user: str, database: str) -> "RawClient":
        """Connect and log in."""
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            self.send(m.startup([("user", user), ("database", database)]))
            read, error = await self.reply(1)
            if error:
                raise error
            self.key = next(one.body for one in read if one.kind == "K")
        except BaseException:
            self.cut()
            raise
        return self

    def send(self, data: bytes) -> None:
        """Queue bytes for sending."""
        self.history.append(f" <{_types(data)} ")
        self.writer.write(data)

    async def message(self) -> Message:
        """The next message."""
        header = await self.reader.readexactly(5)
        size = struct.unpack("!i", header[1:])[0]
        return Message(chr(header[0]), await self.reader.readexactly(size - 4))

    async def reply(self, ends: int) -> tuple[list[Message], ServerError | None]:
        """Messages up to the ReadyForQuery number `ends`, and the first error; FATAL and the end raise."""
        read: list[Message] = []
        error: ServerError | None = None
        while ends:
            one = await self.message()
            self.history.append(one.kind)
            read.append(one)
            if one.kind == "Z":
                ends -= 1
                self.status = one.body.decode()
            elif one.kind == "E":
                if one.fields["S"] == "FATAL":
                    await self.end_after(one)
                error = error or ServerError(one.fields)
        return read, error

    async def end_after(self, fatal: Message) -> NoReturn:
        """Nothing may come after FATAL; raises it, or WentOn."""
        self.over = True
        try:
            async with asyncio.timeout(5):
                more = await self.message()
        except (OSError, EOFError):
            raise ServerError(fatal.fields) from None
        except TimeoutError:
            more = None
        name = self.writer.get_extra_info("sockname")
        raise WentOn(f"{time.time():.3f} {name}: {fatal.fields} was followed by {more}")

    async def ask(self, data: bytes, ends: int = 1) -> list[Message]:
        """Send, and read the whole reply; raises its first error after that."""
        self.send(data)
        await self.writer.drain()
        read, error = await self.reply(ends)
        if error:
            raise error
        return read

    def cut(self, *, hard: bool = False) -> None:
        """Close at once, what is queued goes out before if it can; `hard` resets the connection."""
        if hard:
            sock = self.writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


async def cancel(port: int, key: bytes) -> None:
    """Send a CancelRequest for the client that was given this BackendKeyData, and wait until it was taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(m.cancel_request(struct.unpack_from("!i", key)[0], key[4:]))
        await reader.read()
    finally:
        writer.close()


def _types(data: bytes) -> str:
    """The types of what is sent, as far as it is whole."""
    found, at = "", 0
    while at + 5 <= len(data) and data[at]:
        found += chr(data[at])
        at += 1 + struct.unpack_from("!I", data, at + 1)[0]
    return found
