"""Open a connection to a server: names to addresses, TCP or Unix socket."""

import asyncio
import contextlib
import ipaddress
import os
import random
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from .connection import Link
from .stream import Stream
from .transport import Transport

# What getaddrinfo says when name servers know that there is no such host; all else may be different at once.
NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)


class CannotConnect(ConnectionError):
    """The server can't be reached; the text says where and why."""


@dataclass(frozen=True)
class Keepalive:
    """TCP options of one connection; 0 leaves the kernel's own value. `user_timeout` in ms, `buffer` in bytes."""

    on: bool = True
    idle: int = 0
    interval: int = 0
    count: int = 0
    user_timeout: int = 0
    buffer: int = 0

    def apply(self, sock: socket.socket) -> None:
        """Set them on a TCP socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(self.on))
        for option, value in (
            (socket.TCP_KEEPIDLE, self.idle),
            (socket.TCP_KEEPINTVL, self.interval),
            (socket.TCP_KEEPCNT, self.count),
            (socket.TCP_USER_TIMEOUT, self.user_timeout),
        ):
            if value:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if self.buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer)


@dataclass(frozen=True)
class Address:
    """One address of a server; `name` is what a certificate must be for."""

    family: int
    sockaddr: tuple[str, int] | str
    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


class AddressCache:
    """Names to addresses, remembered for `ttl` seconds, failures for `failure_ttl`."""

    def __init__(self, ttl: float, failure_ttl: float) -> None:
        self.ttl = ttl
        self.failure_ttl = failure_ttl
        self._known: dict[tuple[str, int], tuple[float, list[Address], str]] = {}

    async def find(self, host: str, port: int) -> list[Address]:
        """All addresses of a host, in random order; raises CannotConnect."""
        if host.startswith(("/", "@")):
            path = f"{host.rstrip('/')}/.s.PGSQL.{port}" if host[0] == "/" else f"\0{host[1:]}/.s.PGSQL.{port}"
            return [Address(socket.AF_UNIX, path, host, port)]
        with contextlib.suppress(ValueError):
            version = ipaddress.ip_address(host).version
            return [Address(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port), host, port)]
        until, addresses, problem = self._known.get((host, port), (0.0, [], ""))
        if time.monotonic() >= until:
            try:
                found = await _look_up(host, port)
                addresses = [Address(item[0], (str(item[4][0]), port), host, port) for item in found]
                self._known[host, port] = (time.monotonic() + self.ttl, addresses, "")
                problem = ""
            except OSError as error:
                problem = f'could not translate host name "{host}" to address: {error.strerror}'
                if error.errno in NO_SUCH_NAME:
                    self._known[host, port] = (time.monotonic() + self.failure_ttl, [], problem)
                elif addresses:
                    # No name server answers: where the host was is better than nothing.
                    problem = ""
        if problem:
            raise CannotConnect(problem)
        return random.sample(addresses, len(addresses))

    def forget(self) -> None:
        """Ask anew from now on."""
        self._known.clear()


async def _look_up(host: str, port: int) -> list[Any]:
    """What getaddrinfo says; in a thread that ends.

    In a process with one thread the kernel looks up descriptors without atomic operations: 2 % of a transaction.
    """
    job = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    executor = ThreadPoolExecutor(1, "names")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, job)
    finally:
        executor.shutdown(wait=False)


async def connect(transport: Transport, address: Address, keepalive: Keepalive, make: Callable[[int], Link]) -> Stream:
    """A connected stream; `make` makes the link of a descriptor. Raises CannotConnect."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    link: Link | None = None
    try:
        sock.setblocking(False)
        if address.family != socket.AF_UNIX:
            keepalive.apply(sock)
        problem = sock.connect_ex(address.sockaddr)
        if problem not in (0, 115, 11):  # EINPROGRESS; EAGAIN: the Unix socket's queue is full
            raise CannotConnect(f"could not connect to server {address}: {os.strerror(problem)}")
        if problem == 11:
            raise CannotConnect(f"could not connect to server {address}: its queue of connections is full")
        link = make(sock.fileno())
        transport.add(link)
        stream = Stream(transport, link)
        if problem:
            await stream.wait_writable()
            problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                raise CannotConnect(f"could not connect to server {address}: {os.strerror(problem)}")
        sock.detach()
        transport.collect(link)
        return stream
    except BaseException:
        if link is not None:
            with contextlib.suppress(OSError):
                sock.detach()
            transport.close(link)
        else:
            sock.close()
        raise
