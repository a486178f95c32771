"""A transport needs no relay: any handler will do, and is told of nothing but what it has to deal with."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pglido.transport.connection import Link
from pglido.transport.handler import Handler
from pglido.transport.transport import Transport

ROUNDS = 12


class Told(Handler):
    """Remembers what it is told."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.log: list[tuple[str, Link]] = []
        transport.handler = self

    def go_on(self, link: Link) -> None:
        self.log.append(("goes on", link))

    def lost(self, link: Link) -> None:
        self.log.append(("lost", link))

    def failed(self, link: Link) -> None:
        self.log.append(("failed", link))
        self.transport.close(link)


class Ends:
    """Links of one transport, and what is at their far ends."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.told = Told(transport)
        self.made: list[tuple[Link, socket.socket]] = []

    def link(self) -> tuple[Link, socket.socket]:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.settimeout(10)
        link = Link(near.detach())
        self.transport.add(link)
        self.made.append((link, far))
        return link, far

    def turn(self) -> None:
        for _ in range(ROUNDS):
            self.transport.turn(0)

    def close(self) -> None:
        for link, far in self.made:
            far.close()
            self.transport.close(link)


@pytest.fixture
def ends(new_transport: Callable[[], Transport]) -> Iterator[Ends]:
    made = Ends(new_transport())
    yield made
    made.close()


def test_bytes_that_pass_unseen(ends: Ends) -> None:
    (one, client), (two, server) = ends.link(), ends.link()
    ends.transport.join_raw(one, two)
    client.send(b"asked")
    ends.turn()
    assert server.recv(100) == b"asked"
    server.send(b"answered")
    ends.turn()
    assert client.recv(100) == b"answered"
    assert ends.told.log == []
    client.close()
    ends.turn()
    assert ("lost", one) in ends.told.log


def test_what_is_collected_is_the_waiters(ends: Ends) -> None:
    link, far = ends.link()
    heard: list[Any] = []
    link.waiter = lambda link: heard.append(link.inbox)
    far.send(b"news")
    ends.turn()
    assert heard == [b"news"]
    assert ends.told.log == []


def test_the_end_of_a_link_that_nobody_waits_for(ends: Ends) -> None:
    link, far = ends.link()
    far.close()
    ends.turn()
    assert ends.told.log == [("lost", link)]
    assert link.eof


def test_the_end_of_a_link_that_somebody_waits_for(ends: Ends) -> None:
    link, far = ends.link()
    heard: list[bool] = []
    link.waiter = lambda link: heard.append(link.eof)
    far.close()
    ends.turn()
    assert heard == [True]
    assert ends.told.log == []


def test_a_bug_is_told_with_its_link(ends: Ends) -> None:
    (link, far), (other, _) = ends.link(), ends.link()
    heard: list[int] = []
    link.waiter = lambda link: heard.append(1 // 0)
    far.send(b"x")
    ends.turn()
    assert ends.told.log == [("failed", link)]
    assert link.closed
    assert not other.closed


def test_who_was_paused_goes_on_in_the_next_round_once(ends: Ends) -> None:
    link, _ = ends.link()
    ends.transport.paused.append(link)
    assert ends.told.log == []
    ends.turn()
    assert ends.told.log == [("goes on", link)]
