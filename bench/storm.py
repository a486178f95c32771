"""Waves of clients that log in by SCRAM, ask one thing and leave: `python -m bench.storm PORT COUNT SECONDS NAME`.

NAME is user, password and database. Each wave has COUNT clients at once. They keep the keys that SCRAM derives from the
password, as RFC 5802 lets clients do: so they don't take the processors for 4096 rounds of hashing at each login, as
if they were on other machines.

Prints the seconds that it took, and for each login the microseconds from the beginning of its wave until it was in.
On failure the last line on standard error says why.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Sequence

from pglido.auth import log_in_to_server
from pglido.auth.errors import AuthError
from pglido.auth.secrets import Plain
from pglido.protocol import codes
from pglido.protocol.messages import message

from .crowd import startup

WITHIN = 30.0  # seconds for each step
QUERY = message(codes.QUERY, b"SELECT 1\0")
TERMINATE = message(codes.TERMINATE, b"")
HEAD = struct.Struct("!Bi")  # type and length of a message


class Visitor:
    """A client on its way in."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), WITHIN)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = self.socket.makefile("rb")
        self.login = log_in_to_server.answer(name, Plain(name), binding=None, rng=os.urandom)
        next(self.login)
        self.socket.sendall(startup(name, name))

    def step(self) -> bool:
        """Read a message, answer it; is there more to come? Raises OSError with the pooler's words, AuthError."""
        code: int
        size: int
        code, size = HEAD.unpack(self._read(HEAD.size))
        body = self._read(size - 4)
        if code == codes.ERROR_RESPONSE:
            raise ConnectionError(body.decode(errors="replace"))
        if code == codes.AUTHENTICATION:
            try:
                said = self.login.send((int.from_bytes(body[:4], "big"), body[4:]))
            except StopIteration:
                return True
            if said is not None:
                self.socket.sendall(said)
        return code != codes.READY_FOR_QUERY

    def _read(self, size: int) -> bytes:
        read = self.incoming.read(size)
        if len(read) < size:
            raise ConnectionError("closed while logging in")
        return read

    def leave(self) -> None:
        self.socket.sendall(TERMINATE)
        self.incoming.close()
        self.socket.close()


def wave(port: int, count: int, name: str) -> list[float]:
    """Seconds until each of the clients is in; then each asks for something, and leaves."""
    begin = time.monotonic()
    visitors = [Visitor(port, name) for _ in range(count)]
    waited = []
    waiting = visitors
    while waiting:
        still = [visitor for visitor in waiting if visitor.step()]
        waited += [time.monotonic() - begin] * (len(waiting) - len(still))
        waiting = still
    for visitor in visitors:
        visitor.socket.sendall(QUERY)
    for visitor in visitors:
        while visitor.step():
            pass
        visitor.leave()
    return waited


def main(arguments: Sequence[str]) -> int:
    """Waves for so many seconds; then tell."""
    port, count, seconds, name = arguments
    waited: list[float] = []
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < float(seconds):
            waited += wave(int(port), int(count), name)
    except (OSError, AuthError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(time.monotonic() - begin, *(round(1e6 * one) for one in waited))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
