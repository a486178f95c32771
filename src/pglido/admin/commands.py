"""The commands of the console: SHOW, and what changes something (SET, and those of `ACTIONS`).

Statements that drivers send by themselves (BEGIN, SELECT 1 and the like) get an answer and do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from ..config.errors import ConfigError
from ..config.model import rows as settings_table
from ..protocol.errors import PgError
from ..protocol.responder import Prepare, Statement
from ..protocol.rows import TEXT, Column, Rows, Value
from .control_api import REFUSED, ControlApi, OperationsApi
from .show import PGBOUNCER, SHOWS, VERSION, rows_of


class CommandError(PgError):
    """The console refuses a command; SQLSTATE, text and hint are for the client."""


class Notice(NamedTuple):
    message: str
    detail: str


class Result(NamedTuple):
    """What came of a command: rows where it has columns, its tag (of a SELECT without the number of rows), and what
    happens to the transaction (T, I or as it is).
    """

    tag: str
    rows: Rows = ()
    notices: Sequence[Notice] = ()
    status: str = ""
    afterwards: Callable[[], None] | None = None  # done once the client has its answer


class ConsoleCommand(NamedTuple):
    """A command that was understood. `columns` is None where it gives no rows; `run` does it.

    `action` is the text of one that changes something, for the log. One that `waits` for something that clients do is
    broken off by a cancel request, and when its client leaves.
    """

    columns: tuple[Column, ...] | None
    run: Callable[[ControlApi], Awaitable[Result]]
    action: str = ""
    waits: bool = False


# What is ordered of all workers, about a database or a client of this name; returns the workers that hang.
Order = Callable[[OperationsApi, str], Awaitable[set[int]]]

# A comment that does not end goes to the end of the text: one look at each character, however many begin.
_QUOTES = r"""'[^']*(?:'|\Z)|"[^"]*(?:"|\Z)"""
_COMMENT_OR_QUOTED = re.compile(rf"--[^\n]*|/\*.*?(?:\*/|\Z)|{_QUOTES}", re.DOTALL)
_PIECE = re.compile(rf""";|[^;'"]+|{_QUOTES}""", re.DOTALL)
_SHOW = re.compile(r"(?:SHOW|SELECT)\s+(\w+)", re.IGNORECASE)
_SET = re.compile(r"SET\s", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"SET\s+(?:SESSION\s+|LOCAL\s+)?(?P<key>\w+)\s*(?:=|\sTO\s)\s*(?P<value>.*)", re.IGNORECASE | re.DOTALL
)
_VALUE = re.compile(r"[^']*|'(?:[^']|'')*'")
_NAME = re.compile(r'[^\s"]*')
_QUOTED = re.compile(r'"(?:[^"]|"")+"')
_PARAMETER = re.compile(r"\$([0-9]{1,5})")

# Parameters that clients ask for when they connect. The console has a value for each, and ignores it.
PARAMETERS = {
    "application_name": "",
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "intervalstyle": "postgres",
    "is_superuser": "on",
    "max_identifier_length": "63",
    "search_path": "",
    "server_encoding": "UTF8",
    "server_version": f"{PGBOUNCER}/pglido",
    "server_version_num": "12500",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "timezone": "GMT",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}
# Statements that drivers and their connection pools send, in lower case: the name of the column, and the value.
QUERIES: dict[str, tuple[str, Value]] = {
    "select 1": ("?column?", "1"),
    "select version()": ("version", VERSION),
    "select pg_catalog.version()": ("version", VERSION),
    "select current_database()": ("current_database", "pglido"),
    "select current_schema()": ("current_schema", None),
    "select pg_is_in_recovery()": ("pg_is_in_recovery", "f"),
    "select pg_backend_pid()": ("pg_backend_pid", "0"),
    "select pg_advisory_unlock_all()": ("pg_advisory_unlock_all", ""),
    "show transaction isolation level": ("transaction_isolation", "read committed"),
}
# First words of statements that only get a tag: the tag, and the transaction status afterwards ("": as before).
PHRASES: dict[str, tuple[str, str]] = {
    "begin": ("BEGIN", "T"),
    "start transaction": ("START TRANSACTION", "T"),
    "commit": ("COMMIT", "I"),
    "end": ("COMMIT", "I"),
    "rollback": ("ROLLBACK", "I"),
    "abort": ("ROLLBACK", "I"),
    "reset": ("RESET", ""),
    "discard all": ("DISCARD ALL", ""),
    "close all": ("CLOSE CURSOR ALL", ""),
    "deallocate": ("DEALLOCATE", ""),
    "unlisten": ("UNLISTEN", ""),
}
# Characters of a statement whose parameters have been filled in.
LONGEST = 1 << 16
# Parameters of a statement.
MOST_PARAMETERS = 100
SHUTDOWNS = {"": "now", "WAIT_FOR_SERVERS": "servers", "WAIT_FOR_CLIENTS": "clients"}


def plain(sql: str) -> str:
    """The statement without comments, without white space around it and without semicolons at its end."""
    return _without_comments(sql).strip().rstrip("; \t\r\n")


def split(sql: str) -> list[str]:
    """The statements of a simple query: what semicolons outside of quotes part."""
    parts = [""]
    for piece in _PIECE.findall(_without_comments(sql)):
        if piece == ";":
            parts.append("")
        else:
            parts[-1] += piece
    return [part for part in map(str.strip, parts) if part]


def _without_comments(sql: str) -> str:
    return _COMMENT_OR_QUOTED.sub(lambda found: " " if found[0][0] in "-/" else found[0], sql)


def parameters(sql: str) -> int:
    """The number of parameters of a statement: its highest $n."""
    return max((int(number) for number in _PARAMETER.findall(sql)), default=0)


def fill(sql: str, values: list[str | None]) -> str:
    """The statement with these values, single words, in place of its parameters; None becomes nothing.

    Raises CommandError if it gets too long.
    """
    words = [value or "" for value in values]
    size = len(sql) + sum(len(words[int(number) - 1]) for number in _PARAMETER.findall(sql))
    if size > LONGEST:
        raise CommandError("54000", "the statement is too long with its parameters")
    return _PARAMETER.sub(lambda found: words[int(found[1]) - 1], sql)


def prepare(asked: Prepare, admin: bool) -> Statement[ConsoleCommand | str]:
    """A statement's command, or its text while its parameters are missing. Raises CommandError."""
    if asked.types is None:
        return _statement(understand(asked.sql, admin), ())
    sql = plain(asked.sql)
    if ";" in sql:
        raise CommandError("42601", "cannot insert multiple commands into a prepared statement")
    count = parameters(sql)
    if count > MOST_PARAMETERS:
        raise CommandError("42P02", f"there is no parameter ${count}")
    types = (*asked.types, *(0,) * (count - len(asked.types)))
    if count or not sql:
        return Statement(sql or None, None, types)
    return _statement(understand(sql, admin), types)


def filled(
    statement: Statement[ConsoleCommand | str], values: Sequence[bytes | None], admin: bool
) -> Statement[ConsoleCommand | str]:
    """The statement with these values for its parameters. Raises CommandError."""
    if not isinstance(statement.meaning, str):
        return statement
    words = [None if value is None else value.decode(errors="replace") for value in values]
    return _statement(understand(fill(statement.meaning, words), admin), statement.types)


def _statement(command: ConsoleCommand, types: tuple[int, ...]) -> Statement[ConsoleCommand | str]:
    return Statement(command, command.columns, types)


def understand(sql: str, admin: bool) -> ConsoleCommand:
    """The command of one statement. Raises CommandError if there is no such command, or the client may not use it."""
    words = " ".join(sql.split())
    lower = words.lower()
    if lower in QUERIES:
        name, value = QUERIES[lower]
        return _constant(name, value, lower.split(" ", 1)[0].upper())
    shown = _SHOW.fullmatch(words)
    if shown:
        return _show(words, shown[1])
    if _SET.match(words):
        return _set(sql, admin)
    for phrase, (tag, status) in PHRASES.items():
        if lower == phrase or lower.startswith(phrase + " "):
            return _said(tag, status)
    verb, _, argument = words.partition(" ")
    action = ACTIONS.get(verb.upper())
    if action is None:
        raise _unknown(words)
    if not admin:
        raise CommandError(REFUSED, "admin access needed")
    return action(words, argument)


def help_text() -> str:
    """The text of SHOW HELP: all commands."""
    return (
        "\n\tSHOW HELP|"
        + "|".join(sorted(SHOWS))
        + "".join(f"\n\t{usage}" for usage in USAGE)
        + "\n"
    )


def _unknown(words: str) -> CommandError:
    shown = words if len(words) <= 200 else words[:200] + "..."
    hint = "There are SHOW " + ", ".join(["HELP", *sorted(SHOWS)]) + "; " + ", ".join(["SET", *ACTIONS]) + "."
    return CommandError(REFUSED, f"invalid command '{shown}', use SHOW HELP;", hint=hint)


def _constant(name: str, value: Value, tag: str) -> ConsoleCommand:
    async def run(control: ControlApi) -> Result:
        return Result(tag, [[value]])

    return ConsoleCommand((Column(name, TEXT),), run)


def _said(tag: str, status: str = "") -> ConsoleCommand:
    async def run(control: ControlApi) -> Result:
        return Result(tag, status=status)

    return ConsoleCommand(None, run)


def _show(words: str, name: str) -> ConsoleCommand:
    if name.upper() == "HELP":
        return ConsoleCommand(None, _help)
    show = SHOWS.get(name.upper())
    if show is None:
        if name.lower() in PARAMETERS and words.upper().startswith("SHOW"):
            return _constant(name.lower(), PARAMETERS[name.lower()], "SHOW")
        raise _unknown(words)

    async def run(control: ControlApi) -> Result:
        rows, missing = await rows_of(show, control)
        return Result("SHOW", rows, _missing(control, missing))

    return ConsoleCommand(show.columns, run)


def _missing(control: ControlApi, workers: Iterable[int]) -> list[Notice]:
    """A NOTICE that names the workers whose figures are missing; none if none is missing."""
    return _silent(control, workers, "its part is missing")


async def _help(control: ControlApi) -> Result:
    return Result("SHOW", notices=[Notice("Console usage", help_text())])


def _set(sql: str, admin: bool) -> ConsoleCommand:
    """Another value of a setting of pglido, until the next RELOAD. Other settings are taken and mean nothing."""
    found = _ASSIGNMENT.fullmatch(sql.strip())
    field = settings_table().get(found["key"].lower()) if found else None
    if found is None or field is None:
        return _said("SET")
    if not admin:
        raise CommandError(REFUSED, "admin access needed")
    key, text = field.name, found["value"]
    if _VALUE.fullmatch(text) is None:
        raise _unknown(" ".join(sql.split()))
    if text.startswith("'"):
        text = text[1:-1].replace("''", "'")
    if not field.row.reload:
        hint = "Change it in the configuration file, then restart pglido."
        raise CommandError("55P02", f'"{key}" cannot be changed without a restart', hint=hint)

    async def run(control: ControlApi) -> Result:
        try:
            hung = await control.set_value(key, text)
        except ConfigError as error:
            # As PgBouncer, but what is wrong is told, too.
            raise CommandError(REFUSED, "SET failed", hint=str(error)) from error
        return Result("SET", notices=_hung(control, hung, "takes it"))

    shown = "***" if field.row.secret else text
    return ConsoleCommand(None, run, f"SET {key} = {shown}")


def _reload(words: str, argument: str) -> ConsoleCommand:
    if argument:
        raise _unknown(words)

    async def run(control: ControlApi) -> Result:
        try:
            reloaded = await control.reload()
        except ConfigError as error:
            # As PgBouncer, but the client need not go and read the log.
            raise CommandError(
                "F0000", "RELOAD failed, see logs for additional details", hint=str(error)
            ) from error
        notices = [Notice(text, "It stays as it was when pglido was started.") for text in reloaded.waits]
        notices += _hung(control, reloaded.hung, "takes the new configuration")
        return Result("RELOAD", notices=notices)

    return ConsoleCommand(None, run, words)


def _shutdown(words: str, argument: str) -> ConsoleCommand:
    mode = SHUTDOWNS.get(argument.upper())
    if mode is None:
        raise _unknown(words)

    async def run(control: ControlApi) -> Result:
        return Result("SHUTDOWN", afterwards=lambda: control.shutdown(mode))

    return ConsoleCommand(None, run, words)


def _hung(control: ControlApi, workers: Iterable[int], does: str) -> list[Notice]:
    """What the client is told where some workers have not done it yet."""
    return _silent(control, workers, f"and {does} when it moves again or is replaced")


def _silent(control: ControlApi, workers: Iterable[int], what: str) -> list[Notice]:
    names = ", ".join(map(control.worker_name, sorted(workers)))
    return [Notice(f"{names}: does not answer, {what}", "See SHOW WORKERS.")] if names else []


def _name_in(words: str, argument: str) -> str:
    """A name as the argument of a command, in double quotes or not; empty for none."""
    if _NAME.fullmatch(argument):
        return argument
    if _QUOTED.fullmatch(argument):
        return argument[1:-1].replace('""', '"')
    raise _unknown(words)


def _order(verb: str, order: Order) -> Callable[[str, str], ConsoleCommand]:
    """A command about one database (or client), or all."""

    def understood(words: str, argument: str) -> ConsoleCommand:
        name = _name_in(words, argument)

        async def run(control: ControlApi) -> Result:
            hung = await order(control.operations, name)
            return Result(verb, notices=_hung(control, hung, "does it"))

        return ConsoleCommand(None, run, words, verb in WAITS)

    return understood


ORDERS: dict[str, Order] = {
    "PAUSE": lambda operations, name: operations.pause(name),
    "RESUME": lambda operations, name: operations.resume(name),
    "DISABLE": lambda operations, name: operations.disable(name),
    "ENABLE": lambda operations, name: operations.enable(name),
    "RECONNECT": lambda operations, name: operations.reconnect(name),
    "KILL": lambda operations, name: operations.kill(name),
    "KILL_CLIENT": lambda operations, name: operations.kill_client(name),
    "WAIT_CLOSE": lambda operations, name: operations.wait_close(name),
}
WAITS = ("PAUSE", "WAIT_CLOSE")
ACTIONS: dict[str, Callable[[str, str], ConsoleCommand]] = {
    "RELOAD": _reload,
    "SHUTDOWN": _shutdown,
    **{verb: _order(verb, order) for verb, order in ORDERS.items()},
}
USAGE = (
    *("RELOAD", "PAUSE [<db>]", "RESUME [<db>]", "DISABLE <db>", "ENABLE <db>", "RECONNECT [<db>]"),
    *("SET <key> = <value>", "KILL [<db>]", "KILL_CLIENT <client id>", "WAIT_CLOSE [<db>]"),
    "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
)

WELCOME = {
    name: PARAMETERS[name.lower()]
    for name in (
        "server_version",
        "client_encoding",
        "server_encoding",
        "DateStyle",
        "TimeZone",
        "standard_conforming_strings",
        "is_superuser",
        "integer_datetimes",
        "IntervalStyle",
    )
}
