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

# What a session keeps and no other server can be given; of some no server can say that they are gone, and some no
# DISCARD takes away. UNNAMED are settings of which nobody can tell the names: beyond the flags of a text.
UNNAMED = 1 << 16
PINNING = TEMP | HOLD | LOCKS | LOADS | SEEDS | SEQUENCES | UNNAMED
LASTING = LOADS | SEEDS | SEQUENCES | UNNAMED
UNDYING = LOADS | SEEDS
# Flags that lead to a question, themselves or together with what is known.
HEEDED = PINNING | WRITES | SETS | PREPARES | LISTENS | ENDS | CREATES | DEFINES

EQUALS = "OPERATOR(pg_catalog.=)"

# All settings of a session but those whose names nobody can list: custom ones, role and session_authorization.
ALL_SETTINGS = (
    "(SELECT pg_catalog.json_object_agg(pg_catalog.lower(name), setting) FROM pg_catalog.pg_settings"
    f" WHERE source {EQUALS} 'session')"
)
NAMED_SETTINGS = (
    "(SELECT pg_catalog.json_object_agg(name, pg_catalog.current_setting(name, true))"
    " FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS name)"
)

# What functions do to a session is told by their text: these words outside of the ordinary. A statement begins behind
# what ends another, a comment, a label, or the quote of one that is executed.
WORDS = (
    r"set_config|advisory_lock|advisory_unlock|\mpg_temp\M|\mtemp(orary)?\M|setseed|\mhold\M|\mset_limit\M|\mpg_settings\M"
    r"|(^|--[^\n]*|[;''\"$/]|>>|\m(begin|then|else|loop))\s*"
    r"(set(?!\s+(local|constraints|transaction)\s+[\w\"])[\s/\"-]|reset\s|discard\s|load\s|listen\s|unlisten\s"
    r"|prepare\s|deallocate\s)"
)
# The custom settings that a function speaks of by their names; and one that puts a name together.
SETTING = r"(?:''|\$|\mset(?:\s|/\*[^/]*/)+(?:session\s+)?)(\"?[[:alpha:]_]\w*\"?(?:\.\"?[[:alpha:]_][\w$]*\"?)+)"
COMPUTED = (
    r"set_config(?!\s*\(\s*(''[^'']*''|[\w.$]+)(::\w+)?\s*,)"
    r"|''\s*set\s+(session\s+)?[\w.\"]*(%|''\s*(\|\||,))"
)
# Asks for the values of sequences that it has not advanced itself.
COUNTS = r"^(?!.*(nextval|\minsert\M)).*\m(currval|lastval)\M"
# As they stand in a constant, whatever standard_conforming_strings says.
ESCAPED, NAMED, VAGUE, COUNTING = (words.replace("\\", "\\\\") for words in (WORDS, SETTING, COMPUTED, COUNTS))
# Functions call others, which is told by their names; the first object of a user has this oid. Of an aggregate the text
# is its row in the catalog. Rows that are written meet triggers, defaults, checks, rules and policies.
TOUCHY = f"""
(WITH RECURSIVE own AS MATERIALIZED (
  SELECT p.oid, p.proname::pg_catalog.text AS name, CASE
    WHEN p.prokind {EQUALS} 'a' THEN (SELECT a::pg_catalog.text FROM pg_catalog.pg_aggregate a
      WHERE a.aggfnoid::pg_catalog.oid {EQUALS} p.oid)
    WHEN pg_catalog.length(p.prosrc) {EQUALS} 0 THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END AS said
  FROM pg_catalog.pg_proc p
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND NOT p.prolang {EQUALS} 13::pg_catalog.oid
), touchy AS (
  SELECT oid, name, said OPERATOR(pg_catalog.~*) E'{ESCAPED}' AS sets, said OPERATOR(pg_catalog.~*) E'{VAGUE}' AS vague,
    said OPERATOR(pg_catalog.~*) E'{COUNTING}' AS counts
  FROM own WHERE said OPERATOR(pg_catalog.~*) E'{ESCAPED}|currval|lastval'
  UNION SELECT o.oid, o.name, t.sets, t.vague, t.counts FROM touchy t JOIN own o
    ON pg_catalog.strpos(pg_catalog.lower(o.said), pg_catalog.lower(t.name)) OPERATOR(pg_catalog.>) 0
    WHERE t.sets OR t.counts
), code AS (
  SELECT said FROM own WHERE oid {EQUALS} ANY (SELECT oid FROM touchy WHERE sets)
) SELECT pg_catalog.json_build_object(
  'names', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE sets OR counts),
  'vague', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE vague),
  'counts', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE counts),
  'settings', (SELECT pg_catalog.json_agg(
      DISTINCT pg_catalog.rtrim(pg_catalog.replace(pg_catalog.lower(found[1]), '"', ''), '$'))
    FROM code, pg_catalog.regexp_matches(said, E'{NAMED}', 'gi') AS found),
  'triggers', EXISTS(
    SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid {EQUALS} ANY (SELECT oid FROM touchy WHERE sets))
    OR EXISTS(SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid {EQUALS} 1255::pg_catalog.oid
      AND d.refobjid {EQUALS} ANY (SELECT oid FROM touchy WHERE sets)
      AND d.classid {EQUALS} ANY (ARRAY[2604,2606,2618,3256]::pg_catalog.oid[]))))"""

# One column per suspicion, in this order.
COLUMNS = (
    (TEMP, f"EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid {EQUALS} 2615::pg_catalog.oid"
           f" AND refobjid {EQUALS} pg_catalog.pg_my_temp_schema())"),
    (HOLD, "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    (LOCKS, f"EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype {EQUALS} 'advisory'"
            f" AND pid {EQUALS} pg_catalog.pg_backend_pid())"),
    (PREPARES, "(SELECT pg_catalog.json_object_agg(name, statement) FROM pg_catalog.pg_prepared_statements"
               " WHERE from_sql)"),
    (LISTENS, "(SELECT pg_catalog.json_agg(c) FROM pg_catalog.pg_listening_channels() AS c)"),
    (DEFINES, TOUCHY),
)  # fmt: skip

# What EXISTS answers; all else is JSON.
TRUTHS = {b"t": True, b"f": False}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; None (or nothing) for what it was not asked, or does not have.

    `named`: settings by name, None for those that do not exist; `settings`: all that the session has set but custom
    ones; `found`: per flag, True or False, names and texts of SQL-level prepared statements, channels, or what there is
    about functions.
    """

    named: dict[str, str | None]
    settings: dict[str, str]
    found: dict[int, Any]


def sql(flags: int, names: Iterable[str], exact: bool, may_wait: bool) -> str:
    """The question; with `exact` of settings only `names` are of interest, else all, and these besides.

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
