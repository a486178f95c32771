"""A difference is excused only where it is known; what PostgreSQL itself printed in one of the lanes is none."""

from pathlib import Path

import pytest

from tests.regress import judge, lanes, report
from tests.regress.__main__ import FLOORS, KNOWN, arguments
from tests.regress.judge import Kind, Known, KnownError, Verdict

LONG = "".join(f"line {number}\n" for number in range(40))
EARLY = LONG.replace("line 3\n", "odd\n")
LATE = LONG.replace("line 30\n", "odd\n")
BOTH = EARLY.replace("line 30\n", "odd\n")
THERE = Known(("line 5",), "because")


def kind(direct: list[str], pooled: list[str], known: Known | None = None, version: int = 16) -> Kind:
    return judge.judge("a", direct, pooled, known, version).kind


@pytest.mark.parametrize(
    ("direct", "pooled", "known", "expected"),
    [
        ([LONG], [LONG], None, Kind.SAME),
        ([LONG], [LONG], THERE, Kind.SAME),
        ([LONG], [EARLY], None, Kind.WRONG),
        ([LONG], [EARLY], THERE, Kind.KNOWN),
        ([LONG], [LATE], THERE, Kind.WRONG),
        ([LONG], [BOTH], THERE, Kind.WRONG),
        ([LONG, LATE], [LATE, LONG], None, Kind.SAME),
        ([LONG, LATE], [EARLY, LONG], None, Kind.UNSTABLE),
        ([LONG, LONG], [EARLY, LONG], None, Kind.WAVERING),
        ([LONG, LONG], [EARLY, LATE], None, Kind.WRONG),
        ([LONG, LONG], [EARLY, LONG], THERE, Kind.KNOWN),
        ([LONG, LONG], [EARLY, LATE], THERE, Kind.WRONG),
        ([LONG], [EARLY], Known(("line 5",), "because", unstable=True), Kind.UNSTABLE),
    ],
)
def test_a_test_is_judged_by_what_was_seen_without_pglido(
    direct: list[str], pooled: list[str], known: Known | None, expected: Kind
) -> None:
    assert kind(direct, pooled, known) is expected


def test_a_difference_known_on_one_server_is_not_known_on_another() -> None:
    known = Known(("line 5",), "because", servers=(18,))
    assert kind([LONG], [EARLY], known, 18) is Kind.KNOWN
    assert kind([LONG], [EARLY], known, 16) is Kind.WRONG


def test_only_what_is_always_the_same_passes_and_unstable_tests_do_not_count() -> None:
    kinds = [Kind.SAME, Kind.SAME, Kind.WAVERING, Kind.KNOWN, Kind.UNSTABLE]
    verdicts = [Verdict(f"t{number}", one) for number, one in enumerate(kinds)]
    assert judge.score(verdicts) == (2, 4)
    assert "2 of 4 tests" in report.terminal(verdicts, 50)


def test_what_is_wrong_is_shown_and_named_last() -> None:
    verdicts = [judge.judge(test, [LONG], [BOTH], None, 16) for test in ("one", "two")]
    told = report.terminal(verdicts, 50)
    assert told.count("+odd") == 4
    assert told.endswith("one two")


def test_all_known_differences_are_of_tests_that_run() -> None:
    known = judge.read_known(KNOWN)
    assert set(known) <= {test for group in lanes.schedule() for test in group}


def test_a_known_difference_needs_a_place_and_a_reason(tmp_path: Path) -> None:
    for text in ('[a]\nwhere = ["b"]', '[a]\nreason = "b"', '[a]\nwhere = ["b"]\nreason = "c"\nelse = 1'):
        (tmp_path / "known.toml").write_text(text)
        with pytest.raises(KnownError, match=r"known\.toml, a"):
            judge.read_known(tmp_path / "known.toml")


def test_the_schedule_and_the_tests_are_complete() -> None:
    tests = [test for group in lanes.schedule() for test in group]
    assert len(tests) == len(set(tests)) == 217
    assert {path.stem for path in (lanes.HERE / "sql").iterdir()} == set(tests)


def test_some_tests_are_run_after_the_one_they_all_need() -> None:
    assert lanes.schedule(["temp", "copy"]) == [["test_setup"], ["copy"], ["temp"]]
    with pytest.raises(lanes.RegressError, match="nonesuch"):
        lanes.schedule(["nonesuch"])


def test_the_floor_is_for_all_tests() -> None:
    assert arguments([]).floor == FLOORS["transaction"]
    assert arguments(["--mode", "alone"]).floor == 100.0
    assert arguments(["--only", "temp,copy"]).floor == 0
