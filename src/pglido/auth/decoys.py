"""Challenges for users that do not exist: they look like those of the users that do.

A SCRAM challenge shows the salt and the iterations of a stored secret; with auth_type md5 its method shows the kind of
the secret. A user that does not exist gets the challenge of a randomly chosen kind of stored secret. The choice is the
same at each attempt, and a proof takes as long to check. Compiled: each login makes a challenge.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from ..protocol import octets
from .digests import hmac_sha256, sha256
from .secrets import SALT_SIZE, Md5, Plain, Secret, Verifier


class ChallengeShape(NamedTuple):
    """What a challenge shows; 0 iterations: as many as a verifier made on the fly gets."""

    iterations: int = 0
    salt_size: int = SALT_SIZE


# What a password in clear looks like, for which a verifier is made on the fly, and what an MD5 secret counts as.
PLAIN_SHAPE = ChallengeShape()
MD5_SHAPE = ChallengeShape(-1, 0)


def shape_of(secret: Secret | None) -> ChallengeShape | None:
    """What a secret counts as; None where there is none."""
    match secret:
        case Verifier():
            return ChallengeShape(secret.iterations, len(secret.salt))
        case Plain():
            return PLAIN_SHAPE
        case Md5():
            return MD5_SHAPE
        case _:
            return None


@dataclass(frozen=True, slots=True)
class SecretPopulation:
    """How many secrets of each kind there are: MD5 secrets, passwords in clear, and verifiers by their shapes.

    One secret more changes the challenges of few users. The default, before any secret is known: verifiers, as
    PostgreSQL makes them since version 14.
    """

    md5: int = 0
    plain: int = 0
    shapes: tuple[tuple[ChallengeShape, int], ...] = ((PLAIN_SHAPE, 1),)
    _ends: tuple[int, ...] = field(init=False, compare=False, repr=False)
    _met: tuple[ChallengeShape, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        shapes = self.shapes
        if self.plain or not shapes:
            shapes = (*shapes, (PLAIN_SHAPE, self.plain or 1))
        object.__setattr__(self, "_ends", tuple(accumulate([count for _, count in shapes])))
        object.__setattr__(self, "_met", tuple([shape for shape, _ in shapes]))

    @classmethod
    def of(cls, secrets: Iterable[Secret]) -> "SecretPopulation":
        """The population that these secrets are; the default if there is none among them."""
        return cls.counted(Counter([shape for shape in map(shape_of, secrets) if shape is not None]))

    @classmethod
    def counted(cls, shapes: Mapping[ChallengeShape, int]) -> "SecretPopulation":
        """The population of so many secrets that look like this, see `shape_of`."""
        if not shapes:
            return cls()
        verifiers = {shape: count for shape, count in shapes.items() if shape not in (MD5_SHAPE, PLAIN_SHAPE)}
        return cls(shapes.get(MD5_SHAPE, 0), shapes.get(PLAIN_SHAPE, 0), tuple(sorted(verifiers.items())))

    def scram_shape(self, digest: bytes) -> ChallengeShape:
        """The shape of a SCRAM challenge for the user of `digest` (at least 8 bytes, see `mock_digest`)."""
        if len(self._met) == 1:
            return self._met[0]
        number = scaled(digest[:8], self._ends[len(self._ends) - 1])
        return self._met[bisect_right(self._ends, number)]

    def is_scram_in_md5(self, digest: bytes) -> bool:
        """Whether with auth_type md5 the user of `digest` (16 bytes) gets a SCRAM challenge, as one with a verifier."""
        verifiers = sum([count for _, count in self.shapes])
        total = verifiers + self.plain + self.md5
        return scaled(digest[8:16], total) < verifiers


def scaled(digest: bytes, total: int) -> int:
    """The digest, read as a number, scaled to 0 <= number < total: another total changes it in proportion only."""
    return int.from_bytes(digest, "big") * total >> 8 * len(digest)


def mock_digest(seed: bytes, user: str) -> bytes:
    """32 bytes for this name, always the same, which nobody can guess without the seed (32 bytes)."""
    return hmac_sha256(seed, user.encode("utf-8", "surrogateescape"))


def mock_salt(digest: bytes, size: int) -> bytes:
    """`size` bytes of salt for a verifier that does not exist or is made on the fly, from a `mock_digest`."""
    salt = octets.cut(digest, 16, 16 + size)
    while len(salt) < size:
        digest = sha256(digest)
        salt += digest
    return octets.cut(salt, 0, size)
