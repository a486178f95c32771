"""Log in to a database as a server connection of a pool would, and say how that went."""

from __future__ import annotations

import os
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from ..auth import channel_binding
from ..auth.errors import AuthError, LoginRefused
from ..auth.secrets import Credentials
from ..auth.server_login import (
    Derive,
    NoPostgres,
    NoTls,
    Receive,
    Send,
    ServerGone,
    ServerReport,
    StartTls,
    Talk,
    Tls,
    attempts,
    log_in,
    offers_tls,
    secured,
)
from ..config.model import Host, PoolSettings
from ..protocol.errors import ProtocolViolation
from ..protocol.messages import TERMINATE
from ..transport.tls_context import ServerTls, TlsError, dialling, read_files, server_side

SECONDS = 15.0  # where server_connect_timeout is off

Result = TypeVar("Result")


class ReachError(Exception):
    """The server can't be reached or does not let us in; the text says why, in its words if it has any."""


class NoSecret(ReachError):
    """The server asks for a password that the configuration does not have: only clients know it."""


@dataclass(frozen=True)
class Reached:
    """A login that worked."""

    version: str
    tls: str
    milliseconds: float


def login(pool: PoolSettings, host: Host, user: str, credentials: Credentials) -> Reached:
    """Log in and leave, as a pool's server connections do. Raises ReachError, or NoSecret."""
    began = time.monotonic()
    first, *second = attempts(pool.server_tls_sslmode, unix=host.is_unix)
    try:
        try:
            report, tls = _log_in(pool, host, first, user, credentials)
        except LoginRefused:
            if not second or first is not Tls.OFF:
                raise
            report, tls = _log_in(pool, host, second[0], user, credentials)
        except ssl.SSLError:
            if not second:
                raise
            report, tls = _log_in(pool, host, second[0], user, credentials)
    except LoginRefused as error:
        raise ReachError(f"{error.severity}: {error}") from error
    except OSError as error:
        raise ReachError(_reason(error)) from error
    version = report.parameters.get("server_version", "of unknown version")
    return Reached(version, tls, (time.monotonic() - began) * 1000)


def try_tls(pool: PoolSettings, host: Host) -> None:
    """See that a PostgreSQL server answers, without logging in. Raises ReachError."""
    try:
        with closing(_Connection(pool, host)) as connection:
            connection.carry_out(offers_tls())
    except OSError as error:
        raise ReachError(_reason(error)) from error
    except (ServerGone, NoPostgres) as error:
        raise ReachError(_before_login(error)) from error


def _log_in(pool: PoolSettings, host: Host, tls: Tls, user: str, credentials: Credentials) -> tuple[ServerReport, str]:
    """One attempt: what the server reports, and the version of TLS. Raises OSError, LoginRefused, or ReachError."""
    parameters = {"user": user, "database": pool.dbname, "application_name": "pglido check"}
    parameters |= pool.startup_parameters
    with closing(_Connection(pool, host)) as connection:
        try:
            connection.carry_out(secured(tls))
        except (ServerGone, NoPostgres, NoTls) as error:
            raise ReachError(_before_login(error)) from error
        try:
            talk = log_in(parameters, credentials, binding=connection.binding(), rng=os.urandom)
            report = connection.carry_out(talk)
        except ServerGone as error:
            raise ReachError("it closes the connection during login") from error
        except AuthError as error:
            lacking = NoSecret if error.text.endswith("wrong password type") else ReachError
            raise lacking(str(error)) from error
        except (ProtocolViolation, ValueError) as error:
            raise ReachError(f"this is no PostgreSQL server: {error}") from error
        connection.socket.sendall(TERMINATE)
        return report, connection.tls()


def _before_login(error: ServerGone | NoPostgres | NoTls) -> str:
    match error:
        case ServerGone():
            return "it closes the connection"
        case NoPostgres():
            return "this is no PostgreSQL server"
    return f"server {error}"


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or error}"
    return error.strerror or str(error)


class _Connection:
    """A blocking connection to one server; every wait is bounded by server_connect_timeout."""

    def __init__(self, pool: PoolSettings, host: Host) -> None:
        self._host = host
        self._pool = pool
        self.socket = _connected(host, pool.server_connect_timeout or SECONDS)

    def close(self) -> None:
        self.socket.close()

    def tls(self) -> str:
        """The version of TLS; empty without."""
        return self.socket.version() or "" if isinstance(self.socket, ssl.SSLSocket) else ""

    def binding(self) -> bytes | None:
        """The tls-server-end-point hash of the server's certificate; None without TLS."""
        certificate = self.socket.getpeercert(binary_form=True) if isinstance(self.socket, ssl.SSLSocket) else None
        return channel_binding.end_point(certificate) if certificate else None

    def carry_out(self, talk: Talk[Result]) -> Result:
        """Take the steps of a login. Raises what they raise, OSError and ReachError."""
        reply: bytes | None = None
        while True:
            try:
                step = talk.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            reply = None
            match step:
                case Send(data):
                    self.socket.sendall(data)
                case Receive(size):
                    reply = self._exactly(size)
                case StartTls():
                    self._start_tls()
                case Derive(call):
                    reply = call()

    def _start_tls(self) -> None:
        settings = _contexts(self._pool)
        name = self._host.host
        self.socket = settings.context(name).wrap_socket(self.socket, server_hostname=name)
        settings.check(self.socket, name)

    def _exactly(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        data = b""
        while len(data) < size:
            try:
                more = self.socket.recv(size - len(data))
            except ConnectionResetError:
                break
            if not more:
                break
            data += more
        return data


def _contexts(pool: PoolSettings) -> ServerTls:
    """What TLS with the pool's servers takes. Raises ReachError."""
    files = server_side(pool)
    try:
        settings = dialling(files, read_files(files))
    except TlsError as error:
        raise ReachError(str(error)) from error
    assert settings is not None, "TLS is not off where it was asked for"
    return settings


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
