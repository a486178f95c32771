"""Progress reads well in a log and on a terminal."""

import io

import pytest

from pglido.cli.progress import CLEAR_LINE, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO) -> str:
    """What a step with a detail writes; the clock goes 1.5 s between two looks."""
    times = iter([10.0, 11.5])
    with Progress(out, lambda: next(times)).step("loading") as detail:
        detail("half")
        detail("all of it")
    return out.getvalue()


def test_in_a_log_a_step_is_one_line() -> None:
    assert shown(io.StringIO()) == "  loading ... all of it, 1.5 s\n"


def test_on_a_terminal_the_line_is_rewritten() -> None:
    assert shown(Terminal()).split(CLEAR_LINE) == [
        "  loading ... ",
        "  loading ... half",
        "  loading ... all of it",
        "  loading: all of it, 1.5 s\n",
    ]


def test_a_step_that_fails_ends_its_line() -> None:
    out = io.StringIO()
    with pytest.raises(OSError), Progress(out).step("loading"):
        raise OSError
    assert out.getvalue() == "  loading ... \n"
