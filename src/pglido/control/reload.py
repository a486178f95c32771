"""Reads the configuration and the list of users, at start and again on reload."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..auth import userlist
from ..config.diff import diff, without_restart
from ..config.errors import ConfigError, Place, Problem
from ..config.model import Config
from ..config.reader import load

log = logging.getLogger("pglido.control")


class Loaded(NamedTuple):
    """What the workers get: the configuration, and the stored secret of every user that is known here."""

    config: Config
    users: dict[str, str]


def read(path: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read everything; secrets in `[users]` go before `auth_file`. Raises ConfigError with every problem."""
    config = load(path, environ)
    return Loaded(config, _users(config.settings.auth_file) | config.secrets())


def reread(old: Loaded, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read again, log what has changed, and give what is in force now.

    Keys that need a restart stay as they were. Raises ConfigError; the old configuration is then still good.
    """
    fresh = read(old.config.path, environ)
    changes = diff(old.config, fresh.config)
    for change in changes:
        (log.warning if change.restart else log.info)("reload: %s", change)
    for warning in fresh.config.warnings:
        log.warning("%s", warning)
    if fresh.users != old.users:
        log.info("reload: %s", _users_changed(old.users, fresh.users))
    if not changes and fresh.users == old.users:
        log.info("reload: nothing has changed")
    return Loaded(without_restart(old.config, fresh.config), fresh.users)


def _users(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([Problem(Place(path), "auth_file", f"cannot be read: {error.strerror}")]) from None
    return userlist.parse(data, path)


def _users_changed(old: dict[str, str], new: dict[str, str]) -> str:
    """How many came, went and changed; never a secret."""
    kept = old.keys() & new.keys()
    counts = {
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "with another secret": sum(old[name] != new[name] for name in kept),
    }
    return "users " + ", ".join(f"{number} {what}" for what, number in counts.items() if number)
