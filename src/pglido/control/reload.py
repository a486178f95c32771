"""Reads the configuration and all files that it names, at start and again on reload, and tries what they say."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..auth import userlist
from ..config.builder import name_of
from ..config.changes import diff, without_restart
from ..config.errors import ConfigError, Place, Problem
from ..config.load import changed, load
from ..config.model import Config, Settings
from ..log import CannotLog, Outputs, open_outputs
from ..transport.tls_context import (
    Contents,
    TlsError,
    TlsFiles,
    accepting,
    client_side,
    dialling,
    read_files,
    server_sides,
)
from .sockets import CannotListen, tune


class Loaded(NamedTuple):
    """What the workers get: the configuration, the stored secret of every user that is known here, and what is in
    the files of TLS, by path.
    """

    config: Config
    users: dict[str, str]
    files: dict[str, bytes]


class Note(NamedTuple):
    """A line for the log about what a reload has changed, or has not: that `waits` for a restart."""

    level: int
    text: str
    waits: bool = False


def read(path: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read everything; secrets in `[users]` go before `auth_file`. Raises ConfigError with every problem."""
    config = load(path, environ)
    return _complete(config, _users(config.settings.auth_file))


def reread(old: Loaded, environ: Mapping[str, str] | None = None) -> tuple[Loaded, list[Note]]:
    """Read again; gives what is to be in force, and what to log when it is.

    Keys that need a restart stay as they were. Raises ConfigError; the old configuration is then still good.
    """
    config = load(old.config.path, environ)
    users = _users(config.settings.auth_file)
    changes = diff(old.config, config)
    fresh = _complete(without_restart(old.config, config), users)
    notes = [
        Note(logging.WARNING if change.restart else logging.INFO, f"reload: {change}", change.restart)
        for change in changes
    ]
    notes += [Note(logging.WARNING, warning) for warning in config.warnings]
    if fresh.users != old.users:
        notes.append(Note(logging.INFO, f"reload: {_users_changed(old.users, fresh.users)}"))
    if fresh.files != old.files:
        names = sorted(path for path, content in fresh.files.items() if old.files.get(path) != content)
        notes.append(Note(logging.INFO, f"reload: other contents in {', '.join(names)}"))
    if not changes and fresh == old:
        notes.append(Note(logging.INFO, "reload: nothing has changed"))
    return fresh, notes


def with_setting(old: Loaded, key: str, text: str) -> tuple[Loaded, list[Note]]:
    """What is in force with another value for one key; no file is read but the one that is named now, if one is.

    Raises ConfigError.
    """
    config = changed(old.config, key, text)
    fresh = _complete(config, _users(config.settings.auth_file) if key == "auth_file" else old.users, old.files)
    return fresh, [Note(logging.INFO, f"SET: {change}") for change in diff(old.config, config)]


def open_log(loaded: Loaded) -> Outputs:
    """Open what the log goes to. Raises ConfigError."""
    settings = loaded.config.settings
    try:
        return open_outputs(settings.logfile, settings.syslog)
    except CannotLog as error:
        raise ConfigError([Problem(Place(loaded.config.path), error.key, str(error))]) from error


def _complete(config: Config, users: dict[str, str], known: Contents | None = None) -> Loaded:
    """The configuration with what is in its files, read but where it is `known`. Raises ConfigError if some can't be
    used.
    """
    files: dict[str, bytes] = {}
    found = [*_tls(config, files, known), *_tcp(config.settings)]
    problems = [Problem(Place(config.path), key, text) for key, text in found]
    if problems:
        raise ConfigError(problems)
    return Loaded(config, users | config.secrets(), files)


def _tls(config: Config, files: dict[str, bytes], known: Contents | None) -> Iterator[tuple[str, str]]:
    """Read the files of TLS into `files` and make every context once; gives keys and what is wrong with them."""
    sides: list[tuple[str, TlsFiles, Callable[[TlsFiles, Contents], object]]]
    sides = [("", client_side(config.settings), accepting)]
    sides += [(name, side, dialling) for side, name in server_sides(config).items()]
    for name, side, make in sides:
        try:
            files |= read_files(side, known)
            make(side, files)
        except TlsError as error:
            key = f"{'client' if make is accepting else 'server'}_tls_{error.key}"
            own = name and getattr(config.databases[name], key) is not None
            yield name_of("databases", name, key) if own else key, str(error)


def _tcp(settings: Settings) -> Iterator[tuple[str, str]]:
    """Try the TCP options on a socket that nobody uses."""
    with socket.socket() as probe:
        try:
            tune(probe, settings)
        except CannotListen as error:
            yield "", str(error)


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
