"""How often somebody has changed what sessions begin with: ALTER ROLE ... SET, ALTER DATABASE ... SET and the like.

PostgreSQL gives it to those who log in afterwards. Here servers outlive their clients, and so are to be replaced then
(`worker.successions`).
"""

from .tally import Alone, Tally

_changes: Tally = Alone()


def share(changes: Tally) -> None:
    """From now on changes are those of all workers."""
    global _changes
    _changes = changes


def changed() -> None:
    """Once more."""
    _changes.add()


def count() -> int:
    """Another number whenever there was a change."""
    return _changes.count()
