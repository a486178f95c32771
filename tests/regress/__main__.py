"""`python -m tests.regress`: replay PostgreSQL's tests directly and through pglido, and compare what they print."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pglido import embedded
from pglido.cli import frame
from pglido.cli.child import ChildError
from pglido.cli.progress import Progress

from . import lanes, report
from .judge import Kind, Known, KnownError, Verdict, judge, read_known

KNOWN = lanes.HERE / "known.toml"
# Percent of the tests that are stable without pglido, for each way in which it serves clients. Where servers are shared
# four tests are known to differ, and one more may for its timing.
FLOORS = {"transaction": 100 * 211 / 216, "alone": 100.0}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the person asked for; ends the program where that is not understood."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.regress",
        description="Replay PostgreSQL's SQL regression tests directly and through pglido, and compare.",
    )
    parser.add_argument("--server", type=int, choices=sorted(embedded.WHEELS), default=16, help="PostgreSQL (16)")
    parser.add_argument(
        "--event-backend", choices=("auto", "epoll", "io_uring"), default="auto", help="pglido's (auto)"
    )
    parser.add_argument("--pool", type=frame.positive, default=8, help="pglido's default_pool_size (8)")
    parser.add_argument("--jobs", type=frame.positive, default=4, help="tests at a time (4)")
    parser.add_argument(
        "--mode",
        choices=lanes.MODES,
        default="transaction",
        help="whether clients share servers (transaction), or each has a new one for itself (alone)",
    )
    parser.add_argument("--only", default="", metavar="NAME,...", help="these tests, without a floor; many need others")
    parser.add_argument("--thorough", action="store_true", help="each lane twice, whatever the first two print")
    floors = " or ".join(f"{floor:.1f}" for floor in FLOORS.values())
    parser.add_argument("--floor", type=float, metavar="PERCENT", help=f"fail below ({floors}, by the mode)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what all tests printed in this new directory")
    asked = parser.parse_args(words)
    if asked.keep and asked.keep.exists():
        parser.error(f"{asked.keep} is there already")
    if asked.floor is None:
        asked.floor = FLOORS[asked.mode]
    asked.only = [name for name in asked.only.split(",") if name]
    if asked.only:
        asked.floor = 0.0
    return asked


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when pglido is seen or the tests can't be replayed, 130 when interrupted."""
    asked = arguments(words)
    frame.end_in_order()
    try:
        with tempfile.TemporaryDirectory(prefix="pglido-regress-") as folder:
            verdicts = compare(asked, asked.keep or Path(folder))
    except KeyboardInterrupt:
        return frame.INTERRUPTED
    except (lanes.RegressError, KnownError, embedded.EmbeddedError, ChildError) as error:
        print(f"\nregress: {error}", file=sys.stderr)
        return 1
    print(f"\n{report.terminal(verdicts, asked.floor)}")
    return int(bool(report.names(verdicts, Kind.WRONG)) or report.share(verdicts) < asked.floor)


def compare(asked: argparse.Namespace, folder: Path) -> list[Verdict]:
    """Run the lanes and judge all tests.

    If a test differs in a way that is not known, both lanes are run once more: not it alone, for the tests build on
    one another. It may then turn out to be unstable without pglido, or to have differed only once: that doesn't fail
    the run, but the test has not passed either, for a fault that depends on timing looks just so.
    """
    groups = lanes.schedule(asked.only)
    plan = lanes.Plan(asked.server, asked.event_backend, asked.pool, asked.jobs, asked.mode, groups)
    known = read_known(KNOWN)
    if plan.mode == "alone":
        # Nothing that is for a server having been used before.
        known = {name: one for name, one in known.items() if one.unstable}
    progress = Progress()
    progress.say(
        f"{len(plan.tests)} tests on PostgreSQL {plan.version}, {plan.jobs} at a time, event_backend {plan.backend}\n"
    )
    ran: list[lanes.Lane] = []
    for number in (1, 2):
        ran += [_lane(plan, way, folder / f"{way}{number}", progress) for way in ("direct", "pooled")]
        verdicts = _verdicts(plan, ran, known)
        if not asked.thorough and not report.names(verdicts, Kind.WRONG):
            break
    return verdicts


def _lane(plan: lanes.Plan, way: lanes.Way, folder: Path, progress: Progress) -> lanes.Lane:
    with progress.step(way) as show:
        lane = lanes.run(plan, way, folder)
        if way == "pooled":
            show(f"{lane.clients} clients on {lane.servers} server connections")
    return lane


def _verdicts(plan: lanes.Plan, ran: Sequence[lanes.Lane], known: dict[str, Known]) -> list[Verdict]:
    direct = [lane.outputs for lane in ran if lane.way == "direct"]
    pooled = [lane.outputs for lane in ran if lane.way == "pooled"]
    return [
        judge(test, [out[test] for out in direct], [out[test] for out in pooled], known.get(test), plan.version)
        for test in plan.tests
    ]


if __name__ == "__main__":
    sys.exit(main())
