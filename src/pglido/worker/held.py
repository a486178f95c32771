"""Connections by which CancelRequests came: held open until the server has the request (protocol chapter "Canceling
Requests in Progress": the client waits for their end).
"""

import asyncio
import os
from itertools import count

# Seconds after which nobody needs to wait any more: whoever had the request may be gone.
LONGEST = 10.0


class Held:
    """The connections of one worker, by number."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._fds: dict[int, int] = {}

    def hold(self, fd: int) -> int:
        """Keep this connection open, though it is closed elsewhere, until `let_go` of the number that is returned."""
        number = next(self._numbers)
        try:
            self._fds[number] = os.dup(fd)
        except OSError:
            # Out of descriptors: better cancelled than waited for.
            return number
        asyncio.get_running_loop().call_later(LONGEST, self.let_go, number)
        return number

    def let_go(self, number: int) -> None:
        """Close it, if that has not been done."""
        fd = self._fds.pop(number, None)
        if fd is not None:
            os.close(fd)
