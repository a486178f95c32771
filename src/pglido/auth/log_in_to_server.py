"""Log in to PostgreSQL: the client's side of trust, password, md5, SCRAM-SHA-256 and -PLUS.

What a server sends is not trusted: every length is bounded before it is used, a long calculation is refused,
and a server that took a SCRAM login but can't sign is not believed.
"""

import struct
from base64 import b64encode
from collections.abc import Callable, Generator
from dataclasses import dataclass
from hmac import compare_digest

from ..protocol import codes
from ..protocol.messages import message
from ..protocol.octets import xor
from . import scram
from .errors import AuthError, OtherVerifier, violation
from .secrets import (
    KEY_SIZE,
    Credentials,
    Md5,
    Plain,
    Unset,
    Verifier,
    md5_response,
    md5_secret,
    raw,
)

# Methods a server may ask for that this side does not know (protocol chapter, "Start-up").
_OTHER_METHODS = {2: "Kerberos V5", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

# Derived keys of the passwords that pools log in with: there are as many as users and servers.
_DERIVATIONS = scram.Derivations(1024)

_INT = struct.Struct("!i")

Challenge = tuple[int, bytes]
Dialogue = Generator[bytes | None, Challenge, None]


@dataclass(frozen=True, slots=True)
class _Login:
    user: str
    credentials: Credentials
    binding: bytes | None
    rng: scram.Random


def answer(user: str, credentials: Credentials, *, binding: bytes | None, rng: scram.Random) -> Dialogue:
    """Is sent each authentication request as (code, what follows it in the 'R' body), yields what to send.

    The first `next` yields None: nothing is to be sent before the server has asked. After that each `send`
    yields a complete 'p' message, or None when there is nothing to send; ends at AuthenticationOk.
    `binding` is the tls-server-end-point hash of the server's certificate where TLS is in use.
    Raises AuthError; the connection is to be closed then.
    """
    login = _Login(user, credentials, binding, rng)
    code, data = yield None
    if code == codes.AUTH_OK:
        return
    method = _METHODS.get(code)
    if method is None:
        raise _unsupported(code)
    yield from method(login, data)


def _cleartext(login: _Login, data: bytes) -> Dialogue:
    if not isinstance(login.credentials, Plain):
        raise _missing(login, "a password in clear", "cleartext")
    yield from _last(_password(raw(login.credentials.password)))


def _md5(login: _Login, salt: bytes) -> Dialogue:
    if len(salt) != 4:
        raise _broken("an MD5 challenge without a salt of 4 bytes")
    match login.credentials:
        case Plain(password):
            secret = md5_secret(password, login.user)
        case Md5():
            secret = login.credentials
        case _:
            raise _missing(login, "a password in clear or its MD5 secret", "MD5")
    yield from _last(_password(md5_response(secret, salt)))


def _password(text: bytes) -> bytes:
    return message(codes.PASSWORD, text + b"\0")


def _last(reply: bytes) -> Dialogue:
    code, _ = yield reply
    if code != codes.AUTH_OK:
        raise _broken(f"authentication request {code} after the password was sent")


def _scram(login: _Login, data: bytes) -> Dialogue:
    if not isinstance(login.credentials, Plain | scram.Keys):
        raise _missing(login, "a password in clear, or the very verifier of the server", "SCRAM")
    mechanism, gs2 = _choose(data, login.binding)
    own = scram.fresh_nonce(login.rng)
    bare = b"n=,r=" + own
    first = gs2 + bare
    server_first = yield from _challenge(
        message(codes.PASSWORD, mechanism + b"\0" + _INT.pack(len(first)) + first), codes.AUTH_SASL_CONTINUE
    )
    nonce, salt, iterations = _server_first(server_first, own)
    keys = _keys(login, salt, iterations)

    binding = login.binding if gs2 == scram.END_POINT and login.binding else b""
    unproved = b"c=%b,r=%b" % (b64encode(gs2 + binding), nonce)
    auth_message = b"%b,%b,%b" % (bare, server_first, unproved)
    proof = xor(keys.client_key, scram.sign(keys.stored_key, auth_message))
    final = b"%b,p=%b" % (unproved, b64encode(proof))
    server_final = yield from _challenge(message(codes.PASSWORD, final), codes.AUTH_SASL_FINAL)
    _check_signature(server_final, scram.sign(keys.server_key, auth_message))
    code, _ = yield None
    if code != codes.AUTH_OK:
        raise _broken(f"authentication request {code} after SCRAM was complete")


def _challenge(reply: bytes, expected: int) -> Generator[bytes, Challenge, bytes]:
    """Send `reply` and take the next SCRAM message, of code `expected`."""
    code, data = yield reply
    if code != expected:
        raise _broken(f"authentication request {code} in the middle of SCRAM, expected {expected}")
    if len(data) > scram.MAX_MESSAGE:
        raise _broken(f"a SCRAM message of {len(data)} bytes")
    return data


def _choose(data: bytes, binding: bytes | None) -> tuple[bytes, bytes]:
    """Mechanism and GS2 header; "y" tells a server that seems not to know channel binding that we do."""
    if len(data) > scram.MAX_MESSAGE or not data.endswith(b"\0\0"):
        raise _broken("an unreadable list of SASL mechanisms")
    offered = data[:-2].split(b"\0")
    if binding is not None and scram.SCRAM_PLUS in offered:
        return scram.SCRAM_PLUS, scram.END_POINT
    if scram.SCRAM in offered:
        return scram.SCRAM, b"n,," if binding is None else b"y,,"
    raise _failed(f"the server offers none of the SASL mechanisms known here, but {data[:100]!a}")


def _server_first(data: bytes, own_nonce: bytes) -> tuple[bytes, bytes, int]:
    match = scram.SERVER_FIRST.fullmatch(data)
    if match is None:
        raise _broken("an unreadable SCRAM server-first-message")
    nonce, iterations = match["nonce"], int(match["iterations"])
    if not nonce.startswith(own_nonce) or len(nonce) == len(own_nonce):
        raise _broken("a SCRAM nonce that is not ours continued")
    if not 1 <= iterations <= scram.MAX_ITERATIONS:
        raise _broken(f"{iterations} SCRAM iterations, of which at most {scram.MAX_ITERATIONS} are done here")
    try:
        return nonce, scram.unbase64(match["salt"]), iterations
    except ValueError:
        raise _broken("a SCRAM salt that is not Base64") from None


def _keys(login: _Login, salt: bytes, iterations: int) -> scram.Derived:
    if isinstance(login.credentials, Plain):
        return _DERIVATIONS.get(login.credentials.password, salt, iterations)
    keys = login.credentials
    assert isinstance(keys, scram.Keys)
    if (keys.salt, keys.iterations) != (salt, iterations):
        raise OtherVerifier(
            "28000",
            "server login failed",
            f'the server has another SCRAM verifier for user "{login.user}" than the client proved itself '
            "by: copy the server's (rolpassword in pg_authid) into the user list, use auth_query, "
            "or set the password in clear",
        )
    return scram.Derived(keys.client_key, scram.digest(keys.client_key), keys.server_key)


def derives(credentials: Credentials, code: int, data: bytes) -> bool:
    """Whether the answer to an authentication request takes a key derivation, which takes long."""
    if code != codes.AUTH_SASL_CONTINUE or not isinstance(credentials, Plain) or len(data) > scram.MAX_MESSAGE:
        return False
    match = scram.SERVER_FIRST.fullmatch(data)
    if match is None or int(match["iterations"]) > scram.MAX_ITERATIONS:
        return False
    try:
        salt = scram.unbase64(match["salt"])
    except ValueError:
        return False
    return _DERIVATIONS.find(credentials.password, salt, int(match["iterations"])) is None


def _check_signature(data: bytes, expected: bytes) -> None:
    match = scram.SERVER_FINAL.fullmatch(data)
    if match is None:
        raise _broken("an unreadable SCRAM server-final-message")
    if match["signature"] is None:
        raise _failed(f"the server refused the SCRAM exchange: {match['error']!a}")
    try:
        signature = scram.unbase64(match["signature"])
    except ValueError:
        signature = b""
    if len(signature) != KEY_SIZE or not compare_digest(signature, expected):
        raise _failed("the server's SCRAM signature is wrong: it does not know the user's verifier")


_METHODS: dict[int, Callable[[_Login, bytes], Dialogue]] = {
    codes.AUTH_CLEARTEXT: _cleartext,
    codes.AUTH_MD5: _md5,
    codes.AUTH_SASL: _scram,
}


def _broken(what: str) -> AuthError:
    return violation("server login failed: protocol error", f"the server sent {what}")


def _failed(log_text: str) -> AuthError:
    return AuthError("28000", "server login failed", log_text)


def _unsupported(code: int) -> AuthError:
    name = _OTHER_METHODS.get(code)
    if name is None:
        return _broken(f"authentication request {code} where a method was expected")
    return AuthError(
        "28000",
        "server login failed: unknown authentication method",
        f"the server asks for {name}, which is not supported: set scram-sha-256 in its pg_hba.conf",
    )


def _missing(login: _Login, needed: str, method: str) -> AuthError:
    have = _HAVE[type(login.credentials)]
    return AuthError(
        "28000",
        "server login failed: wrong password type",
        f'cannot do {method} authentication as user "{login.user}": it needs {needed}; there is {have}',
    )


_HAVE: dict[type[Credentials], str] = {
    Unset: "no password: set one for the user, the database or in the user list",
    Plain: "a password in clear",
    Md5: "only an MD5 secret: set the password in clear or the server's SCRAM verifier",
    Verifier: "only a SCRAM verifier, and no client has proved itself by it: set the password in clear",
    scram.Keys: "only the SCRAM keys of a client's login: set the password in clear",
}
