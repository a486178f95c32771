"""The kinds of secret that may be stored for a user, and what remains of a login for use towards a server.

None of them shows its content in a `repr`, so that none ends up in a log.
"""

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import NamedTuple

from .scram import Keys, unbase64

KEY_SIZE = 32
SALT_SIZE = 16  # PostgreSQL's SCRAM_DEFAULT_SALT_LEN.

_MD5 = re.compile(r"md5[0-9a-f]{32}")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([0-9]{1,10}):([^$:]+)\$([^$:]+):([^$:]+)")


@dataclass(frozen=True, slots=True)
class Unset:
    """A known user without a password: nothing proves who he is, but `trust` lets him in."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A password in clear; answers every kind of challenge."""

    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Md5:
    """`md5` and 32 hex digits: the MD5 of password and user name."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A SCRAM-SHA-256 verifier as in pg_authid: proves a client, and can't by itself log in anywhere."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def encoded(self) -> str:
        """PostgreSQL's text of it, `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`."""
        salt, stored, server = (b64encode(x).decode() for x in (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


Secret = Unset | Plain | Md5 | Verifier
Credentials = Unset | Plain | Md5 | Verifier | Keys


class Proof(NamedTuple):
    """A client that has proved who it is.

    `credentials` are the best that can be used towards a server. `last` goes to the client in front of
    AuthenticationOk (SCRAM's server-final-message), or is empty.
    """

    credentials: Credentials
    last: bytes = b""


def parse(text: str | None) -> Secret:
    """The secret that `text` stands for; None (SQL NULL) and "" are Unset.

    What only resembles an MD5 hash or a verifier is a plain password, as for PostgreSQL and PgBouncer.
    """
    if not text:
        return Unset()
    if _MD5.fullmatch(text):
        return Md5(text)
    return _parse_verifier(text) or Plain(text)


def _parse_verifier(text: str) -> Verifier | None:
    match = _VERIFIER.fullmatch(text)
    if match is None:
        return None
    iterations = int(match[1])
    try:
        salt, stored, server = (unbase64(part.encode()) for part in match.group(2, 3, 4))
    except ValueError:
        return None
    if not 1 <= iterations < 2**31 or len(stored) != KEY_SIZE or len(server) != KEY_SIZE:
        return None
    return Verifier(iterations, salt, stored, server)


def raw(text: str) -> bytes:
    """The bytes of a name or password that came in as UTF-8, or not quite."""
    return text.encode("utf-8", "surrogateescape")


def md5_secret(password: str, user: str) -> Md5:
    """The stored form of a password for MD5 authentication."""
    digest = hashlib.md5(raw(password) + raw(user), usedforsecurity=False)
    return Md5("md5" + digest.hexdigest())


def md5_response(secret: Md5, salt: bytes) -> bytes:
    """The answer to an MD5 challenge with this 4-byte salt (protocol chapter "AuthenticationMD5Password")."""
    inner = secret.text[3:].encode()
    return b"md5" + hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode()
