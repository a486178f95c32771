"""What a Unix service does at start: pid file, system user, limits of open files, words to systemd."""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import resource
import socket
import time
from pathlib import Path
from typing import Self

log = logging.getLogger("pglido.control")


class CannotStart(Exception):
    """The process can't become what the settings ask for; the text is for the operator."""


class PidFile:
    """Holds a locked file with this process's number; who finds it locked knows that we run."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CannotStart(f"pidfile {path}: {error.strerror}") from None
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise CannotStart(f"pidfile {path}: already running as process {other}") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def give(self, uid: int, gid: int) -> None:
        """Make the file belong to the user that pglido becomes."""
        os.fchown(self._fd, uid, gid)

    def close(self) -> None:
        """Remove the file."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", self._path, error.strerror)
            os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def account(user: str) -> tuple[int, int] | None:
    """User and group id to become; None when that is who we are. Raises CannotStart.

    Root is not who we want to be, unless the settings say so; in a container, where we are process 1, it may be all
    there is.
    """
    if not user:
        if os.geteuid() == 0 and os.getpid() != 1:
            raise CannotStart(
                "pglido should not run as root: set user to the system user to become after start"
                ' (user = "root" to stay root)'
            )
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CannotStart(f"user: there is no system user {user!r}") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise CannotStart(f"user: only root can become {user!r}")
    return entry.pw_uid, entry.pw_gid


def become(user: str, ids: tuple[int, int]) -> None:
    """Give up root for good."""
    uid, gid = ids
    os.initgroups(user, gid)
    os.setgid(gid)
    os.setuid(uid)


def raise_file_limit(needed: int) -> None:
    """Allow as many open files as the hard limit does; warn where that is fewer than `needed` per process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            hard = soft
    if hard != resource.RLIM_INFINITY and hard < needed:
        log.warning("max_client_conn and the pools may need %d open files, the limit is %d", needed, hard)


def nearly_last(fd: int, kept: int) -> bool:
    """Whether a descriptor that was just opened is among the last `kept` that this process may have open.

    The kernel gives the lowest number that is free.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit != resource.RLIM_INFINITY and fd >= limit - kept


def notify(*lines: str) -> None:
    """Tell systemd (sd_notify(3)); nothing happens when it did not start us."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + where[1:] if where.startswith("@") else where)
            sock.send("\n".join(lines).encode())
    except OSError as error:
        log.warning("cannot notify systemd: %s", error.strerror)


def reloading() -> str:
    """The line that `notify-reload` wants next to RELOADING=1."""
    return f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
