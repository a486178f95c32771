"""Many clients that log in and then do nothing: `python -m bench.crowd PORT COUNT USER DATABASE`.

Prints `ready` when all are logged in, and ends when its standard input does. On failure the last line on
standard error says why.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
import time
from collections.abc import Sequence

AT_ONCE = 100  # that log in together: fewer than any listen backlog
PER_ADDRESS = 5000  # clients per source address: their ports, and those of the load, must suffice
SECONDS = 120.0
ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT of ip(7): choose the port when connecting
READY = b"Z\0\0\0\x05I"  # ReadyForQuery, idle: the last message of a login


def startup(user: str, database: str) -> bytes:
    """StartupMessage of protocol 3.0."""
    words = b"".join(word.encode() + b"\0" for word in ("user", user, "database", database))
    return struct.pack("!ii", len(words) + 9, 196608) + words + b"\0"


def join(port: int, count: int, message: bytes) -> list[socket.socket]:
    """Log `count` clients in on 127.0.0.1, some at a time. Raises OSError with the server's words."""
    members: list[socket.socket] = []
    deadline = time.monotonic() + SECONDS
    while len(members) < count:
        some = [_begin(port, len(members) + i) for i in range(min(AT_ONCE, count - len(members)))]
        _finish(some, message, deadline)
        members += some
    return members


def _begin(port: int, number: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_IP, ADDRESS_NO_PORT, 1)
    client.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    return client


def _finish(some: list[socket.socket], message: bytes, deadline: float) -> None:
    """Send the message on each and read until it is logged in."""
    read: dict[int, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for client in some:
            selector.register(client, selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("logging in takes too long")
            for key, events in ready:
                member = key.fileobj
                assert isinstance(member, socket.socket)
                if events & selectors.EVENT_WRITE:
                    member.sendall(message)
                    selector.modify(member, selectors.EVENT_READ)
                    continue
                more = member.recv(4096)
                read[key.fd] = read.get(key.fd, b"") + more
                if not more or read[key.fd][:1] == b"E":
                    raise ConnectionError(read[key.fd].decode(errors="replace") or "closed while logging in")
                if read[key.fd].endswith(READY):
                    selector.unregister(member)


def main(arguments: Sequence[str]) -> int:
    """Join, say so, wait for the end of standard input."""
    port, count, user, database = arguments
    try:
        members = join(int(port), int(count), startup(user, database))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print("ready", flush=True)
    sys.stdin.read()
    del members
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
