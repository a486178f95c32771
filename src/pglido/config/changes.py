"""What differs between two configurations, and which of it needs a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from .builder import name_of
from .model import Config, Database, Settings, User, rows
from .schema import Scope
from .values import render


class Change(NamedTuple):
    """A key that changed. `old` and `new` are texts to show, secrets hidden; "" where there was none."""

    key: str
    old: str
    new: str
    restart: bool

    def __str__(self) -> str:
        what = f"{self.key}: {self.old or 'not set'} -> {self.new or 'not set'}"
        return f"{what} (needs a restart)" if self.restart else what


def diff(old: Config, new: Config) -> tuple[Change, ...]:
    """Every difference: global keys by name, others as `databases.app.pool_size`; a database or user that
    came or went as `databases.app`."""
    return tuple(_changes(old, new))


def without_restart(old: Config, new: Config) -> Config:
    """`new`, with the keys that need a restart as they are in `old`: what is in force after a reload."""
    frozen = {key: getattr(old.settings, key) for key, field in rows().items() if not field.row.reload}
    return msgspec.structs.replace(new, settings=msgspec.structs.replace(new.settings, **frozen))


def _changes(old: Config, new: Config) -> Iterator[Change]:
    yield from _compare("pglido", "", old.settings, new.settings)
    yield from _entries("databases", old.databases, new.databases)
    yield from _entries("users", old.users, new.users)


def _entries(
    scope: Scope, old: dict[str, Database] | dict[str, User], new: dict[str, Database] | dict[str, User]
) -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name), new.get(name)
        if before is None:
            yield Change(f"{scope}.{name}", "", "defined", False)
        elif after is None:
            yield Change(f"{scope}.{name}", "defined", "", False)
        else:
            yield from _compare(scope, name, before, after)


def _compare(
    scope: Scope, entry: str, old: Settings | Database | User, new: Settings | Database | User
) -> Iterator[Change]:
    for key, field in rows(scope).items():
        before, after = getattr(old, key), getattr(new, key)
        if before != after:
            texts = render(field, before), render(field, after)
            yield Change(name_of(scope, entry, key), *texts, not field.row.reload)
