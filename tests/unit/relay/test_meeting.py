"""A connection that was just taken is dealt with at once, as far as it has said something already."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from harness.switchboard import Far, Switchboard
from pglido.transport.connection import Link

# What is kept of what nobody reads.
LIMIT = 65536


def met(board: Switchboard, said: bytes, waiter: Callable[[Any], None] | None, *, gone: bool = False) -> Far:
    """A link that is met when its far end has said this already, and maybe left."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LIMIT)
    assert not said or far.send(said) == len(said)
    if gone:
        far.close()
    link = Link(near.detach())
    link.waiter = waiter
    board.far.append(Far(board, far, link))
    board.transport.meet(link)
    return board.far[-1]


def test_what_was_said_before_is_found_at_once(board: Switchboard) -> None:
    found: list[bytes | None] = []
    far = met(board, b"hello", lambda link: found.append(link.inbox))
    assert found == [b"hello"]
    far.link.waiter = lambda link: found.append(link.inbox)
    far.say(b" again")
    assert found == [b"hello", b"hello again"]


def test_one_that_says_nothing_yet_is_waited_for(board: Switchboard) -> None:
    found: list[bytes | None] = []
    far = met(board, b"", lambda link: found.append(link.inbox))
    board.turn()
    assert not found
    far.say(b"hello")
    assert found == [b"hello"]


@pytest.mark.parametrize("said", [b"", b"hello"])
def test_one_that_is_gone_is_told_of(board: Switchboard, said: bytes) -> None:
    found: list[bytes | None] = []
    far = met(board, said, lambda link: found.append(link.inbox), gone=True)
    board.turn()
    assert found == [said or None]
    assert far.link.eof


def test_one_that_says_very_much_is_not_read_for_ever(board: Switchboard) -> None:
    far = met(board, bytes(2 * LIMIT), None)
    board.turn()
    assert len(far.link.inbox) == LIMIT


def test_a_bug_while_it_is_met_ends_this_one_alone(board: Switchboard) -> None:
    def waiter(link: Any) -> None:
        raise RuntimeError("bug")

    other = met(board, b"", None)
    assert met(board, b"hello", waiter).ended()
    assert board.dispatcher.log == [("failed",)]
    assert not other.ended()
