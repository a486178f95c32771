"""A switchboard for each test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from switchboard import Switchboard


@pytest.fixture
def make() -> Iterator[Callable[..., Switchboard]]:
    """Make switchboards, that are closed with the test."""
    made: list[Switchboard] = []

    def one(**options: Any) -> Switchboard:
        made.append(Switchboard(**options))
        return made[-1]

    yield one
    for board in made:
        board.close()


@pytest.fixture
def board(make: Callable[..., Switchboard]) -> Switchboard:
    """One server, no client."""
    return make()
