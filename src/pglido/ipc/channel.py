"""One end of the stream between control and a worker: whole messages with descriptors, over a Unix socket
pair.

Rules: a frame is ``!IB`` (length of the body, number of descriptors), then the body in MessagePack.
Descriptors travel with the first byte of their frame, and the kernel never gives those of two frames at once.
Descriptors given to `post` or `send` belong to the channel, which closes them when they have left; those that
`receive` returns belong to the caller. A receiver that is out of descriptors gets the message with none of them:
that is no fault of the peer's. After an error or end of file the channel is dead for good.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from .messages import Message

In = TypeVar("In")

HEADER = struct.Struct("!IB")
MAX_BODY = 64 << 20  # a configuration of 100,000 databases is some 30 MB
MAX_QUEUED = 256 << 20  # a peer this far behind is stuck, not slow
MAX_FDS = 250  # the kernel passes 253 at most (SCM_MAX_FD)
RECEIVE = 65536


class ChannelClosed(EOFError):
    """The peer closed the channel, or it was closed here."""


class ChannelBroken(Exception):
    """The peer broke the framing, or does not read. A bug on one of the two sides."""


class Channel(Generic[In]):
    """Sends any message; receives those that `decoder` knows. Belongs to the running loop."""

    def __init__(self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[In]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._in_fds: deque[tuple[int, ...]] = deque()  # of each frame that has some; empty where there was no room
        self._out: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued = 0
        self._writing = False
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._dead: Exception | None = None

    def __repr__(self) -> str:
        state = f"dead: {self._dead!r}" if self._dead else f"queued {self._queued}"
        return f"<Channel fd {self._sock.fileno()} {state}>"

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""
        return self._dead is not None

    def post(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send without ever waiting: what the socket does not take is queued. On a dead channel the message
        is dropped.

        The receiving side learns of the end from `receive`; a poster need not.
        """
        if self._dead is not None:
            close_all(fds)
            return
        body = self._encoder.encode(message)
        if len(body) > MAX_BODY or len(fds) > MAX_FDS or self._queued > MAX_QUEUED:
            close_all(fds)
            what = f"{type(message).__name__} of {len(body)} bytes, {self._queued} queued"
            self._die(ChannelBroken(what))
            return
        frame = memoryview(HEADER.pack(len(body), len(fds)) + body)
        self._out.append((frame, tuple(fds)))
        self._queued += len(frame)
        if not self._writing:
            self._flush()

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, and wait until the socket has taken all that is queued. Raises ChannelClosed or
        ChannelBroken. One sender at a time.
        """
        self.post(message, fds)
        if self._dead is None and self._queued:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        if self._dead is not None:
            raise self._dead

    async def receive(self) -> tuple[In, tuple[int, ...]]:
        """The next message and its descriptors, close-on-exec; none where not all of them could be had here (EMFILE).

        Raises ChannelClosed at the end, ChannelBroken on nonsense.
        """
        while True:
            found = self._next()
            if found is not None:
                return found
            if self._dead is not None:
                self._forget()
                raise self._dead
            if not self._read():
                await self._readable()

    def close(self) -> None:
        """Close the socket and all descriptors in transit; what is queued is lost."""
        self._die(ChannelClosed("closed"))
        self._forget()

    # ---- inside

    def _next(self) -> tuple[In, tuple[int, ...]] | None:
        """Take one whole frame off the input, if there is one."""
        if len(self._in) < HEADER.size:
            return None
        length, count = HEADER.unpack_from(self._in)
        if length > MAX_BODY or count > MAX_FDS:
            self._die(ChannelBroken(f"frame of {length} bytes with {count} descriptors"))
            return None
        end = HEADER.size + length
        if len(self._in) < end:
            return None
        if count and (not self._in_fds or len(self._in_fds[0]) not in (0, count)):
            self._die(ChannelBroken("descriptors are missing"))
            return None
        body = bytes(memoryview(self._in)[HEADER.size : end])
        del self._in[:end]
        fds = self._in_fds.popleft() if count else ()
        try:
            return self._decoder.decode(body), fds
        except msgspec.MsgspecError as error:
            close_all(fds)
            self._die(ChannelBroken(f"undecodable message: {error}"))
            return None

    def _read(self) -> bool:
        """Read what is there. False: nothing now."""
        room = socket.CMSG_SPACE(MAX_FDS * 4)
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(RECEIVE, room, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._die(ChannelClosed(f"reading failed: {error}"))
            return True
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            # EMFILE: those that there was room for are of no use without the others.
            close_all(fds)
            self._in_fds.append(())
        elif fds:
            self._in_fds.append(tuple(fds))
        if not data:
            self._die(ChannelClosed("the peer closed"))
        self._in += data
        return True

    async def _readable(self) -> None:
        """Wait until there may be something to read, or the channel died. Safe to cancel."""
        waiter = self._loop.create_future()
        self._reader = waiter
        self._loop.add_reader(self._sock, _set, waiter)
        try:
            await waiter
        finally:
            self._reader = None
            if self._sock.fileno() >= 0:
                self._loop.remove_reader(self._sock)

    def _flush(self) -> None:
        """Send from the queue until it is empty or the socket is full."""
        while self._out:
            frame, fds = self._out[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg([frame], rights, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # What the peer sent before it closed is still there to be read: `receive` reports the end
                # after that.
                self._fail_writing(error)
                return
            close_all(fds)
            self._queued -= sent
            if sent == len(frame):
                self._out.popleft()
            else:
                self._out[0] = (frame[sent:], ())
        self._watch_writing(bool(self._out))
        if not self._out and self._drained is not None:
            _set(self._drained)
            self._drained = None

    def _watch_writing(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._sock, self._flush)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._sock)
        self._writing = wanted

    def _fail_writing(self, error: OSError) -> None:
        while self._read() and self._dead is None:
            pass
        self._die(ChannelClosed(f"writing failed: {error}"))

    def _die(self, reason: Exception) -> None:
        if self._dead is not None:
            return
        self._dead = reason
        if self._writing:
            self._loop.remove_writer(self._sock)
            self._writing = False
        if self._reader is not None:
            self._loop.remove_reader(self._sock)
            _set(self._reader)
        if self._drained is not None:
            _set(self._drained)
            self._drained = None
        for _, fds in self._out:
            close_all(fds)
        self._out.clear()
        self._queued = 0
        if isinstance(reason, ChannelBroken):
            self._forget()
        self._sock.close()

    def _forget(self) -> None:
        """Drop what has been read and not been received."""
        for fds in self._in_fds:
            close_all(fds)
        self._in_fds.clear()
        self._in.clear()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def close_all(fds: Iterable[int]) -> None:
    """Close these descriptors."""
    for fd in fds:
        os.close(fd)
