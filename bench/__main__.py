"""`python -m bench`: run the benchmark, show the table, write the files that are asked for."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pglido import embedded
from pglido.cli import frame
from pglido.cli.progress import Progress

from . import contestants, database, document, machine, plot, report, rounds, scenarios
from .load import Size, idle_clients
from .results import Results

FILES = 65_536  # that a process may open: 10,000 idle clients and room
DOORS = 5  # that a contestant may have open at once, each with a pool, and some to spare
COPIED, COPIED_QUICK = 1_000_000_000, 100_000_000


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the person asked for; ends the program where that is not understood."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure pglido side by side with other poolers.",
        epilog=f"Scenarios:\n\n{report.listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="1 second, 2 rounds and 100 MB of COPY")
    parser.add_argument("--rounds", type=frame.positive, help="how often (5)")
    parser.add_argument("--seconds", type=frame.positive, help="how long each measurement takes (3)")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these scenarios; a name may end in *")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, each round included")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between this file's marks")
    parser.add_argument(
        "--peer",
        action="append",
        type=contestants.peer,
        default=[],
        metavar="NAME=PORT:PID",
        help="a pooler that runs already, for user, password and database `bench` on --postgres-port",
    )
    parser.add_argument("--postgres-port", type=int, default=0, metavar="PORT", help="of PostgreSQL (a free one)")
    parser.add_argument(
        "--pgbouncer",
        action="append",
        default=[],
        metavar="PROGRAM",
        help="another release of PgBouncer, by its path, besides the installed one",
    )
    parser.add_argument("--no-pgbouncer", action="store_true", help="leave the installed PgBouncer out")
    parser.add_argument("--no-install", action="store_true", help="leave PgBouncer out where it is not installed")
    asked = parser.parse_args(words)
    asked.rounds = asked.rounds or (2 if asked.quick else 5)
    asked.seconds = asked.seconds or (1 if asked.quick else 3)
    try:
        asked.scenarios = scenarios.chosen(asked.only)
        if asked.markdown:
            document.check(asked.markdown)
    except ValueError as error:
        parser.error(str(error))
    return asked


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when it can't run or nothing was measured, 130 when interrupted."""
    asked = arguments(words)
    frame.end_in_order()
    results = Results([], asked.scenarios)
    interrupted = False
    try:
        _run(asked, results, Progress())
    except KeyboardInterrupt:
        interrupted = True
        results.notes.append("Interrupted: not all rounds are there.")
    except (database.DatabaseError, embedded.EmbeddedError) as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    if results.rounds or results.failures:
        print(f"\n{report.terminal(results)}\n")
        _write(asked, results, complete=not interrupted)
    if interrupted:
        return frame.INTERRUPTED
    return 0 if results.rounds else 1


def _run(asked: argparse.Namespace, results: Results, progress: Progress) -> None:
    _allow_files()
    size = Size(asked.seconds, COPIED_QUICK if asked.quick else COPIED)
    with ExitStack() as stack:
        with progress.step(f"starting PostgreSQL {database.VERSION} and filling its tables"):
            connections = (len(asked.peer) + 2 * len(asked.pgbouncer) + 6) * DOORS * scenarios.POOL
            served = database.start(connections, asked.postgres_port)
            stack.enter_context(served.server)
        taking_part = _contestants(asked, contestants.prepare(served, embedded.scratch() / "bench"), results)
        results.entries = [each.entry for each in taking_part]
        results.machine = machine.describe(served)
        results.plan = {"rounds": asked.rounds, "seconds": size.seconds, "copied_bytes": size.copied}
        results.plan |= {"pool": scenarios.POOL, "idle_clients": idle_clients(scenarios.IDLE)}
        for entry in results.entries:
            progress.say(f"  {entry.name}: {entry.version}")
        times = len(asked.scenarios) * len(taking_part) * asked.rounds
        progress.say(f"\n{times} measurements, about {times * (size.seconds + 0.7) / 60:.0f} minutes\n")
        rounds.run(results, taking_part, served, size, asked.rounds, progress)


def _contestants(
    asked: argparse.Namespace, ground: contestants.Ground, results: Results
) -> list[contestants.Contestant]:
    found: list[contestants.Contestant] = [*contestants.pglidos(ground)]
    wanted = [partial(contestants.other_pgbouncer, program) for program in asked.pgbouncer]
    if not asked.no_pgbouncer:
        wanted.insert(0, partial(contestants.pgbouncer, install=not asked.no_install))
    for pgbouncer in wanted:
        try:
            one = pgbouncer(ground)
            found += [one, contestants.two_of(one)]
        except contestants.ContestantError as error:
            results.notes.append(f"Without PgBouncer: {error}")
            print(f"  without PgBouncer: {error}")
    return [*found, *asked.peer]


def _allow_files() -> None:
    """Let the processes to come open many files: as many as the hard limit does, more where we may raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = max(hard, FILES) if hard != resource.RLIM_INFINITY else FILES
    for limits in ((wished, wished), (min(wished, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limits[0]), limits[1]))
        except (OSError, ValueError):
            continue
        return


def _write(asked: argparse.Namespace, results: Results, *, complete: bool) -> None:
    """The files that were asked for; of a run that was interrupted only the JSON, which says so."""
    files: list[Path] = []
    if asked.json:
        asked.json.write_text(report.as_json(results))
        files.append(asked.json)
    if asked.svg and complete:
        asked.svg.write_text(plot.draw(results))
        files.append(asked.svg)
    if asked.markdown and complete:
        document.write(asked.markdown, results, asked.svg)
        files.append(asked.markdown)
    for file in files:
        print(f"Written: {file}")


if __name__ == "__main__":
    sys.exit(main())
