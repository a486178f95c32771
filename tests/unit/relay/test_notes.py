"""What a client did not ask for reaches it between two transactions, or where one ends; whole and in order."""

from collections.abc import Callable

import pytest

from harness.switchboard import Switchboard
from parity.frontend import SYNC, TERMINATE, execute, message, parse, query

READY = message("Z", b"I")
IN_BLOCK = message("Z", b"T")
ROW = message("D", b"\0\1\0\0\0\1x")
DONE = message("C", b"SELECT 1\0")

Make = Callable[..., Switchboard]


def note(text: bytes) -> bytes:
    """A NotificationResponse."""
    return message("A", b"\0\0\0\1channel\0" + text + b"\0")


def test_a_client_without_a_server_gets_it_at_once(board: Switchboard) -> None:
    client = board.client()
    assert board.relay.notify(client.link, note(b"1")) == 0
    assert client.hear() == note(b"1")
    assert client.link.notes is None


def test_it_waits_for_the_end_of_the_transaction(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("begin"))
    server.say(IN_BLOCK)
    assert client.hear() == IN_BLOCK
    assert board.relay.notify(client.link, note(b"1")) == len(note(b"1"))
    client.say(query("commit"))
    assert board.relay.notify(client.link, note(b"2")) == len(note(b"12")) * 2 - 2
    assert client.hear() == b""
    server.say(DONE + READY)
    assert client.hear() == DONE + note(b"1") + note(b"2") + READY
    assert client.link.notes is None


def test_no_message_is_broken_in_two(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    server.say(ROW[:7])
    board.relay.notify(client.link, note(b"1"))
    server.say(ROW[7:] + DONE + READY[:3])
    server.say(READY[3:])
    assert client.hear() == ROW + DONE + note(b"1") + READY


def test_in_a_pipeline_it_comes_where_the_first_transaction_ends(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("one") + query("two"))
    board.relay.notify(client.link, note(b"1"))
    server.say(DONE + READY)
    assert client.hear() == DONE + note(b"1") + READY
    server.say(DONE + READY)
    assert client.hear() == DONE + READY


def test_it_waits_for_sync(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(parse("", "select 1"))
    client.say(execute())
    board.relay.notify(client.link, note(b"1"))
    assert client.hear() == b""
    client.say(SYNC)
    server.say(message("1") + DONE + READY)
    assert client.hear().endswith(note(b"1") + READY)


def test_a_client_that_keeps_its_server_gets_it_when_that_is_idle(make: Make) -> None:
    board = make(keep=True)
    client, (server,) = board.client(), board.servers
    client.say(query("one"))
    board.relay.notify(client.link, note(b"1"))
    server.say(DONE + READY)
    assert client.hear() == DONE + note(b"1") + READY
    board.relay.notify(client.link, note(b"2"))
    assert client.hear() == note(b"2")
    assert client.link.server is server.link


@pytest.mark.parametrize("listens", [False, True])
def test_it_waits_while_it_is_not_known_what_the_client_listens_to(listens: bool, board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.link.holds, client.link.listens = True, listens
    board.relay.notify(client.link, note(b"1"))
    client.say(query("listen"))
    server.say(DONE + READY)
    board.relay.notify(client.link, note(b"2"))
    if listens:
        # The end is not kept back for it.
        board.relay.ready(client.link)
    assert client.hear() == DONE + READY
    client.link.holds = False
    board.relay.flush_notes(client.link)
    assert client.hear() == note(b"1") + note(b"2")


def test_the_end_of_a_listening_clients_transaction_is_kept_back(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.link.listens = True
    client.say(query("one"))
    server.say(DONE + READY)
    assert server.hear() == query("one")
    assert client.hear() == DONE
    assert client.link.server is None
    board.relay.notify(client.link, note(b"1"))
    client.say(query("two"))
    assert (client.hear(), server.hear()) == (b"", b"")
    board.relay.ready(client.link)
    assert (client.hear(), server.hear()) == (note(b"1") + READY, query("two"))
    board.dispatcher.catches_up = False
    server.say(DONE + READY)
    assert client.hear() == DONE + READY


def test_none_is_kept_back_within_a_block(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.link.listens = True
    client.say(query("begin"))
    server.say(DONE + IN_BLOCK)
    assert client.hear() == DONE + IN_BLOCK
    client.say(query("commit"))
    server.say(DONE + READY)
    assert client.hear() == DONE
    assert client.link.late


def test_each_transaction_of_a_listening_client_ends_before_the_next_begins(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.link.listens = True
    client.link.session.channels = frozenset([b"channel"])
    client.say(query("one") + execute() + SYNC + TERMINATE)
    for said in (query("one"), execute() + SYNC):
        assert server.hear() == said
        server.say(DONE + READY)
        assert client.hear() == DONE
        board.relay.notify(client.link, note(said))
        assert server.hear() == b""
        board.relay.ready(client.link)
        assert client.hear() == note(said) + READY
    assert client.ended()


def test_data_of_a_copy_does_not_wait_for_its_end(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.link.session.channels = frozenset([b"channel"])
    data = message("d", b"row") + message("c")
    client.say(query("copy") + data + query("next"))
    assert server.hear() == query("copy") + data
    server.say(message("G", b"\0\0\0") + DONE + READY)
    assert server.hear() == query("next")


def test_who_held_in_vain_is_settled_when_its_transaction_is_over(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("parsed, not run"))
    client.link.holds = True
    server.say(DONE + READY)
    assert board.dispatcher.log == [("heard",)]
    assert client.link.server is None


def test_a_listening_client_that_floods_while_its_end_is_kept_back_is_not_read(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.link.listens = True
    client.say(query("one"))
    server.say(DONE + READY)
    flood = query("x" * 1000) * 4000
    sent = client.push(flood)
    assert sent < len(flood)
    assert len(client.link.inbox) < len(flood) // 4


def test_the_next_transaction_of_another_is_none_of_its_business(board: Switchboard) -> None:
    one, two, (server,) = board.client(), board.client(), board.servers
    one.say(query("one"))
    two.say(query("two"))
    board.relay.notify(one.link, note(b"1"))
    server.say(READY)
    assert one.hear() == note(b"1") + READY
    server.say(READY)
    assert two.hear() == READY


def test_nothing_is_said_in_the_middle_of_a_reply_to_one_whose_server_dies(board: Switchboard) -> None:
    client, (server,) = board.client(), board.servers
    client.say(query("select"))
    server.say(ROW[:7])
    board.relay.notify(client.link, note(b"1"))
    server.close()
    assert note(b"1") not in client.hear()


def test_a_client_that_is_gone_is_told_nothing(board: Switchboard) -> None:
    client = board.client()
    client.say(TERMINATE)
    assert board.relay.notify(client.link, note(b"1")) == 0
    assert client.hear() == b""


def test_what_is_not_taken_is_counted(board: Switchboard) -> None:
    client = board.client()
    waits = 0
    for _ in range(10_000):
        waits = board.relay.notify(client.link, note(bytes(7000)))
        if waits > 100_000:
            break
    assert waits > 100_000
    assert client.hear().startswith(note(bytes(7000)))
    assert board.relay.notify(client.link, note(b"1")) == 0
