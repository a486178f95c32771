"""The question that tells what has become of a session's state: SQL for a server at rest, and what its answer says.

Of everything only that is asked for which there is a suspicion (the flags of `wire.sql`). Names are qualified
throughout, for the question runs under the client's own search_path.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..wire.sql import (
    CREATES,
    DEFINES,
    ENDS,
    HOLD,
    LISTENS,
    LOADS,
    LOCKS,
    PREPARES,
    SEEDS,
    SEQUENCES,
    SETS,
    TEMP,
    WRITES,
)
from . import study
from .statements import LONG_PREPARED, MANY_PREPARED
from .study import EQUALS

# What a session keeps and no other server can be given; of some no server can say that they are gone, and some no
# DISCARD takes away. UNNAMED are settings of which nobody can tell the names: beyond the flags of a text.
UNNAMED = 1 << 16
PINNING = TEMP | HOLD | LOCKS | LOADS | SEEDS | SEQUENCES | UNNAMED
LASTING = LOADS | SEEDS | SEQUENCES | UNNAMED
UNDYING = LOADS | SEEDS
# Flags that lead to a question, themselves or together with what is known.
HEEDED = PINNING | WRITES | SETS | PREPARES | LISTENS | ENDS | CREATES | DEFINES

# Whom the server has logged in, or another may be instead, is a superuser; since PostgreSQL 15 roles may be granted to
# set what else only superusers may.
SUPERUSER = f"EXISTS(SELECT FROM pg_catalog.pg_roles r WHERE r.rolname {EQUALS} session_user AND r.rolsuper)"
ACTS_AS_SUPERUSER = (
    "EXISTS(SELECT FROM pg_catalog.pg_roles r"
    " WHERE r.rolsuper AND pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER'))"
)
MAY_SET = "pg_catalog.has_parameter_privilege(session_user, name, 'SET')"
GRANTED = "EXISTS(SELECT FROM pg_catalog.pg_parameter_acl)"
# All settings of a session but those whose names nobody can list: custom ones, role and session_authorization; and the
# names of those that only another could set: a role that it had, a function of that one.
ALL_SETTINGS = (
    "(SELECT pg_catalog.json_build_array(pg_catalog.json_object_agg(pg_catalog.lower(name), setting),"
    f" pg_catalog.json_agg(name) FILTER (WHERE context {EQUALS} 'superuser' AND NOT {{may_set}}))"
    f" FROM pg_catalog.pg_settings WHERE source {EQUALS} 'session')"
)
# The same names alone, where there may be any.
BARRED_SETTINGS = (
    "CASE WHEN ({may_act}) AND NOT {superuser} THEN"
    " (SELECT pg_catalog.json_build_array(NULL, pg_catalog.json_agg(name)) FROM pg_catalog.pg_settings"
    f" WHERE source {EQUALS} 'session' AND context {EQUALS} 'superuser' AND NOT {{may_set}}) END"
)
NAMED_SETTINGS = (
    "(SELECT pg_catalog.json_object_agg(name, pg_catalog.current_setting(name, true))"
    " FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS name)"
)

MORE_THAN = "OPERATOR(pg_catalog.>)"
# Of more statements by SQL, or longer ones, than are prepared anew elsewhere only the names: each text is that of the
# whole query that prepared it, and of others maybe.
PREPARED = (
    "(SELECT pg_catalog.json_object_agg(name, CASE WHEN from_sql THEN"
    f" CASE WHEN many OR pg_catalog.length(statement) {MORE_THAN} {LONG_PREPARED} THEN '' ELSE statement END END)"
    f" FROM (SELECT p.*, pg_catalog.count(*) FILTER (WHERE from_sql) OVER () {MORE_THAN} {MANY_PREPARED} AS many"
    " FROM pg_catalog.pg_prepared_statements p) AS p)"
)

# One column per suspicion, in this order.
COLUMNS = (
    (TEMP, f"EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid {EQUALS} 2615::pg_catalog.oid"
           f" AND refobjid {EQUALS} pg_catalog.pg_my_temp_schema())"),
    (HOLD, "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    (LOCKS, f"EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype {EQUALS} 'advisory'"
            f" AND pid {EQUALS} pg_catalog.pg_backend_pid())"),
    (PREPARES, PREPARED),
    (LISTENS, "(SELECT pg_catalog.json_agg(c) FROM pg_catalog.pg_listening_channels() AS c)"),
    (DEFINES, study.TOUCHY),
)  # fmt: skip

# What EXISTS answers; all else is JSON.
TRUTHS = {b"t": True, b"f": False}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; None (or nothing) for what it was not asked, or does not have.

    `named`: settings by name, None for those that do not exist; `settings`: all that the session has set but custom
    ones; `barred`: names of those that the session's own user may not set; `found`: per flag, True or False, names of
    prepared statements (with the texts of those by SQL, else None), channels, or what there is about functions.
    """

    named: dict[str, str | None]
    settings: dict[str, str]
    barred: list[str]
    found: dict[int, Any]


def sql(
    flags: int, names: Iterable[str], exact: bool, acted: bool, may_wait: bool, grants: bool, since: study.Since | None
) -> str:
    """The question; with `exact` of settings only `names` are of interest, else all, and these besides.

    `acted`: they may have been set in another role. `grants`: roles may be granted to set what is not for all.
    `since` is when functions were asked for last, None to ask for all.

    With `may_wait` the session's transactions may be such that wait for a safe snapshot, as this one must not.
    """
    columns = ["NULL", "NULL"]
    if flags & SETS:
        quoted = [name.replace("'", "''").replace("\\", "") for name in sorted(names)]
        if quoted:
            columns[0] = NAMED_SETTINGS.format(",".join([f"'{name}'" for name in quoted]))
        may_set = MAY_SET if grants else SUPERUSER
        if not exact:
            columns[1] = ALL_SETTINGS.format(may_set=may_set)
        elif acted:
            may_act = f"{ACTS_AS_SUPERUSER} OR {GRANTED}" if grants else ACTS_AS_SUPERUSER
            columns[1] = BARRED_SETTINGS.format(may_act=may_act, superuser=SUPERUSER, may_set=may_set)
    columns += [asked if flags & flag else "NULL" for flag, asked in COLUMNS]
    if flags & DEFINES and since is not None:
        columns[-1] = study.news(since)
    text = "SELECT " + ",".join(columns)
    if may_wait:
        text = "SET TRANSACTION NOT DEFERRABLE;" + text
    # Whoever comes next must not get this client's notifications.
    return text + ";UNLISTEN *" if flags & LISTENS else text


def read(row: list[bytes | None], codec: str) -> Answer:
    """The answer in the one row that comes back. Raises ValueError where it is none."""
    if len(row) != 2 + len(COLUMNS):
        raise ValueError("not the columns that were asked for")
    parts = [_value(field, codec) for field in row]
    found = {flag: part for (flag, _), part in zip(COLUMNS, parts[2:], strict=True)}
    settings, barred = parts[1] or (None, None)
    return Answer(parts[0] or {}, settings or {}, barred or [], found)


def _value(field: bytes | None, codec: str) -> Any:
    if field is None:
        return None
    truth = TRUTHS.get(field)
    return json.loads(field.decode(codec)) if truth is None else truth
