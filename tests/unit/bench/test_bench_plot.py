"""The plot is an XML document with every scenario, and nothing in it lies on another text or outside."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from made import one, results

from bench import plot
from bench.results import Entry, Results
from bench.scenarios import BY_NAME, SCENARIOS

SVG = "{http://www.w3.org/2000/svg}"


def with_peers(count: int) -> Results:
    made = results()
    for number in range(1, count):
        name = f"another-pooler-{number}"
        made.entries.append(Entry(name, "", ours=False))
        for scenario in SCENARIOS:
            made.add(scenario.name, name, 1, one(cpu=10.0 * 4**number))
    return made


def drawn(made: Results) -> ElementTree.Element:
    return ElementTree.fromstring(plot.draw(made))


def boxes(root: ElementTree.Element) -> list[tuple[float, float, float, float, str]]:
    found = []
    for text in root.iter(f"{SVG}text"):
        kind, words = text.attrib["class"].split()[0], text.text or ""
        wide, size = plot.width(kind, words), float(text.attrib["font-size"])
        x = float(text.attrib["x"]) - {"start": 0, "middle": wide / 2, "end": wide}[text.attrib["text-anchor"]]
        y = float(text.attrib["y"])
        found.append((x, y - size * 0.8, x + wide, y + size * 0.2, words))
    return found


@pytest.mark.parametrize("peers", [1, 3])
def test_every_scenario_has_a_row_and_texts_do_not_overlap(peers: int) -> None:
    root = drawn(with_peers(peers))
    placed = boxes(root)
    assert {scenario.title for scenario in SCENARIOS} <= {box[4] for box in placed}
    for a, b in combinations(placed, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    height = float(root.attrib["height"])
    assert all(box[0] >= 0 and box[2] <= plot.WIDTH and box[3] <= height for box in placed)


def test_each_round_has_a_dot_and_each_comparison_a_median() -> None:
    root = drawn(results((BY_NAME["simple-16"],)))
    kinds = [circle.attrib["class"].split()[0] for circle in root.iter(f"{SVG}circle")]
    compared, panels, legend = 2, 2, 2
    assert kinds.count("round") == 3 * compared * panels
    assert kinds.count("median") == compared * panels + legend


def test_dots_lie_within_their_panel_and_a_ratio_of_one_on_its_line() -> None:
    axis = plot.Axis(0.5, 8.0, 100.0, 300.0)
    assert axis.x(0.5) == pytest.approx(100 + plot.INSET)
    assert axis.x(8.0) == pytest.approx(300 - plot.INSET)
    assert axis.x(2.0) == pytest.approx(200)
    assert 1 in axis.ticks()


def test_without_a_peer_it_says_so() -> None:
    made = results()
    made.entries = made.ours
    assert "no peer to compare to" in "".join(drawn(made).itertext())


def test_colours_differ_in_the_dark() -> None:
    text = plot.draw(results())
    light, dark = text.split("prefers-color-scheme: dark", 1)
    for word in (r"\.back {[^}]*}", r"\.c0 {[^}]*}", r"text {[^}]*}"):
        found = [re.search(word, part) for part in (light, dark)]
        assert all(found)
        assert len({one[0] for one in found if one}) == 2
