"""The relay without its sockets: bytes in, bytes out, for tests, measurements and whoever replays a dialogue.

The relay does the same with one receive buffer for all; here each call brings its own.
"""

from .client.dispatch import Client
from .outbox import Outbox
from .server.reader import Server


def from_client(client: Client, data: bytes) -> tuple[int, int, bytes, bytes]:
    """Take what the client sent: verdict, how much of `data` was used, bytes to the server, bytes to the client.

    After ATTACH link a server and call again with what was not used.
    """
    to_server = Outbox()
    to_client = Outbox()
    used = client.take(data, 0, len(data), to_server, to_client)
    return client.verdict, used, to_server.collected(data), to_client.collected(data)


def from_server(server: Server, data: bytes) -> tuple[int, bytes]:
    """Take what the server sent: 0 or (the server can't be trusted: `fault`) -1, and bytes to its client."""
    to_client = Outbox()
    result = server.take(data, len(data), to_client)
    return result, to_client.collected(data)


def batch_event(server: Server, event: int) -> None:
    """Have this happen to the batch on a server (see `session.server.batch`)."""
    server.on_batch(event)
