"""What a refusal says and costs: the same for an unknown user, a secret that is of no use, and a wrong proof."""

from . import scram
from .secrets import SALT_SIZE, Md5, Secret, Unset, Verifier

# Keys of passwords in clear, and of passwords that fitted a verifier; an entry has about 600 bytes.
DERIVATIONS = scram.Derivations(4096)


def reason(secret: Secret | None, method: str = "") -> str:
    """What the log says of a refusal."""
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
    """Work as long as somebody else's refusal takes."""
    scram.derive(password, bytes(SALT_SIZE), min(iterations, scram.MAX_ITERATIONS))
