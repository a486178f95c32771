"""How often somebody has changed what sessions begin with, by ALTER ROLE, ALTER DATABASE or pg_reload_conf().

PostgreSQL gives it to those who log in afterwards. Here servers outlive their clients: whom it concerns is asked then
(`worker.servers.session_defaults`).
"""

from .epoch_counter import EpochCounter, LocalEpoch

_changes: EpochCounter = LocalEpoch()
_reloads: EpochCounter = LocalEpoch()


def share(changes: EpochCounter, reloads: EpochCounter) -> None:
    """From now on changes are those of all workers."""
    global _changes, _reloads
    _changes, _reloads = changes, reloads


def changed() -> None:
    """Session defaults of a role or database may be others now."""
    _changes.add()


def reloaded() -> None:
    """The server has read its configuration anew: that is a change as well, and concerns everybody."""
    _reloads.add()
    _changes.add()


def count() -> int:
    """A higher number whenever there was a change."""
    return _changes.count()


def reloads() -> int:
    """A higher number whenever the configuration was read anew."""
    return _reloads.count()
