"""Read a configuration file of either kind, check it, and give the Config or every problem at once."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from . import ini, toml
from .builder import ConfigBuilder
from .errors import ConfigError, Place, Problem
from .model import Config
from .schema import Dialect
from .validate import check

_DIALECTS = {".toml": Dialect.TOML, ".ini": Dialect.INI, ".conf": Dialect.INI}


def dialect_of(path: str) -> Dialect:
    """The language of a file by its name; ConfigError for a name that doesn't tell."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in _DIALECTS:
        expected = ".toml for pglido, .ini for PgBouncer"
        raise ConfigError([Problem(Place(path), "", f'found the ending "{ending}"', expected)])
    return _DIALECTS[ending]


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in `path` and the files it includes; ConfigError with everything that is wrong.

    `environ` is what `${NAME}` in TOML refers to, by default the environment of the process. Names of files
    in the result are absolute.
    """
    path = os.path.abspath(os.fspath(path))
    draft = ConfigBuilder(path, dialect_of(path))
    if draft.dialect is Dialect.TOML:
        toml.read_toml(draft, path, os.environ if environ is None else environ)
    else:
        ini.read_ini(draft, path)
    return finish(draft)


def parse(
    text: str, path: str, environ: Mapping[str, str] | None = None, dialect: Dialect | None = None
) -> Config:
    """The same for a text in hand; `path` names it in messages and is where relative paths start."""
    draft = ConfigBuilder(path, dialect_of(path) if dialect is None else dialect)
    if draft.dialect is Dialect.TOML:
        toml.read_text(draft, path, text, os.environ if environ is None else environ)
    else:
        ini.read_text(draft, path, text)
    return finish(draft)


def changed(config: Config, key: str, text: str) -> Config:
    """The configuration with another value for one key of `[pglido]`, written as in a file. Raises ConfigError."""
    draft = ConfigBuilder(config.path, config.dialect)
    draft.put("pglido", "", key, text, Place(config.path))
    if draft.problems:
        raise ConfigError(draft.problems)
    settings = msgspec.structs.replace(config.settings, **draft.values["pglido"][""])
    fresh = msgspec.structs.replace(config, settings=settings)
    check(fresh, draft)
    if draft.problems:
        raise ConfigError(draft.problems)
    return fresh


def finish(draft: ConfigBuilder) -> Config:
    """Check what was read; the Config with the warnings of both, or ConfigError."""
    config = draft.config()
    check(config, draft)
    return draft.config()
