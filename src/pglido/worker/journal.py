"""What the log says of clients that come and go: each has two lines, at a tenth of what a log record costs."""

import logging
from functools import lru_cache
from os import write
from time import time

from .. import log as logs
from ..log import printable, who
from .links import Guest, uuid_of

log = logging.getLogger("pglido.worker")

# Reasons longer than that have something of the client in them.
LONGEST_KNOWN = 64

# What is said of a client that is in, by the minor version of its protocol.
LOGIN = (b"login: protocol 3.0", b"login: protocol 3.1", b"login: protocol 3.2")


def closing(why: str) -> bytes:
    """The beginning of what is said of an end; what may be anybody's invention isn't kept."""
    return _known_closing(why) if len(why) <= LONGEST_KNOWN else _known_closing.__wrapped__(why)


@lru_cache(256)
def _known_closing(why: str) -> bytes:
    return f"closing because: {printable(why)} (age ".encode("utf-8", "backslashreplace")


class Journal:
    """The lines of one worker. `comings`, `goings`: are they wanted?"""

    def __init__(self) -> None:
        self.comings = True
        self.goings = True
        self._moment = 0
        self._stamp = b""
        self._form: object = None

    def came(self, guest: Guest) -> None:
        """A client is in."""
        if self.comings:
            self._write(LOGIN[guest.minor], guest)

    def left(self, guest: Guest, why: str, age: int) -> None:
        """A client's connection ends, after `age` seconds.

        Those that never were in are told of only where something was wrong.
        """
        if self.goings and why and (guest.live is not None or guest.user):
            self._write(closing(why) + b"%ds)" % age, guest)

    def _write(self, text: bytes, guest: Guest) -> None:
        shortcut = logs.shortcut
        if shortcut is None:
            log.info("%s", text.decode(), extra=guest.extra())
            return
        fd, form = shortcut
        now = time()
        moment = int(now * 1000)
        if moment != self._moment or form is not self._form:
            self._moment = moment
            self._form = form
            self._stamp = form.begin(now, "info", "").encode()
        fields = who(guest.user, guest.database) if guest.live is not None else who.__wrapped__(guest.user, "")
        line = (self._stamp, text, b" uuid=", uuid_of(guest.serial).encode(), fields, guest.address.encode(), b"\n")
        try:
            write(fd, b"".join(line))
        except OSError:
            return  # a full disk must not end the pooler
