"""Figures become ratios, round by round, and the tables and the document show them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made import REFUSED, one, results

from bench import document, report
from bench.results import BY_METRIC, Ratio
from bench.scenarios import BY_NAME, SCENARIOS, chosen

CPU, RATE = BY_METRIC["cpu"], BY_METRIC["rate"]
SIMPLE, PREPARED = BY_NAME["simple-16"], BY_NAME["prepared-16"]


def test_a_ratio_is_of_the_same_round_and_has_median_and_spread() -> None:
    found = results().ratio(SIMPLE, "pglido", "other", CPU)
    assert found is not None
    assert found.rounds == pytest.approx((0.8, 0.8 / 1.5, 0.8))
    assert found.median == pytest.approx(0.8)
    assert found.spread == pytest.approx((0.8 / 1.5, 0.8))


def test_a_round_that_one_of_both_lacks_is_left_out() -> None:
    made = results((SIMPLE,))
    del made.rounds["simple-16"]["other"][1]
    found = made.ratio(SIMPLE, "pglido", "other", CPU)
    assert found is not None
    assert len(found.rounds) == 2


def test_who_can_not_do_prepared_statements_is_compared_by_simple_queries() -> None:
    found = results().ratio(PREPARED, "pglido", "other", CPU)
    assert found is not None
    assert found.stand_in == "simple-16"
    assert found.rounds == pytest.approx((0.8, 0.8 / 1.5, 0.8))
    assert results((PREPARED,)).ratio(PREPARED, "pglido", "other", CPU) is None


@pytest.mark.parametrize(
    ("metric", "rounds", "mark"),
    [
        (CPU, (0.8, 0.9, 1.1), ""),
        (CPU, (0.9, 1.1, 1.2), "!"),
        (CPU, (1.1, 1.2, 1.3), "!!"),
        (RATE, (1.1, 1.2, 0.9), ""),
        (RATE, (0.8, 0.9, 1.1), "!"),
        (RATE, (0.8, 0.9, 0.9), "!!"),
    ],
)
def test_a_loss_is_marked_and_one_of_every_round_twice(metric: object, rounds: tuple[float, ...], mark: str) -> None:
    assert Ratio(metric, rounds).mark == mark  # type: ignore[arg-type]


def test_the_median_of_a_figure_some_rounds_lack_is_of_the_others() -> None:
    made = results((SIMPLE,), rounds=2)
    made.add("simple-16", "pglido", 3, one(cpu=100.0))
    typical = made.typical("simple-16", "pglido")
    assert typical is not None
    assert typical.cpu == pytest.approx(8.0 * 1.2)
    assert typical.latency == (0.5, 1.0, None)
    assert made.typical("simple-16", "nobody") is None


def test_a_table_has_a_row_for_each_contestant_and_marks_what_is_lost() -> None:
    made = results((SIMPLE, PREPARED))
    even = "1.00 (1.00 to 1.00)"
    one_worker = ["0.80 (0.53 to 0.80)", "1.25 (1.25 to 1.25)", even, ""]
    all_workers = ["1.20 (0.80 to 1.20) !", "0.83 (0.83 to 0.83) !!", even, ""]
    assert report.ratios(made)[1:] == [
        ["simple-16", "pglido", "other", *one_worker],
        ["simple-16", "pglido-all", "other", *all_workers],
        ["prepared-16", "pglido", "other*", *one_worker],
        ["prepared-16", "pglido-all", "other*", *all_workers],
    ]
    assert len(report.figures(made)) == 1 + 3 + 2


def test_the_terminal_tells_everything_and_is_lined_up() -> None:
    text = report.terminal(results((SIMPLE, PREPARED)))
    assert REFUSED in text
    assert report.STOOD_IN in text
    lines = [line for line in text.splitlines() if " other" in line and "CPU" not in line and "µs" in line]
    assert len({line.index("other") for line in lines}) == 1


def test_without_a_peer_there_are_figures_and_no_ratios() -> None:
    made = results((SIMPLE,))
    made.entries = made.ours
    text = report.terminal(made)
    assert "pglido-all" in text
    assert "Compared" not in text


def test_json_has_every_round() -> None:
    read = json.loads(report.as_json(results()))
    assert set(read["scenarios"]) == {scenario.name for scenario in SCENARIOS}
    simple = read["scenarios"]["simple-16"]
    assert set(simple["rounds"]["other"]) == {"1", "2", "3"}
    cpu = next(each for each in simple["ratios"] if each["of"] == "pglido" and each["metric"] == "cpu")
    assert cpu["median"] == pytest.approx(0.8)
    assert read["scenarios"]["prepared-1"]["failed"] == {"other": REFUSED}
    assert read["machine"]["cores"] == "4"


def test_a_document_keeps_all_but_what_is_between_the_marks(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    file.write_text(f"before\n{document.BEGIN}\nof last year\n{document.END}\nafter\n")
    for _ in range(2):
        document.write(file, results((SIMPLE, PREPARED)), tmp_path / "plots" / "run.svg")
    text = file.read_text()
    assert text.startswith(f"before\n{document.BEGIN}\n")
    assert text.endswith(f"{document.END}\nafter\n")
    assert "of last year" not in text
    assert "](plots/run.svg)" in text
    assert "2026-01-02 03:04 UTC" in text
    assert "- pglido-all to other, CPU: simple-16 1.20!, prepared-16 1.20!\n" in text


def test_a_document_without_marks_is_refused_before_a_run(tmp_path: Path) -> None:
    file = tmp_path / "other.md"
    document.check(file)
    file.write_text(f"{document.END} the wrong way round {document.BEGIN}")
    with pytest.raises(ValueError, match="has no"):
        document.check(file)


def test_scenarios_are_chosen_by_name_or_beginning() -> None:
    assert chosen("") == SCENARIOS
    assert [each.name for each in chosen("copy-*, simple-1")] == ["simple-1", "copy-out", "copy-in"]
    with pytest.raises(ValueError, match="'simpel'"):
        chosen("simpel")


def test_what_stands_in_for_a_scenario_exists_and_comes_before_it() -> None:
    names = list(BY_NAME)
    assert len(names) == len(SCENARIOS)
    for scenario in SCENARIOS:
        if scenario.stand_in:
            assert names.index(scenario.stand_in) < names.index(scenario.name)


def test_one_of_ours_may_be_compared_to_another() -> None:
    made = results()
    made.entries = [replace(entry, to="pglido" if entry.name == "pglido-all" else "") for entry in made.entries]
    assert made.pairs == [("pglido", "other"), ("pglido-all", "other"), ("pglido-all", "pglido")]
    found = made.ratio(SCENARIOS[0], "pglido-all", "pglido", BY_METRIC["cpu"])
    assert found is not None
    assert found.median == pytest.approx(1.5)
    assert any(row[1:3] == ["pglido-all", "pglido"] for row in report.ratios(made))
