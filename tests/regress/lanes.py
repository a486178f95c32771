"""Replay the whole schedule once: against a PostgreSQL made for it, directly or through a pglido made for it.

Each lane has a server of its own, so that nothing of one is found by the next: no role, no prepared transaction, no
statistics. What psql prints is all that is kept.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pglido import embedded
from pglido.cli.child import Child, free_port, own_user

HERE = Path(__file__).parent
DATABASE = "regression"
TEST_SECONDS = 90.0  # the longest takes four
HANGS_MAX = 3  # in a lane; then it is given up, for with all tests hanging it would take hours
UNENDED = "\n*** no end within the time limit\n"

Way = Literal["direct", "pooled"]

PGLIDO = """\
[pglido]
user = "{system_user}"
listen_addr = ["127.0.0.1"]
listen_port = {port}
unix_socket_dir = ""
workers = 2
event_backend = "{backend}"
pool_mode = "{mode}"
server_lifetime = {lifetime}
default_pool_size = {pool}
max_pinned_share = 1.0
auth_type = "trust"

[databases.{database}]
host = "127.0.0.1"
port = {server_port}

[users.{user}]
password = ""
"""

# How pglido serves clients, as its pool_mode and server_lifetime: they share servers, or each has one for itself, which
# nobody has used before.
MODES = {"transaction": ("transaction", 3600), "alone": ("session", 0)}

# What pg_regress sets for the database, and for psql; from src/test/regress/pg_regress.c.
CREATE = [
    f"CREATE DATABASE {DATABASE} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    *(
        f"ALTER DATABASE {DATABASE} SET {name} TO '{value}'"
        for name, value in {
            "lc_messages": "C",
            "lc_monetary": "C",
            "lc_numeric": "C",
            "lc_time": "C",
            "bytea_output": "hex",
            "timezone_abbreviations": "Default",
        }.items()
    ),
]
PSQL = ["-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
ENVIRON = {
    "PGDATABASE": DATABASE,
    "PGTZ": "PST8PDT",
    "PGDATESTYLE": "Postgres, MDY",
    "PGOPTIONS": "-c intervalstyle=postgres_verbose",
    "PG_LIBDIR": "/nonexistent",  # the tests' own C library is not there: what needs it fails, and alike
    "PG_DLSUFFIX": ".so",
    "LC_ALL": "C",
}


class RegressError(RuntimeError):
    """The tests can't be replayed; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What all lanes have in common.

    backend  pglido's setting event_backend
    pool     its setting default_pool_size: with less than `jobs`, clients wait for servers and move between them
    jobs     how many tests run at the same time
    mode     how pglido serves clients, one of MODES
    groups   the tests that may run at the same time, in their order
    """

    version: int
    backend: str
    pool: int
    jobs: int
    mode: str
    groups: Sequence[Sequence[str]]

    @property
    def tests(self) -> list[str]:
        """All of them, in their order."""
        return [test for group in self.groups for test in group]


@dataclass(frozen=True)
class Lane:
    """One replay: what each test printed, and how many connections PostgreSQL got for how many clients."""

    way: Way
    outputs: Mapping[str, str]
    seconds: float
    clients: int = 0
    servers: int = 0


def schedule(only: Sequence[str] = ()) -> list[list[str]]:
    """The groups of PostgreSQL's parallel schedule; with `only` these tests and the one that all others need.

    Raises RegressError for a test that is not in it.
    """
    lines = (HERE / "schedule").read_text().splitlines()
    groups = [line.removeprefix("test:").split() for line in lines if line.startswith("test:")]
    if unknown := set(only) - {test for group in groups for test in group}:
        raise RegressError(f"not in the schedule: {' '.join(sorted(unknown))}")
    if only:
        wanted = {"test_setup", *only}
        groups = [[test for test in group if test in wanted] for group in groups]
    return [group for group in groups if group]


def run(plan: Plan, way: Way, folder: Path) -> Lane:
    """Replay all tests this way; `folder` is new afterwards and holds what they printed."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        # 2, as PostgreSQL's own make check has it: prepared_xacts needs it.
        server = stack.enter_context(embedded.start(plan.version, settings={"max_prepared_transactions": 2}))
        server.sql(";\n".join(CREATE))
        environ = server.env | ENVIRON | stack.enter_context(_files())
        pglido = stack.enter_context(_pglido(plan, server, folder)) if way == "pooled" else None
        environ["PGPORT"] = str(pglido.port if pglido else server.port)
        began = time.monotonic()
        asyncio.run(_replay(plan, [str(server.psql), *PSQL], environ, folder))
        seconds = time.monotonic() - began
    log = pglido.log.read_text(errors="replace") if pglido else ""
    if "Traceback" in log:
        raise RegressError(f"a bug left a traceback in pglido's log:\n{log[log.index('Traceback') :][:5000]}")
    outputs = {test: _output(folder, test).read_text(errors="backslashreplace") for test in plan.tests}
    clients, servers = (len(re.findall(what, log)) for what in (r" login: ", "server connection opened"))
    return Lane(way, outputs, seconds, clients, servers)


@contextmanager
def _files() -> Iterator[dict[str, str]]:
    """Where tests find files and leave files, as variables; PostgreSQL, which may be another user, may do so too."""
    place = embedded.scratch() / "regress"  # the same in all lanes, for tests print it
    results = place / "results"
    try:
        shutil.copytree(HERE / "data", place / "data")
        results.mkdir()
        embedded.account().own(place)
        yield {"PG_ABS_SRCDIR": str(place), "PG_ABS_BUILDDIR": str(place)}
    finally:
        shutil.rmtree(place)


@contextmanager
def _pglido(plan: Plan, server: embedded.Postgres, folder: Path) -> Iterator[Child]:
    port = free_port(0)
    configuration = PGLIDO.format(
        system_user=own_user(),
        port=port,
        backend=plan.backend,
        mode=MODES[plan.mode][0],
        lifetime=MODES[plan.mode][1],
        pool=plan.pool,
        database=DATABASE,
        server_port=server.port,
        user=server.superuser,
    )
    with Child(configuration, folder, port) as child:
        yield child
        if not child.running:
            raise RegressError(f"pglido ended with status {child.process.returncode}:\n{child.log_tail()}")


def _output(folder: Path, test: str) -> Path:
    return folder / f"{test}.out"


async def _replay(plan: Plan, psql: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
    """Run the groups one after the other, `plan.jobs` tests at a time. Raises RegressError when many hang."""
    free = asyncio.Semaphore(plan.jobs)
    hanging: list[str] = []

    async def one(test: str) -> None:
        async with free:
            if not await _test(test, psql, environ, folder):
                hanging.append(test)

    for group in plan.groups:
        await asyncio.gather(*map(one, group))
        if len(hanging) >= HANGS_MAX:
            raise RegressError(f"no end within {TEST_SECONDS:.0f} s: {' '.join(hanging)}")


async def _test(test: str, psql: Sequence[str], environ: Mapping[str, str], folder: Path) -> bool:
    """Run one test; returns whether it ended in time."""
    with (HERE / "sql" / f"{test}.sql").open("rb") as sql, _output(folder, test).open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *psql, stdin=sql, stdout=out, stderr=out, env={**environ, "PGAPPNAME": f"pg_regress/{test}"}
        )
        try:
            async with asyncio.timeout(TEST_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            out.write(UNENDED.encode())
            return False
        finally:
            if process.returncode is None:  # we were interrupted
                process.kill()
                await process.wait()
    return True
