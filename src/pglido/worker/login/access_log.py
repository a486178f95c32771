# cython: annotation_typing=True
"""What the log says of clients that come and go: each has two lines, at a fiftieth of what a log record costs.

They were a quarter of a login, made of strings. Compiled only (Cython).
"""

import logging

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.unicode import PyUnicode_AsUTF8AndSize
from cython.cimports.pglido.transport.kernel import CLOCK_REALTIME, clock_gettime, timespec
from cython.cimports.pglido.transport.text_writer import append, decimal
from cython.cimports.pglido.worker.connections import UUID_SIZE, put_uuid

from ... import log as logs
from ...log import printable, who
from ..connections import ClientConnection

log = logging.getLogger("pglido.worker")

# Reasons longer than that have something of the client in them; of the others, so many are kept at a time.
LONGEST_KNOWN = 64
KNOWN = 256

# What is said of a client that is in, by the minor version of its protocol.
LOGIN = (b"login: protocol 3.0", b"login: protocol 3.1", b"login: protocol 3.2")
# Where a line has its milliseconds: "2026-01-31 12:00:00.123".
MILLISECONDS = 20
# More than an age and the uuid take, with what stands in front of them.
MORE = 100


class AccessLog:
    """The lines of one worker. `comings`, `goings`: are they wanted?"""

    def __init__(self) -> None:
        self.comings = True
        self.goings = True
        self._second = 0
        self._stamp = b""
        self._form: object = None
        self._closings: dict[str, bytes] = {}

    def came(self, client: ClientConnection) -> None:
        """A client is in."""
        if self.comings:
            self._write(client, LOGIN[client.minor], -1)

    def left(self, client: ClientConnection, why: str, age: cython.longlong) -> None:
        """A client's connection ends, after `age` seconds.

        Those that never were in are told of only where something was wrong.
        """
        if self.goings and why and (client.runtime is not None or client.user):
            self._write(client, self._closing(why), age)

    def _closing(self, why: str) -> bytes:
        """What is said of an end; some are kept, none that is long."""
        text: bytes | None = self._closings.get(why)
        if text is None:
            text = f"closing because: {printable(why)}".encode("utf-8", "backslashreplace")
            if len(why) <= LONGEST_KNOWN:
                if len(self._closings) >= KNOWN:
                    self._closings.clear()
                self._closings[why] = text
        return text

    def _write(self, client: ClientConnection, text: bytes, age: cython.longlong) -> None:
        """Write a line; `age` is below 0 where it has none."""
        now = cython.declare(timespec)
        size: cython.Py_ssize_t = 0
        shortcut = logs.shortcut
        if shortcut is None:
            said: str = text.decode() + (f" (age {age}s)" if age >= 0 else "")
            log.info("%s", said, extra=client.extra())
            return
        form = shortcut[1]
        clock_gettime(CLOCK_REALTIME, cython.address(now))
        if now.tv_sec != self._second or form is not self._form:
            self._second = now.tv_sec
            self._form = form
            self._stamp = form.begin(float(now.tv_sec), "info", "").encode()
        fields: bytes = client.name_for_log() if client.runtime is not None else who.__wrapped__(client.user, "")
        address: cython.p_const_char = PyUnicode_AsUTF8AndSize(client.address, cython.address(size))
        line: bytes = PyBytes_FromStringAndSize(cython.NULL, len(self._stamp) + len(text) + len(fields) + size + MORE)
        begin: cython.p_char = PyBytes_AS_STRING(line)
        end: cython.p_char = append(begin, PyBytes_AS_STRING(self._stamp), len(self._stamp))
        milliseconds: cython.int = now.tv_nsec // 1000000
        begin[MILLISECONDS] = 48 + milliseconds // 100
        begin[MILLISECONDS + 1] = 48 + milliseconds // 10 % 10
        begin[MILLISECONDS + 2] = 48 + milliseconds % 10
        end = append(end, PyBytes_AS_STRING(text), len(text))
        if age >= 0:
            end = append(end, b" (age ", 6)
            end += decimal(end, age)
            end = append(end, b"s)", 2)
        end = append(end, b" uuid=", 6)
        put_uuid(end, client.serial)
        end = append(end + UUID_SIZE, PyBytes_AS_STRING(fields), len(fields))
        end = append(end, address, size)
        end = append(end, b"\n", 1)
        shortcut[0].put(line[: end - begin])
