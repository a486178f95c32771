"""A login of a user that does not exist is refused as one with a wrong password: in the same words, after as long."""

from . import scram
from .secrets import SALT_SIZE, Md5, Secret, Unset, Verifier

# Keys derived from passwords in clear, and from passwords that fitted a verifier; an entry takes about 600 bytes.
DERIVATIONS = scram.Derivations(4096)


def reason(secret: Secret | None, method: str = "") -> str:
    """Why a login was refused, for the log; `method` is the one that was tried."""
    if secret is None:
        return "no such user"
    if isinstance(secret, Unset):
        return "user has no password, or it is no longer valid"
    if method and isinstance(secret, Md5):
        return f"user has an MD5 secret, with which {method} is impossible: set its password again"
    if isinstance(secret, Verifier) and secret.iterations > scram.MAX_ITERATIONS and not method:
        return f"the verifier has {secret.iterations} iterations, too many to check a password in clear"
    return "wrong password"


def waste_derivation(iterations: int, password: bytes = b"nobody") -> None:
    """Derive a key for nothing, so that this refusal takes as long as that of a wrong password."""
    scram.derive(password, bytes(SALT_SIZE), min(iterations, scram.MAX_ITERATIONS))
