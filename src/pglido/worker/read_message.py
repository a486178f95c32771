"""Messages read from a stream, on rare paths: logins, and what is asked of a server for the worker itself."""

from ..transport.stream import Stream, Unsafe


async def read_message(stream: Stream, limit: int) -> tuple[int, bytes]:
    """The next message: its type and body. Raises Gone, and Unsafe if its length, as it says it, exceeds `limit`."""
    head = await stream.exactly(5)
    size = int.from_bytes(head[1:], "big")
    if not 4 <= size <= limit:
        raise Unsafe(f"invalid message length {size}")
    return head[0], await stream.exactly(size - 4)
