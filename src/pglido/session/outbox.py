"""Collect what goes to one peer in one round, in order, without copying what can be sent where it lies.

Rules: while all of it is one run of the receive buffer, only its bounds are kept; the first piece that is not
moves the run into `parts`, and everything after it too. Whoever fills an outbox empties it before the receive
buffer is used again.
"""


class Outbox:
    """Bytes for one peer: the run `[start, stop)` of the receive buffer, or `parts`, never both."""

    __slots__ = ("parts", "start", "stop")

    def __init__(self) -> None:
        self.start = 0
        self.stop = 0
        self.parts: bytearray | None = None

    def clear(self) -> None:
        """Forget what was collected."""
        self.start = self.stop = 0
        self.parts = None

    def run(self, buf: bytes, start: int, stop: int) -> None:
        """Add `buf[start:stop]`, where `buf` is the receive buffer of this round."""
        if self.parts is not None:
            self.parts += buf[start:stop]
        elif self.start == self.stop:
            self.start = start
            self.stop = stop
        elif self.stop == start:
            self.stop = stop
        else:
            self.parts = bytearray(buf[self.start : self.stop])
            self.parts += buf[start:stop]

    def put(self, buf: bytes, data: bytes) -> None:
        """Add `data`, which lies elsewhere; `buf` is the receive buffer of this round."""
        if self.parts is None:
            if self.start == self.stop:
                self.parts = bytearray(data)
                return
            self.parts = bytearray(buf[self.start : self.stop])
        self.parts += data

    def collected(self, buf: bytes) -> bytes:
        """All of it as one value, for tests and rare paths."""
        if self.parts is not None:
            return bytes(self.parts)
        return bytes(buf[self.start : self.stop])
