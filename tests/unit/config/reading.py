"""Short ways to read a configuration text in a test."""

from __future__ import annotations

from pglido.config.errors import ConfigError
from pglido.config.load import parse
from pglido.config.model import Config


def toml(text: str, **environ: str) -> Config:
    """The Config of a TOML text; clients are trusted unless it says otherwise."""
    if "auth_type" not in text and "[pglido]" not in text:
        text = '[pglido]\nauth_type = "trust"\n' + text
    return parse(text, "/etc/pglido.toml", environ)


def ini(text: str) -> Config:
    """The Config of a pgbouncer.ini; the section [pgbouncer] is added in front where there is none."""
    if "[pgbouncer]" not in text:
        text = "[pgbouncer]\nauth_type = trust\n" + text
    return parse(text, "/etc/pgbouncer.ini", {})


def toml_errors(text: str, **environ: str) -> list[str]:
    """The lines of the ConfigError that a TOML text gives, without the name of the file."""
    return _errors(text, "/etc/pglido.toml", environ)


def ini_errors(text: str) -> list[str]:
    """The lines of the ConfigError that a pgbouncer.ini gives, without the name of the file."""
    return _errors(text, "/etc/pgbouncer.ini", {})


def _errors(text: str, path: str, environ: dict[str, str]) -> list[str]:
    try:
        parse(text, path, environ)
    except ConfigError as error:
        return [str(problem).removeprefix(path + ":") for problem in error.problems]
    return []
