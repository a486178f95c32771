"""The channel keeps messages whole and in order, carries descriptors, and says how it ended."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pglido.ipc import channel as channel_module
from pglido.ipc.channel import HEADER, Channel, ChannelBroken, ChannelClosed
from pglido.ipc.messages import (
    TO_CONTROL,
    TO_WORKER,
    Ask,
    Command,
    Grant,
    Message,
    Ready,
    Return,
    Rows,
    ToControl,
    share,
)
from pglido.ipc.snapshot import ListItem, Subject


@pytest.fixture
async def ends():
    left, right = socket.socketpair()
    worker, control = Channel(left, TO_WORKER), Channel(right, TO_CONTROL)
    yield worker, control
    worker.close()
    control.close()


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_messages_arrive_whole_and_in_order(ends):
    worker, control = ends
    for number in range(1000):
        worker.post(Return(("db", "user"), number))
    got = [await control.receive() for _ in range(1000)]
    assert got == [(Return(("db", "user"), number), ()) for number in range(1000)]


async def test_both_directions_at_once(ends):
    worker, control = ends
    worker.post(Ready(7))
    control.post(Grant(("a", "b")))
    assert await control.receive() == (Ready(7), ())
    assert await worker.receive() == (Grant(("a", "b")), ())


async def test_a_message_larger_than_the_socket_buffer(ends):
    worker, control = ends
    rows = [ListItem("x" * 1000, number) for number in range(5000)]
    sending = asyncio.create_task(worker.send(Rows(1, rows)))
    message, _ = await control.receive()
    await sending
    assert message == Rows(1, rows)


async def test_descriptors_arrive_with_their_message(ends):
    worker, control = ends
    before = open_fds()
    for number in range(50):
        with tempfile.TemporaryFile() as file:
            file.write(b"%d" % number)
            file.flush()
            worker.post(Ready(number), [os.dup(file.fileno()), os.dup(file.fileno())])
            worker.post(Return(("a", "b"), number))
    for number in range(50):
        message, fds = await control.receive()
        assert message == Ready(number)
        for fd in fds:
            assert os.pread(fd, 10, 0) == b"%d" % number
            assert not os.get_inheritable(fd)
            os.close(fd)
        assert await control.receive() == (Return(("a", "b"), number), ())
    assert open_fds() == before


@pytest.mark.parametrize("room", [0, 1])
async def test_a_message_arrives_without_its_descriptors_where_there_is_no_room_for_all_of_them(ends, room):
    worker, control = ends
    before = open_fds()
    for number in range(3):
        worker.post(Return(("a", "b"), number))
        worker.post(Ready(number), [os.open(os.devnull, os.O_RDONLY) for _ in range(2)])
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
    try:
        got = [await control.receive() for _ in range(4)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    expected = [(message, ()) for number in range(2) for message in (Return(("a", "b"), number), Ready(number))]
    assert got == expected
    assert await control.receive() == (Return(("a", "b"), 2), ())
    message, fds = await control.receive()
    assert (message, len(fds)) == (Ready(2), 2)
    for fd in fds:
        os.close(fd)
    assert open_fds() == before


async def test_end_of_file_is_told_after_the_last_message(ends):
    worker, control = ends
    worker.post(Ready(1))
    worker.close()
    assert await control.receive() == (Ready(1), ())
    with pytest.raises(ChannelClosed):
        await control.receive()


async def test_what_the_peer_said_last_is_read_even_when_writing_to_it_fails(ends):
    worker, control = ends
    worker.post(Ready(1))
    worker.close()
    control.post(Command(1, Ask(Subject.POOLS)))
    assert control.closed
    assert await control.receive() == (Ready(1), ())
    with pytest.raises(ChannelClosed):
        await control.receive()
    control.post(Command(2, Ask(Subject.POOLS)))  # dropped, no error


async def test_a_waiting_receiver_is_woken_by_close(ends):
    _, control = ends
    waiting = asyncio.create_task(control.receive())
    await asyncio.sleep(0)
    control.close()
    with pytest.raises(ChannelClosed):
        await waiting


async def test_a_cancelled_receive_loses_nothing(ends):
    worker, control = ends
    waiting = asyncio.create_task(control.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    worker.post(Ready(3))
    assert await control.receive() == (Ready(3), ())


async def test_a_peer_that_does_not_read_breaks_the_channel_instead_of_eating_memory(ends, monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_QUEUED", 1 << 20)
    worker, _ = ends
    for number in range(100_000):
        worker.post(Rows(number, [ListItem("x" * 1000, 1)]))
    assert worker.closed
    with pytest.raises(ChannelBroken):
        await worker.send(Ready(1))


async def test_unsent_descriptors_are_closed_with_the_channel():
    left, right = socket.socketpair()
    worker = Channel(left, TO_WORKER)
    before = open_fds()
    for number in range(200):
        worker.post(Rows(number, [ListItem("x" * 10000, 1)]), [os.open("/dev/null", os.O_RDONLY)])
    worker.close()
    right.close()
    assert open_fds() == before - 2


@pytest.mark.parametrize(
    "wire",
    [
        HEADER.pack(0xFFFFFFFF, 0),
        HEADER.pack(2, 255) + b"xx",
        HEADER.pack(2, 1) + b"xx",
        HEADER.pack(4, 0) + b"\xc1\xc1\xc1\xc1",
        HEADER.pack(0, 0),
    ],
    ids=["huge", "too many fds", "missing fd", "not msgpack", "empty"],
)
async def test_nonsense_is_an_error(wire):
    left, right = socket.socketpair()
    control = Channel(right, TO_CONTROL)
    left.send(wire)
    with pytest.raises(ChannelBroken):
        await control.receive()
    assert control.closed
    left.close()


MESSAGES = st.one_of(
    st.builds(Ready, st.integers(0, 2**31)),
    st.builds(Return, st.tuples(st.text(), st.text()), st.integers(0, 1000)),
    st.builds(Rows, st.integers(0, 9), st.lists(st.builds(ListItem, st.text(), st.integers(0, 9)))),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(MESSAGES, max_size=5), st.lists(st.floats(0, 1), max_size=8))
def test_frames_survive_being_cut_anywhere(messages: list[Message], cuts: list[float]):
    async def scenario() -> list[ToControl]:
        left, right = socket.socketpair()
        middle, far = socket.socketpair()
        sender: Channel[object] = Channel(left, TO_WORKER)
        for message in messages:
            sender.post(message)
        sender.close()
        with right.makefile("rb") as file:
            wire = file.read()
        receiver = Channel(far, TO_CONTROL)
        got: list[ToControl] = []

        async def collect() -> None:
            try:
                while True:
                    got.append((await receiver.receive())[0])
            except ChannelClosed:
                return

        collecting = asyncio.create_task(collect())
        ends = sorted(int(cut * len(wire)) for cut in cuts)
        for start, end in zip([0, *ends], [*ends, len(wire)], strict=True):
            middle.send(wire[start:end])
            await asyncio.sleep(0)
        middle.close()
        right.close()
        await collecting
        return got

    assert asyncio.run(scenario()) == messages


@given(st.integers(0, 1000), st.integers(1, 64))
def test_the_shares_of_all_workers_add_up(total: int, workers: int):
    parts = [share(total, index, workers) for index in range(workers)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1
