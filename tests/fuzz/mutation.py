"""Bytes that are nearly right: valid messages, changed in a few places that a seed decides."""

import os
from collections.abc import Callable
from random import Random

SEED = int(os.environ.get("PGLIDO_FUZZ_SEED", "1"))
# How many times as many rounds as the suite has.
TIMES = int(os.environ.get("PGLIDO_FUZZ_TIMES", "1"))

LENGTHS = (0, 1, 3, 4, 5, 8, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
TYPES = b"BCDEFHPQSXcdfp\0Rpqz"


def _flip(random: Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << random.randrange(8)


def _replace(random: Random, data: bytearray, at: int) -> None:
    data[at] = random.choice(TYPES)


def _length(random: Random, data: bytearray, at: int) -> None:
    data[at : at + 4] = random.choice(LENGTHS).to_bytes(4, "big")


def _near_length(random: Random, data: bytearray, at: int) -> None:
    near = int.from_bytes(data[at : at + 4], "big") + random.choice((-5, -4, -1, 1, 4, 1000))
    data[at : at + 4] = (near % 2**32).to_bytes(4, "big")


def _delete(random: Random, data: bytearray, at: int) -> None:
    del data[at : at + random.choice((1, 2, 4, 30))]


def _repeat(random: Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + random.choice((1, 5, 40))] * random.choice((1, 2, 50))


def _insert(random: Random, data: bytearray, at: int) -> None:
    data[at:at] = random.randbytes(random.choice((1, 4, 20)))


def _cut(random: Random, data: bytearray, at: int) -> None:
    del data[at:]


CHANGES: tuple[Callable[[Random, bytearray, int], None], ...] = (
    *(_flip, _replace, _length, _near_length),
    *(_delete, _repeat, _insert, _cut),
)


def mutated(random: Random, messages: list[bytes]) -> bytes:
    """The messages as one string of bytes, after none to four changes; some in another order, or twice."""
    chosen = list(messages)
    for _ in range(random.choice((0, 0, 1, 2))):
        chosen.insert(random.randrange(len(chosen) + 1), random.choice(messages))
    data = bytearray(b"".join(chosen))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        if data:
            random.choice(CHANGES)(random, data, random.randrange(len(data)))
    return bytes(data)


def pieces(random: Random, data: bytes) -> list[bytes]:
    """The bytes in up to four parts."""
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(4)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
