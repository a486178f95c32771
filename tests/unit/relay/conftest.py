"""A switchboard for each test, on each backend."""

from harness.switchboard import board, make, pump, runner

__all__ = ["board", "make", "pump", "runner"]
