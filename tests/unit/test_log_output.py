"""A log that nobody reads is not waited for: lines are held back, then dropped, and that is told."""

import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest

from pglido.log_output import LIMIT, Output, open_datagrams, open_file, to_datagrams, to_descriptor, to_file


def confess(count: int) -> bytes:
    return b"dropped %d\n" % count


class Reader:
    """Takes `room` bytes, and fails with `error` where that is set."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.got = b""
        self.error: OSError | None = None

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        if not self.room:
            raise BlockingIOError
        took = data[: self.room]
        self.room -= len(took)
        self.got += took
        return len(took)


def output(reader: Reader) -> Output:
    return Output(-1, reader.send, lambda: None, confess)


def test_lines_are_written_at_once_where_there_is_room() -> None:
    reader = Reader(100)
    one = output(reader)
    one.put(b"a\n")
    one.put(b"b\n")
    assert reader.got == b"a\nb\n"
    assert one.flush()


def test_what_is_not_taken_is_held_back_in_its_order() -> None:
    reader = Reader(3)
    one = output(reader)
    for line in (b"abcd\n", b"efg\n", b"h\n"):
        one.put(line)
    assert reader.got == b"abc"
    assert not one.flush()
    reader.room = 4
    one.put(b"i\n")
    assert reader.got == b"abcd\nef"
    reader.room = 100
    assert one.flush()
    assert reader.got == b"abcd\nefg\nh\ni\n"
    assert one.dropped == 0


def test_beyond_the_limit_lines_are_dropped_and_that_is_told() -> None:
    reader = Reader()
    one = output(reader)
    line = b"x" * 999 + b"\n"
    kept = LIMIT // len(line)
    for _ in range(kept + 7):
        one.put(line)
    assert one.dropped == 7
    reader.room = 1 << 30
    one.put(b"later\n")
    assert reader.got == line * kept + b"dropped 7\nlater\n"
    assert one.dropped == 0


def test_a_disk_that_is_full_is_told_of_when_it_is_not() -> None:
    reader = Reader(100)
    one = output(reader)
    reader.error = OSError(errno.ENOSPC, "full")
    for number in range(3):
        one.put(b"a\n")
        assert one.dropped == number + 1
    reader.error = None
    one.put(b"b\n")
    assert reader.got == b"dropped 3\nb\n"


def test_what_is_lost_at_the_end_is_counted() -> None:
    one = output(Reader())
    for _ in range(3):
        one.put(b"a\n")
    assert one.close() == 3


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_reader_that_stands_still_is_not_waited_for(kind: str) -> None:
    if kind == "pipe":
        reads, writes = os.pipe()
    elif kind == "terminal":
        reads, writes = os.openpty()
    else:
        reads, writes = (end.detach() for end in socket.socketpair())
    one = to_descriptor(writes, confess)
    # Others who have it find it as it was.
    assert os.get_blocking(writes)
    line = b"x" * 199 + b"\n"
    while not one.dropped:
        one.put(line)
    os.set_blocking(reads, False)
    got = b""
    while not one.flush() or one.dropped or b"dropped" not in got:
        got += os.read(reads, 1 << 20)
    assert b"dropped 1\n" in got.replace(b"\r", b"")
    one.close()
    os.close(reads)
    os.close(writes)


def test_a_file_goes_on_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    one = to_file(open_file(path), confess)
    one.put(b"after\n")
    one.close()
    assert path.read_text() == "before\nafter\n"
    with pytest.raises(OSError, match="directory"):
        open_file(tmp_path)


def test_syslog_may_stand_still_go_and_come_back() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as first:
            first.bind(path)
            one = to_datagrams(open_datagrams(path), path, confess)
            while not one.dropped:
                one.put(b"x" * 1000)
            assert first.recv(2000) == b"x" * 1000
        os.unlink(path)
        one.put(b"to nobody")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
            second.bind(path)
            second.setblocking(False)
            got = set()
            while b"at last" not in got:
                one.put(b"at last")
                while True:
                    try:
                        got.add(second.recv(2000))
                    except BlockingIOError:
                        break
        assert any(line.startswith(b"dropped") for line in got)
        one.close()


def test_a_descriptor_is_closed_once_though_the_output_is_closed_twice(tmp_path: Path) -> None:
    first = to_descriptor(os.open(tmp_path / "first", os.O_WRONLY | os.O_CREAT), confess)
    first.close()
    other = os.dup2(os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT), first.fd)  # the number that was freed
    first.close()
    assert os.write(other, b"still open") == 10
    os.close(other)
