"""COPY in all its forms: the server stays till it is over, and a Sync is owed only where the server reads it."""

import pytest

from parity.frontend import COPY_DONE, FLUSH, SYNC, bind, copy_data, copy_fail, execute, parse, query

from .dialogue import BOUND, COPY_BOTH, COPY_IN, COPY_OUT, PARSED, Talk, done, error, ready

ROWS = copy_data(b"1\n") + copy_data(b"2\n")
EXTENDED = parse("", "copy t from stdin") + bind("") + execute()


def test_copy_out(talk: Talk) -> None:
    talk.client >> query("copy t to stdout")
    talk.server << query("copy t to stdout")
    talk.server >> COPY_OUT + ROWS
    talk.client << COPY_OUT + ROWS
    assert talk.client.server is talk.server
    talk.server >> COPY_DONE + done("COPY 2") + ready()
    talk.client << COPY_DONE + done("COPY 2") + ready()
    assert talk.client.server is None


def test_copy_in(talk: Talk) -> None:
    talk.forward(talk.client, query("copy t from stdin"), COPY_IN)
    assert not talk.server.session.free()
    talk.client >> ROWS
    talk.server << ROWS
    talk.forward(talk.client, COPY_DONE, done("COPY 2") + ready())
    assert talk.client.server is None


def test_copy_in_sent_at_once(talk: Talk) -> None:
    talk.forward(talk.client, query("copy t from stdin") + ROWS + COPY_DONE, COPY_IN + done("COPY 2") + ready())
    assert talk.client.server is None


def test_copy_in_given_up(talk: Talk) -> None:
    talk.forward(talk.client, query("copy t from stdin"), COPY_IN)
    talk.forward(talk.client, ROWS + copy_fail("no more"), error("57014") + ready())
    assert talk.client.server is None


def test_copy_in_refused_while_data_comes(talk: Talk) -> None:
    talk.forward(talk.client, query("copy t from stdin"), COPY_IN)
    talk.client >> ROWS
    talk.server << ROWS
    talk.server >> error("22P04") + ready()
    talk.client << error("22P04") + ready()
    assert talk.client.server is None
    # The rest of the data, sent before the client knew, is ignored by PostgreSQL: it needs no server.
    talk.client >> ROWS + COPY_DONE
    assert talk.client.server is None
    assert talk.client.verdict == 0


def test_copy_in_extended(talk: Talk) -> None:
    talk.forward(talk.client, EXTENDED + FLUSH, PARSED + BOUND + COPY_IN)
    talk.client >> ROWS
    talk.server << ROWS
    talk.forward(talk.client, COPY_DONE + SYNC, done("COPY 2") + ready())
    assert talk.client.server is None


def test_a_sync_sent_early_is_ignored_by_the_server_and_not_owed(talk: Talk) -> None:
    talk.forward(talk.client, EXTENDED + SYNC, PARSED + BOUND + COPY_IN)
    talk.client >> ROWS
    talk.server << ROWS
    talk.forward(talk.client, COPY_DONE + SYNC, done("COPY 2") + ready())
    assert talk.client.server is None


def test_a_sync_sent_while_data_goes_is_not_owed(talk: Talk) -> None:
    talk.forward(talk.client, EXTENDED + FLUSH, PARSED + BOUND + COPY_IN)
    talk.client >> SYNC + ROWS + SYNC
    talk.server << SYNC + ROWS + SYNC
    talk.forward(talk.client, COPY_DONE + SYNC, done("COPY 2") + ready())
    assert talk.client.server is None


def test_an_early_sync_and_all_data_sent_at_once(talk: Talk) -> None:
    said = EXTENDED + SYNC + ROWS + COPY_DONE + SYNC
    talk.forward(talk.client, said, PARSED + BOUND + COPY_IN + done("COPY 2") + ready())
    assert talk.client.server is None


def test_an_early_sync_is_owed_when_the_copy_is_refused(talk: Talk) -> None:
    talk.client >> EXTENDED + SYNC
    talk.server << EXTENDED + SYNC
    talk.server >> PARSED + BOUND + error("42P01") + ready()
    talk.client << PARSED + BOUND + error("42P01") + ready()
    assert talk.client.server is None
    talk.client >> ROWS + COPY_DONE + SYNC
    talk.client << ready()


def test_an_early_sync_is_owed_when_the_copy_was_refused_with_all_data_sent(talk: Talk) -> None:
    said = EXTENDED + SYNC + ROWS + COPY_DONE + SYNC
    talk.client >> said
    talk.server << said
    talk.server >> PARSED + BOUND + error("42P01") + ready()
    assert talk.client.server is talk.server
    talk.server >> ready()
    talk.client << PARSED + BOUND + error("42P01") + ready() * 2
    assert talk.client.server is None


def test_bad_data_behind_an_early_sync(talk: Talk) -> None:
    said = EXTENDED + SYNC + ROWS + COPY_DONE + SYNC
    talk.forward(talk.client, said, PARSED + BOUND + COPY_IN + error("22P04") + ready())
    assert talk.client.server is None


def test_copy_both_is_passed_on(talk: Talk) -> None:
    talk.forward(talk.client, query("START_REPLICATION"), COPY_BOTH + ROWS)
    talk.client >> ROWS
    talk.server << ROWS
    assert talk.client.server is talk.server


@pytest.mark.parametrize("size", [1, 3, 7])
def test_copy_in_is_followed_however_it_is_cut(talk: Talk, size: int) -> None:
    said = EXTENDED + SYNC + ROWS + COPY_DONE + SYNC + query("select 1")
    answer = PARSED + BOUND + COPY_IN + done("COPY 2") + ready() + done() + ready()
    for at in range(0, len(said), size):
        talk.client >> said[at : at + size]
    talk.server << said
    for at in range(0, len(answer), size):
        talk.server >> answer[at : at + size]
    talk.client << answer
    assert talk.client.server is None


def test_a_large_row_is_passed_on_as_it_comes(talk: Talk) -> None:
    talk.forward(talk.client, query("copy t from stdin"), COPY_IN)
    row = copy_data(bytes(100_000))
    talk.client >> row[:30_000]
    talk.server << row[:30_000]
    assert talk.client.session.half_sent()
    talk.client >> row[30_000:]
    talk.server << row[30_000:]
    assert talk.budget.used == 0


def test_a_message_out_of_place_ends_the_copy(talk: Talk) -> None:
    talk.forward(talk.client, EXTENDED + FLUSH, PARSED + BOUND + COPY_IN)
    talk.client >> parse("", "select 1") + SYNC
    talk.server << parse("", "select 1") + SYNC
    talk.server >> error("08P01", "unexpected message type 0x50 during COPY from stdin") + ready()
    talk.client << error("08P01", "unexpected message type 0x50 during COPY from stdin") + ready()
    assert talk.client.server is None
    talk.forward(talk.client, query("select 1"), done() + ready())
