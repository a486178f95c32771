"""A server that is no PostgreSQL: each connection runs a script of the test, which may say whatever it likes."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from . import messages as m
from .proxy import packet

AUTHENTICATION_OK = m.message("R", struct.pack("!i", 0))
READY = m.message("Z", b"I")
PARAMETERS = {
    "server_version": "18.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "application_name": "",
    "is_superuser": "off",
    "session_authorization": "app",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
}


def parameter(name: str, value: str) -> bytes:
    """A ParameterStatus."""
    return m.message("S", m.text(name) + m.text(value))


def key_data(pid: int = 4711, key: bytes = b"abcd") -> bytes:
    """A BackendKeyData."""
    return m.message("K", struct.pack("!i", pid) + key)


def error(severity: str, sqlstate: str, text: str) -> bytes:
    """An ErrorResponse."""
    fields = (("S", severity), ("V", severity), ("C", sqlstate), ("M", text))
    return m.message("E", b"".join(m.text(code + value) for code, value in fields) + b"\0")


def complete(tag: str) -> bytes:
    """A CommandComplete."""
    return m.message("C", m.text(tag))


def row(*values: str) -> bytes:
    """A DataRow."""
    body = struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", len(value.encode())) + value.encode()
    return m.message("D", body)


def columns(*names: str) -> bytes:
    """A RowDescription of text columns."""
    body = struct.pack("!h", len(names))
    for name in names:
        body += m.text(name) + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
    return m.message("T", body)


# The answer to the pooler's own question what functions there are: six columns of no interest, and none.
NONE = '{"names": null, "vague": null, "counts": null, "settings": null, "triggers": false}'
NO_FUNCTIONS = row(b"null".hex(), *["f"] * 3, *[b"null".hex()] * 2, NONE.encode().hex())

WELCOME = AUTHENTICATION_OK + b"".join(parameter(*pair) for pair in PARAMETERS.items()) + key_data() + READY


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number

    def send(self, *parts: bytes) -> None:
        """Say something."""
        self.sock.sendall(b"".join(parts))

    def startup(self) -> bytes:
        """The StartupMessage; asks for TLS and GSS are refused. Empty for a CancelRequest or an early end."""
        while (first := packet(self.sock)) in (m.SSL_REQUEST, m.GSSENC_REQUEST):
            self.send(b"N")
        return b"" if first[4:8] == struct.pack("!i", 80877102) else first

    def message(self) -> tuple[str, bytes]:
        """The next message of the pooler; ("", b"") when it closed.

        What functions there are is answered: none. What sessions begin with is not told.
        """
        while kind := self.sock.recv(1):
            body = packet(self.sock)[4:]
            if kind != b"Q" or b"pg_db_role_setting" not in body:
                return kind.decode("latin-1"), body
            self.send(NO_FUNCTIONS if b"pg_proc" in body else b"", READY)
        return "", b""

    def until(self, kinds: str) -> str:
        """Read until a message of one of these types; returns its type, or "" at the end."""
        while True:
            kind, _ = self.message()
            if not kind or kind in kinds:
                return kind

    def welcome(self) -> bool:
        """Go through a login without a password; False if it was none."""
        if not self.startup():
            return False
        self.send(WELCOME)
        return True

    def serve(self) -> None:
        """Answer every query with one row, `fake`, until the pooler leaves."""
        while kind := self.until("QS"):
            if kind == "Q":
                self.send(columns("fake"), row("fake"), complete("SELECT 1"))
            self.send(READY)


class FakeServer:
    """Listens on `port` of 127.0.0.1 and runs `script` for each connection; use in a `with` block."""

    def __init__(self, script: Callable[[Peer], None]) -> None:
        self.script = script
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[Peer] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in list(self._open):
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _await_turn(self) -> None:
        """Called before each connection is accepted; one that is not there keeps them waiting."""

    def _accept(self) -> None:
        while True:
            self._await_turn()
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._start(self._talk, sock, self.accepted)

    def _talk(self, sock: socket.socket, number: int) -> None:
        peer = Peer(sock, number)
        self._open.add(peer)
        with contextlib.suppress(OSError), sock:
            self.script(peer)
        peer.sock.close()
        self._open.discard(peer)
