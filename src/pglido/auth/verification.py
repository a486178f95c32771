"""An exchange with a client that can be judged again: does what it said prove another secret, too?

A secret that was remembered may have been changed since. Who proves the new one is let in without a word more where the
challenge would have been the very same: with a password in clear, and with MD5. SCRAM has shown the old secret's salt.
"""

from collections.abc import Generator

from ..config.enums import AuthType
from .errors import AuthError
from .scram import Random
from .scram_server import ScramTerms
from .secrets import Plain, Proof, Secret
from .verify_client import verify


class Verification:
    """Send what `begin` and `take` return until there is a `proof`. Both raise AuthError.

    `take` and `proves` may take long where one `may_derive` keys.

    For the arguments see `verify_client.verify`.
    """

    def __init__(
        self, method: AuthType, user: str, secret: Secret | None, binding: bytes | None, terms: ScramTerms
    ) -> None:
        self._method = method
        self._user = user
        self._binding = binding
        self._terms = terms
        self._drawn: list[bytes] = []
        self._sent: list[bytes] = []
        self._said: list[bytes] = []
        # Where one user costs a key derivation, those do that cost none, or there are none of that name.
        self.may_derive = method == AuthType.PASSWORD or terms.population.plain or isinstance(secret, Plain)
        self._dialogue = self._verify(secret, self._draw)
        self.proof: Proof | None = None

    def begin(self) -> bytes:
        """The first message; b"" where nothing is asked."""
        return self._step(None)

    def take(self, body: bytes) -> bytes:
        """What is to be said to the body of a 'p' message; b"" at the end."""
        self._said.append(body)
        return self._step(body)

    def _step(self, body: bytes | None) -> bytes:
        try:
            reply = next(self._dialogue) if body is None else self._dialogue.send(body)
        except StopIteration as end:
            self.proof = end.value
            return b""
        self._sent.append(reply)
        return reply

    def proves(self, secret: Secret | None) -> Proof | None:
        """The proof, if all would have gone the same way with this secret, and what was said proves it."""
        drawn = iter(self._drawn)
        dialogue = self._verify(secret, lambda size: next(drawn, bytes(size)))
        said = iter(self._said)
        try:
            reply = next(dialogue)
            for sent in self._sent:
                if reply != sent:
                    return None
                reply = dialogue.send(next(said))
        except StopIteration as end:
            proof: Proof = end.value
            return proof
        except AuthError:
            pass
        return None

    def _verify(self, secret: Secret | None, rng: Random) -> Generator[bytes, bytes, Proof]:
        terms = ScramTerms(self._terms.population, self._terms.iterations, rng, self._terms.seed)
        return verify(self._method, self._user, secret, self._binding, terms)

    def _draw(self, size: int) -> bytes:
        self._drawn.append(self._terms.rng(size))
        return self._drawn[-1]
