"""Tell a person at a terminal, or a log, what is going on: one line per step, with its time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Lines of steps on `out`; on a terminal the line of the running step is rewritten with details."""

    def __init__(self, out: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.out = out or sys.stdout
        self.now = now
        self.live = self.out.isatty()

    def say(self, text: str = "") -> None:
        """Print text as it is."""
        print(text, file=self.out, flush=True)

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[str], None]]:
        """A step that takes a while; the callable shows a detail, the last one stays in the finished line."""
        began = self.now()
        detail = ""

        def show(text: str) -> None:
            nonlocal detail
            detail = text
            if self.live:
                self._write(f"{CLEAR_LINE}  {what} ... {text}")

        self._write(f"  {what} ... ")
        try:
            yield show
        except BaseException:
            self.say()
            raise
        took = f"{self.now() - began:.1f} s"
        done = f"{detail}, {took}" if detail else took
        self.say(f"{CLEAR_LINE}  {what}: {done}" if self.live else done)

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()
