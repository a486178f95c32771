"""Count what work costs in steps, so that a test of cost depends on no clock and no other process.

A step is a line of pglido's Python that is executed, each turn of a loop or comprehension anew. The core is counted as
it runs interpreted (`parity.builds.SOURCE`): the compiled one does the same steps.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from parity.builds import ROOT

OURS = str(ROOT)


def steps(work: Callable[[], object]) -> int:
    """How many steps `work` takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.startswith(OURS) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def assert_linear(work: Callable[[int], Callable[[], object]], size: int, most: float = 0) -> None:
    """`work(n)` prepares work of size n, which is then counted for n, 2n and 4n: it must grow no faster than n.

    With `most` it also takes no more steps than that for each of the size.
    """
    one, two, four = [steps(work(size * times)) for times in (1, 2, 4)]
    # A half more than twice: texts of some lengths end in the middle of what they repeat.
    assert four - two <= 3 * (two - one) + 500, f"{one}, {two}, {four} steps for {size}, {2 * size}, {4 * size}"
    assert not most or four - one <= most * 3 * size, f"{(four - one) / (3 * size):.1f} steps for each, not {most}"
