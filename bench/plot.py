"""The ratios as an SVG: a row for each scenario, a faint dot for each round, a strong one for their median."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from .report import stood_in
from .results import BY_METRIC, Metric, Ratio, Results

WIDTH = 1060
MARGIN = 24
LABELS = 322  # of the scenarios
NUMBERS = 46  # of the medians, right of each panel
GAP = 34  # between the panels
PANEL = (WIDTH - 2 * MARGIN - LABELS - 2 * NUMBERS - GAP) / 2
LINE = 15  # of one series in a row
PADDING = 9  # of a row
INSET = 12  # so that a dot at the end of an axis stays within
CHARACTER = 0.58  # mean width of a character, in font sizes
SIZES = {"title": 19, "head": 14, "hint": 12, "label": 13, "tick": 12, "number": 12, "foot": 11}
# Marks of an axis, those first that are to stay where not all have room.
TICKS = (1, 0.5, 2, 0.25, 4, 0.1, 10, 0.7, 1.4, 0.05, 20, 0.02, 50, 0.01, 100)
TICK_ROOM = 34
PANELS = (
    (BY_METRIC["cpu"], "CPU per transaction", "left of 1: pglido spends less"),
    (BY_METRIC["rate"], "transactions per second", "right of 1: pglido does more"),
)

LIGHT = {
    "back": "#ffffff",
    "band": "#f3f5f8",
    "ink": "#1c2430",
    "soft": "#566070",
    "grid": "#d5dae1",
    "behind": "#c9362e",
    "series": "#0067a8 #c65200 #00805c #a3478a #7a6200 #4a55c4",
}
DARK = {
    "back": "#10151d",
    "band": "#19202b",
    "ink": "#e8ecf2",
    "soft": "#a3aebd",
    "grid": "#364050",
    "behind": "#ff7a70",
    "series": "#5ab8f5 #ff9d57 #3fd6a5 #eb9fd6 #e0c341 #a3abff",
}
COLOURS = len(LIGHT["series"].split())
SHAPES = """\
svg { font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
.head, .title { font-weight: 600; }
.behind { opacity: 0.07; }
.grid { stroke-width: 1; }
.one, .median { stroke-width: 1.5; }
.round { opacity: 0.35; stroke: none; }
.spread { stroke-width: 2; opacity: 0.35; }
"""


def _colours(palette: dict[str, str]) -> str:
    """The rules that differ between light and dark."""
    rules = [
        f"text {{ fill: {palette['ink']}; }}",
        f".hint, .tick, .foot {{ fill: {palette['soft']}; }}",
        f".back {{ fill: {palette['back']}; }}",
        f".band {{ fill: {palette['band']}; }}",
        f".behind {{ fill: {palette['behind']}; }}",
        f".grid {{ stroke: {palette['grid']}; }}",
        f".one {{ stroke: {palette['ink']}; }}",
    ]
    for number, colour in enumerate(palette["series"].split()):
        rules.append(f".c{number} {{ fill: {colour}; stroke: {colour}; }}")
        rules.append(f"text.c{number} {{ stroke: none; }}")
    return "\n".join([*rules, f".median {{ stroke: {palette['back']}; }}"])


STYLE = f"""
{_colours(LIGHT)}
@media (prefers-color-scheme: dark) {{
{_colours(DARK)}
}}
{SHAPES}"""


@dataclass(frozen=True)
class Series:
    """One pglido compared to one peer; its number gives the colour."""

    number: int
    ours: str
    peer: str

    @property
    def colour(self) -> str:
        """The class that paints it."""
        return f"c{self.number % COLOURS}"

    @property
    def name(self) -> str:
        return f"{self.ours} / {self.peer}"


@dataclass(frozen=True)
class Axis:
    """A logarithmic scale from `low` to `high` over the pixels from `left` to `right`."""

    low: float
    high: float
    left: float
    right: float

    def x(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.left + INSET + share * (self.right - self.left - 2 * INSET)

    def ticks(self) -> list[float]:
        """Values to mark, far enough from each other to be labelled."""
        kept: list[float] = []
        for value in TICKS:
            if self.low <= value <= self.high and all(abs(self.x(value) - self.x(one)) >= TICK_ROOM for one in kept):
                kept.append(value)
        return sorted(kept)


@dataclass
class Canvas:
    """Elements, in the order they are painted."""

    elements: list[str] = field(default_factory=list)

    def text(self, kind: str, x: float, y: float, words: str, anchor: str = "start", colour: str = "") -> None:
        painted = f"{kind} {colour}".rstrip()
        self.elements.append(
            f'<text class="{painted}" x="{x:.1f}" y="{y:.1f}" font-size="{SIZES[kind]}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self.elements.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, colour: str = "") -> None:
        painted = f"{kind} {colour}".rstrip()
        self.elements.append(f'<line class="{painted}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def dot(self, x: float, y: float, radius: float, kind: str, colour: str) -> None:
        self.elements.append(f'<circle class="{kind} {colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')

    def svg(self, height: float, title: str) -> str:
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
                f'height="{height:.0f}" role="img" aria-label="{escape(title)}">',
                f"<title>{escape(title)}</title>",
                f"<style>{STYLE}</style>",
                *self.elements,
                "</svg>\n",
            ]
        )


def width(kind: str, words: str) -> float:
    """About how wide this text is."""
    return len(words) * CHARACTER * SIZES[kind]


def draw(results: Results) -> str:
    """The whole picture as SVG."""
    series = [Series(number, *pair) for number, pair in enumerate(results.pairs)]
    title = f"pglido compared to {' and '.join(peer.name for peer in results.peers) or 'nobody'}"
    canvas = Canvas()
    tall = LINE * max(1, len(series)) + 2 * PADDING
    top = _heading(canvas, title, series)
    bottom = top + tall * len(results.scenarios)
    height = bottom + 58
    canvas.elements.insert(0, f'<rect class="back" width="{WIDTH}" height="{height:.0f}"/>')
    for number, scenario in enumerate(results.scenarios):
        y = top + number * tall
        if number % 2 == 0:
            canvas.box(MARGIN, y, WIDTH - 2 * MARGIN, tall, "band")
        canvas.text("label", MARGIN + 8, y + tall / 2 + 4.5, scenario.title)
    for number, (metric, head, hint) in enumerate(PANELS):
        left = MARGIN + LABELS + number * (PANEL + NUMBERS + GAP)
        rows = [[results.ratio(each, one.ours, one.peer, metric) for one in series] for each in results.scenarios]
        axis = Axis(*_range(rows), left, left + PANEL)
        canvas.text("head", left, top - 26, head)
        canvas.text("hint", left, top - 9, hint)
        _scale(canvas, axis, metric, top, bottom)
        for place, row in enumerate(rows):
            _row(canvas, axis, series, row, top + place * tall + PADDING)
    canvas.text("foot", MARGIN + 8, height - 14, _foot(results))
    return canvas.svg(height, title)


def _heading(canvas: Canvas, title: str, series: Sequence[Series]) -> float:
    """Title and legend; returns where the rows begin."""
    canvas.text("title", MARGIN + 8, 38, title)
    x, y = float(MARGIN + 8), 66.0
    for one in series:
        wide = width("hint", one.name) + 36
        if x + wide > WIDTH - MARGIN:
            x, y = float(MARGIN + 8), y + 20
        canvas.dot(x + 6, y - 4, 5, "median", one.colour)
        canvas.text("hint", x + 18, y, one.name)
        x += wide
    y += 20
    words = "ratio of both in the same round: faint each round, strong the median; tinted where pglido is behind"
    canvas.text("hint", MARGIN + 8, y, words if series else "there was no peer to compare to")
    return y + 62


def _range(rows: Sequence[Sequence[Ratio | None]]) -> tuple[float, float]:
    """From the smallest to the largest ratio, with 1 and some room around it."""
    values = [value for row in rows for one in row if one for value in one.rounds]
    return min([0.7, *values]) / 1.05, max([1.4, *values]) * 1.05


def _scale(canvas: Canvas, axis: Axis, metric: Metric, top: float, bottom: float) -> None:
    """Lines and labels of the axis; the side where pglido is behind is tinted."""
    one = axis.x(1)
    begin, end = (one, axis.right) if metric.better == "lower" else (axis.left, one)
    canvas.box(begin, top, end - begin, bottom - top, "behind")
    for value in axis.ticks():
        canvas.line(axis.x(value), top, axis.x(value), bottom + 4, "one" if value == 1 else "grid")
        canvas.text("tick", axis.x(value), bottom + 18, f"{value:g}", "middle")


def _row(canvas: Canvas, axis: Axis, series: Sequence[Series], row: Sequence[Ratio | None], top: float) -> None:
    """The dots of one scenario, a line for each series."""
    for number, (one, ratio) in enumerate(zip(series, row, strict=True)):
        if ratio is None:
            continue
        y = top + (number + 0.5) * LINE
        low, high = ratio.spread
        canvas.line(axis.x(low), y, axis.x(high), y, "spread", one.colour)
        for value in ratio.rounds:
            canvas.dot(axis.x(value), y, 3, "round", one.colour)
        canvas.dot(axis.x(ratio.median), y, 5, "median", one.colour)
        number_shown = f"{ratio.median:.2f}{'*' if ratio.stand_in else ''}"
        canvas.text("number", axis.right + NUMBERS - 6, y + 4, number_shown, "end", one.colour)


def _foot(results: Results) -> str:
    machine, plan = results.machine, results.plan
    words = [machine.get("date", ""), machine.get("processor", ""), f"{machine.get('cores', '?')} cores"]
    words += [machine.get("kernel", ""), f"{plan.get('rounds', '?')} rounds of {plan.get('seconds', '?')} s"]
    if stood_in(results):
        words.append("* to the peer's simple queries")
    return " · ".join(word for word in words if word)
