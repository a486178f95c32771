"""The machine and the programs a run was made with, as pairs of words."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from .database import Database


def describe(database: Database) -> dict[str, str]:
    """What a reader needs to know to judge the figures."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(_read("/proc/cpuinfo")),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": memory(_read("/proc/meminfo")),
        "kernel": f"{platform.system()} {platform.release()}",
        "system": _system(),
        "PostgreSQL": database.server.sql("show server_version"),
        "revision": _revision(),
        "load before": " ".join(f"{one:.2f}" for one in os.getloadavg()),
    }


def processor(cpuinfo: str) -> str:
    """The name of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return " ".join(value.split())
    return platform.machine()


def memory(meminfo: str) -> str:
    """The memory in the text of /proc/meminfo, in GB."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) * 1024 / 1e9:.0f} GB"
    return "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown"


def _revision() -> str:
    """The commit that is checked out, if this is a clone."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""
