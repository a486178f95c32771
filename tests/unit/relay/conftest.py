"""A switchboard for each test, on each backend."""

from harness.switchboard import board, make, new_transport, runner

__all__ = ["board", "make", "new_transport", "runner"]
