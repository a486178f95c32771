"""The first phase of a reload: what follows from the workers' answers, deaths and silence, in every order."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.control.commands import Verdicts
from pglido.control.two_phase import Outcome, outcome_of

WORKERS = frozenset({0, 1, 2})


def heard(verdicts: Verdicts, worker: int, what: str) -> None:
    match what:
        case "ready":
            verdicts.answers(worker, "")
        case "ends":
            verdicts.ends(worker)
        case "hangs":
            verdicts.hangs(worker)
        case problem:
            verdicts.answers(worker, problem)


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
        verdicts = Verdicts(1, WORKERS)
        for worker in order:
            assert outcome_of(verdicts) is None
            heard(verdicts, worker, said[worker])
        assert outcome_of(verdicts) is outcome


def test_without_workers_the_control_process_decides_alone() -> None:
    assert outcome_of(Verdicts(1, frozenset())) is Outcome.COMMIT


def test_an_answer_that_comes_late_counts() -> None:
    verdicts = Verdicts(1, WORKERS)
    verdicts.hangs(0)
    verdicts.answers(0, "no room")
    verdicts.answers(1, "")
    verdicts.answers(2, "")
    assert verdicts.hung == set()
    assert outcome_of(verdicts) is Outcome.ABORT


def test_a_successor_that_is_ready_stands_in_for_one_that_ended() -> None:
    verdicts = Verdicts(1, frozenset({0, 1}))
    verdicts.ends(0)
    verdicts.answers(0, "")
    verdicts.ends(1)
    assert outcome_of(verdicts) is Outcome.COMMIT


def test_one_that_ends_after_its_answer_was_ready() -> None:
    verdicts = Verdicts(1, frozenset({0}))
    verdicts.answers(0, "")
    verdicts.ends(0)
    assert outcome_of(verdicts) is Outcome.COMMIT


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ready", "ends", "hangs", "no room"])), max_size=20))
def test_in_any_sequence_each_is_in_one_place_and_a_problem_is_never_forgotten(said: list[tuple[int, str]]) -> None:
    verdicts = Verdicts(1, WORKERS)
    refused = False
    for worker, what in said:
        heard(verdicts, worker, what)
        refused = refused or what == "no room"
        assert not verdicts.waiting & verdicts.hung
        assert not verdicts.waiting & verdicts.ended
        assert not verdicts.hung & verdicts.ended
        assert (outcome_of(verdicts) is None) == bool(verdicts.waiting)
        if refused:
            assert outcome_of(verdicts) is not Outcome.COMMIT
