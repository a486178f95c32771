"""Wait for what has no event to await: bounded polling, free ports, and bytes that the other side has read."""

import itertools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Below the range the kernel takes outgoing ports from, so that a port found free stays free.
_FIRST_PORT, _LAST_PORT = 20000, 31000
_ports = itertools.count(os.getpid() * 97 % (_LAST_PORT - _FIRST_PORT))


def eventually(probe: Callable[[], T], within: float = 10.0, what: str = "") -> T:
    """The first true answer of `probe`, asked over and over for `within` seconds; AssertionError after that."""
    deadline = time.monotonic() + within
    pause = 0.002
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or probe}, last answer {answer!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on; each call gives another."""
    for step in itertools.islice(_ports, 1000):
        port = _FIRST_PORT + step % (_LAST_PORT - _FIRST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def wait_until_read(sock: socket.socket, within: float = 0.2) -> bool:
    """Wait until the peer, a process on this machine, has read all bytes sent over this TCP connection.

    The kernel's table of sockets tells how much the peer has left unread. False when it doesn't read within
    the time: a peer may have reason not to.
    """
    mine, peer = sock.getsockname()[1], sock.getpeername()[1]
    ours = f":{peer:04X}", f":{mine:04X}"  # as the peer's own row has it
    deadline = time.monotonic() + within
    while True:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if local.endswith(ours[0]) and remote.endswith(ours[1]):
                unread = int(queues.split(":")[1], 16)
                break
        else:
            return True
        if not unread:
            return True
        if time.monotonic() > deadline:
            return False
