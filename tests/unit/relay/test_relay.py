"""The relay carries bytes, holds few of them back, and outlives whatever its connections do."""

import os
import socket
from collections.abc import Callable

import pytest

from harness.switchboard import Switchboard
from parity.frontend import COPY_DONE, FLUSH, SYNC, TERMINATE, bind, copy_data, execute, message, parse, query

READY = message("Z", b"I")
IN_BLOCK = message("Z", b"T")
DONE = message("C", b"SELECT 1\0")
BUFFER = 65536
MEGABYTE = 1 << 20

Make = Callable[..., Switchboard]


def test_bytes_go_both_ways(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select 1"))
    assert server.hear() == query("select 1")
    server.say(DONE + READY)
    assert client.hear() == DONE + READY
    assert list(board.dispatcher.idle) == [server.link]
    assert (board.stats.queries, board.stats.transactions) == (1, 1)
    assert board.stats.received == len(query("select 1"))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_bytes_go_both_ways_in_any_pieces(board: Switchboard, size: int) -> None:
    client, (server,) = board.client(), board.servers
    said = parse("s", "select 1") + bind("s") + execute() + SYNC
    for at in range(0, len(said), size):
        client.say(said[at : at + size])
    assert server.hear().startswith(b"P")
    answer = message("1") + message("2") + DONE + READY
    for at in range(0, len(answer), size):
        server.say(answer[at : at + size])
    assert client.hear() == answer


def test_two_clients_share_one_server_in_turn(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("one"))
    two.say(query("two"))
    assert server.hear() == query("one")
    server.say(READY)
    assert one.hear() == READY
    assert server.hear() == query("two")
    server.say(DONE + READY)
    assert (one.hear(), two.hear()) == (b"", DONE + READY)


def test_what_a_waiting_client_sends_is_kept_in_order(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("one"))
    for word in ("a", "b", "c"):
        two.say(query(word))
    assert server.hear() == query("one")
    server.say(READY)
    assert server.hear() == query("a") + query("b") + query("c")


def test_a_client_in_a_transaction_keeps_its_server(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("begin"))
    server.say(IN_BLOCK)
    two.say(query("two"))
    assert server.hear() == query("begin")
    one.say(query("commit"))
    assert server.hear() == query("commit")
    server.say(READY)
    assert server.hear() == query("two")


@pytest.mark.parametrize("ready", [READY, IN_BLOCK], ids=["idle", "in a block"])
def test_each_query_begins_when_it_is_asked(board: Switchboard, ready: bytes) -> None:
    """However long its transaction lasts already: by that query_timeout goes."""
    client, (server,) = board.client(), board.servers
    answered = 0.0
    for _ in range(4):
        client.say(query("select 1"))
        assert client.link.asked >= answered > -1
        assert client.link.asked > 0
        server.say(DONE + ready)
        assert client.link.asked == 0
        answered = client.link.rested


def test_a_client_of_a_session_pool_keeps_its_server(make: Make) -> None:
    board = make(keep=True)
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("one"))
    server.say(READY)
    two.say(query("two"))
    assert server.hear() == query("one")
    one.say(TERMINATE)
    assert server.hear() == query("two")


def test_a_block_in_statement_mode_is_refused(make: Make) -> None:
    board = make(block=False)
    client, (server,) = board.client(), board.servers
    client.say(query("begin"))
    server.say(IN_BLOCK)
    assert ("block refused",) in board.dispatcher.log


def test_a_name_that_depends_on_an_answer_waits_for_it(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(parse("s", "nonsense") + SYNC + parse("s", "select 1") + SYNC)
    assert server.hear().count(b"nonsense") == 1
    server.say(message("E", b"SERROR\0C42601\0Mno\0\0") + READY)
    assert server.hear().endswith(b"select 1\0\0\0" + SYNC)
    server.say(message("1") + READY)
    assert client.hear().endswith(message("1") + READY)


# Idle connections.


def test_a_connection_at_rest_owns_no_buffer(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    assert client.carry(query("x" * MEGABYTE), server) == query("x" * MEGABYTE)
    row = message("D", bytes(MEGABYTE))
    assert server.carry(row + READY, client) == row + READY
    for link in (client.link, server.link):
        assert link.out is None
        assert link.inbox is None


def test_more_connections_than_events_in_a_round(make: Make) -> None:
    board = make(servers=300)
    clients = [board.client() for _ in range(300)]
    for client in clients:
        client.sock.send(query("hello"))
    board.turn()
    for server in board.servers:
        server.sock.send(READY)
    assert [client.hear() for client in clients] == [READY] * 300


# Back-pressure.


def test_a_client_that_does_not_read_stops_its_server(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select everything"))
    answer = message("D", bytes(range(256)) * 64) * 1000 + DONE + READY
    sent = server.push(answer)
    assert sent < len(answer) // 4
    assert len(client.link.out) <= BUFFER
    heard = b""
    while len(heard) < len(answer):
        heard += client.hear()
        sent += server.push(answer[sent:])
        assert client.link.out is None or len(client.link.out) <= BUFFER
    assert heard == answer
    assert client.link.out is None
    assert list(board.dispatcher.idle) == [server.link]


def test_a_server_that_does_not_read_stops_its_client(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("copy t from stdin"))
    server.say(message("G", b"\0\0\0"))
    data = copy_data(bytes(range(256)) * 64) * 1000 + COPY_DONE
    sent = client.push(data)
    assert sent < len(data) // 4
    assert len(server.link.out) <= BUFFER
    heard = b""
    while not heard.endswith(data[-5:]) or len(heard) < len(data):
        heard += server.hear()
        sent += client.push(data[sent:])
        assert server.link.out is None or len(server.link.out) <= BUFFER
    assert heard == query("copy t from stdin") + data


def test_a_waiting_client_is_not_read_for_ever(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("one"))
    flood = query("x" * 1000) * 2000
    sent = two.push(flood)
    assert sent < len(flood)
    assert len(two.link.inbox) < 2 * BUFFER
    server.hear()
    server.say(READY)
    heard = b""
    while len(heard) < len(flood):
        heard += server.hear()
        sent += two.push(flood[sent:])
    assert heard == flood


def test_a_link_that_nobody_reads_from_is_not_read_for_ever(board: Switchboard) -> None:
    login = board.link()
    assert login.push(bytes(8 * MEGABYTE)) < 4 * MEGABYTE
    assert len(login.link.inbox) < 2 * BUFFER


def test_a_slow_client_hears_all_before_it_is_closed(board: Switchboard) -> None:
    far = board.link()
    board.transport.send(far.link, bytes(MEGABYTE))
    board.transport.send_and_close(far.link, b"the end")
    assert not far.link.closed
    heard = b""
    while not far.ended():
        heard += far.hear()
    assert heard == bytes(MEGABYTE) + b"the end"
    assert far.link.closed


def test_what_a_server_said_last_reaches_a_slow_client(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    answer = message("D", bytes(1000)) * 5000
    sent = server.push(answer)
    server.close()
    heard = b""
    while not client.ended():
        heard += client.hear()
    assert heard[:sent] == answer[:sent]


# Ends.


def test_a_client_that_leaves_frees_its_server(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    client.close()
    assert ("client gone", "client unexpected eof", None) in board.dispatcher.log
    assert not board.dispatcher.idle
    server.say(READY)
    assert list(board.dispatcher.idle) == [server.link]


def test_a_client_that_leaves_in_the_middle_of_a_pipeline(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(parse("", "insert") + bind("") + execute() + FLUSH)
    client.close()
    assert server.hear().endswith(SYNC)
    server.say(message("1") + message("2") + DONE + message("1") + message("2") + DONE + READY)
    assert list(board.dispatcher.idle) == [server.link]


def test_a_client_that_leaves_the_line(board: Switchboard) -> None:
    one, two, three, (server,) = board.client(), board.client(), board.client(), board.servers
    one.say(query("one"))
    two.say(query("two"))
    three.say(query("three"))
    two.close()
    server.say(READY)
    assert server.hear() == query("one") + query("three")


def test_terminate_comes_after_the_answer(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("insert") + TERMINATE)
    assert not client.ended()
    server.say(DONE + READY)
    assert client.hear() == DONE + READY
    assert client.ended()
    assert list(board.dispatcher.idle) == [server.link]


def test_a_server_that_dies_while_it_answers(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    server.close()
    assert b"server conn crashed?" in client.hear()
    assert client.ended()
    assert ("server gone", "server conn crashed?") in board.dispatcher.log


def test_a_server_that_dies_idle(board: Switchboard) -> None:
    (server,) = board.servers
    server.close()
    assert not board.dispatcher.idle
    assert server.link.closed


def test_a_server_that_talks_garbage(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    server.say(b"HTTP/1.1 400 Bad Request\r\n")
    assert client.ended() or client.hear()
    assert server.link.closed
    assert any(what[0] == "server gone" and "garbage" in what[1] for what in board.dispatcher.log)


def test_a_client_that_talks_garbage(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(b"GET / HTTP/1.1\r\n")
    assert client.link.closed
    fault = ("08P01", "invalid frontend message type 71")
    assert board.dispatcher.log == [("client gone", "protocol violation", fault)]
    assert server.hear() == b""


def test_both_leave_at_once(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    client.sock.close()
    server.sock.close()
    board.turn()
    assert client.link.closed
    assert server.link.closed


def test_a_client_that_leaves_with_much_to_read(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    server.push(message("D", bytes(1000)) * 5000)
    client.close()
    assert client.link.closed
    assert client.link.out is None


def test_closing_twice_is_harmless(board: Switchboard) -> None:
    far = board.link()
    board.transport.close(far.link)
    board.transport.close(far.link)
    board.transport.send(far.link, b"x")
    board.transport.send_and_close(far.link, b"x")
    assert far.ended()


def test_a_link_that_is_let_go_keeps_its_descriptor(board: Switchboard) -> None:
    far = board.link()
    with socket.socket(fileno=board.transport.release(far.link)) as sock:
        far.say(b"hello")
        assert sock.recv(10) == b"hello"
    assert far.link.inbox is None


def test_a_bug_in_the_dispatcher_ends_one_connection(board: Switchboard, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    attach = board.dispatcher.attach
    monkeypatch.setattr(board.dispatcher, "attach", lambda client: 1 // 0)
    one.say(query("one"))
    assert ("failed",) in board.dispatcher.log
    monkeypatch.setattr(board.dispatcher, "attach", attach)
    two.say(query("two"))
    assert server.hear() == query("two")
    server.say(READY)
    assert two.hear() == READY


def test_a_client_closed_by_the_dispatcher_in_the_same_round(make: Make) -> None:
    board = make(servers=0)
    one, two = board.client(), board.client()
    attach = board.dispatcher.attach

    def close_the_other(client: object) -> bool:
        board.transport.close(two.link)
        return attach(client)

    board.dispatcher.attach = close_the_other  # type: ignore[method-assign]
    one.sock.send(query("one"))
    two.sock.send(query("two"))
    board.turn()
    assert two.link.closed


def test_no_descriptor_is_left(make: Make) -> None:
    before = len(os.listdir("/proc/self/fd"))
    board = make(servers=5)
    for _ in range(20):
        client = board.client()
        client.say(query("select"))
        client.close()
    board.close()
    # The poller's own one stays.
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# Raw.


def test_raw_links_pass_everything(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    one.say(b"early")
    board.transport.join_raw(one.link, two.link)
    one.say(b"\0\xff garbage")
    two.say(b"back")
    assert two.hear() == b"early\0\xff garbage"
    assert one.hear() == b"back"


def test_raw_links_hold_each_other_back(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    flood = bytes(range(256)) * 32768
    sent = one.push(flood)
    assert sent < len(flood)
    assert len(two.link.out) <= BUFFER
    heard = b""
    while len(heard) < len(flood):
        heard += two.hear()
        sent += one.push(flood[sent:])
    assert heard == flood


def test_a_raw_link_that_ends_ends_the_other(board: Switchboard) -> None:
    one, two = board.link(), board.link()
    board.transport.join_raw(one.link, two.link)
    one.say(b"bye")
    one.close()
    assert two.hear() == b"bye"
    assert two.ended()
