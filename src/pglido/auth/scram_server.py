"""A client proves by SCRAM-SHA-256 or -PLUS (RFC 5802, RFC 7677) who it is: the server's side, compiled.

A storm of logins is mostly this. Messages are taken apart at their commas, which stand nowhere but between attributes.
For the rules by which a refusal tells and costs the same for everybody see `verify_client`.
"""

import string
from hmac import compare_digest

from ..protocol import octets
from ..protocol.codes import AUTH_SASL, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL, AUTHENTICATION
from . import timing as _timing
from .decoys import PLAIN_SHAPE, SecretPopulation, mock_digest, mock_salt
from .errors import AuthError, MustDerive, refused, violation
from .scram import (
    END_POINT,
    MAX_MESSAGE,
    SCRAM,
    SCRAM_PLUS,
    Derivations,
    Keys,
    Random,
    base64,
    digest,
    fresh_nonce,
    sign,
    unbase64,
)
from .secrets import KEY_SIZE, Credentials, Plain, Secret, Verifier

# Which characters the parts of a message have.
_LETTERS = string.ascii_letters.encode()
_ALPHANUMERIC = _LETTERS + string.digits.encode()
LETTER = bytes([letter in _LETTERS for letter in range(256)])
PRINTABLE = bytes([0x21 <= letter <= 0x7E and letter != 0x2C for letter in range(256)])
BASE64 = bytes([letter in _ALPHANUMERIC + b"+/=" for letter in range(256)])
NAME_OF_BINDING = bytes([letter in _ALPHANUMERIC + b"-." for letter in range(256)])

N, P, R, M, A, C, Y = ord("n"), ord("p"), ord("r"), ord("m"), ord("a"), ord("c"), ord("y")
EQUALS, COMMA = ord("="), ord(",")

HEAD = bytes([AUTHENTICATION])

# Stands for both keys of users who have none; what it proves is not looked at.
NO_KEY = bytes(KEY_SIZE)

# The length that says that there is no initial response (-1).
HELD = 0xFFFFFFFF

# What an exchange waits for: a mechanism, the first message of a client that held it back, or a proof.
OFFERED, HELD_BACK, CHALLENGED = 0, 1, 2


def sasl(code: int, data: bytes) -> bytes:
    """A message about SASL, whole."""
    return b"".join((HEAD, octets.four(len(data) + 8), octets.four(code), data))


OFFER = sasl(AUTH_SASL, SCRAM + b"\0\0")
OFFER_PLUS = sasl(AUTH_SASL, SCRAM_PLUS + b"\0" + SCRAM + b"\0\0")


def consists(data: bytes, start: int, stop: int, letters: bytes) -> bool:
    """Is there one of these characters at least from `start` to `stop`, and nothing else?"""
    at = start
    while at < stop and letters[data[at]]:
        at += 1
    return start < at == stop


def begins(data: bytes, start: int, stop: int, letter: int) -> bool:
    """Is what is there the attribute of that letter?"""
    return stop - start > 1 and data[start] == letter and data[start + 1] == EQUALS


def extends(data: bytes, start: int, stop: int, taken: int) -> bool:
    """Is each attribute from the comma at `start` to `stop` one that a later version may know, and none `taken`?"""
    while start < stop:
        at = start + 1
        start = octets.find(data, COMMA, at)
        if start - at < 2 or data[at + 1] != EQUALS or data[at] == taken or not LETTER[data[at]]:
            return False
    return True


class ScramTerms:
    """What the exchanges of one configuration have in common.

    `population` is `SecretPopulation.of` all secrets there are. Together with `seed` (32 random bytes, the same in all
    workers) it decides what unknown users are asked. `iterations` are those of verifiers that are made on the fly, and
    `rng` is where nonces come from.
    """

    __slots__ = ("iterations", "population", "rng", "seed")

    def __init__(self, population: SecretPopulation, iterations: int, rng: Random, seed: bytes) -> None:
        self.population = population
        self.iterations = iterations
        self.rng = rng
        self.seed = seed


class ScramServer:
    """One exchange with a client that says it is `user`; `secret` is None where there is nobody of that name.

    `binding` is the tls-server-end-point hash of our certificate where the client is on TLS. Send `offer`, then what
    `take` makes of the body of each 'p' message, until there are `credentials`: these are the best that can be used
    towards a server, and `last` goes to the client in front of AuthenticationOk. Where it may not take long (`swift`),
    MustDerive is raised, and nothing has changed.
    """

    __slots__ = (
        "_bare",
        "_binding",
        "_first",
        "_gs2",
        "_iterations",
        "_nonce",
        "_plus",
        "_salt",
        "_state",
        "_user",
        "credentials",
        "last",
        "secret",
        "swift",
        "terms",
    )

    def __init__(self, user: str, secret: Secret | None, binding: bytes | None, terms: ScramTerms) -> None:
        self._user = user
        self.secret = secret
        self._binding = binding
        self.terms = terms
        self._iterations = terms.iterations
        self._state = OFFERED
        self.swift = False
        self._plus = False
        self._gs2 = b""
        self._bare = b""
        self._nonce = b""
        self._salt = b""
        self._first = b""
        self.credentials: Credentials | None = None
        self.last = b""

    def offer(self) -> bytes:
        """The first message: what mechanisms there are."""
        return OFFER if self._binding is None else OFFER_PLUS

    def take(self, body: bytes) -> bytes:
        """What is to be said to the body of a 'p' message; in front of AuthenticationOk where there are `credentials`.

        Raises AuthError: the connection is to be closed then.
        """
        if self._state == CHALLENGED:
            return self._end(body)
        if self._state == HELD_BACK:
            return self._challenge(body)
        first = self._initial_response(body)
        if first is None:
            # RFC 4422: a client-first mechanism gets an empty challenge when the client held back.
            self._state = HELD_BACK
            return sasl(AUTH_SASL_CONTINUE, b"")
        return self._challenge(first)

    def _initial_response(self, body: bytes) -> bytes | None:
        """Read a SASLInitialResponse: keep which mechanism it is, return the data if there is any."""
        end = octets.find(body, 0, 0)
        have = len(body) - end - 5
        if len(body) > MAX_MESSAGE or have < 0:
            raise violation("malformed SASL message", "not a SASLInitialResponse")
        mechanism = octets.cut(body, 0, end)
        if mechanism != SCRAM and (mechanism != SCRAM_PLUS or self._binding is None):
            raise violation("client selected an invalid SASL authentication mechanism", ascii(mechanism))
        self._plus = mechanism == SCRAM_PLUS
        size = octets.int32(body, end + 1)
        if size == HELD and have == 0:
            return None
        if size != have:
            raise violation("malformed SASL message", "the length in the SASLInitialResponse does not fit")
        return octets.cut(body, end + 5, len(body))

    def _challenge(self, first: bytes) -> bytes:
        """The server-first-message for a client-first-message.

        Everybody's mock is made, so that the time tells nothing.
        """
        client_nonce = self._read_first(first)
        digest = mock_digest(self.terms.seed, self._user)
        shape = self.terms.population.scram_shape(digest)
        if isinstance(self.secret, Plain):
            shape = PLAIN_SHAPE
        self._salt = mock_salt(digest, shape.salt_size)
        if shape.iterations:
            self._iterations = shape.iterations
        if isinstance(self.secret, Verifier):
            self._iterations = self.secret.iterations
            self._salt = self.secret.salt
        self._nonce = client_nonce + fresh_nonce(self.terms.rng)
        self._first = b"".join((b"r=", self._nonce, b",s=", base64(self._salt), b",i=%d" % self._iterations))
        self._state = CHALLENGED
        return sasl(AUTH_SASL_CONTINUE, self._first)

    def _read_first(self, body: bytes) -> bytes:
        """Keep GS2 header and client-first-message-bare, return the nonce; PostgreSQL's errors for what it refuses."""
        size = len(body)
        flag = octets.find(body, COMMA, 0)
        identity = octets.find(body, COMMA, flag + 1)
        at = identity + 1
        name = octets.find(body, COMMA, at)
        extended = begins(body, at, name, M)
        if extended:
            at = name + 1
            name = octets.find(body, COMMA, at)
        nonce = octets.find(body, COMMA, name + 1)
        bound = begins(body, 0, flag, P) and consists(body, 2, flag, NAME_OF_BINDING)
        offers = flag == 1 and body[0] == Y
        if (
            size > MAX_MESSAGE
            or octets.find(body, 0, 0) < size
            or not (bound or offers or (flag == 1 and body[0] == N))
            or not (identity == flag + 1 or begins(body, flag + 1, identity, A))
            or not begins(body, at, name, N)
            or not (begins(body, name + 1, nonce, R) and consists(body, name + 3, nonce, PRINTABLE))
            or not extends(body, nonce, size, 0)
        ):
            raise violation("malformed SCRAM message", "unreadable client-first-message")
        if identity > flag + 1:
            text = "client uses authorization identity, but it is not supported"
            raise AuthError("0A000", text, text)
        if extended:
            text = "client requires an unsupported SCRAM extension"
            raise AuthError("0A000", text, text)
        if self._plus != bound:
            raise violation("malformed SCRAM message", "mechanism and channel-binding flag do not fit together")
        if bound and octets.cut(body, 2, flag) != b"tls-server-end-point":
            raise violation(f'unsupported SCRAM channel-binding type "{octets.cut(body, 2, flag).decode()}"')
        if offers and self._binding is not None:
            raise AuthError(
                "28000",
                "SCRAM channel binding negotiation error",
                "the client supports channel binding but was told that we do not: somebody between may have lied",
            )
        self._gs2 = octets.cut(body, 0, flag + 2)
        self._bare = octets.cut(body, flag + 2, size)
        return octets.cut(body, name + 3, nonce)

    def _end(self, body: bytes) -> bytes:
        """The server-final-message for a client-final-message that proves what it should."""
        unproved, proof = self._read_final(body)
        auth_message = b",".join((self._bare, self._first, unproved))
        secret = self.secret
        stored_key = server_key = NO_KEY
        derived_now = False
        if isinstance(secret, Verifier):
            stored_key, server_key = secret.stored_key, secret.server_key
        elif isinstance(secret, Plain):
            kept: Derivations = _timing.DERIVATIONS
            keys = kept.find(secret.password, self._salt, self._iterations)
            if keys is None and self.swift:
                raise MustDerive
            derived_now = keys is None
            keys = keys or kept.get(secret.password, self._salt, self._iterations)
            stored_key, server_key = keys.stored_key, keys.server_key
        client_key = octets.xor(proof, sign(stored_key, auth_message))
        signature = sign(server_key, auth_message)
        holds = compare_digest(digest(client_key), stored_key)
        if not holds or stored_key is NO_KEY:
            if self.terms.population.plain and not derived_now:
                if self.swift:
                    raise MustDerive
                _timing.waste_derivation(self.terms.iterations)
            raise refused(self._user, _timing.reason(secret, "SCRAM-SHA-256"))
        self.last = sasl(AUTH_SASL_FINAL, b"v=" + base64(signature))
        if isinstance(secret, Plain):
            self.credentials = secret
        else:
            self.credentials = Keys(self._iterations, self._salt, client_key, server_key)
        return self.last

    def _read_final(self, body: bytes) -> tuple[bytes, bytes]:
        """client-final-message-without-proof and the proof, after a look at binding and nonce."""
        size = len(body)
        binding = octets.find(body, COMMA, 0)
        nonce = octets.find(body, COMMA, binding + 1)
        last = size
        while last > 0 and body[last - 1] != COMMA:
            last -= 1
        if (
            size > MAX_MESSAGE
            or octets.find(body, 0, 0) < size
            or last <= nonce
            or not (begins(body, 0, binding, C) and consists(body, 2, binding, BASE64))
            or not (begins(body, binding + 1, nonce, R) and consists(body, binding + 3, nonce, PRINTABLE))
            or not extends(body, nonce, last - 1, P)
            or not (begins(body, last, size, P) and consists(body, last + 2, size, BASE64))
        ):
            raise violation("malformed SCRAM message", "unreadable client-final-message")
        bound = self._gs2 == END_POINT
        expected = base64(self._gs2 + (self._binding or b"") if bound else self._gs2)
        if octets.cut(body, 2, binding) != expected:
            if not bound:
                raise violation("unexpected SCRAM channel-binding attribute in client-final-message")
            raise AuthError(
                "28000",
                "SCRAM channel binding check failed",
                "the client saw another certificate than ours: somebody between decrypts the connection",
            )
        if octets.cut(body, binding + 3, nonce) != self._nonce:
            raise violation("invalid SCRAM response", "nonce does not match")
        try:
            proof = unbase64(octets.cut(body, last + 2, size))
        except ValueError:
            proof = b""
        if len(proof) != KEY_SIZE:
            raise violation("malformed SCRAM message", "malformed proof in client-final-message")
        return octets.cut(body, 0, last - 1), proof
