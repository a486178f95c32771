"""The command `pglido`: its subcommands, their options and exit statuses."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click

from .. import __version__, build

Between = click.IntRange
CONFIGURATION = click.argument("file", type=click.Path(path_type=Path))
NOT_COMPILED = """\
pglido: these modules are not compiled:
  {missing}
Build them with `make build` (in a clone) or `pip install --force-reinstall pglido`.
"""


def version() -> str:
    """What --version says: release, compiled or interpreted, and on which Python."""
    return f"pglido {__version__}, {build.describe()} build, Python {platform.python_version()}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=version())
def main() -> None:
    """A connection pooler for PostgreSQL that applications do not notice."""


@main.command()
@CONFIGURATION
def serve(file: Path) -> None:
    """Run the pooler with the configuration FILE (TOML, or a pgbouncer.ini) until it is told to stop.

    \b
    SIGTERM, SIGINT  finish transactions, then stop; a second one stops at once
    SIGHUP           read FILE again
    """
    missing = build.interpreted()
    if missing:
        _leave(NOT_COMPILED.format(missing=", ".join(missing)))

    from ..control.main import run

    sys.exit(run(file))


@main.command()
@CONFIGURATION
@click.option("--connect", is_flag=True, help="Also try to reach and log in to every database.")
def check(file: Path, connect: bool) -> None:
    """Say whether the configuration FILE is right, without starting anything.

    Exit status 0: right; 1: wrong, or with --connect a database that can't be reached.
    """
    from .check import run

    sys.exit(run(file, connect=connect))


@main.command()
@click.option("--stay", is_flag=True, help="Stay up after the measurements until Ctrl-C, to try things.")
@click.option("--seconds", default=5, show_default=True, type=Between(2, 600), help="Length of each run.")
@click.option("--clients", default=100, show_default=True, type=Between(1, 1000), help="pgbench's clients.")
@click.option("--pool", default=10, show_default=True, type=Between(1, 200), help="Size of the pool.")
def demo(stay: bool, seconds: int, clients: int, pool: int) -> None:
    """Show pglido at work: an embedded PostgreSQL, pglido in front of it, pgbench through both."""
    from .demo import DemoOptions, run

    sys.exit(run(DemoOptions(stay=stay, seconds=seconds, clients=clients, pool=pool)))


def _leave(text: str) -> None:
    click.echo(text.rstrip("\n"), err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
