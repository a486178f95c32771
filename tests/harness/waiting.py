"""Wait for what has no event to await: bounded polling, free ports, and bytes that the other side has read."""

import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

T = TypeVar("T")

# Below the range the kernel takes outgoing ports from, so that a port found free stays free.
_FIRST_PORT, _BLOCKS, _BLOCK = 20000, 48, 250


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


@cache
def _ports() -> tuple[Iterator[int], socket.socket]:
    """Ports, over and over, that no other test process takes; and the lock that says so for as long as it is open.

    The lock is a socket with a name in the abstract namespace: the kernel drops it with its process.
    """
    for block in range(_BLOCKS):
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0pglido-test-ports-{block}")
        except OSError:
            lock.close()
            continue
        first = _FIRST_PORT + block * _BLOCK
        return itertools.cycle(range(first, first + _BLOCK)), lock
    raise AssertionError("too many test processes at a time")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on; each call of any test process gives another."""
    ports, _ = _ports()
    for port in itertools.islice(ports, _BLOCK):
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

    The kernel tells how much the peer has left unread. False when it doesn't read within the time: a peer may
    have reason not to.
    """
    try:
        mine, peer = sock.getsockname()[1], sock.getpeername()[1]
    except OSError:
        return True  # closed by the peer
    deadline = time.monotonic() + within
    while _unread(peer, mine):
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


# sock_diag(7): the request for one socket, and where its receive queue is in the answer.
_DIAG_REQUEST = struct.Struct("=IHHII BBBBI 2s2s 16s16s I 8s")
_DIAG_ANSWER_QUEUE = 16 + 4 + 48 + 4
_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR, _NETLINK_SOCK_DIAG = 20, 1, 2, 4
_HERE = socket.inet_aton("127.0.0.1").ljust(16, b"\0")


def _unread(local: int, remote: int) -> int:
    """Bytes received but not read on the socket of 127.0.0.1:`local` whose peer is 127.0.0.1:`remote`."""
    request = _DIAG_REQUEST.pack(
        *(_DIAG_REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0),
        *(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF),
        *(struct.pack("!H", local), struct.pack("!H", remote), _HERE, _HERE, 0, b"\xff" * 8),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
        diag.send(request)
        answer = diag.recv(8192)
    if struct.unpack_from("=IH", answer)[1] == _NLMSG_ERROR:
        error = -struct.unpack_from("=i", answer, 16)[0]
        assert error == errno.ENOENT, os.strerror(error)
        return 0  # closed
    return int(struct.unpack_from("=I", answer, _DIAG_ANSWER_QUEUE)[0])
