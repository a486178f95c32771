"""The queue of owed replies keeps its order, and the outbox its bytes."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from parity.builds import BUILDS, SOURCE, Build

PARSING, EXECUTING, SYNCING, QUERYING, COPY_END = 1, 4, 6, 7, 9


@given(st.lists(st.one_of(st.integers(1, 8), st.none()), max_size=200))
def test_entries_come_out_in_the_order_they_went_in(steps: list[int | None]) -> None:
    for build in BUILDS:
        replies = build.session.server.reply_queue.ReplyQueue()
        wanted: list[int] = []
        for step in steps:
            if step is not None:
                replies.push(step)
                wanted.append(step)
            elif wanted:
                assert replies.head == wanted[0]
                assert replies.pop() == wanted.pop(0)
            assert replies.count == len(wanted)
            assert replies.head == (wanted[0] if wanted else 0)
            assert list(replies.entries()) == wanted


def test_a_mark_in_front_is_no_question(build: Build) -> None:
    replies = build.session.server.reply_queue.ReplyQueue()
    replies.push(COPY_END)
    replies.push(COPY_END)
    assert replies.head == 0
    assert replies.count == 0


@pytest.mark.parametrize(
    ("sent", "ended", "left"),
    [
        ([EXECUTING], False, [EXECUTING]),
        ([EXECUTING, SYNCING], False, [EXECUTING]),
        ([EXECUTING, SYNCING, COPY_END, SYNCING], True, [EXECUTING, SYNCING]),
        ([EXECUTING, COPY_END, SYNCING, QUERYING], True, [EXECUTING, SYNCING, QUERYING]),
        ([QUERYING, COPY_END, COPY_END], True, [QUERYING, COPY_END]),
        ([EXECUTING, SYNCING, QUERYING], True, [EXECUTING, QUERYING]),
    ],
)
def test_a_sync_before_the_datas_end_is_not_owed(build: Build, sent: list[int], ended: bool, left: list[int]) -> None:
    replies = build.session.server.reply_queue.ReplyQueue()
    for entry in sent:
        replies.push(entry)
    assert replies.copy_begins() is ended
    assert list(replies.entries()) == left


def test_it_says_what_it_waits_for(build: Build) -> None:
    replies = build.session.server.reply_queue.ReplyQueue()
    for entry in (PARSING | 0x10, PARSING, SYNCING):
        replies.push(entry)
    assert repr(replies) == "<ReplyQueue ~parse parse sync>"


@given(st.lists(st.one_of(st.binary(max_size=5), st.tuples(st.integers(0, 30), st.integers(0, 30))), max_size=20))
def test_an_outbox_collects_in_order(steps: list[bytes | tuple[int, int]]) -> None:
    """On the sources alone: the compiled methods take pointers, and are called through the relay everywhere else."""
    buf = bytes(range(30))
    outbox = SOURCE.session.outbox.Outbox()
    wanted = b""
    for step in steps:
        if isinstance(step, bytes):
            outbox.put(buf, step)
            wanted += step
        else:
            start, stop = min(step), max(step)
            outbox.run(buf, start, stop)
            wanted += buf[start:stop]
        assert outbox.collected(buf) == wanted
    outbox.clear()
    assert outbox.collected(buf) == b""


def test_one_run_is_not_copied() -> None:
    outbox = SOURCE.session.outbox.Outbox()
    outbox.run(bytes(30), 3, 10)
    outbox.run(bytes(30), 10, 20)
    assert outbox.parts is None
    assert (outbox.start, outbox.stop) == (3, 20)
