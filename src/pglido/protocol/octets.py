"""Bytes cut, searched and put together: what each login does, inline where it is compiled.

Modules that are compiled take these functions from the .pxd beside this file, where they make no object but the result.
"""


def cut(data: bytes, start: int, stop: int) -> bytes:
    """What is between two places that are not negative, as a slice."""
    return data[start:stop]


def find(data: bytes, letter: int, start: int) -> int:
    """Where this byte is next; where there is none, the end."""
    at = data.find(letter, start)
    return at if at >= 0 else max(start, len(data))


def int32(data: bytes, at: int) -> int:
    """The number in four bytes, big-endian and unsigned. Raises IndexError where there are not so many."""
    if at < 0 or at + 4 > len(data):
        raise IndexError("no four bytes there")
    return int.from_bytes(data[at : at + 4], "big")


def length(data: bytes, at: int) -> int:
    """The same of bytes that are surely there."""
    return int.from_bytes(data[at : at + 4], "big")


def four(number: int) -> bytes:
    """The same the other way round."""
    return number.to_bytes(4, "big")


def xor(left: bytes, right: bytes) -> bytes:
    """Each byte of one with that of the other. Raises ValueError where they are not of one length."""
    if len(left) != len(right):
        raise ValueError("bytes of different length")
    return bytes([one ^ other for one, other in zip(left, right, strict=True)])
