"""Runs the control process from a configuration file to an exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from setproctitle import setproctitle

from .. import log as logs
from ..config.errors import ConfigError
from ..config.model import Settings
from ..ipc import threads
from ..ipc.shared_counters import SharedCounters
from . import daemon
from .pooler import Pooler
from .reload import Loaded, open_log, read
from .sockets import CannotListen, Listeners, adopted
from .supervisor import COMMAND

log = logging.getLogger("pglido.control")

OK, FAILED = 0, 1


def run(
    config_path: str | os.PathLike[str],
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> int:
    """Serve until told to stop; the exit status. What keeps it from starting goes to standard error."""
    try:
        loaded = read(os.fspath(config_path), environ)
        return _serve(loaded, command, environ)
    except (ConfigError, CannotListen, daemon.CannotStart) as error:
        print(error, file=sys.stderr)
        return FAILED


def worker_count(settings: Settings) -> int:
    """How many workers run: `workers`, or one for each processor that we may use."""
    return settings.workers or len(os.sched_getaffinity(0))


def _serve(loaded: Loaded, command: Sequence[str], environ: Mapping[str, str] | None) -> int:
    settings = loaded.config.settings
    workers = worker_count(settings)
    ids = daemon.account(settings.user)
    with ExitStack() as stack:
        pidfile = stack.enter_context(daemon.PidFile(settings.pidfile)) if settings.pidfile else None
        passed_on = adopted(os.environ)
        listeners = Listeners.of_manager(passed_on, settings) if passed_on else Listeners.open(settings, workers)
        stack.callback(listeners.close)
        if ids is not None:
            listeners.give(*ids)
            if pidfile is not None:
                pidfile.give(*ids)
            daemon.become(settings.user, ids)
        outputs = open_log(loaded)
        logs.follow("control", settings, outputs.again())
        counters = SharedCounters.create(workers, names=_names(settings.max_client_conn))
        stack.callback(counters.close)
        setproctitle(f"pglido: control {loaded.config.path}")
        if os.geteuid() == 0:
            log.warning("pglido runs as root: set user to a system user, who need only read its files")
        for warning in loaded.config.warnings:
            log.warning("%s", warning)
        threads.prepare()
        daemon.raise_file_limit(2 * settings.max_client_conn // workers + 1000)
        return asyncio.run(_run(loaded, workers, listeners, counters, outputs, command, environ))


async def _run(
    loaded: Loaded,
    workers: int,
    listeners: Listeners,
    counters: SharedCounters,
    outputs: logs.Outputs,
    command: Sequence[str],
    environ: Mapping[str, str] | None,
) -> int:
    pooler = Pooler(loaded, workers, listeners, counters, outputs, command, environ)
    await pooler.run()
    if pooler.failure is not None:
        log.error("%s", pooler.failure)
        if loaded.config.settings.logfile or loaded.config.settings.syslog:
            print(pooler.failure, file=sys.stderr)
        return FAILED
    log.info("stopped")
    return OK


def _names(max_client_conn: int) -> int:
    """Room in the shared counters: a client needs a column for its database and one for its user, half of which stay
    free.
    """
    needed = 4096
    while needed < 4 * max_client_conn:
        needed *= 2
    return needed
