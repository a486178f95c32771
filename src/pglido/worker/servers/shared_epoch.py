"""Epochs that all workers keep together, among the shared counters (see `session.state.epoch_counter`)."""

from ...ipc.shared_counters import SharedCounter, SharedCounters


class SharedEpoch:
    """The epoch that one shared counter has."""

    def __init__(self, counters: SharedCounters, column: SharedCounter) -> None:
        self._counters = counters
        self._column = int(column)

    def count(self) -> int:
        """How often it has happened until now."""
        return self._counters.total(self._column)

    def add(self) -> None:
        """It has happened once more."""
        self._counters.add(self._column, 1)
