"""Log in to a database as a server connection of a pool would, and say how that went."""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from ..auth import channel_binding
from ..auth.errors import AuthError
from ..auth.log_in_to_server import answer
from ..auth.secrets import Credentials
from ..config.model import Host, PoolSettings, SslMode
from ..protocol import codes, messages
from ..transport.tls_context import TlsError, dialling, read_files, server_side

SSL_REQUEST = (8).to_bytes(4, "big") + codes.SSL_REQUEST.to_bytes(4, "big")
OPTIONAL = (SslMode.ALLOW, SslMode.PREFER)
MESSAGE_MAX = 1 << 20  # a server's greeting is a few hundred bytes
SECONDS = 15.0  # where server_connect_timeout is off


class ReachError(Exception):
    """The server can't be reached or does not let us in; the text says why, in its words if it has any."""


class NoSecret(ReachError):
    """The server wants a proof that the configuration can't give: clients bring it."""


@dataclass(frozen=True)
class Reached:
    """A login that worked."""

    version: str
    tls: str
    milliseconds: float


def login(pool: PoolSettings, host: Host, user: str, credentials: Credentials) -> Reached:
    """Log in and leave. Raises ReachError, or NoSecret."""
    began = time.monotonic()
    try:
        with closing(_Connection(pool, host)) as connection:
            connection.secure(pool, host)
            version = connection.log_in(pool, user, credentials)
            connection.socket.sendall(messages.message(codes.TERMINATE, b""))
            return Reached(version, connection.tls, (time.monotonic() - began) * 1000)
    except OSError as error:
        raise ReachError(_reason(error)) from error


def try_tls(pool: PoolSettings, host: Host) -> None:
    """See that a PostgreSQL server answers, without logging in. Raises ReachError."""
    try:
        with closing(_Connection(pool, host)) as connection:
            connection.offers_tls()
    except OSError as error:
        raise ReachError(_reason(error)) from error


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or error}"
    return error.strerror or str(error)


class _Connection:
    """A blocking connection to one server; every wait is bounded by server_connect_timeout."""

    def __init__(self, pool: PoolSettings, host: Host) -> None:
        seconds = pool.server_connect_timeout or SECONDS
        self.socket = _connected(host, seconds)
        self.binding: bytes | None = None
        self.tls = ""
        self._had = b""

    def close(self) -> None:
        self.socket.close()

    def offers_tls(self) -> bool:
        """Ask for TLS; any proper answer shows that PostgreSQL is there."""
        self.socket.sendall(SSL_REQUEST)
        match self.socket.recv(1):
            case b"S" | b"N" as answer:
                return answer == b"S"
            case b"":
                raise ReachError("it closes the connection")
            case _:
                raise ReachError("this is no PostgreSQL server")

    def secure(self, pool: PoolSettings, host: Host) -> None:
        """Speak TLS where the settings want it."""
        mode = SslMode.DISABLE if host.is_unix else pool.server_tls_sslmode
        files = dataclasses.replace(server_side(pool), mode=mode.value)
        try:
            settings = dialling(files, read_files(files))
        except TlsError as error:
            raise ReachError(str(error)) from error
        if settings is None:
            return
        if not self.offers_tls():
            if mode not in OPTIONAL:
                raise ReachError("server does not support SSL, but SSL was required")
            return
        tls = settings.context(host.host).wrap_socket(self.socket, server_hostname=host.host)
        settings.check(tls, host.host)
        self.socket = tls
        self.tls = tls.version() or ""
        certificate = tls.getpeercert(binary_form=True)
        self.binding = channel_binding.end_point(certificate) if certificate else None

    def log_in(self, pool: PoolSettings, user: str, credentials: Credentials) -> str:
        """Start a session; returns the server's version."""
        parameters = {"user": user, "database": pool.dbname, "application_name": "pglido check"}
        parameters |= pool.startup_parameters
        self.socket.sendall(messages.startup(codes.PROTOCOL_3_0, parameters.items()))
        dialogue = answer(user, credentials, binding=self.binding, rng=os.urandom)
        next(dialogue)
        version = "of unknown version"
        for kind, body in self._messages():
            if kind == codes.AUTHENTICATION and len(body) >= 4:
                try:
                    reply = dialogue.send((int.from_bytes(body[:4], "big"), body[4:]))
                except StopIteration:
                    continue
                except AuthError as error:
                    lacking = NoSecret if error.text.endswith("wrong password type") else ReachError
                    raise lacking(str(error)) from error
                if reply is not None:
                    self.socket.sendall(reply)
            elif kind == codes.ERROR_RESPONSE:
                fields = messages.report_fields(body)
                raise ReachError(f"{fields.get('S', 'ERROR')}: {fields.get('M', 'no text')}")
            elif kind == codes.PARAMETER_STATUS and body.startswith(b"server_version\0"):
                version = body.split(b"\0")[1].decode("utf-8", "replace")
            elif kind == codes.READY_FOR_QUERY:
                return version
        raise ReachError("it closes the connection during login")

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Messages until the server closes."""
        while head := self._exactly(5):
            size = int.from_bytes(head[1:], "big") - 4
            if not 0 <= size <= MESSAGE_MAX:
                raise ReachError("this is no PostgreSQL server: it sends a message of impossible length")
            yield head[0], self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        """The next `count` bytes; fewer only at the end."""
        while len(self._had) < count:
            try:
                data = self.socket.recv(8192)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._had += data
        taken, self._had = self._had[:count], self._had[count:]
        return taken if len(taken) == count else b""


def _connected(host: Host, seconds: float) -> socket.socket:
    if not host.is_unix:
        try:
            return socket.create_connection((host.host, host.port), timeout=seconds)
        except socket.gaierror as error:
            text = f'could not translate host name "{host.host}" to address: {error.strerror}'
            raise ReachError(text) from error
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    try:
        sock.connect(host.socket_path)
    except OSError:
        sock.close()
        raise
    return sock
