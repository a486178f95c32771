"""A round receives, deals with what came, then sends: nothing is lost or comes out of order between the three."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from harness.switchboard import Switchboard
from parity.frontend import message, query
from pglido.transport.connection import Watched

READY = message("Z", b"I")
ROW = message("D", bytes(range(256)) * 4)
MEGABYTE = 1 << 20
# More than a queue takes, and more than all queues together do.
SIZES = (1, 100, 5_000, 31_000, 40_000, 200_000)

Make = Callable[..., Switchboard]


class Bell:
    """A descriptor of which the transport is told; when it is rung, `call` is done in the round that hears it."""

    def __init__(self, board: Switchboard) -> None:
        self.board = board
        self.near, self.far = os.pipe()
        self.watched = Watched(None)
        self.watched.call = self.heard
        self.call: Callable[[], object] = list
        board.transport.watch_descriptor(self.watched, self.near, 1, False)
        board.turn()

    def ring(self, call: Callable[[], object]) -> None:
        """Have this done in the next round, in front of all that comes later."""
        self.call = call
        os.write(self.far, b"x")

    def heard(self) -> None:
        os.read(self.near, 1)
        self.call()

    def close(self) -> None:
        self.board.transport.unwatch_descriptor(self.watched, self.near)
        os.close(self.near)
        os.close(self.far)


@pytest.fixture
def bell(board: Switchboard) -> Iterator[Bell]:
    made = Bell(board)
    yield made
    made.close()


def test_links_that_are_told_something_by_turns(make: Make) -> None:
    board = make()
    ears = [board.client() for _ in range(3)]
    said = [b"", b"", b""]
    for at in range(60):
        for number, ear in enumerate(ears):
            word = bytes([at, number]) * (1 + at * number)
            board.transport.send(ear.link, word)
            said[number] += word
    assert [ear.hear() for ear in ears] == said


@pytest.mark.parametrize("size", SIZES)
def test_much_and_little_in_one_round_stay_in_order(board: Switchboard, size: int) -> None:
    one, two = board.client(), board.client()
    said = b""
    for at in range(12):
        word = bytes([at]) * (size if at % 3 == 2 else 10)
        board.transport.send(one.link, word)
        board.transport.send(two.link, b"x")
        said += word
    assert one.hear() == said
    assert two.hear() == b"x" * 12


def test_more_than_all_links_may_queue(make: Make) -> None:
    board = make()
    ears = [board.client() for _ in range(60)]
    for word in (b"a" * 15_000, b"b" * 15_000, b"c" * 15_000):
        for ear in ears:
            board.transport.send(ear.link, word)
    for ear in ears:
        assert ear.hear() == b"a" * 15_000 + b"b" * 15_000 + b"c" * 15_000


def test_what_the_kernel_does_not_take_comes_later_in_order(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select everything"))
    said = b""
    while client.link.out is None:
        server.say(ROW)
        said += ROW
    # It is held back now.
    for _ in range(20):
        server.sock.send(ROW)
        said += ROW
    server.say(READY)
    assert client.hear() == said + READY


def test_a_client_gone_while_an_answer_is_queued(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("one"))
    two.say(query("two"))
    server.sock.send(READY)
    one.sock.close()
    board.turn()
    assert server.hear() == query("one") + query("two")
    server.say(READY)
    assert two.hear() == READY


def test_what_is_not_wanted_any_more_when_its_turn_comes(board: Switchboard, bell: Bell) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select everything"))
    bell.ring(lambda: board.transport.send(client.link, bytes(4 * MEGABYTE)))
    server.sock.send(ROW + ROW)
    board.transport.turn(0)
    assert client.link.out is not None
    server.sock.send(ROW + READY)
    heard = client.hear()
    assert heard == bytes(4 * MEGABYTE) + ROW * 3 + READY
    assert list(board.dispatcher.idle) == [server.link]


def test_a_link_closed_before_its_turn(board: Switchboard, bell: Bell) -> None:
    client, (server,) = board.client(), board.servers
    bell.ring(lambda: board.dispatcher.client_gone(client.link, "test"))
    client.sock.send(query("select 1"))
    board.turn()
    assert client.ended()
    # On a ring its turn may have come first.
    heard = server.hear()
    assert heard in (b"", query("select 1"))
    if heard:
        server.say(READY)
    assert list(board.dispatcher.idle) == [server.link]


def test_a_link_let_go_before_its_turn(board: Switchboard, bell: Bell) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    board.turn()
    bell.ring(lambda: board.transport.release(one.link))
    one.sock.send(b"hello")
    board.turn()
    with one.link_socket() as sock:
        kept = one.link.inbox or b""
        assert kept + (b"" if kept else sock.recv(10)) == b"hello"


def test_the_end_comes_behind_the_last_words(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    for _ in range(3):
        one.sock.send(b"goodbye")
    one.sock.close()
    assert two.hear() == b"goodbye" * 3
    assert two.ended()


def test_rounds_are_fair_to_links_that_carry_much(make: Make) -> None:
    """Results of many rows, 16 clients and 20 servers: nobody is served twice while another that is ready waits."""
    board = make(servers=20)
    clients = [board.client() for _ in range(16)]
    for client in clients:
        client.say(query("select everything"))
    servers = [far for far in board.servers if far.link.client is not None]
    assert len(servers) == len(clients)
    ears = [next(client for client in clients if client.link is far.link.client) for far in servers]
    chunk = ROW * 600
    left = [b""] * len(servers)
    times = [0] * len(servers)
    longest = 0
    for number in range(120):
        for at, far in enumerate(servers):
            left[at] = left[at] or chunk
            with suppress(BlockingIOError):
                left[at] = left[at][far.sock.send(left[at]) :]
        board.transport.turn(0)
        got = []
        for ear in ears:
            portion = 0
            with suppress(BlockingIOError):
                while data := ear.sock.recv(1 << 20):
                    portion += len(data)
            got.append(portion)
        if number >= 10:
            # By now links are known to carry much.
            longest = max(longest, *got)
        times = [count + (portion > 0) for count, portion in zip(times, got, strict=True)]
        assert max(times) - min(times) <= 1, times
    assert min(times) >= 100
    # One receive, and what was held of a message that had only begun.
    assert longest < 65536 + 5
