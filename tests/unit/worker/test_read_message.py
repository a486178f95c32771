"""A stream's bytes are read as messages, none longer than may be."""

import asyncio

import pytest

from harness.switchboard import Far, Switchboard, board, make, new_transport, runner
from parity.frontend import message
from pglido.transport.stream import Stream, Unsafe
from pglido.worker.read_message import read_message

__all__ = ["board", "make", "new_transport", "runner"]


def stream(board: Switchboard) -> tuple[Stream, Far]:
    """A stream, and its far end."""
    far = board.link()
    board.transport.collect(far.link)
    return Stream(board.transport, far.link), far


def test_a_message(board: Switchboard, runner: asyncio.Runner) -> None:
    it, far = stream(board)
    far.sock.send(message("R", b"\0\0\0\0") + message("Z", b"I"))

    async def job() -> list[tuple[int, bytes]]:
        return [await read_message(it, 100), await read_message(it, 100)]

    assert runner.run(job()) == [(ord("R"), b"\0\0\0\0"), (ord("Z"), b"I")]


@pytest.mark.parametrize("head", [b"R\0\0\0\0", b"R\0\0\0\3", b"R\0\0\1\0", b"R\x80\0\0\0", b"R\xff\xff\xff\xff"])
def test_an_impossible_length(board: Switchboard, runner: asyncio.Runner, head: bytes) -> None:
    it, far = stream(board)
    far.sock.send(head)
    with pytest.raises(Unsafe):
        runner.run(read_message(it, 100))
