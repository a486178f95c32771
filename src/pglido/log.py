"""Log lines of every process, as text or as JSON: one line per event, whatever a client put into its name.

A line has time, level, process (control, worker 1) and message, and, where the event belongs to a connection,
what the caller gave as `extra`: uuid, user, database, address. Every process appends to the same file, a line
in one write, and waits for nobody (`log_output`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from .log_output import Output, open_datagrams, open_file, to_datagrams, to_descriptor, to_file

FIELDS = ("uuid", "user", "database", "address")
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
SYSLOG_SOCKET = "/dev/log"
FACILITIES = SysLogHandler.facility_names
# Python's names of levels in syslog's numbers.
SEVERITIES = {
    level: SysLogHandler.priority_names[name] for level, name in SysLogHandler.priority_map.items()
}


class Text(logging.Formatter):
    """`2026-01-31 12:00:00.123 UTC info worker 1: closed (reason) uuid=... user=... database=...`"""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process
        self._moment = 0
        self._stamp = self._day = ""

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record.created, record.levelname.lower(), record.getMessage(), connection(record))
        if record.exc_info and record.exc_info[0]:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line

    def line(self, when: float, level: str, message: str, fields: dict[str, str]) -> str:
        """The line of an event at `when`, in seconds since 1970."""
        line = self.begin(when, level, message)
        for name, value in fields.items():
            if value:
                line += f" {name}={_word(value)}"
        return line

    def begin(self, when: float, level: str, message: str) -> str:
        """The line without the fields of a connection."""
        moment = int(when * 1000)
        if moment != self._moment:
            second, millisecond = divmod(moment, 1000)
            if second != self._moment // 1000:
                self._day = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
            self._moment = moment
            self._stamp = f"{self._day}.{millisecond:03d}"
        return f"{self._stamp} UTC {level} {self.process}: {printable(message)}"


class Json(logging.Formatter):
    """One JSON object per line: time (RFC 3339), level, process, message, the connection's fields, trace."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self.process,
            "message": record.getMessage(),
        }
        line |= connection(record)
        if record.exc_info and record.exc_info[0]:
            line["trace"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line)


FORMATS: dict[str, type[Text] | type[Json]] = {"text": Text, "json": Json}


def connection(record: logging.LogRecord) -> dict[str, str]:
    """What the record says of its connection; fields not given are left out."""
    given = record.__dict__
    return {name: str(given[name]) for name in FIELDS if given.get(name) not in (None, "")}


def printable(text: str) -> str:
    """The same on one line: a name must not begin a new one, order a terminal, nor look like another text."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _word(value: str) -> str:
    """The value of a field: in quotes where it would not be one word, quotes and backslashes behind a backslash."""
    if value.isprintable() and not _MARKS.search(value):
        return value
    return '"' + printable(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'


_MARKS = re.compile(r'[\s"\\=]')

# Where lines of level info go that need no record, and what makes them. None where they need one, or are not wanted.
shortcut: tuple[Output, Text] | None = None


@lru_cache(4096)
def who(user: str, database: str) -> bytes:
    """The fields of a connection that many share, and the name of the one that follows them."""
    fields = (f" user={_word(user)}" if user else "") + (f" database={_word(database)}" if database else "")
    return f"{fields} address=".encode("utf-8", "backslashreplace")


class Lines(logging.Handler):
    """Writes a line per record to the output that `begin` makes."""

    def __init__(self, form: Text | Json, begin: Callable[[Callable[[int], bytes]], Output]) -> None:
        super().__init__()
        self.setFormatter(form)
        self.output = begin(self._confess)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.output.put(self.line(record))
        except Exception:
            self.handleError(record)

    def line(self, record: logging.LogRecord) -> bytes:
        """The bytes of a record."""
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")

    def flush(self) -> None:
        """Wait for a moment until all is written: Python calls this at the end of a process."""
        self.output.drain()

    def close(self) -> None:
        self.output.close()
        super().close()

    def _confess(self, count: int) -> bytes:
        text = f"{count} log lines were dropped: they were not read, or could not be written"
        return self.line(logging.makeLogRecord({"levelname": "WARNING", "levelno": logging.WARNING, "msg": text}))


class Syslog(Lines):
    """Lines as syslog wants them (RFC 3164): a priority, who says it, and no end."""

    def __init__(self, form: Text | Json, fd: int, ident: str, facility: int) -> None:
        self._ident = f"{ident}[{os.getpid()}]: "
        self._facility = facility
        super().__init__(form, partial(to_datagrams, fd, SYSLOG_SOCKET))

    def line(self, record: logging.LogRecord) -> bytes:
        priority = self._facility << 3 | SEVERITIES.get(record.levelname, SEVERITIES["WARNING"])
        return f"<{priority}>{self._ident}{self.format(record)}".encode("utf-8", "backslashreplace")


def _find_shortcut() -> None:
    """After handlers, levels or files have changed."""
    global shortcut
    shortcut = None
    handlers = logging.getLogger().handlers
    wanted = logging.getLogger("pglido").isEnabledFor(logging.INFO)
    if wanted and len(handlers) == 1 and type(handlers[0]) is Lines:
        form = handlers[0].formatter
        shortcut = (handlers[0].output, form) if isinstance(form, Text) else None


def flush() -> None:
    """Write what could not be written before; to be called from time to time."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Lines):
            handler.output.flush()


class Choices(Protocol):
    """The settings that concern the log."""

    @property
    def logfile(self) -> str: ...
    @property
    def syslog(self) -> bool: ...
    @property
    def effective_log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...
    @property
    def syslog_ident(self) -> str: ...
    @property
    def syslog_facility(self) -> str: ...


class Outputs(NamedTuple):
    """Descriptors that log lines go to; with neither they go to stderr."""

    file: int | None = None
    syslog: int | None = None

    @classmethod
    def of(cls, settings: Choices, fds: Sequence[int]) -> Self:
        """The descriptors that these settings ask for, the file first. Raises ValueError for another number of them."""
        wanted = (bool(settings.logfile), settings.syslog)
        if len(fds) != sum(wanted):
            raise ValueError(f"{len(fds)} descriptors for the log, expected {sum(wanted)}")
        rest = iter(fds)
        return cls(*(next(rest) if want else None for want in wanted))

    @property
    def fds(self) -> list[int]:
        """Those that there are, the file first."""
        return [fd for fd in self if fd is not None]

    def again(self) -> Outputs:
        """The same under other descriptors. Raises OSError; then nothing more is open."""
        copies = copied(self.fds)
        rest = iter(copies)
        return Outputs(*(None if fd is None else next(rest) for fd in self))

    def close(self) -> None:
        """Close them."""
        for fd in self.fds:
            os.close(fd)


STDERR = Outputs()


def copied(fds: Iterable[int]) -> list[int]:
    """Other descriptors of the same files. Raises OSError; then none is open."""
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))
    except OSError:
        for fd in copies:
            os.close(fd)
        raise
    return copies


class CannotLog(Exception):
    """An output can't be opened. `key` is the setting that asks for it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def open_outputs(file: str | Path = "", syslog: bool = False) -> Outputs:
    """Open what the log is to go to. Raises CannotLog; then nothing is open."""
    fd = None
    if file:
        try:
            fd = open_file(file)
        except OSError as error:
            raise CannotLog("logfile", f"the file {file} can't be opened: {error.strerror}") from error
    try:
        return Outputs(fd, open_datagrams(SYSLOG_SOCKET) if syslog else None)
    except OSError as error:
        if fd is not None:
            os.close(fd)
        raise CannotLog("syslog", f"{SYSLOG_SOCKET} can't be connected to: {error.strerror}") from error


def follow(process: str, settings: Choices, outputs: Outputs) -> None:
    """Log as the settings say, to `outputs`, which are this process's own from here on."""
    setup(
        process,
        outputs,
        level=settings.effective_log_level,
        form=settings.log_format,
        ident=settings.syslog_ident,
        facility=settings.syslog_facility,
    )


def setup(
    process: str,
    outputs: Outputs = STDERR,
    *,
    level: str = "info",
    form: str = "text",
    ident: str = "pglido",
    facility: str = "daemon",
) -> None:
    """Send this process's log to `outputs`, which are its own from here on; what was set up before is closed.

    Raises ValueError for an unknown level, form or facility, before anything has changed.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    if form not in FORMATS:
        raise ValueError(f"log format {form!r}: expected one of {', '.join(FORMATS)}")
    if facility not in FACILITIES:
        raise ValueError(f"syslog facility {facility!r}: expected one of {', '.join(FACILITIES)}")
    formatter = FORMATS[form](process)
    root = logging.getLogger()
    # What was open is closed first: where the process is out of descriptors, standard error is opened in its place.
    lost = 0
    for former in root.handlers:
        lost += former.output.close() if isinstance(former, Lines) else 0
        logging.Handler.close(former)
    handlers: list[logging.Handler] = []
    if outputs.file is not None:
        handlers.append(Lines(formatter, partial(to_file, outputs.file)))
    if outputs.syslog is not None:
        handlers.append(Syslog(formatter, outputs.syslog, ident, FACILITIES[facility]))
    if not handlers:
        handlers.append(_stderr(formatter))
    if isinstance(handlers[0], Lines):
        handlers[0].output.dropped += lost
    root.handlers = handlers
    root.setLevel(max(LEVELS[level], logging.WARNING))  # other libraries' chatter stays out
    logging.getLogger("pglido").setLevel(LEVELS[level])
    _find_shortcut()
    logging.raiseExceptions = False  # a full disk must not end the pooler
    # Nobody prints what would be found out for each line (logging's documentation, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _stderr(form: Text | Json) -> logging.Handler:
    """Lines to standard error; as Python does it where that is no file of the system, as in some tests, or where the
    process may not have another descriptor of it.
    """
    try:
        return Lines(form, partial(to_descriptor, sys.stderr.fileno()))
    except (AttributeError, OSError, ValueError):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(form)
        return handler
