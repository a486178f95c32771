"""The batch of a server's session: each state of the table is reached by what clients and servers say, and no other."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.builds import BUILDS, Build
from parity.frontend import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    call,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    parse,
    query,
)
from pglido.session.server import batch
from pglido.session.server.reply_kinds import QUERYING, SYNCING

from .dialogue import BOUND, CLOSED, COPY_IN, NO_DATA, PARSED, PAUSE, WAIT, Talk, done, error, ready

COPY_DATA = copy_data(b"1\n")
EXECUTED = parse("", "select 1") + bind("") + execute()


def said(data: bytes) -> Callable[[Talk], object]:
    return lambda talk: talk.client >> data


def answered(data: bytes) -> Callable[[Talk], object]:
    return lambda talk: talk.server >> data


# A batch of the extended protocol without a Sync, answered; with a Query behind it.
GOES_ON = [said(EXECUTED), answered(PARSED + BOUND + done())]
PIPED = [*GOES_ON, said(query("select 1"))]
# How each state is reached from NONE.
WAYS: dict[int, list[Callable[[Talk], object]]] = {
    batch.NONE: [said(query("select 1"))],
    batch.OPEN: [said(parse("", "select 1"))],
    batch.EXECUTED: [said(EXECUTED)],
    batch.PIPED: PIPED,
    batch.PIPED_OPEN: [*PIPED, said(parse("", "select 2"))],
    batch.PIPED_EXECUTED: [*PIPED, said(EXECUTED)],
    batch.SKIPPING: [said(parse("", "nonsense")), answered(error("42601"))],
    batch.COPYING: [said(query("copy t from stdin")), answered(COPY_IN)],
    batch.COPYING | batch.OPEN: [said(EXECUTED + SYNC), answered(PARSED + BOUND + COPY_IN)],
    batch.COPYING | batch.EXECUTED: [said(EXECUTED), answered(PARSED + BOUND + COPY_IN)],
    batch.COPYING | batch.PIPED: [*PIPED, answered(COPY_IN)],
    batch.COPYING | batch.PIPED_EXECUTED: [
        *PIPED,
        answered(done()),
        said(EXECUTED),
        answered(ready("T") + PARSED + BOUND + COPY_IN),
    ],
}


def name(state: int) -> str:
    return batch.BATCH.states[state]


@pytest.fixture
def talk(build: Build) -> Talk:
    """As elsewhere, but nobody asks what is sent."""
    return Talk(build)


@pytest.mark.parametrize("state", WAYS, ids=name)
def test_each_state_is_reached(talk: Talk, state: int) -> None:
    for step in WAYS[state]:
        step(talk)
    assert talk.server.result == 0
    assert name(talk.server.session.batch) == name(state)


def test_there_are_no_other_states() -> None:
    assert WAYS.keys() == batch.TABLE.keys()


def test_what_cannot_happen_is_an_error(build: Build) -> None:
    """While the server skips to a Sync, the client's messages are not sent: to say that one was is a bug."""
    talk = Talk(build)
    for step in WAYS[batch.SKIPPING]:
        step(talk)
    session: Any = talk.server.session
    with pytest.raises(build.session.transitions.IllegalTransition, match="batch: query while skipping"):
        build.session.in_memory.batch_event(session, QUERYING)
    assert session.batch == batch.SKIPPING
    build.session.in_memory.batch_event(session, SYNCING)
    assert session.batch == batch.NONE


def test_a_refused_copy_leaves_no_batch(talk: Talk) -> None:
    """The Sync was sent while PostgreSQL had refused the COPY already: its ReadyForQuery ends the batch."""
    talk.client >> EXECUTED
    talk.server >> PARSED + BOUND + COPY_IN
    talk.client >> COPY_DATA + SYNC
    assert talk.server.session.batch == batch.COPYING | batch.EXECUTED
    talk.server >> error("22P02") + ready()
    assert talk.server.session.batch == batch.NONE
    # Nothing of it is left for the next Query: no implicit transaction goes on behind that.
    talk.client >> query("select 1")
    assert talk.server.session.batch == batch.NONE


EXTENDED = (parse("", "select 1"), parse("s", "copy t from stdin"), bind("s"), bind(""), describe(""), close("s"))
COPIED = (query("copy t from stdin"), COPY_DATA, COPY_DONE, copy_fail("no"))
SAID = st.sampled_from([*EXTENDED, *COPIED, execute(), query("select 1"), call(7), SYNC, FLUSH])
ANSWERED = st.sampled_from(
    [PARSED, BOUND, CLOSED, NO_DATA, done(), COPY_IN, error("42601"), ready(), ready("T"), ready("E")]
)


@given(st.lists(st.one_of(SAID.map(lambda one: (True, one)), ANSWERED.map(lambda one: (False, one))), max_size=40))
def test_whatever_is_said_is_in_the_table(steps: list[tuple[bool, bytes]]) -> None:
    """Also by a server that answers what it was not asked: it may be closed, but nothing is taken for a bug."""
    talk = Talk(BUILDS[0])
    for by_client, data in steps:
        if talk.server.result or talk.client.verdict not in (0, WAIT, PAUSE):
            break
        if by_client:
            talk.client >> data
        else:
            talk.server >> data
        assert talk.server.session.batch in batch.TABLE
