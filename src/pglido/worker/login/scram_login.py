"""A client that was asked for a proof by SCRAM, on the fast path."""

from ...auth.scram_server import ScramServer
from ...protocol.startup import Startup


class ScramLogin:
    """What a client said first, what that means, and what it was asked.

    `era` is that of `FastLogin` at the time; `missing` bytes of a message are still to come, of which `head` is kept.
    """

    __slots__ = ("challenge", "era", "head", "missing", "packet", "start")

    def __init__(self, packet: bytes, start: Startup, challenge: ScramServer, era: int) -> None:
        self.packet = packet
        self.start = start
        self.challenge = challenge
        self.era = era
        self.head = b""
        self.missing = 0
