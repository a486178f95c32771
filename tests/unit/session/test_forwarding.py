"""What needs no change goes through unchanged, at once, and a server is held no longer than needed."""

import pytest

from parity.builds import Build
from parity.frontend import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    call,
    copy_data,
    copy_fail,
    describe,
    execute,
    message,
    parse,
    query,
    split,
)

from .dialogue import ATTACH, BOUND, GO_ON, GOODBYE, PARSED, Talk, done, error, ready

ROW = message("D", b"\0\1\0\0\0\1x")
SMALL = 16384


def test_a_query_and_its_answer_go_through(talk: Talk) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> ROW + done() + ready()
    talk.client << ROW + done() + ready()
    assert talk.client.server is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 11])
def test_an_answer_goes_through_whatever_its_pieces(talk: Talk, size: int) -> None:
    answer = ROW + message("N", b"hello\0") + done() + ready()
    talk.client >> query("select 1")
    talk.server << query("select 1")
    for at in range(0, len(answer), size):
        talk.server >> answer[at : at + size]
    talk.client << answer
    assert talk.client.server is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 11])
def test_queries_go_through_whatever_their_pieces(talk: Talk, size: int) -> None:
    said = query("select 1") + query("") + query("select 2")
    for at in range(0, len(said), size):
        talk.client >> said[at : at + size]
    talk.server << said
    talk.server >> ready() * 2
    assert talk.client.server is talk.server
    talk.server >> ready()
    assert talk.client.server is None
    talk.client << ready() * 3


def test_a_row_is_passed_on_as_it_comes(talk: Talk) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    head = message("D", bytes(1 << 20))[:5000]
    talk.server >> head
    talk.client << head
    talk.server >> bytes(300)
    talk.client << bytes(300)


def test_a_huge_length_is_counted_right(talk: Talk) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> b"D\x7f\xff\xff\xff" + bytes(1000)
    talk.client << b"D\x7f\xff\xff\xff" + bytes(1000)
    assert not talk.server.session.between_messages()


def test_a_small_message_is_awaited_whole_before_a_server_is_asked_for(talk: Talk) -> None:
    said = query("x" * 1000)
    talk.client >> said[:-1]
    assert talk.client.verdict == GO_ON
    assert talk.client.server is None
    assert talk.client.session.waits_for_more()
    talk.client >> said[-1:]
    talk.server << said


def test_a_large_message_is_passed_on_as_it_comes(talk: Talk) -> None:
    said = query("x" * SMALL)
    talk.client >> said[:5000]
    talk.server << said[:5000]
    assert talk.client.session.half_sent()
    talk.client >> said[5000:]
    talk.server << said[5000:]
    assert not talk.client.session.half_sent()
    talk.server >> ready()
    talk.client << ready()


def test_a_server_that_answers_too_early_is_kept_till_the_message_is_sent(talk: Talk) -> None:
    said = query("x" * SMALL)
    talk.client >> said[:5000]
    talk.server << said[:5000]
    talk.server >> error("54000") + ready()
    talk.client << error("54000") + ready()
    assert talk.client.server is talk.server
    assert not talk.server.session.free()


def test_a_client_that_must_wait_loses_nothing(talk: Talk) -> None:
    talk.full = True
    talk.client >> query("one")
    assert talk.client.verdict == ATTACH
    talk.client.rest += query("two")
    talk.serve(talk.client)
    talk.server << query("one") + query("two")


@pytest.mark.parametrize("status", ["T", "E"])
def test_a_server_stays_in_a_transaction(talk: Talk, status: str) -> None:
    talk.client >> query("begin")
    talk.server << query("begin")
    talk.server >> done("BEGIN") + ready(status)
    talk.client << done("BEGIN") + ready(status)
    assert talk.client.server is talk.server
    talk.client >> query("rollback")
    talk.server << query("rollback")
    talk.server >> done("ROLLBACK") + ready()
    talk.client << done("ROLLBACK") + ready()
    assert talk.client.server is None


def test_a_server_stays_while_it_owes_answers(talk: Talk) -> None:
    talk.client >> query("one") + query("two")
    talk.server << query("one") + query("two")
    talk.server >> ready()
    assert talk.client.server is talk.server
    talk.server >> ready()
    talk.client << ready() * 2
    assert talk.client.server is None


def test_a_server_stays_while_a_pipeline_is_not_ended_by_sync(talk: Talk) -> None:
    said = query("one") + parse("", "two") + bind("") + FLUSH
    talk.client >> said
    talk.server << said
    # All of it arrives at once, and owes nothing more: but the portal of `two` is there.
    talk.server >> ready() + PARSED + BOUND
    talk.client << ready() + PARSED + BOUND
    assert talk.client.server is talk.server


def test_flush_without_sync_is_passed_on(talk: Talk) -> None:
    talk.client >> parse("", "select 1") + describe("") + FLUSH
    talk.server << parse("", "select 1") + describe("") + FLUSH
    talk.server >> PARSED + message("t", b"\0\0") + message("n")
    talk.client << PARSED + message("t", b"\0\0") + message("n")
    assert talk.client.server is talk.server
    talk.forward(talk.client, SYNC, ready())
    assert talk.client.server is None


def test_a_function_call_is_answered_once(talk: Talk) -> None:
    talk.forward(talk.client, call(7), message("V", b"\0\0\0\0") + ready())
    assert talk.client.server is None


def test_an_error_in_a_query_ends_with_ready(talk: Talk) -> None:
    talk.client >> query("one") + query("two")
    talk.server << query("one") + query("two")
    talk.server >> error("42601") + ready()
    talk.client << error("42601") + ready()
    assert not talk.server.session.awaits_more()
    talk.server >> done() + ready()
    talk.client << done() + ready()


def test_after_an_error_nothing_is_sent_till_sync(talk: Talk) -> None:
    talk.client >> parse("", "nonsense")
    talk.server << parse("", "nonsense")
    talk.server >> error("42601")
    talk.client << error("42601")
    talk.client >> bind("") + execute() + query("ignored too")
    talk.server << b""
    talk.forward(talk.client, SYNC, ready())
    assert talk.client.server is None


def test_asynchronous_messages_go_through(talk: Talk) -> None:
    talk.client >> query("listen x")
    talk.server << query("listen x")
    said = message("A", b"\0\0\0\1x\0\0") + message("N", b"\0") + done("LISTEN") + ready()
    talk.server >> said
    talk.client << said


def test_an_empty_query_is_answered(talk: Talk) -> None:
    talk.forward(talk.client, query(""), message("I") + ready())


# Without a server.


def test_sync_alone_needs_no_server(talk: Talk) -> None:
    talk.client >> SYNC + SYNC
    talk.client << ready() * 2
    assert talk.client.server is None


def test_a_malformed_sync_is_for_the_server_to_judge(talk: Talk) -> None:
    talk.client >> message("S", b"x")
    talk.server << message("S", b"x")


@pytest.mark.parametrize("ignored", [FLUSH, copy_data(b"x" * 100), COPY_DONE, copy_fail("so")])
def test_what_postgresql_ignores_needs_no_server(talk: Talk, ignored: bytes) -> None:
    for byte in ignored * 2:
        talk.client >> bytes((byte,))
    assert talk.client.verdict == GO_ON
    assert talk.client.server is None


def test_stray_copy_data_is_dropped_without_being_held(talk: Talk) -> None:
    talk.client >> copy_data(bytes(1 << 20))[:5000]
    assert talk.budget.used == 0
    talk.client >> bytes((1 << 20) + 5 - 5000) + SYNC
    talk.client << ready()


def test_terminate_says_goodbye(talk: Talk) -> None:
    talk.client >> TERMINATE
    assert talk.client.verdict == GOODBYE


def test_what_follows_terminate_is_not_read(talk: Talk) -> None:
    talk.client >> TERMINATE + b"garbage"
    assert talk.client.verdict == GOODBYE
    assert talk.client.rest == b"garbage"


def test_terminate_comes_after_what_was_asked_before(talk: Talk) -> None:
    talk.client >> query("insert") + TERMINATE
    talk.server << query("insert")
    assert talk.client.verdict == GOODBYE
    assert talk.server.session.replies.head


# Leaving a server behind.


def test_a_server_left_in_a_pipeline_is_rolled_back_and_synced(talk: Talk) -> None:
    talk.client >> parse("", "insert") + bind("") + execute()
    talk.server << parse("", "insert") + bind("") + execute()
    talk.client.session.unlink()
    talk.server.client = None
    sent = list(split(talk.server.session.abandon()))
    assert [kind for kind, _ in sent] == ["P", "B", "E", "S"]
    assert sent[0][1].startswith(b"\0ROLLBACK\0")
    assert not talk.server.session.free()
    talk.server >> PARSED + BOUND + done("INSERT 0 1") + PARSED + BOUND + done("ROLLBACK") + ready()
    assert talk.server.session.free()


def test_a_server_left_after_an_error_is_synced(talk: Talk) -> None:
    talk.client >> parse("", "nonsense")
    talk.server << parse("", "nonsense")
    talk.server >> error("42601")
    talk.client << error("42601")
    talk.client.session.unlink()
    talk.server.client = None
    assert talk.server.session.abandon() == SYNC
    talk.server >> ready()
    assert talk.server.session.free()


def test_a_server_left_in_a_copy_is_freed(talk: Talk) -> None:
    talk.client >> query("copy t from stdin")
    talk.server << query("copy t from stdin")
    talk.server >> message("G", b"\0\0\0")
    talk.client << message("G", b"\0\0\0")
    talk.client.session.unlink()
    talk.server.client = None
    assert talk.server.session.abandon().startswith(b"f")
    talk.server >> error("57014") + ready()
    assert talk.server.session.free()


def test_a_server_left_in_a_query_needs_only_time(talk: Talk) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.client.session.unlink()
    talk.server.client = None
    assert talk.server.session.abandon() == b""
    talk.server >> ROW + done() + ready()
    assert talk.server.session.free()


# Other pools.


def test_without_rewriting_statements_go_through(build: Build) -> None:
    talk = Talk(build, rewrite=False)
    said = parse("s", "select 1") + bind("s") + execute() + SYNC
    talk.client >> said
    talk.server << said
    talk.server >> PARSED + BOUND + done() + ready()
    talk.client << PARSED + BOUND + done() + ready()
    assert talk.client.server is None
    talk.nothing_left()
