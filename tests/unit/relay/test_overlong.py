"""A round that takes too long is told of, with the connection and the kind of message that it went to."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.switchboard import FirstCome, Switchboard
from parity.frontend import SYNC, query

# The kernel's tick, by which events are measured, may be this old.
TICK = 0.02
SLOW = 0.5


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What dispatchers are told of rounds."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(FirstCome, "overlong", lambda self, *what: found.append(what), raising=False)
    return found


def longest(told: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The longest of the rounds."""
    return max(told, key=lambda one: one[0])


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every client that needs a server keeps the worker busy for so long."""
    attach = FirstCome.attach

    def slowly(self: FirstCome, client: Any) -> bool:
        time.sleep(seconds)
        return attach(self, client)

    monkeypatch.setattr(FirstCome, "attach", slowly)


def test_the_client_and_its_message_are_named(
    make: Callable[..., Switchboard], monkeypatch: pytest.MonkeyPatch, told: list[tuple[Any, ...]]
) -> None:
    board = make(servers=3)
    other, client = board.client(), board.client()
    board.transport.serve(0, [])
    slow(monkeypatch, SLOW)
    other.sock.send(SYNC)
    client.sock.send(query("select 1"))
    for _ in range(10):
        board.transport.serve(0, [])
    seconds, link, worst, kind = longest(told)
    assert link is client.link
    assert kind == ord("Q")
    assert SLOW - TICK < worst <= seconds + TICK


def test_many_events_that_take_long_together_are_told_of_once(
    make: Callable[..., Switchboard], monkeypatch: pytest.MonkeyPatch, told: list[tuple[Any, ...]]
) -> None:
    board = make(servers=10)
    clients = [board.client() for _ in range(8)]
    board.transport.serve(0, [])
    slow(monkeypatch, 0.04)
    for client in clients:
        client.sock.send(query("select 1"))
    for _ in range(10):
        board.transport.serve(0, [])
    assert told
    for seconds, link, worst, kind in told:
        assert link in [client.link for client in clients]
        assert kind == ord("Q")
        assert worst < seconds


def test_a_wait_is_not_taken_for_work(board: Switchboard, told: list[tuple[Any, ...]]) -> None:
    client = board.client()
    board.transport.serve(SLOW, [])
    client.say(query("select 1"))
    board.transport.serve(SLOW, [])
    assert all(seconds < SLOW - TICK for seconds, *_ in told)  # a busy machine may stop us for less


def test_coroutines_that_take_long_are_told_of(
    board: Switchboard, runner: asyncio.Runner, told: list[tuple[Any, ...]]
) -> None:
    async def job() -> None:
        await asyncio.sleep(0)
        time.sleep(SLOW)
        await asyncio.sleep(0)

    runner.run(job())
    seconds, link, _, _ = longest(told)
    assert link is None
    assert seconds > SLOW - TICK
