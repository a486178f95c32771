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
from .study import EQUALS

# What a session keeps and no other server can be given; of some no server can say that they are gone, and some no
# DISCARD takes away. UNNAMED are settings of which nobody can tell the names: beyond the flags of a text.
UNNAMED = 1 << 16
PINNING = TEMP | HOLD | LOCKS | LOADS | SEEDS | SEQUENCES | UNNAMED
LASTING = LOADS | SEEDS | SEQUENCES | UNNAMED
UNDYING = LOADS | SEEDS
# Flags that lead to a question, themselves or together with what is known.
HEEDED = PINNING | WRITES | SETS | PREPARES | LISTENS | ENDS | CREATES | DEFINES

# All settings of a session but those whose names nobody can list: custom ones, role and session_authorization.
ALL_SETTINGS = (
    "(SELECT pg_catalog.json_object_agg(pg_catalog.lower(name), setting) FROM pg_catalog.pg_settings"
    f" WHERE source {EQUALS} 'session')"
)
NAMED_SETTINGS = (
    "(SELECT pg_catalog.json_object_agg(name, pg_catalog.current_setting(name, true))"
    " FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS name)"
)

# One column per suspicion, in this order.
COLUMNS = (
    (TEMP, f"EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid {EQUALS} 2615::pg_catalog.oid"
           f" AND refobjid {EQUALS} pg_catalog.pg_my_temp_schema())"),
    (HOLD, "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    (LOCKS, f"EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype {EQUALS} 'advisory'"
            f" AND pid {EQUALS} pg_catalog.pg_backend_pid())"),
    (PREPARES, "(SELECT pg_catalog.json_object_agg(name, CASE WHEN from_sql THEN statement END)"
               " FROM pg_catalog.pg_prepared_statements)"),
    (LISTENS, "(SELECT pg_catalog.json_agg(c) FROM pg_catalog.pg_listening_channels() AS c)"),
    (DEFINES, study.TOUCHY),
)  # fmt: skip

# What EXISTS answers; all else is JSON.
TRUTHS = {b"t": True, b"f": False}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; None (or nothing) for what it was not asked, or does not have.

    `named`: settings by name, None for those that do not exist; `settings`: all that the session has set but custom
    ones; `found`: per flag, True or False, names of prepared statements (with the texts of those by SQL, else None),
    channels, or what there is about functions.
    """

    named: dict[str, str | None]
    settings: dict[str, str]
    found: dict[int, Any]


def sql(flags: int, names: Iterable[str], exact: bool, may_wait: bool, since: study.Since | None) -> str:
    """The question; with `exact` of settings only `names` are of interest, else all, and these besides.

    `since` is when functions were asked for last, None to ask for all.

    With `may_wait` the session's transactions may be such that wait for a safe snapshot, as this one must not.
    """
    columns = ["NULL", "NULL"]
    if flags & SETS:
        quoted = [name.replace("'", "''").replace("\\", "") for name in sorted(names)]
        if quoted:
            columns[0] = NAMED_SETTINGS.format(",".join([f"'{name}'" for name in quoted]))
        if not exact:
            columns[1] = ALL_SETTINGS
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
    return Answer(parts[0] or {}, parts[1] or {}, found)


def _value(field: bytes | None, codec: str) -> Any:
    if field is None:
        return None
    truth = TRUTHS.get(field)
    return json.loads(field.decode(codec)) if truth is None else truth
