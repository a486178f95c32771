"""A peer that has ended its own side, or is gone, costs nothing while what it said or is to hear has to wait."""

import socket
from collections.abc import Callable

import pytest

from harness.switchboard import Far, Switchboard
from parity.frontend import TERMINATE, copy_data, message, query
from pglido.relay.stage import LEAVING

READY = message("Z", b"I")
MEGABYTE = 1 << 20
# Rounds of a transport that has nothing to do: one, and some for what comes late. One that spins makes thousands.
FEW = 10

Hold = Callable[[Switchboard], Far]


def leaving(board: Switchboard) -> Far:
    """A client that said Terminate while an answer is outstanding."""
    client = board.client()
    client.say(query("select 1") + TERMINATE)
    assert client.link.stage == LEAVING
    return client


def in_line(board: Switchboard) -> Far:
    """A client that said Terminate behind what waits in line."""
    board.client().say(query("begin"))
    client = board.client()
    client.say(query("select 2") + TERMINATE)
    assert client.link.waiting
    return client


def waiting(board: Switchboard) -> Far:
    """A client in line that has sent more than is kept."""
    board.client().say(query("begin"))
    client = board.client()
    client.push(query("x" * 1000) * 2000)
    assert client.link.waiting
    return client


def held_up(board: Switchboard) -> Far:
    """A client whose server takes no more."""
    client = board.client()
    client.say(query("copy t from stdin"))
    board.servers[0].say(message("G", b"\0\0\0"))
    client.push(copy_data(bytes(10_000)) * 1000)
    assert board.servers[0].link.out
    return client


def not_reading(board: Switchboard) -> Far:
    """A client that does not take its answer."""
    client = board.client()
    client.say(query("select"))
    board.servers[0].push(message("D", bytes(10_000)) * 1000)
    assert client.link.out
    return client


def not_read(board: Switchboard) -> Far:
    """A server whose client does not take its answer."""
    not_reading(board)
    return board.servers[0]


def not_reading_server(board: Switchboard) -> Far:
    """A server that does not take what its client sends."""
    held_up(board)
    return board.servers[0]


def raw(board: Switchboard) -> Far:
    """One of two raw links, the other of which takes no more."""
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    one.push(bytes(8 * MEGABYTE))
    assert two.link.out
    return one


def raw_not_reading(board: Switchboard) -> Far:
    """One of two raw links, that takes no more."""
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    two.push(bytes(8 * MEGABYTE))
    assert one.link.out
    return one


def flooding(board: Switchboard) -> Far:
    """A stream that nobody reads from."""
    login = board.link()
    login.push(bytes(8 * MEGABYTE))
    assert login.link.inbox
    return login


def told_to_go(board: Switchboard) -> Far:
    """A link that is closed once all is sent."""
    far = board.link()
    board.transport.send_and_close(far.link, bytes(8 * MEGABYTE))
    assert far.link.after_close
    return far


def half(far: Far) -> None:
    """End the own side only."""
    far.sock.shutdown(socket.SHUT_WR)


def gone(far: Far) -> None:
    """Close; what was not read makes it a reset."""
    far.sock.close()


HOLDS = [
    *(leaving, in_line, waiting, held_up, not_reading, not_read, not_reading_server),
    *(raw, raw_not_reading, flooding, told_to_go),
]


@pytest.mark.parametrize("hang_up", [half, gone])
@pytest.mark.parametrize("hold", HOLDS)
def test_who_hung_up_costs_no_rounds(board: Switchboard, hold: Hold, hang_up: Callable[[Far], None]) -> None:
    far = hold(board)
    hang_up(far)
    assert board.rounds() <= FEW


@pytest.mark.parametrize("hold", [leaving, held_up, not_reading, told_to_go])
def test_who_ended_its_side_and_is_gone_later_is_closed(board: Switchboard, hold: Hold) -> None:
    far = hold(board)
    half(far)
    board.turn()
    assert not far.link.closed
    gone(far)
    board.turn()
    assert far.link.closed


def test_who_leaves_and_ended_its_side_is_answered(board: Switchboard) -> None:
    client = leaving(board)
    half(client)
    answer = message("D", bytes(range(256)) * 32768) + READY
    server = board.servers[0]
    sent = server.push(answer)
    assert sent < len(answer)
    assert board.rounds() <= FEW
    heard = b""
    while len(heard) < len(answer):
        heard += client.hear()
        sent += server.push(answer[sent:])
    assert heard == answer
    assert client.ended()


def test_who_must_go_and_ended_its_side_hears_all(board: Switchboard) -> None:
    far = told_to_go(board)
    half(far)
    heard = b""
    while not far.ended():
        heard += far.hear()
    assert heard == bytes(8 * MEGABYTE)
    assert far.link.closed


def test_what_was_said_before_the_end_arrives_at_the_others_pace(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    data = bytes(range(256)) * 32768
    sent = one.push(data)
    half(one)
    board.turn()
    heard = b""
    while not two.ended():
        heard += two.hear()
    assert heard == data[:sent]


@pytest.mark.parametrize("hang_up", [half, gone])
def test_who_said_goodbye_and_hung_up_keeps_its_place_in_line(
    board: Switchboard, hang_up: Callable[[Far], None]
) -> None:
    one, two, three, (server,) = board.client(), board.client(), board.client(), board.servers
    one.say(query("one"))
    two.say(query("two") + TERMINATE)
    three.say(query("three"))
    hang_up(two)
    board.turn()
    assert not two.link.closed
    assert server.hear() == query("one")
    server.say(READY)
    assert server.hear() == query("two")
    server.say(READY)
    assert server.hear() == query("three")
    assert two.link.closed
