"""Framer."""
from .codes import QUERY, FLUSH

class Framer:
    __slots__ = ("need", "held")
    def __init__(self) -> None:
        self.need = 0
        self.held = b""

    def scan(self, buf: bytes, pos: int, end: int) -> int:
        count = 0
        while pos + 5 <= end:
            kind = buf[pos]
            size = (buf[pos + 1] << 24) | (buf[pos + 2] << 16) | (buf[pos + 3] << 8) | buf[pos + 4]
            if kind == QUERY or kind == FLUSH:
                count += 1
                self.held = buf[pos + 5 : pos + 7]
            pos += size + 1
        self.need = pos - end
        return count

    def feed(self, data: bytes) -> int:
        return self.scan(data, 0, len(data))

class Sub:
    __slots__ = ("f",)
    def __init__(self, f: Framer) -> None:
        self.f = f
    def go(self, data: bytes) -> int:
        return self.f.scan(data, 0, len(data)) + self.f.need
