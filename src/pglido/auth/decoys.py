"""The secrets among which an unknown user's is hidden: what the stored ones look like from outside.

A SCRAM challenge shows the salt and the iterations of a stored secret, and with auth_type md5 even its kind.
For a name that nobody has, a mock challenge is made that looks like the one of one of these, chosen at random:
the same at each attempt, and with the same work behind it. Compiled, as each login makes one.
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
    """A challenge seen from outside; 0 iterations: as many as a verifier made on the fly gets."""

    iterations: int = 0
    salt_size: int = SALT_SIZE


# What a password in clear looks like, for which a verifier is made on the fly, and what an MD5 secret counts as.
PLAIN_SHAPE = ChallengeShape()
MD5_FACE = ChallengeShape(-1, 0)


def shape_of(secret: Secret | None) -> ChallengeShape | None:
    """What a secret counts as; None where there is none."""
    match secret:
        case Verifier():
            return ChallengeShape(secret.iterations, len(secret.salt))
        case Plain():
            return PLAIN_SHAPE
        case Md5():
            return MD5_FACE
        case _:
            return None


@dataclass(frozen=True, slots=True)
class SecretPopulation:
    """How many secrets of which look there are.

    When one more is known, few names look different from before. The default is for when no secret is known yet:
    verifiers, as PostgreSQL has made them since version 14.
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
        verifiers = {shape: count for shape, count in shapes.items() if shape not in (MD5_FACE, PLAIN_SHAPE)}
        return cls(shapes.get(MD5_FACE, 0), shapes.get(PLAIN_SHAPE, 0), tuple(sorted(verifiers.items())))

    def scram_shape(self, lot: bytes) -> ChallengeShape:
        """The look of a SCRAM challenge; `lot` (at least 8 bytes, see `draw`) decides."""
        if len(self._met) == 1:
            return self._met[0]
        number = share(lot[:8], self._ends[len(self._ends) - 1])
        return self._met[bisect_right(self._ends, number)]

    def is_scram_in_md5(self, lot: bytes) -> bool:
        """Whether with auth_type md5 the challenge is SCRAM's: a user with a verifier gets that one."""
        verifiers = sum([count for _, count in self.shapes])
        total = verifiers + self.plain + self.md5
        return share(lot[8:16], total) < verifiers


def share(lot: bytes, total: int) -> int:
    """A number below `total`, which changes little where that does."""
    return int.from_bytes(lot, "big") * total >> 8 * len(lot)


def draw(seed: bytes, user: str) -> bytes:
    """32 bytes that belong to this name, and can't be guessed without the seed."""
    return hmac_sha256(seed, user.encode("utf-8", "surrogateescape"))


def mock_salt(lot: bytes, size: int) -> bytes:
    """The salt of a verifier that does not exist, or is made on the fly: the same each time; `lot` as from `draw`."""
    salt = octets.cut(lot, 16, 16 + size)
    while len(salt) < size:
        lot = sha256(lot)
        salt += lot
    return octets.cut(salt, 0, size)
