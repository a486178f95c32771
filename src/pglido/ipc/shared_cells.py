"""Rows of counters in memory that processes share: what is done at every connection, compiled."""


class SharedCells:
    """`rows` rows of `width` counters (int64) in `view`, the first of them at `start`; `row` is the own one."""

    def __init__(self, view: memoryview, start: int, rows: int, width: int, row: int) -> None:
        self._cells = view
        self.start = start
        self.width = width
        self.rows = rows
        self.row = row

    def add(self, column: int, delta: int) -> None:
        """Add to a counter of the own row."""
        self._cells[self._place(column, self.row)] += delta

    def release(self, columns: tuple[int, ...]) -> None:
        """Take one from each of these counters of the own row."""
        for column in columns:
            self.add(column, -1)

    def get(self, column: int, row: int) -> int:
        """One row's counter."""
        return self._cells[self._place(column, row)]

    def _place(self, column: int, row: int) -> int:
        if not (0 <= row < self.rows and 0 <= column < self.width):
            raise IndexError("no such counter")
        return self.start + row * self.width + column

    def total(self, column: int) -> int:
        """The sum over all rows."""
        found = 0
        for row in range(self.rows):
            found += self.get(column, row)
        return found

    def leave(self) -> None:
        """Touch the memory no more."""
        self.rows = 0
        self._cells = memoryview(bytearray(8)).cast("q")
