"""The question that tells what has become of a session's state: SQL for a server at rest, and what its answer says.

Of everything only that is asked that is unverified (the flags of `sql.scanner`). Names are qualified
throughout, for the question runs under the client's own search_path.

Rules:
1. The question costs the same under any settings of the client's: what could hinder it, and what the planner goes by,
   is set for its transaction alone (`sql.transaction_settings`), by statements that nothing plans.
2. No text comes in the client's encoding: JSON comes as the bytes that the database has, in hexadecimal digits.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ...protocol import messages
from ...sql import transaction_settings
from ...sql.scanner import (
    CREATES,
    DEFINES,
    ENDS,
    HOLD,
    KEEPS,
    LISTENS,
    LOADS,
    LOCKS,
    NOTIFIES,
    PREPARES,
    SEEDS,
    SEQUENCES,
    SETS,
    SHOWS,
    SIGNALS,
    TEMP,
    WRITES,
)
from . import function_scan
from .function_scan import EQUALS
from .parameters import literal
from .statement_cache import LONG_PREPARED, MANY_PREPARED

# What a session keeps and no other server can be given; of some no server can say that they are gone, and some no
# DISCARD takes away. UNNAMED are settings of which nobody can tell the names: beyond the flags of a text.
UNNAMED = 1 << 17
# Bytes of the values of a session's settings that are kept; with more its client stays on its server.
LONGEST_VALUES = 1 << 20
PINNING = TEMP | HOLD | LOCKS | LOADS | SEEDS | KEEPS | SEQUENCES | UNNAMED
LASTING = LOADS | SEEDS | KEEPS | SEQUENCES | UNNAMED
UNDYING = LOADS | SEEDS | KEEPS
# Flags that lead to a question, themselves or together with what is known.
INSPECTED = PINNING | WRITES | SETS | PREPARES | LISTENS | ENDS | CREATES | DEFINES | SHOWS | NOTIFIES | SIGNALS

# The first PostgreSQL that has GRANT ... ON PARAMETER.
GRANTS_PARAMETERS = 15
ISOLATED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

# Whom the server has logged in, or another may be instead, is a superuser; since PostgreSQL 15 roles may be granted to
# set what else only superusers may.
SUPERUSER = f"EXISTS(SELECT FROM pg_catalog.pg_roles r WHERE r.rolname {EQUALS} session_user AND r.rolsuper)"
ACTS_AS_SUPERUSER = (
    "EXISTS(SELECT FROM pg_catalog.pg_roles r"
    " WHERE r.rolsuper AND pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER'))"
)
MAY_SET = "pg_catalog.has_parameter_privilege(session_user, name, 'SET')"
GRANTED = "EXISTS(SELECT FROM pg_catalog.pg_parameter_acl)"
# Names and values of settings; of more bytes than LONGEST_VALUES no more is told than that they are there.
MORE_THAN = "OPERATOR(pg_catalog.>)"
VALUES = (
    f"CASE WHEN pg_catalog.sum(pg_catalog.octet_length({{1}})) {MORE_THAN} {LONGEST_VALUES}"
    " THEN 'true'::pg_catalog.json ELSE pg_catalog.json_object_agg({0}, {1}) END"
)
# All settings of a session but those whose names nobody can list: custom ones, role and session_authorization; the
# names of those that only another could set: a role that it had, a function of that one; and the defaults of all.
ALL_SETTINGS = (
    f"(SELECT pg_catalog.json_build_array({VALUES.format('pg_catalog.lower(name)', 'setting')},"
    f" pg_catalog.json_agg(name) FILTER (WHERE context {EQUALS} 'superuser' AND NOT {{may_set}}),"
    " pg_catalog.json_object_agg(pg_catalog.lower(name), reset_val))"
    f" FROM pg_catalog.pg_settings WHERE source {EQUALS} 'session')"
)
# The same names alone, where there may be any.
BARRED_SETTINGS = (
    "CASE WHEN ({may_act}) AND NOT {superuser} THEN"
    " (SELECT pg_catalog.json_agg(name) FROM pg_catalog.pg_settings"
    f" WHERE source {EQUALS} 'session' AND context {EQUALS} 'superuser' AND NOT {{may_set}}) END"
)
NAMED_SETTINGS = (
    f"(SELECT {VALUES.format('name', 'pg_catalog.current_setting(name, true)')}"
    " FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS name)"
)
OWNED_SETTINGS = (
    "(SELECT pg_catalog.json_agg(pg_catalog.lower(name)) FROM pg_catalog.pg_settings"
    f" WHERE source {EQUALS} 'session' AND pg_catalog.lower(name) {EQUALS} ANY (ARRAY[{{}}]::pg_catalog.text[]))"
)

# Of more statements by SQL, or longer ones, than are prepared anew elsewhere only the names: each text is that of the
# whole query that prepared it, and of others maybe.
PREPARED = (
    "(SELECT pg_catalog.json_object_agg(name, CASE WHEN from_sql THEN"
    f" CASE WHEN many OR pg_catalog.length(statement) {MORE_THAN} {LONG_PREPARED} THEN '' ELSE statement END END)"
    f" FROM (SELECT p.*, pg_catalog.count(*) FILTER (WHERE from_sql) OVER () {MORE_THAN} {MANY_PREPARED} AS many"
    " FROM pg_catalog.pg_prepared_statements p) AS p)"
)

# One column per flag, in this order; the first is for settings that were made in another role, the last is made by
# `function_scan`.
COLUMNS = (
    (SETS, BARRED_SETTINGS),
    (TEMP, f"EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid {EQUALS} 2615::pg_catalog.oid"
           f" AND refobjid {EQUALS} pg_catalog.pg_my_temp_schema())"),
    (HOLD, "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    (LOCKS, f"EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype {EQUALS} 'advisory'"
            f" AND pid {EQUALS} pg_catalog.pg_backend_pid())"),
    (PREPARES, PREPARED),
    (LISTENS, "(SELECT pg_catalog.json_agg(c) FROM pg_catalog.pg_listening_channels() AS c)"),
    (DEFINES, ""),
)  # fmt: skip
# The encodings that JSON comes in: the database's own, or UTF-8 for what is compared with what all clients say.
OWN = "pg_catalog.getdatabaseencoding()"
UNICODE = f"CASE {OWN} WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END::pg_catalog.name"
ENCODINGS = {SETS: OWN, PREPARES: OWN, LISTENS: UNICODE}

# What EXISTS answers; all else is JSON, as digits.
TRUTHS = {b"t": True, b"f": False}


@dataclass(frozen=True, slots=True)
class StateQuery:
    """What is asked: by which flags; whether for the named settings alone; and of which settings SHOW tells first.

    `spoken` are those of them that a text speaks of. With `unclear`, values by name, it is asked which of these the
    session has set, and nothing else. `detailed`: the last of so many `rows` has what is asked for by `COLUMNS`.
    """

    flags: int
    exact: bool
    shown: tuple[str, ...]
    detailed: bool
    rows: int
    statements: tuple[str, ...]
    spoken: tuple[str, ...] = ()
    unclear: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateAnswer:
    """What the server said; None (or nothing) for what it was not asked, or does not have.

    `named`: settings by name, None for those that do not exist; `settings`: all that the session has set but custom
    ones; `large`: there are more bytes of these values than are told, and so none is told; `shown`: those that may be
    set, or not, with their defaults; `barred`: names of those that the session's own user may not set; `found`: per
    flag, True or False, names of prepared statements (with the texts of those by SQL, else None), channels, or what
    there is about functions; `owned`: what it has set of those that a text spoke of.
    """

    named: dict[str, str | None]
    settings: dict[str, str]
    shown: dict[str, tuple[str, str]]
    barred: list[str]
    found: dict[int, Any]
    owned: list[str]
    large: bool = False


def make(
    flags: int,
    names: Iterable[str],
    own: Iterable[str],
    exact: bool,
    acted: bool,
    version: int,
    since: function_scan.FunctionSnapshot | None,
    user: str = "",
) -> StateQuery:
    """The question; with `exact` of settings only `names` are of interest, else all, and `names` and `own` besides.

    `names` are as a text has them, `own` as the server told them. `acted`: they may have been set in another role.
    `version`: PostgreSQL's. `since` is when functions were asked for last, None to ask for all. `user` is whom the
    server has logged in.
    """
    statements = [ISOLATED]
    shown: list[str] = []
    spoken: list[str] = []
    if flags & SETS:
        spoken = [
            name for name in transaction_settings.masked(transaction_settings.HINDERING, version) if name in names
        ]
        shown = spoken if exact else transaction_settings.masked(transaction_settings.HINDERING, version)
        statements += [f"SHOW {name}" for name in shown]
        statements += transaction_settings.local(transaction_settings.HINDERING, version)
        statements.append(_settings(sorted(set(names).difference(shown)), own, exact, version))
    # What pins a client that had another role is among all settings, where all are asked for.
    detailed = flags & ~SETS if not (acted and exact) else flags
    if detailed:
        columns = [_column(flag, asked, version) if detailed & flag else "NULL" for flag, asked in COLUMNS]
        if flags & DEFINES:
            asked = function_scan.everything(user) if since is None else function_scan.news(since, user)
            columns[-1] = digits(asked, UNICODE)
        statements += transaction_settings.local(transaction_settings.HINDERING | transaction_settings.PLANNER, version)
        statements.append("SELECT " + ",".join(columns))
    if flags & LISTENS:
        # Whoever comes next must not get this client's notifications.
        statements.append("UNLISTEN *")
    rows = len(shown) + (flags & SETS != 0) + (detailed != 0)
    return StateQuery(flags, exact, tuple(shown), detailed != 0, rows, tuple(statements), tuple(spoken))


def undisturbed(version: int) -> list[str]:
    """The statements in front of one that reads catalogs, so that it costs the same under any settings."""
    return [
        ISOLATED,
        *transaction_settings.local(transaction_settings.HINDERING | transaction_settings.PLANNER, version),
    ]


def of_ownership(unclear: dict[str, str], version: int) -> StateQuery:
    """The question which of these settings the session has set: they are at their defaults, and hinder nobody there."""
    spoken = tuple(sorted(unclear))
    hindering = {name: value for name, value in transaction_settings.HINDERING.items() if name not in spoken}
    listed = ",".join([literal(name) for name in spoken])
    asked = digits(OWNED_SETTINGS.format(listed), OWN)
    statements = (ISOLATED, *transaction_settings.local(hindering, version), f"SELECT {asked}")
    return StateQuery(SETS, True, (), False, 1, statements, spoken, unclear)


def _settings(names: Iterable[str], own: Iterable[str], exact: bool, version: int) -> str:
    """SQL that asks for settings by their names, and else for all."""
    quoted = ["'" + name.replace("'", "''").replace("\\", "") + "'" for name in names]
    quoted += [literal(name) for name in sorted(own)]
    named = digits(NAMED_SETTINGS.format(",".join(quoted)), OWN) if quoted else "NULL"
    others = "NULL" if exact else digits(ALL_SETTINGS.format(may_set=may_set(version)), OWN)
    return f"SELECT {named},{others}"


def may_set(version: int) -> str:
    """SQL for whether the session's user may set the setting `name`, which only superusers may."""
    return MAY_SET if version >= GRANTS_PARAMETERS else SUPERUSER


def _column(flag: int, asked: str, version: int) -> str:
    if flag == SETS:
        grants = version >= GRANTS_PARAMETERS
        may_act = f"{ACTS_AS_SUPERUSER} OR {GRANTED}" if grants else ACTS_AS_SUPERUSER
        asked = asked.format(may_act=may_act, superuser=SUPERUSER, may_set=may_set(version))
    return digits(asked, ENCODINGS[flag]) if flag in ENCODINGS else asked


def digits(asked: str, encoding: str) -> str:
    """SQL for the bytes of a text in that encoding, in hexadecimal digits."""
    return f"pg_catalog.encode(pg_catalog.convert_to(({asked})::pg_catalog.text,{encoding}),'hex')"


def read(question: StateQuery, rows: list[list[bytes | None]]) -> StateAnswer:
    """The answer in the rows that came. Raises ValueError where it is none."""
    left = list(rows)
    if question.unclear:
        (owned,) = _values(left.pop(0), 1)
        return StateAnswer({}, {}, {}, [], {flag: None for flag, _ in COLUMNS}, owned or [])
    values = [_shown(left.pop(0)) for _ in question.shown]
    named: dict[str, str | None] = {}
    settings, barred, defaults, large = None, None, None, False
    if question.flags & SETS:
        parts = _values(left.pop(0), 2)
        settings, barred, defaults = parts[1] or (None, None, None)
        large = parts[0] is True or settings is True
        named = {} if large else parts[0] or {}
    found: dict[int, Any] = {flag: None for flag, _ in COLUMNS}
    if question.detailed:
        found = {flag: part for (flag, _), part in zip(COLUMNS, _values(left.pop(0), len(COLUMNS)), strict=True)}
    settings = {} if large else settings or {}
    shown: dict[str, tuple[str, str]] = {}
    for name, value in zip(question.shown, values, strict=True):
        if question.exact:
            named[name] = value
        else:
            # Its value here is the one that the question has.
            settings.pop(name, None)
            shown[name] = plain(value), str((defaults or {}).get(name, ""))
    return StateAnswer(named, settings, shown, barred or found[SETS] or [], found, [], large)


# How SHOW writes times and sizes, and pg_settings does not.
UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "kB": 1, "MB": 1 << 10, "GB": 1 << 20}
MEASURE = re.compile(rf"(\d+)({'|'.join(UNITS)})")


def plain(value: str) -> str:
    """A value of a time or size that SHOW tells as it stands in pg_settings; others are the same in both."""
    measure = MEASURE.fullmatch(value)
    return str(int(measure[1]) * UNITS[measure[2]]) if measure else value


def _shown(row: list[bytes | None]) -> str:
    if len(row) != 1 or row[0] is None:
        raise ValueError("not what SHOW tells")
    return row[0].decode("ascii")


def _values(row: list[bytes | None], size: int) -> list[Any]:
    if len(row) != size:
        raise ValueError("not the columns that were asked for")
    return [_value(field) for field in row]


def _value(field: bytes | None) -> Any:
    if field is None:
        return None
    truth = TRUTHS.get(field)
    return json.loads(bytes.fromhex(field.decode("ascii")).decode("utf-8", messages.ESCAPE)) if truth is None else truth
