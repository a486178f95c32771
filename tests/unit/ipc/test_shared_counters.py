"""The shared counters hold limits across processes, and forget the dead."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.ipc.shared_counters import LimitReached, SharedCounter, SharedCounters


@pytest.fixture
def board():
    made = SharedCounters.create(rows=3, names=8)
    yield made
    made.close()


def rows(board: SharedCounters) -> list[SharedCounters]:
    return [SharedCounters.attach(os.dup(board.fd), row) for row in range(board.rows)]


def test_total_is_the_sum_of_all_rows(board):
    first, second, third = rows(board)
    first.add(SharedCounter.CLIENTS, 5)
    second.add(SharedCounter.CLIENTS, 7)
    third.add(SharedCounter.ACCEPTED, 1)
    assert board.total(SharedCounter.CLIENTS) == 12
    assert [board.get(SharedCounter.CLIENTS, row) for row in range(3)] == [5, 7, 0]
    assert board.total(SharedCounter.ACCEPTED) == 1
    for one in (first, second, third):
        one.close()


def test_there_is_nothing_behind_the_last_counter_nor_after_the_end(board):
    first, *_ = rows(board)
    for column in (-1, len(SharedCounter) + 8, 2**40):
        with pytest.raises((IndexError, OverflowError)):
            first.add(column, 1)
    for row in (-1, 3):
        with pytest.raises(IndexError):
            first.get(SharedCounter.CLIENTS, row)
    with pytest.raises(IndexError):
        board.add(SharedCounter.CLIENTS, 1)
    first.close()
    with pytest.raises(IndexError):
        first.add(SharedCounter.CLIENTS, 1)
    with pytest.raises(IndexError):
        SharedCounters.__new__(SharedCounters).add(SharedCounter.CLIENTS, 1)


def test_a_claim_over_a_limit_takes_nothing_and_names_the_limit(board):
    first, second, _ = rows(board)
    first.claim([(SharedCounter.CLIENTS, 10), ("db:a", 1)])
    with pytest.raises(LimitReached) as refused:
        second.claim([(SharedCounter.CLIENTS, 10), ("db:a", 1), ("user:u", 5)])
    assert refused.value.what == "db:a"
    assert board.total(SharedCounter.CLIENTS) == 1
    assert (board.count("db:a"), board.count("user:u")) == (1, 0)


def test_a_limit_of_zero_is_no_limit_but_counts(board):
    first, *_ = rows(board)
    for _ in range(5):
        first.claim([("db:a", 0)])
    assert board.count("db:a") == 5


def test_release_makes_room_for_the_next_claim(board):
    first, second, _ = rows(board)
    columns = first.claim([(SharedCounter.CLIENTS, 1), ("db:a", 1)])
    first.release(columns)
    second.claim([(SharedCounter.CLIENTS, 1), ("db:a", 1)])
    assert board.total(SharedCounter.CLIENTS) == 1


def test_only_as_many_concede_as_are_too_many(board):
    first, second, _ = rows(board)
    first.add(SharedCounter.CLIENTS, 2)
    second.add(SharedCounter.CLIENTS, 2)
    assert [one.concede(SharedCounter.CLIENTS, 3) for one in (first, second, first)] == [True, False, False]
    assert [board.get(SharedCounter.CLIENTS, row) for row in range(2)] == [1, 2]


def test_clear_forgets_a_dead_worker_but_not_its_crashes(board):
    first, second, _ = rows(board)
    first.claim([(SharedCounter.CLIENTS, 0), ("db:a", 0)])
    second.claim([(SharedCounter.CLIENTS, 0), ("db:a", 0)])
    board.bump(SharedCounter.CRASHES, 0)
    board.clear(0)
    assert board.total(SharedCounter.CLIENTS) == 1
    assert board.count("db:a") == 1
    assert board.get(SharedCounter.CRASHES, 0) == 1


def test_a_column_without_holders_is_taken_over_by_another_name(board):
    first, *_ = rows(board)
    for number in range(100):
        first.release(first.claim([(f"user:{number}", 1)]))
    held = [first.claim([(f"db:{number}", 1)]) for number in range(8)]
    assert len({column for (column,) in held}) == 8
    with pytest.raises(LimitReached):
        first.claim([("db:one too many", 1)])


def test_a_foreign_descriptor_is_refused():
    fd = os.memfd_create("other")
    os.ftruncate(fd, 4096)
    with pytest.raises(ValueError, match="no shared counters"):
        SharedCounters.attach(fd, 0)
    os.close(fd)


def storm(fd: int, row: int, limit: int, rounds: int) -> None:
    board = SharedCounters.attach(fd, row)
    for _ in range(rounds):
        try:
            board.release(board.claim([(SharedCounter.CLIENTS, limit), (f"user:{_ % 3}", 0)]))
        except LimitReached:
            continue
        if board.total(SharedCounter.CLIENTS) > limit + board.rows:
            os._exit(1)
    board.claim([("db:x", 0)])


def test_processes_claiming_at_once_never_exceed_the_limit(board):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=storm, args=(board.fd, row, 2, 2000)) for row in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert board.total(SharedCounter.CLIENTS) == 0
    assert board.count("db:x") == 3


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["db:a", "db:b", "user:a"]), st.booleans())))
def test_named_columns_count_what_a_plain_count_would(steps):
    board = SharedCounters.create(rows=3, names=16)
    views = rows(board)
    held: list[tuple[int, str, tuple[int, ...]]] = []
    try:
        for row, name, give_back in steps:
            mine = [entry for entry in held if entry[0] == row and entry[1] == name]
            if give_back and mine:
                views[row].release(mine[0][2])
                held.remove(mine[0])
            elif sum(entry[1] == name for entry in held) < 4:
                held.append((row, name, views[row].claim([(name, 4)])))
            else:
                with pytest.raises(LimitReached):
                    views[row].claim([(name, 4)])
            for known in ("db:a", "db:b", "user:a"):
                assert board.count(known) == sum(entry[1] == known for entry in held)
    finally:
        for one in (*views, board):
            one.close()


def test_fixed_columns_have_numbers_of_their_own_below_those_of_names():
    assert sorted(SharedCounter.__members__.values()) == list(range(len(SharedCounter.__members__)))
