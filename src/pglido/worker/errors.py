"""Why a worker refuses a client, or has no server for one; each is told to the client as it is."""

from ..protocol.errors import PgError

# What a client is told that an operator closes: as by pg_terminate_backend().
TERMINATED = ("57P01", "terminating connection due to administrator command")


class ClientRefused(PgError):
    """The client can't come in."""


class PoolRefused(PgError):
    """The pool can't give a server."""


class DialError(PgError):
    """The server can't be reached; the text says where and why.

    SQLSTATE 08001: the way to it failed; 28000: it is not, or offers not, what TLS was required for; 08006, 08P01: it
    closed the connection, or spoke no PostgreSQL, before it had let us in.
    """


class CannotOpen(PgError):
    """No server can be had now; SQLSTATE and message tell the last reason."""
