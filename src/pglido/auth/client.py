"""Let a client prove who it is: the server's side of trust, password, md5, SCRAM-SHA-256 and -PLUS.

The rules:

* A user who does not exist, one without a usable secret and a wrong password are told the same, and cost
  the same.
* Where one of them must cost a key derivation (a password in clear against a stored verifier, or a verifier
  made on the fly from a password in clear), every refusal costs one; where none must, none does.
* A successful login costs a derivation once; its keys are kept.
"""

import struct
from base64 import b64encode
from collections.abc import Generator
from dataclasses import dataclass
from hmac import compare_digest

from ..config.choices import AuthType
from ..wire import codes
from ..wire.messages import message
from . import scram
from .crowd import PLAIN_FACE, Crowd, draw, mock_salt
from .errors import AuthError, refused, violation
from .saslprep import saslprep
from .secrets import (
    KEY_SIZE,
    SALT_SIZE,
    Credentials,
    Keys,
    Md5,
    Plain,
    Secret,
    Unset,
    Verifier,
    md5_response,
    md5_secret,
    raw,
    unbase64,
)

MAX_PASSWORD = 65535  # PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH.

# An entry has about 600 bytes.
_DERIVATIONS = scram.Derivations(4096)

_INT = struct.Struct("!i")

# Stands for both keys of users who have none; what it proves is not looked at.
_NO_KEY = bytes(KEY_SIZE)


@dataclass(frozen=True, slots=True)
class Proof:
    """A client that has proved who it is.

    `credentials` are the best that can be used towards a server. `last` goes to the client in front of
    AuthenticationOk (SCRAM's server-final-message), or is empty.
    """

    credentials: Credentials
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class _Attempt:
    user: str
    secret: Secret | None
    binding: bytes | None
    iterations: int
    seed: bytes
    rng: scram.Random
    crowd: Crowd


Exchange = Generator[bytes, bytes, Proof]


def verify(
    method: AuthType,
    user: str,
    secret: Secret | None,
    *,
    binding: bytes | None,
    scram_iterations: int,
    mock_seed: bytes,
    rng: scram.Random,
    crowd: Crowd,
) -> Exchange:
    """Yields messages for the client, is sent the body of each 'p' message, returns the Proof.

    `secret` is None for an unknown user. `binding` is the tls-server-end-point hash of our certificate where
    the client is on TLS. `mock_seed` (32 random bytes, the same in all workers) and `crowd` shape the
    challenges of unknown users; `crowd` is `Crowd.of` all secrets there are. Raises AuthError.

    With trust nothing is yielded. With md5 a user with a verifier gets SCRAM, as in PgBouncer.
    """
    attempt = _Attempt(user, secret, binding, scram_iterations, mock_seed, rng, crowd)
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
    return attempt.crowd.is_scram_in_md5(draw(attempt.seed, attempt.user))


# Password in clear


def _cleartext(attempt: _Attempt) -> Exchange:
    body = yield message(codes.AUTHENTICATION, _INT.pack(codes.AUTH_CLEARTEXT))
    password = _password(body)
    if _fits(attempt, password):
        return Proof(Plain(password))
    if attempt.crowd.faces and not isinstance(attempt.secret, Verifier):
        face = attempt.crowd.face_in_scram(draw(attempt.seed, attempt.user))
        _waste_derivation(face.iterations or attempt.iterations)
    raise refused(attempt.user, _reason(attempt.secret))


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
    derived = _DERIVATIONS.find(password, secret.salt, secret.iterations)
    if derived is not None:
        return compare_digest(derived.stored_key, secret.stored_key)
    derived = scram.derive(saslprep(password), secret.salt, secret.iterations)
    if not compare_digest(derived.stored_key, secret.stored_key):
        return False
    _DERIVATIONS.keep(password, secret.salt, secret.iterations, derived)
    return True


# MD5


def _md5(attempt: _Attempt) -> Exchange:
    salt = attempt.rng(4)
    body = yield message(codes.AUTHENTICATION, _INT.pack(codes.AUTH_MD5) + salt)
    given = raw(_password(body))
    match attempt.secret:
        case Plain(password):
            stored = md5_secret(password, attempt.user)
        case Md5():
            stored = attempt.secret
        case _:
            stored = Md5("md5" + draw(attempt.seed, attempt.user).hex()[:32])
    fits = compare_digest(given, md5_response(stored, salt))
    if not fits or not isinstance(attempt.secret, Plain | Md5):
        raise refused(attempt.user, _reason(attempt.secret))
    return Proof(attempt.secret)


# SCRAM


def _scram(attempt: _Attempt) -> Exchange:
    offered = (scram.SCRAM_PLUS, scram.SCRAM) if attempt.binding is not None else (scram.SCRAM,)
    body = yield _sasl(codes.AUTH_SASL, b"".join(name + b"\0" for name in offered) + b"\0")
    mechanism, first = _initial_response(body, offered)
    if first is None:  # RFC 4422: a client-first mechanism gets an empty challenge when the client held back.
        first = yield _sasl(codes.AUTH_SASL_CONTINUE, b"")
    gs2, bare, client_nonce = _client_first(first, mechanism == scram.SCRAM_PLUS, attempt.binding)

    iterations, salt = _challenge(attempt)
    nonce = client_nonce + scram.fresh_nonce(attempt.rng)
    server_first = b"r=%b,s=%b,i=%d" % (nonce, b64encode(salt), iterations)
    body = yield _sasl(codes.AUTH_SASL_CONTINUE, server_first)
    unproved, proof = _client_final(body, nonce, gs2, attempt.binding)

    auth_message = b"%b,%b,%b" % (bare, server_first, unproved)
    stored_key, server_key, derived_now = _stored_keys(attempt, salt, iterations)
    client_key = scram.xor(proof, scram.sign(stored_key, auth_message))
    signature = scram.sign(server_key, auth_message)
    holds = compare_digest(scram.digest(client_key), stored_key)
    if not holds or not isinstance(attempt.secret, Plain | Verifier):
        if attempt.crowd.plain and not derived_now:
            _waste_derivation(attempt.iterations)
        raise refused(attempt.user, _reason(attempt.secret, "SCRAM-SHA-256"))
    final = _sasl(codes.AUTH_SASL_FINAL, b"v=" + b64encode(signature))
    if isinstance(attempt.secret, Plain):
        return Proof(attempt.secret, final)
    return Proof(Keys(iterations, salt, client_key, server_key), final)


def _sasl(code: int, data: bytes) -> bytes:
    return message(codes.AUTHENTICATION, _INT.pack(code) + data)


def _challenge(attempt: _Attempt) -> tuple[int, bytes]:
    """Iterations and salt to show; those of mocks and of passwords in clear come from the seed.

    Everybody's mock is made, so that the time tells nothing.
    """
    face = attempt.crowd.face_in_scram(draw(attempt.seed, attempt.user))
    if isinstance(attempt.secret, Plain):
        face = PLAIN_FACE
    salt = mock_salt(attempt.seed, attempt.user, face.salt_size)
    if isinstance(attempt.secret, Verifier):
        return attempt.secret.iterations, attempt.secret.salt
    return face.iterations or attempt.iterations, salt


def _stored_keys(attempt: _Attempt, salt: bytes, iterations: int) -> tuple[bytes, bytes, bool]:
    """StoredKey, ServerKey, and whether they cost a derivation just now."""
    if isinstance(attempt.secret, Verifier):
        return attempt.secret.stored_key, attempt.secret.server_key, False
    if isinstance(attempt.secret, Plain):
        known = _DERIVATIONS.find(attempt.secret.password, salt, iterations)
        derived = known or _DERIVATIONS.get(attempt.secret.password, salt, iterations)
        return derived.stored_key, derived.server_key, known is None
    return _NO_KEY, _NO_KEY, False


def _initial_response(body: bytes, offered: tuple[bytes, ...]) -> tuple[bytes, bytes | None]:
    """Read a SASLInitialResponse: the mechanism, and the data if there is any."""
    mechanism, zero, rest = body[: scram.MAX_MESSAGE + 1].partition(b"\0")
    if len(body) > scram.MAX_MESSAGE or not zero or len(rest) < 4:
        raise violation("malformed SASL message", "not a SASLInitialResponse")
    if mechanism not in offered:
        raise violation("client selected an invalid SASL authentication mechanism", ascii(mechanism))
    size = _INT.unpack_from(rest)[0]
    if size == -1 and len(rest) == 4:
        return mechanism, None
    if size != len(rest) - 4:
        raise violation("malformed SASL message", "the length in the SASLInitialResponse does not fit")
    return mechanism, rest[4:]


def _client_first(body: bytes, plus: bool, binding: bytes | None) -> tuple[bytes, bytes, bytes]:
    """GS2 header, client-first-message-bare and nonce, with PostgreSQL's errors for what it refuses."""
    match = scram.CLIENT_FIRST.fullmatch(body) if len(body) <= scram.MAX_MESSAGE else None
    if match is None:
        raise violation("malformed SCRAM message", "unreadable client-first-message")
    if match["authzid"]:
        text = "client uses authorization identity, but it is not supported"
        raise AuthError("0A000", text, text)
    if match["extension"]:
        text = "client requires an unsupported SCRAM extension"
        raise AuthError("0A000", text, text)
    if plus != (match["type"] is not None):
        raise violation("malformed SCRAM message", "mechanism and channel-binding flag do not fit together")
    if match["type"] not in (None, b"tls-server-end-point"):
        raise violation(f'unsupported SCRAM channel-binding type "{match["type"].decode()}"')
    if match["flag"] == b"y" and binding is not None:
        raise AuthError(
            "28000",
            "SCRAM channel binding negotiation error",
            "the client supports channel binding but was told that we do not: somebody between may have lied",
        )
    return body[: match.start("bare")], match["bare"], match["nonce"]


def _client_final(body: bytes, nonce: bytes, gs2: bytes, binding: bytes | None) -> tuple[bytes, bytes]:
    """client-final-message-without-proof and the proof, after a look at binding and nonce."""
    match = scram.CLIENT_FINAL.fullmatch(body) if len(body) <= scram.MAX_MESSAGE else None
    if match is None:
        raise violation("malformed SCRAM message", "unreadable client-final-message")
    bound = gs2 == scram.END_POINT
    expected = b64encode(gs2 + (binding or b"") if bound else gs2)
    if not compare_digest(match["binding"], expected):
        if not bound:
            raise violation("unexpected SCRAM channel-binding attribute in client-final-message")
        raise AuthError(
            "28000",
            "SCRAM channel binding check failed",
            "the client saw another certificate than ours: somebody between decrypts the connection",
        )
    if not compare_digest(match["nonce"], nonce):
        raise violation("invalid SCRAM response", "nonce does not match")
    try:
        proof = unbase64(match["proof"])
    except ValueError:
        proof = b""
    if len(proof) != KEY_SIZE:
        raise violation("malformed SCRAM message", "malformed proof in client-final-message")
    return match["unproved"], proof


# Refusal


def _reason(secret: Secret | None, method: str = "") -> str:
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


def _waste_derivation(iterations: int) -> None:
    """Work as long as somebody else's refusal takes."""
    scram.derive(b"nobody", bytes(SALT_SIZE), min(iterations, scram.MAX_ITERATIONS))
