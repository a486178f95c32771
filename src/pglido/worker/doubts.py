"""That prepared statements have become doubtful is known to all workers at once (see `session.statements`)."""

from ..ipc.board import Board, Column

DOUBTS = int(Column.DOUBTS)


class SharedDoubts:
    """The doubts of all workers."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def count(self) -> int:
        """How often all statements have become doubtful until now; less after a worker has died."""
        return self._board.total(DOUBTS)

    def add(self) -> None:
        """Once more."""
        self._board.add(DOUBTS, 1)
