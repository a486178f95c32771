"""Let a client prove who it is: the server's side of trust, password, md5, SCRAM-SHA-256 and -PLUS.

The rules:

* A user who does not exist, one without a usable secret and a wrong password are told the same, and cost
  the same.
* Where one of them must cost a key derivation (a password in clear against a stored verifier, or a verifier
  made on the fly from a password in clear), every refusal costs one; where none must, none does.
* A successful login costs a derivation once; its keys are kept.
"""

import struct
from collections.abc import Generator
from dataclasses import dataclass
from hmac import compare_digest

from ..config.enums import AuthType
from ..protocol import codes
from ..protocol.messages import message
from . import scram, timing
from .decoys import mock_digest
from .errors import AuthError, refused, violation
from .saslprep import saslprep
from .scram_server import ScramServer, ScramTerms
from .secrets import Md5, Plain, Proof, Secret, Verifier, md5_response, md5_secret, raw

MAX_PASSWORD = 65535  # PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH.

_INT = struct.Struct("!i")


@dataclass(frozen=True, slots=True)
class _Attempt:
    user: str
    secret: Secret | None
    binding: bytes | None
    terms: ScramTerms


Exchange = Generator[bytes, bytes, Proof]


def verify(
    method: AuthType,
    user: str,
    secret: Secret | None,
    binding: bytes | None,
    terms: ScramTerms,
) -> Exchange:
    """Yields messages for the client, is sent the body of each 'p' message, returns the Proof.

    `secret` is None for an unknown user. `binding` is the tls-server-end-point hash of our certificate where the client
    is on TLS. Raises AuthError.

    With trust nothing is yielded. With md5 a user with a verifier gets SCRAM, as in PgBouncer.
    """
    attempt = _Attempt(user, secret, binding, terms)
    match method:
        case AuthType.TRUST:
            return _trust(attempt)
        case AuthType.PASSWORD:
            return (yield from _cleartext(attempt))
        case AuthType.MD5 if not _gets_scram(attempt):
            return (yield from _md5(attempt))
        case AuthType.MD5 | AuthType.SCRAM_SHA_256:
            return (yield from _scram(attempt))


def _trust(attempt: _Attempt) -> Proof:
    if attempt.secret is None:
        raise AuthError("28000", '"trust" authentication failed', f'no such user: "{attempt.user}"')
    return Proof(attempt.secret)


def _gets_scram(attempt: _Attempt) -> bool:
    if isinstance(attempt.secret, Plain | Md5):
        return False
    if isinstance(attempt.secret, Verifier):
        return True
    return attempt.terms.population.is_scram_in_md5(mock_digest(attempt.terms.seed, attempt.user))


# Password in clear


def _cleartext(attempt: _Attempt) -> Exchange:
    body = yield message(codes.AUTHENTICATION, _INT.pack(codes.AUTH_CLEARTEXT))
    password = _password(body)
    if _fits(attempt, password):
        return Proof(Plain(password))
    if attempt.terms.population.shapes and not isinstance(attempt.secret, Verifier):
        shape = attempt.terms.population.scram_shape(mock_digest(attempt.terms.seed, attempt.user))
        timing.waste_derivation(shape.iterations or attempt.terms.iterations, saslprep(password))
    raise refused(attempt.user, timing.reason(attempt.secret))


def _fits(attempt: _Attempt, password: str) -> bool:
    match attempt.secret:
        case Verifier() as verifier:
            fits = _fits_verifier(password, verifier)
        case Plain(stored):
            fits = compare_digest(raw(password), raw(stored))
        case Md5() as stored_md5:
            fits = compare_digest(md5_secret(password, attempt.user).text, stored_md5.text)
        case _:
            fits = False
    return fits and password != ""


def _password(body: bytes) -> str:
    if len(body) > MAX_PASSWORD:
        raise violation("invalid message length", "a password of more than 65535 bytes")
    if not body or body.find(b"\0") != len(body) - 1:
        raise violation("invalid password packet size")
    return body[:-1].decode("utf-8", "surrogateescape")


def _fits_verifier(password: str, secret: Verifier) -> bool:
    if secret.iterations > scram.MAX_ITERATIONS:
        return False
    derived = timing.DERIVATIONS.find(password, secret.salt, secret.iterations)
    if derived is not None:
        return compare_digest(derived.stored_key, secret.stored_key)
    derived = scram.derive(saslprep(password), secret.salt, secret.iterations)
    if not compare_digest(derived.stored_key, secret.stored_key):
        return False
    timing.DERIVATIONS.keep(password, secret.salt, secret.iterations, derived)
    return True


# MD5


def _md5(attempt: _Attempt) -> Exchange:
    salt = attempt.terms.rng(4)
    body = yield message(codes.AUTHENTICATION, _INT.pack(codes.AUTH_MD5) + salt)
    given = raw(_password(body))
    match attempt.secret:
        case Plain(password):
            stored = md5_secret(password, attempt.user)
        case Md5():
            stored = attempt.secret
        case _:
            stored = Md5("md5" + mock_digest(attempt.terms.seed, attempt.user).hex()[:32])
    fits = compare_digest(given, md5_response(stored, salt))
    if not fits or not isinstance(attempt.secret, Plain | Md5):
        raise refused(attempt.user, timing.reason(attempt.secret))
    return Proof(attempt.secret)


# SCRAM


def _scram(attempt: _Attempt) -> Exchange:
    one = ScramServer(attempt.user, attempt.secret, attempt.binding, attempt.terms)
    reply = one.offer()
    while one.credentials is None:
        reply = one.take((yield reply))
    return Proof(one.credentials, one.last)
