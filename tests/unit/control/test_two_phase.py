"""The first phase of a reload: what follows from the workers' answers, deaths and silence, in every order."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.control.two_phase import Outcome, Poll

WORKERS = frozenset({0, 1, 2})


def heard(poll: Poll, worker: int, what: str) -> None:
    match what:
        case "ready":
            poll.answered(worker, "")
        case "ends":
            poll.ends(worker)
        case "hangs":
            poll.hangs(worker)
        case problem:
            poll.answered(worker, problem)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (("ready", "ready", "ready"), Outcome.COMMIT),
        (("ready", "no room", "ready"), Outcome.ABORT),
        (("no room", "no room", "no room"), Outcome.ABORT),
        (("ready", "ends", "ready"), Outcome.COMMIT),
        (("ready", "hangs", "ends"), Outcome.COMMIT),
        (("hangs", "hangs", "hangs"), Outcome.COMMIT),
        (("no room", "hangs", "ends"), Outcome.ABORT),
        (("ends", "ends", "ends"), Outcome.ABORT),
        (("ends", "ends", "hangs"), Outcome.COMMIT),
    ],
)
def test_the_outcome_does_not_depend_on_who_is_heard_first(said: tuple[str, ...], outcome: Outcome) -> None:
    for order in permutations(range(3)):
        poll = Poll(WORKERS)
        for worker in order:
            assert poll.outcome is None
            heard(poll, worker, said[worker])
        assert poll.outcome is outcome


def test_without_workers_the_control_process_decides_alone() -> None:
    assert Poll(frozenset()).outcome is Outcome.COMMIT


def test_an_answer_that_comes_late_counts() -> None:
    poll = Poll(WORKERS)
    poll.hangs(0)
    poll.answered(0, "no room")
    poll.answered(1, "")
    poll.answered(2, "")
    assert poll.hung == set()
    assert poll.outcome is Outcome.ABORT


def test_a_successor_that_is_ready_stands_in_for_one_that_ended() -> None:
    poll = Poll(frozenset({0, 1}))
    poll.ends(0)
    poll.answered(0, "")
    poll.ends(1)
    assert poll.outcome is Outcome.COMMIT


def test_one_that_ends_after_its_answer_was_ready() -> None:
    poll = Poll(frozenset({0}))
    poll.answered(0, "")
    poll.ends(0)
    assert poll.outcome is Outcome.COMMIT


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ready", "ends", "hangs", "no room"])), max_size=20))
def test_in_any_sequence_each_is_in_one_place_and_a_problem_is_never_forgotten(said: list[tuple[int, str]]) -> None:
    poll = Poll(WORKERS)
    refused = False
    for worker, what in said:
        heard(poll, worker, what)
        refused = refused or what == "no room"
        assert not poll.waiting & poll.hung
        assert not poll.waiting & poll.ended
        assert not poll.hung & poll.ended
        assert (poll.outcome is None) == bool(poll.waiting)
        if refused:
            assert poll.outcome is not Outcome.COMMIT
