"""Whose a notification is: servers say it themselves, by notifications of pglido's own on the channel `CHANNEL`.

PostgreSQL hands out notifications in the order in which their transactions were committed, and those of one transaction
in the order in which they were sent. So a listening connection that has read a signature knows whose all later
notifications of that process are, up to its next signature, whatever has become of the server meanwhile, and whichever
worker it belongs to.

A signature has a number that grows with time, and a digest made with a secret that all workers share: what others send
on this channel, or repeat, is none.
"""

import hmac
import time
from collections.abc import Callable

from ..state.epoch_counter import EpochCounter

CHANNEL = b"_pglido_sender"
# What has to be said where no transaction is open; it changes nothing that must not be lost.
UNHURRIED = b"SET LOCAL synchronous_commit TO off;"
# Hexadecimal digits of the digest.
DIGITS = 32


class NotificationSigner:
    """Makes and reads signatures; `ears` counts how often a listening connection began to read them.

    `clock` gives nanoseconds that all workers count alike.
    """

    __slots__ = ("_clock", "_secret", "ears")

    def __init__(self, secret: bytes, ears: EpochCounter, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._secret = secret
        self._clock = clock
        self.ears = ears

    def heard_by(self) -> int:
        """Another number whenever one more connection reads signatures; 0 where none ever did."""
        return self.ears.count()

    def next(self) -> int:
        """The number of a signature that is made now."""
        return self._clock()

    def sign(self, process: int, number: int, client: int) -> bytes:
        """The statement by which the server `process` says that it works for `client` (0: for nobody).

        A client goes by the process id that it was given at login.
        """
        said = b"%d %d" % (number, client)
        return b"NOTIFY %b,'%b %b'" % (CHANNEL, said, self._digest(process, said))

    def read(self, process: int, payload: bytes) -> tuple[int, int] | None:
        """Number and client of a signature that this process has sent; None where it is none."""
        said, _, digest = payload.rpartition(b" ")
        if not hmac.compare_digest(digest, self._digest(process, said)):
            return None
        number, client = said.split(b" ")
        return int(number), int(client)

    def _digest(self, process: int, said: bytes) -> bytes:
        return hmac.digest(self._secret, b"%d %b" % (process, said), "sha256").hex()[:DIGITS].encode()
