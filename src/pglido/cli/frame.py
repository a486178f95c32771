"""What commands have in common that start servers and end them again."""

from __future__ import annotations

import signal
from types import FrameType

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The exit status after such a signal, as shells have it for Ctrl-C.
INTERRUPTED = 130


def end_in_order() -> None:
    """From now on what ends a process raises KeyboardInterrupt, so that all that was started is stopped.

    SIGINT too: what a shell starts in the background begins with it ignored.
    """
    for end in ENDS:
        signal.signal(end, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A second signal changes nothing, for all that is stopped then has its deadline."""
    for end in ENDS:
        signal.signal(end, signal.SIG_IGN)
    raise KeyboardInterrupt


def positive(text: str) -> int:
    """A number of things on the command line. Raises ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
