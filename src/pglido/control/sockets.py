"""Opens the listening sockets, which the control process owns: TCP per worker, one Unix socket for all.

Or adopts those that a service manager has opened, which all workers share.
"""

from __future__ import annotations

import errno
import grp
import logging
import math
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from ..config.model import Settings

log = logging.getLogger("pglido.control")


# The first descriptor that a service manager passes on (SD_LISTEN_FDS_START).
FIRST_ADOPTED = 3


class CannotListen(Exception):
    """An address can't be listened on; the text is for the operator."""


def adopted(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that a service manager has opened for this process (sd_listen_fds(3)), none where there is none.

    The variables that tell of them are removed: they are not for the workers. Raises CannotListen.
    """
    process, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count:
        return []
    if not count.isdecimal():
        raise CannotListen(f"LISTEN_FDS is no number: {count}")
    return [_adopt(FIRST_ADOPTED + number) for number in range(int(count))]


def _adopt(fd: int) -> socket.socket:
    problem = f"descriptor {fd} of the service manager is no stream socket that listens"
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListen(f"{problem}: {error.strerror}") from None
    if not listens:
        sock.close()
        raise CannotListen(problem)
    sock.setblocking(False)
    return sock


class Listeners:
    """The sockets of all workers. They live until `close`, whatever happens to a worker."""

    def __init__(self) -> None:
        self._tcp: list[list[socket.socket]] = []  # per address, per worker
        self._shared: list[socket.socket] = []  # by all workers
        self._files: list[tuple[Path, int]] = []  # with their inodes: only our own is removed
        self.addresses: list[str] = []

    @classmethod
    def of_manager(cls, sockets: Sequence[socket.socket], settings: Settings) -> Listeners:
        """Those that a service manager has opened, in place of what the settings ask for. Raises CannotListen."""
        made = cls()
        made._shared = list(sockets)
        made.addresses = [_shown(sock) for sock in sockets]
        made.tune(settings)
        return made

    @classmethod
    def open(cls, settings: Settings, workers: int) -> Listeners:
        """Open all that the settings ask for, or none: raises CannotListen."""
        made = cls()
        try:
            for family, address in _addresses(settings.listen_addr, settings.listen_port):
                made._open_tcp(family, address, settings, workers)
            if settings.unix_socket_dir:
                made._open_unix(settings)
        except CannotListen:
            made.close()
            raise
        if not made.addresses:
            raise CannotListen("neither listen_addr nor unix_socket_dir is set: nobody could connect")
        return made

    def of(self, worker: int) -> list[socket.socket]:
        """The sockets that one worker accepts from."""
        return [per_worker[worker] for per_worker in self._tcp] + self._shared

    def tune(self, settings: Settings) -> None:
        """Set the TCP options of client connections: accepted sockets inherit them (Linux)."""
        for sock in self._all():
            if sock.family != socket.AF_UNIX:
                tune(sock, settings)

    def give(self, uid: int, gid: int) -> None:
        """Make the socket files belong to the user that pglido becomes, who has to remove them one day."""
        for path, _ in self._files:
            os.chown(path, uid, gid if not path.stat().st_gid else -1)

    def close(self) -> None:
        """Close all and remove the socket files. May be called again."""
        for sock in self._all():
            sock.close()
        for path, inode in self._files:
            try:
                if path.stat().st_ino == inode:
                    path.unlink()
            except FileNotFoundError:
                pass
            except OSError as error:
                log.warning("cannot remove %s: %s", path, error.strerror)
        self._tcp, self._shared, self._files = [], [], []

    # ---- inside

    def _all(self) -> list[socket.socket]:
        return [*self._shared, *(sock for per_worker in self._tcp for sock in per_worker)]

    def _open_tcp(
        self, family: socket.AddressFamily, address: tuple[str, int], settings: Settings, workers: int
    ) -> None:
        where = _where(family, address)
        # With SO_REUSEPORT a second pglido of the same user would get the port too, and half of the clients.
        with _bound(family, address, where):
            pass
        sockets: list[socket.socket] = []
        self._tcp.append(sockets)
        for _ in range(workers):
            sock = _bound(family, address, where, reuse_port=True)
            sockets.append(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, math.ceil(settings.tcp_defer_accept))
            tune(sock, settings)
            sock.listen(settings.listen_backlog)
        self.addresses.append(where)

    def _open_unix(self, settings: Settings) -> None:
        path = f"{settings.unix_socket_dir.rstrip('/')}/.s.PGSQL.{settings.listen_port}"
        abstract = path.startswith("@")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._shared.append(sock)
        try:
            if not abstract:
                _remove_stale(path)
            sock.bind("\0" + path[1:] if abstract else path)
            if not abstract:
                file = Path(path)
                self._files.append((file, file.stat().st_ino))
                if settings.unix_socket_group:
                    os.chown(path, -1, grp.getgrnam(settings.unix_socket_group).gr_gid)
                file.chmod(settings.unix_socket_mode)
            sock.listen(settings.listen_backlog)
        except KeyError:
            raise CannotListen(f"unix_socket_group: no group {settings.unix_socket_group!r}") from None
        except OSError as error:
            raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from None
        self.addresses.append(path)


def _shown(sock: socket.socket) -> str:
    """Its address, as the log has it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return os.fsdecode(name).replace("\0", "@", 1)
    return _where(sock.family, name)


def _where(family: int, address: tuple[str, int]) -> str:
    """A TCP address, as the log has it."""
    return f"[{address[0]}]:{address[1]}" if family == socket.AF_INET6 else f"{address[0]}:{address[1]}"


def tune(sock: socket.socket, settings: Settings) -> None:
    """The `tcp_...` settings on a TCP socket; 0 leaves the kernel's own. Raises CannotListen."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, settings.tcp_keepalive)
    options = {
        "tcp_keepcnt": (socket.TCP_KEEPCNT, settings.tcp_keepcnt),
        "tcp_keepidle": (socket.TCP_KEEPIDLE, math.ceil(settings.tcp_keepidle)),
        "tcp_keepintvl": (socket.TCP_KEEPINTVL, math.ceil(settings.tcp_keepintvl)),
        "tcp_user_timeout": (socket.TCP_USER_TIMEOUT, math.ceil(settings.tcp_user_timeout * 1000)),
    }
    for key, (option, value) in options.items():
        if not value:
            continue
        try:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except (OSError, OverflowError) as error:
            raise CannotListen(f"{key}: the kernel does not take {value}: {error}") from error
    if settings.tcp_socket_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.tcp_socket_buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.tcp_socket_buffer)


def _addresses(names: Sequence[str], port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """What to bind to; `*` is every address of both families, as far as the kernel has them."""
    found: dict[tuple[socket.AddressFamily, tuple[str, int]], None] = {}
    for name in names:
        if name == "*":
            found[socket.AF_INET, ("0.0.0.0", port)] = None
            if _has_ipv6():
                found[socket.AF_INET6, ("::", port)] = None
            continue
        try:
            answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise CannotListen(f"listen_addr {name}: {error.strerror}") from None
        for family, _, _, _, address in answers:
            found[family, (str(address[0]), port)] = None
    return list(found)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _bound(
    family: socket.AddressFamily, address: tuple[str, int], where: str, reuse_port: bool = False
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        hint = "; is another pooler running?" if error.errno == errno.EADDRINUSE else ""
        raise CannotListen(f"cannot listen on {where}: {error.strerror}{hint}") from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise CannotListen(f"cannot listen on {path}: there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass
    raise CannotListen(f"cannot listen on {path}: another process does; is another pooler running?")
