# cython: annotation_typing=True
"""Take connections from a listening socket, without a socket object for each. Compiled only (Cython)."""

import os

import cython
from cython.cimports.cpython.unicode import PyUnicode_DecodeASCII
from cython.cimports.libc.errno import EAGAIN, ECONNABORTED, EINTR, errno
from cython.cimports.libc.string import strlen
from cython.cimports.pglido.transport.kernel import (
    AF_INET,
    AF_INET6,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    accept4,
    inet_ntop,
    ntohs,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_storage,
    socklen_t,
)
from cython.cimports.pglido.transport.text_writer import decimal

# Bytes of an address in text (INET6_ADDRSTRLEN), behind which a colon and a port have room, too.
TEXT = 46


def accept(fd: cython.int) -> tuple[int, str] | None:
    """A connection that waits at `fd`: its descriptor, non-blocking, and where it comes from, as "host:port" or "unix".

    None when nobody waits any more. Raises OSError as accept(2) says, where too many files are open for instance.
    """
    peer = cython.declare(sockaddr_storage)
    size = cython.declare(socklen_t)
    text = cython.declare(cython.char[64])
    port: cython.int
    part: cython.int
    at: cython.Py_ssize_t = 0
    got: cython.int = -1
    while got < 0:
        size = cython.sizeof(sockaddr_storage)
        got = accept4(
            fd, cython.cast(cython.pointer(sockaddr), cython.address(peer)), cython.address(size),
            SOCK_NONBLOCK | SOCK_CLOEXEC,
        )  # fmt: skip
        if got < 0 and errno == EAGAIN:
            return None
        if got < 0 and errno not in (EINTR, ECONNABORTED):
            raise OSError(errno, os.strerror(errno))
    v4 = cython.cast(cython.pointer(sockaddr_in), cython.address(peer))
    v6 = cython.cast(cython.pointer(sockaddr_in6), cython.address(peer))
    if peer.ss_family == AF_INET:
        octets = cython.cast(cython.p_uchar, cython.address(v4.sin_addr))
        for part in range(4):
            at += decimal(cython.address(text[at]), octets[part])
            text[at] = 0x2E if part < 3 else 0x3A
            at += 1
        port = ntohs(v4.sin_port)
    elif peer.ss_family == AF_INET6:
        inet_ntop(AF_INET6, cython.address(v6.sin6_addr), text, TEXT)
        at = strlen(text)
        text[at] = 0x3A
        at += 1
        port = ntohs(v6.sin6_port)
    else:
        return got, "unix"
    at += decimal(cython.address(text[at]), port)
    return got, PyUnicode_DecodeASCII(text, at, cython.NULL)
