"""A switchboard for each test, on each backend."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from switchboard import Switchboard

from pglido.io.backends import Unavailable, ring_pump
from pglido.io.epoll import EpollPump
from pglido.io.keeper import Keeper
from pglido.io.pump import Pump
from pglido.io.reactor import new_loop


@pytest.fixture(params=["epoll", "io_uring"])
def pump(request: pytest.FixtureRequest) -> Callable[[Any], Pump]:
    """Makes the pump of a host."""
    if request.param == "epoll":
        return EpollPump
    try:
        ring_pump(Keeper())
    except Unavailable as why:
        pytest.skip(f"no io_uring: {why}")
    return ring_pump


@pytest.fixture
def make(pump: Callable[[Any], Pump]) -> Iterator[Callable[..., Switchboard]]:
    """Make switchboards, that are closed with the test."""
    made: list[Switchboard] = []

    def one(**options: Any) -> Switchboard:
        made.append(Switchboard(pump, **options))
        return made[-1]

    yield one
    for board in made:
        board.close()


@pytest.fixture
def board(make: Callable[..., Switchboard]) -> Switchboard:
    """One server, no client."""
    return make()


@pytest.fixture
def runner(board: Switchboard) -> Iterator[asyncio.Runner]:
    """Runs coroutines on the board's pump."""
    with asyncio.Runner(loop_factory=lambda: new_loop(board.pump)) as made:
        yield made
