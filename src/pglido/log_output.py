"""Where log lines go, without ever waiting for whoever reads them.

A reader that stands still must not stop the pooler. A line that the kernel does not take is kept, up to `LIMIT` bytes
per process; beyond, lines are dropped and counted, and as soon as the reader goes on it is told how many.
"""

import contextlib
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from functools import partial

# Bytes. The kernel's buffer of a pipe holds 64 KiB more.
LIMIT = 256 * 1024
# Seconds for what is left at the end.
FAREWELL = 1.0


def _nothing() -> None:
    """There is nothing to end any more."""


class Output:
    """Lines on their way to `send`, which says how many bytes it took and raises BlockingIOError where it took none.

    `dropped` lines are still to be told of, by the line that `confess` makes of their number. `fd` is what `send`
    writes to, and `end` closes it.
    """

    def __init__(
        self, fd: int, send: Callable[[bytes], int], end: Callable[[], None], confess: Callable[[int], bytes]
    ) -> None:
        self.fd = fd
        self.send = send
        self.end = end
        self.confess = confess
        self.dropped = 0
        self._held: deque[bytes] = deque()
        self._size = 0

    def put(self, line: bytes) -> None:
        """Write a line, at once where that is possible."""
        if self._held or self.dropped:
            self.flush()
        if not self._held:
            line = line[self._try(line) :]
        if not line:
            return
        if self._size + len(line) > LIMIT:
            self.dropped += 1
        else:
            self._hold(line)

    def flush(self) -> bool:
        """Write what is held back as far as that is possible now; is all written?"""
        while self._held:
            line = self._held[0]
            took = self._try(line)
            self._size -= took
            if took < len(line):
                self._held[0] = line[took:]
                return False
            self._held.popleft()
        if self.dropped:
            self._tell()
        return not self._held

    def drain(self) -> None:
        """Write what is held back, if somebody reads it before long: for the end of a process."""
        until = time.monotonic() + FAREWELL
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while not self.flush() and (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)

    def close(self) -> int:
        """Write no more; how many lines that were put were not written, and nobody was told. Can be said twice."""
        end, self.end = self.end, _nothing  # the descriptor's number may be another's by then
        end()
        return self.dropped + len(self._held)

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._size += len(line)

    def _tell(self) -> None:
        """Say how many lines were dropped, once that can be said."""
        count = self.dropped
        told = self.confess(count)
        took = self._try(told)
        if self.dropped > count:
            self.dropped = count
        elif took:
            self.dropped = 0
            if took < len(told):
                self._hold(told[took:])

    def _try(self, line: bytes) -> int:
        """How much of it was written; what can't be written at all, as on a full disk, is dropped."""
        try:
            return self.send(line)
        except BlockingIOError:
            return 0
        except OSError:
            self.dropped += 1
            return len(line)


def to_descriptor(fd: int, confess: Callable[[int], bytes]) -> Output:
    """An output to a copy of `fd` that does not block. Raises OSError."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(fd))
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        return Output(sock.fileno(), lambda line: sock.send(line, flags), sock.close, confess)
    own = -1
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        # Opened anew it does not block for us, and stays as it is for all others who have it.
        with contextlib.suppress(OSError):
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if own < 0:
        own = os.dup(fd)
        if not stat.S_ISREG(mode):
            os.set_blocking(own, False)
    return Output(own, partial(os.write, own), partial(os.close, own), confess)


def open_file(path: str | os.PathLike[str]) -> int:
    """A descriptor for the end of a file, which is made if need be. Raises OSError.

    Without O_NONBLOCK a FIFO that nobody reads would keep whoever opens it.
    """
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return os.open(path, how, 0o666)


def to_file(fd: int, confess: Callable[[int], bytes]) -> Output:
    """An output to a descriptor of `open_file`, which it closes."""
    return Output(fd, partial(os.write, fd), partial(os.close, fd), confess)


def open_datagrams(path: str) -> int:
    """A socket that is connected to a Unix socket which takes datagrams (syslog). Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path)
        return sock.detach()


def to_datagrams(fd: int, path: str, confess: Callable[[int], bytes]) -> Output:
    """An output of a line per datagram to a socket of `open_datagrams`; connected again where it was closed."""
    sock = socket.socket(fileno=fd)

    def send(line: bytes) -> int:
        try:
            return sock.send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:
            sock.connect(path)
            return sock.send(line, socket.MSG_DONTWAIT)

    return Output(fd, send, sock.close, confess)
