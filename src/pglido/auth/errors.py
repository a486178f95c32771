"""How an exchange of this room fails."""

from ..protocol.errors import PgError


class AuthError(PgError):
    """A login that ends here, as the client's or the server's side of it.

    `text` may be sent to the client as FATAL: it tells nothing that an attacker could use. `log_text` is for the
    operator only: what really happened and, where something is missing, what to do about it.
    """

    def __init__(self, sqlstate: str, text: str, log_text: str) -> None:
        super().__init__(sqlstate, text, log_text=log_text)


class OtherVerifier(AuthError):
    """A server whose verifier is not the one that a client proved itself by: its password was set again."""


class LoginRefused(PgError):
    """The server refused a login; SQLSTATE, message and severity are its own."""

    def __init__(self, sqlstate: str, text: str, severity: str = "FATAL") -> None:
        super().__init__(sqlstate, text)
        self.severity = severity


# SQLSTATE of a proof that does not hold.
WRONG_PROOF = "28P01"


class MustDerive(Exception):
    """A key must be derived first, which takes long: what raised it is to be called again where it may."""


def refused(user: str, log_text: str) -> AuthError:
    """A proof that does not hold: always PostgreSQL's own words, whatever the reason."""
    return AuthError(WRONG_PROOF, f'password authentication failed for user "{user}"', log_text)


def violation(text: str, log_text: str = "") -> AuthError:
    """A peer that does not keep to the protocol (08P01)."""
    return AuthError("08P01", text, f"{text}: {log_text}" if log_text else text)
