"""The order of it all: each round takes every scenario, and in each scenario all contestants after one another.

What the machine does meanwhile changes from minute to minute; contestants that stand next to each other see the
same of it. Who begins changes from round to round.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from pglido.cli.progress import Progress

from .contestants import Contestant, ContestantError, Instance
from .database import Database
from .load import LoadError, Size, measure, warm
from .results import Measurement, Results
from .scenarios import Door, Scenario

T = TypeVar("T")
NAME_ROOM = 17  # characters for the name of a scenario
AROUND = 24  # characters that the line of a step has besides


def rotated(contestants: Sequence[T], number: int) -> list[T]:
    """The order in this round (the first is 1)."""
    begin = (number - 1) % len(contestants) if contestants else 0
    return [*contestants[begin:], *contestants[:begin]]


@dataclass
class Instances:
    """The running contestants, one for each door, started when first needed; all end with the `with` block."""

    database: Database
    running: dict[tuple[str, Door], Instance] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, door in tuple(self.running):
            self.end(name, door)

    def take(self, contestant: Contestant, scenario: Scenario) -> Instance:
        """An instance that is warm. Where memory counts it is a new one. Raises ContestantError, LoadError."""
        key = (contestant.entry.name, scenario.door)
        if scenario.idle:
            self.end(*key)
        found = self.running.get(key)
        if found is None:
            found = self.running[key] = contestant.start(scenario.door)
            warm(found, self.database, scenario)
        return found

    def end(self, name: str, door: Door) -> None:
        """End this one, if it runs."""
        found = self.running.pop((name, door), None)
        if found is not None:
            found.stop()


def run(
    results: Results,
    contestants: Sequence[Contestant],
    database: Database,
    size: Size,
    rounds: int,
    progress: Progress,
) -> None:
    """Measure everything into `results`. What fails once is told there and not tried again."""
    with Instances(database) as instances:
        for number in range(1, rounds + 1):
            for scenario in results.scenarios:
                with progress.step(f"{number}/{rounds} {scenario.name:<{NAME_ROOM}}") as show:
                    order = rotated(contestants, number)
                    _round(results, order, scenario, number, instances, size, fitting(show, live=progress.live))


def fitting(show: Callable[[str], None], *, live: bool) -> Callable[[str], None]:
    """`show`, on a terminal with what fits into a line: a longer one could not be rewritten."""
    if not live:
        return show
    room = max(0, shutil.get_terminal_size().columns - NAME_ROOM - AROUND)
    return lambda text: show(text[:room])


def _round(
    results: Results,
    contestants: Sequence[Contestant],
    scenario: Scenario,
    number: int,
    instances: Instances,
    size: Size,
    show: Callable[[str], None],
) -> None:
    told: list[str] = []
    for contestant in contestants:
        name = contestant.entry.name
        if not results.failure(scenario.name, name):
            reason = contestant.refuses(scenario)
            if reason:
                results.fail(scenario.name, name, reason)
        if results.failure(scenario.name, name):
            continue
        show("; ".join([*told, f"{name} ..."]))
        try:
            one = measure(scenario, instances.take(contestant, scenario), instances.database, size)
        except (ContestantError, LoadError) as error:
            results.fail(scenario.name, name, str(error))
            instances.end(name, scenario.door)
            told.append(f"{name} failed")
        else:
            results.add(scenario.name, name, number, one)
            told.append(_brief(name, one))
    show("; ".join(told) or "nobody can")


def _brief(name: str, one: Measurement) -> str:
    return f"{name} {one.rate:,.0f}/s {one.cpu:,.1f} µs"
