"""Tallies that all workers keep together, on the board (see `session.state.epoch_counter`)."""

from ...ipc.shared_counters import SharedCounter, SharedCounters


class SharedEpoch:
    """The tally of one column."""

    def __init__(self, board: SharedCounters, column: SharedCounter) -> None:
        self._board = board
        self._column = int(column)

    def count(self) -> int:
        """How often it has happened until now."""
        return self._board.total(self._column)

    def add(self) -> None:
        """It has happened once more."""
        self._board.add(self._column, 1)
