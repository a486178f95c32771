"""Why a worker refuses a client, or has no server for one; each is told to the client as it is."""

from ..protocol.errors import PgError


class ClientRefused(PgError):
    """The client can't come in."""


class PoolRefused(PgError):
    """The pool can't give a server."""


class LoginRefused(PgError):
    """The server refused a login; SQLSTATE and message are its own."""


class CannotOpen(PgError):
    """No server can be had now; SQLSTATE and message tell the last reason."""
