"""Signals end a command in order, and a second one does not disturb that."""

import os
import signal
from collections.abc import Iterator

import pytest

from pglido.cli import frame


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {end: signal.getsignal(end) for end in frame.ENDS}
    yield
    for end, handler in before.items():
        signal.signal(end, handler)


@pytest.mark.parametrize("end", frame.ENDS)
def test_a_signal_interrupts_once(end: signal.Signals) -> None:
    frame.end_in_order()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), end)
    for again in frame.ENDS:
        os.kill(os.getpid(), again)


def test_sigint_ends_also_where_it_was_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    frame.end_in_order()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_count_is_a_whole_number_from_one_up() -> None:
    assert frame.positive("7") == 7
    for text in ("0", "-1", "1.5", "many", ""):
        with pytest.raises(ValueError):
            frame.positive(text)
