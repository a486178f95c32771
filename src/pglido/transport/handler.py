# cython: annotation_typing=True
"""What the transport tells of its links. Compiled only (Cython)."""

import cython

from .connection import Link


class Handler:
    """The base of whoever deals with what the links of a transport bring. An exception is a bug: `failed` is told."""

    def data(self, link: Link, buf: cython.p_char, got: cython.Py_ssize_t) -> None:
        """`got` bytes came on a HANDLED link. They are at `buf` until this returns."""
        raise NotImplementedError

    def go_on(self, link: Link) -> None:
        """It is the next round for a link that was put into `Transport.paused`."""
        raise NotImplementedError

    def lost(self, link: Link) -> None:
        """The peer closed the connection, or it broke. Of a link that collects this is told if nobody waits for it."""
        raise NotImplementedError

    def failed(self, link: Link) -> None:
        """An exception was raised while this link was dealt with; it is the one being handled."""
        raise NotImplementedError

    def overlong(self, seconds: cython.double, slowest: Link | None, worst: cython.double, kind: cython.int) -> None:
        """A round took this long, `worst` seconds of it for the link `slowest`, whose `doing` was `kind`.

        Without a link it is what asyncio did between two rounds that took so long.
        """
        raise NotImplementedError
