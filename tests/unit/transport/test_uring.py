"""What only io_uring has to get right: requests of the past, more of them than fit, buffers that are lent."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import sandbox
from harness.switchboard import Switchboard
from parity.frontend import message, query
from pglido.transport import backends
from pglido.transport.backends import Unavailable, uring_transport

READY = message("Z", b"I")
IN_BLOCK = message("Z", b"T")


@pytest.fixture
def new_transport() -> Callable[..., object]:
    try:
        uring_transport()
    except Unavailable as why:
        pytest.skip(f"no io_uring: {why}")
    return uring_transport


def test_more_requests_than_the_ring_takes_at_once(make: Callable[..., Switchboard]) -> None:
    board = make(servers=700)
    clients = [board.client() for _ in range(700)]
    for client in clients:
        client.sock.send(query("hello"))
    board.turn()
    assert [server.hear() for server in board.servers] == [query("hello")] * 700
    for server in board.servers:
        server.sock.send(READY)
    assert [client.hear() for client in clients] == [READY] * 700


def test_what_came_before_a_link_was_let_go_is_not_lost(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    one.say(b"x")
    assert two.hear() == b"x"
    one.sock.send(b"hello")
    board.transport.release(one.link)
    assert (one.link.inbox or b"") in (b"", b"hello")
    with one.link_socket() as sock:
        left = b"" if one.link.inbox else sock.recv(10)
    assert (one.link.inbox or b"") + left == b"hello"


def test_what_could_not_be_sent_before_a_link_was_let_go_is_not_lost(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    data = bytes(range(256)) * 4096
    for at in range(0, len(data), 10_000):
        board.transport.send(two.link, data[at : at + 10_000])
        board.turn()
    board.transport.release(two.link)
    assert two.hear() + two.link.out == data
    two.link_socket().close()


def test_a_send_that_falls_short_while_others_are_heard(board: Switchboard) -> None:
    busy, one, two = board.link(), board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    data = bytes(range(256)) * 8192
    for at in range(0, len(data), 10_000):
        busy.sock.send(b"x")
        board.transport.send(two.link, data[at : at + 10_000])
        board.transport.turn(0)
    heard = two.hear()
    while len(heard) < len(data):
        heard += two.hear()
    assert heard == data


def test_a_link_that_is_not_read_brings_little_more(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select everything"))
    sent = server.push(message("D", bytes(10_000)) * 1000)
    assert sent < 10_000_000
    assert len(client.link.out) <= 65536
    client.hear()


def test_links_that_carry_much_and_little_by_turns(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    for size in (10, 100_000, 10, 10, 50_000, *[10] * 20, 1_000_000, 10):
        client.say(query("select"))
        assert server.hear() == query("select")
        row = message("D", bytes(range(256)) * (size // 256) + b"x")
        assert server.carry(row + READY, client) == row + READY


def test_a_client_that_hangs_up_with_a_request_under_way(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.sock.send(query("one"))
    one.sock.close()
    two.sock.send(query("two"))
    board.turn()
    server.say(READY)
    assert server.hear().endswith(query("two"))


def test_why_there_is_no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.new_transport("epoll")[1] == ""
    monkeypatch.setattr(backends, "is_extension", lambda name: False)
    for wanted in ("auto", "io_uring"):
        made, why = backends.new_transport(wanted)
        assert type(made).__name__ == "EpollBackend"
        assert why == "pglido was built without liburing"


def test_a_sandbox_that_forbids_it(new_transport: object) -> None:
    script = "from pglido.transport.backends import new_transport; print(new_transport('auto')[1])"
    command = [sys.executable, str(Path(sandbox.__file__)), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "the kernel does not allow it: Operation not permitted\n"
