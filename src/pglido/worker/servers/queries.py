"""Queries of pglido's own on servers of a pool, for the login of a client."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...protocol import codes, messages
from ...session.state.parameters import REPORTED, SessionParameters
from ...transport.stream import Gone, Stream, Unsafe
from ..connections import ServerConnection
from ..errors import PoolRefused
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime
from ..read_message import read_message
from .borrow import borrow, bring_back

# Answers to our own queries are short; more is no PostgreSQL.
ANSWER_LIMIT = 1 << 24
# Servers that may be lost under one login.
ATTEMPTS = 3

T = TypeVar("T")


async def on_server(
    lifecycle: Lifecycle,
    runtime: PoolRuntime,
    startup_params: SessionParameters,
    wanted: SessionParameters,
    work: Callable[[ServerConnection], Awaitable[T]],
    generation: int = 0,
) -> T:
    """What `work` comes to on a server of this generation or a later one, for the login of a client.

    Raises PoolRefused.

    A server that is lost meanwhile (PostgreSQL restarts) is no reason to turn the client away: there may be another.
    """
    lost = ""
    for _ in range(ATTEMPTS):
        server = await borrow(lifecycle, runtime, startup_params, wanted, generation)
        try:
            async with asyncio.timeout(runtime.settings.server_connect_timeout or None):
                found = await work(server)
        except (Gone, TimeoutError) as error:
            lost = "server conn crashed?" if isinstance(error, Gone) else "the server does not answer"
            lifecycle.close_server(server, f"{lost} (during the login of a client)", logging.WARNING)
        except (Unsafe, ValueError) as error:
            lost = f"server sent a malformed message: {error}"
            lifecycle.close_server(server, lost, logging.WARNING)
            raise PoolRefused("08P01", lost) from error
        except BaseException:
            lifecycle.close_server(server, "the login of a client ended")
            raise
        else:
            bring_back(lifecycle, server)
            return found
    raise PoolRefused("08006", lost)


def reported_by(server: ServerConnection) -> dict[str, str]:
    """What a server has said last of its parameters, by the names that it gives."""
    return server.reported | {REPORTED.get(name, name): value for name, value in server.session.state.last.items()}


class Rows(list[list[bytes | None]]):
    """The rows of an answer; `width` is how many columns they have, 0 where that was not described."""

    width = 0


async def ask(stream: Stream, query: bytes, reported: dict[str, str], turns: int = 1) -> Rows | PoolRefused:
    """Send messages that end in `turns` ReadyForQuery; returns the rows, or the server's error.

    Parameters that the server reports meanwhile are put into `reported`. Raises Gone.
    """
    rows = Rows()
    if not turns:
        return rows
    stream.send(query)
    refusal: PoolRefused | None = None
    while True:
        kind, body = await read_message(stream, ANSWER_LIMIT)
        if kind == codes.DATA_ROW:
            rows.append(messages.data_row(body))
        elif kind == codes.ROW_DESCRIPTION:
            rows.width = int.from_bytes(body[:2], "big")
        elif kind == codes.ERROR_RESPONSE:
            fields = messages.report_fields(body)
            refusal = PoolRefused(fields.get("C", "XX000"), fields.get("M", "no message"))
        elif kind == codes.PARAMETER_STATUS:
            name, value, *_ = [*body.split(b"\0"), b"", b""]
            reported[name.decode("utf-8", "replace")] = value.decode("utf-8", messages.ESCAPE)
        elif kind == codes.READY_FOR_QUERY:
            turns -= 1
            if not turns:
                stream.settle()
                return refusal or rows
