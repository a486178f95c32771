"""Which backend carries the transport: what was asked for, what the build has, what the kernel allows."""

from ..build import is_extension
from .epoll import EpollBackend
from .transport import Transport


class Unavailable(Exception):
    """io_uring can't be used; the text says why."""


def uring_transport() -> Transport:
    """A transport on io_uring. Raises Unavailable."""
    if not is_extension("pglido.transport.uring"):
        raise Unavailable("pglido was built without liburing")
    from .uring import UringBackend

    try:
        return UringBackend()
    except OSError as error:
        raise Unavailable(f"the kernel does not allow it: {error.strerror}") from error


def new_transport(wanted: str) -> tuple[Transport, str]:
    """A transport for `wanted`, a value of the setting event_backend; and why it is not on io_uring, if it could be.

    `auto` is io_uring wherever it can be: a transaction costs a seventh to a quarter less CPU than on epoll.
    """
    if wanted == "epoll":
        return EpollBackend(), ""
    try:
        return uring_transport(), ""
    except Unavailable as error:
        return EpollBackend(), str(error)
