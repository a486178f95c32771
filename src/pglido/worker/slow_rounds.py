"""Rounds that take so long that clients notice: the log tells with what, and for whom."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol import codes
from ..transport.connection import HANDLED, RAW, Link
from ..transport.transport import OVERLONG, Transport
from .connections import ClientConnection, ServerConnection

log = logging.getLogger("pglido.worker")

# The messages of clients, by type.
NAMES = {
    codes.BIND: "Bind",
    codes.CLOSE: "Close",
    codes.COPY_DATA: "CopyData",
    codes.COPY_DONE: "CopyDone",
    codes.COPY_FAIL: "CopyFail",
    codes.DESCRIBE: "Describe",
    codes.EXECUTE: "Execute",
    codes.FLUSH: "Flush",
    codes.FUNCTION_CALL: "FunctionCall",
    codes.PARSE: "Parse",
    codes.QUERY: "Query",
    codes.SYNC: "Sync",
    codes.TERMINATE: "Terminate",
}


def tell(seconds: float, link: Link | None, worst: float, kind: int) -> None:
    """Log a round of so many seconds, `worst` of which went to this link, where `kind` was the last message."""
    if link is None:
        log.warning("busy for %.0f ms with coroutines (logins, opening of servers)", seconds * 1e3)
        return
    client = link.client if isinstance(link, ServerConnection) and isinstance(link.client, ClientConnection) else link
    extra = client.extra() if isinstance(client, ClientConnection | ServerConnection) else {}
    log.warning(
        "busy for %.0f ms in one round, %.0f ms of it with %s",
        *(seconds * 1e3, worst * 1e3, what_of(link, kind)),
        extra=extra,
    )


def what_of(link: Link, kind: int) -> str:
    """What was done for a link."""
    if link.mode == HANDLED:
        return NAMES.get(kind, "a message") if isinstance(link, ClientConnection) else "answers of a server"
    if link.mode == RAW:
        return "bytes that are passed on unseen"
    return "a login to a server" if isinstance(link, ServerConnection) else "a login"


@contextmanager
def measured(transport: Transport, what: str) -> Iterator[None]:
    """For what is done outside of rounds and has a name: if it takes long, the log tells."""
    began = time.monotonic()
    try:
        yield
    finally:
        now = time.monotonic()
        if now - began > OVERLONG:
            log.warning("busy for %.0f ms with %s", (now - began) * 1e3, what)
            transport.mark = now
