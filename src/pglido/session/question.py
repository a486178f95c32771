"""The question that tells what has become of a session's state: SQL for a server at rest, and what its answer says.

Of everything only that is asked for which there is a suspicion (the flags of `wire.sql`). Names are qualified
throughout, for the question runs under the client's own search_path.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..wire.look import Look, look
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
from .settings import ALWAYS_REPORTED
from .state import ClientState

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

# What functions do to a session is told by their text: these words outside of the ordinary.
WORDS = (
    r"set_config|advisory_lock|advisory_unlock|\mpg_temp\M|\mtemp(orary)?\M|setseed|\mhold\M|\mset_limit\M"
    r"|(^|;|''|\m(begin|then|else|loop))\s*(set\s+(?!(local|constraints|transaction)\M)|reset\s|discard\s|load\s|listen\s|unlisten\s"
    r"|prepare\s|deallocate\s)"
)
# The custom settings that a function speaks of by their names; and one that puts a name together.
SETTING = r"(?:set_config\s*\(\s*''|\mset\s+(?:session\s+)?)([a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)+)"
COMPUTED = r"set_config\s*\(\s*(?!(''[^'']*''|[\w.$]+)(::\w+)?\s*,)"
# As they stand in a constant, whatever standard_conforming_strings says.
ESCAPED, NAMED, VAGUE = (words.replace("\\", "\\\\") for words in (WORDS, SETTING, COMPUTED))
# Functions call others, which is told by their names; the first object of a user has this oid.
TOUCHY = f"""
(WITH RECURSIVE own AS MATERIALIZED (
  SELECT p.oid, p.proname::pg_catalog.text AS name, CASE WHEN pg_catalog.length(p.prosrc) {EQUALS} 0
    THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END AS said
  FROM pg_catalog.pg_proc p
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND NOT p.prokind {EQUALS} 'a'
    AND NOT p.prolang {EQUALS} ANY (ARRAY[12, 13]::pg_catalog.oid[])
), touchy AS (
  SELECT oid, name FROM own WHERE said OPERATOR(pg_catalog.~*) E'{ESCAPED}'
  UNION SELECT o.oid, o.name FROM touchy t JOIN own o
    ON pg_catalog.strpos(pg_catalog.lower(o.said), t.name) OPERATOR(pg_catalog.>) 0
), code AS (
  SELECT name, said FROM own WHERE oid {EQUALS} ANY (SELECT oid FROM touchy)
) SELECT pg_catalog.json_build_object(
  'names', (SELECT pg_catalog.json_agg(DISTINCT name) FROM code),
  'vague', (SELECT pg_catalog.json_agg(DISTINCT name) FROM code WHERE said OPERATOR(pg_catalog.~*) E'{VAGUE}'),
  'settings', (SELECT pg_catalog.json_agg(DISTINCT pg_catalog.lower(found[1]))
    FROM code, pg_catalog.regexp_matches(said, E'{NAMED}', 'gi') AS found),
  'triggers', EXISTS(
    SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid {EQUALS} ANY (SELECT oid FROM touchy))))"""

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

# A text is read by name up to here: it takes some 0.1 us a byte, and everybody waits.
LONGEST_READ = 16384
# What drivers and pools of applications send to be sure that nothing is left.
CLEANERS = frozenset(
    {
        b"close all",
        b"deallocate all",
        b"discard all",
        b"discard plans",
        b"discard sequences",
        b"discard temp",
        b"reset all",
        b"reset role",
        b"reset session authorization",
        b"select pg_advisory_unlock_all()",
        b"set session authorization default",
        b"unlisten *",
    }
)
# A set_config of which the name is neither a constant (in code in quotes, its own are doubled) nor a parameter, a
# column or a variable, which have it whole.
CONFIGURES = re.compile(rb"set_config\s*\(\s*(?!(?:E?'[^']*'|E?''[^']*''|[\w.$]+)(?:::\w+)?\s*,)", re.IGNORECASE)
COUNTS = re.compile(rb"\b(?:currval|lastval)\b", re.IGNORECASE)
UNLISTENS = re.compile(rb"\bunlisten\s*\*", re.IGNORECASE)
FORGETS = re.compile(rb"\bdiscard\s+all\b", re.IGNORECASE)
# Of code only its words tell whether it does what lasts for ever.
LASTS = re.compile(rb"\bload\b|\bset\s+seed\b|\bsetseed\b", re.IGNORECASE)
# The name of a setting that may be a custom one, as the value of a parameter.
NAME = re.compile(rb"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+")

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


def read_of(text: bytes) -> Look:
    """What a query, or the end of a Parse, says by name; of a long one, what its beginning says."""
    return look(text[:LONGEST_READ].split(b"\0", 1)[0])


def suspicion(
    flags: int, text: bytes, client: ClientState, pins: int, stained: bool, sql_flags: int
) -> tuple[int, int, Look]:
    """What is to be asked after `text`, which has these flags: flags of its PREPAREs till now, flags, and its names.

    `text` is a query or the end of a Parse. Executing what was prepared by SQL does what its text does. `stained`: the
    server may have something of this client's by now.
    """
    said = read_of(text)
    if not stained and _only_cleans(said) and not _has_state(client):
        return sql_flags, 0, said
    if flags & PREPARES:
        if said.prepares:
            sql_flags |= flags
        elif not flags & ENDS:
            flags = flags & ~PREPARES | sql_flags
    if flags & ENDS:
        flags |= pins & ~LASTING | (PREPARES if client.settings.prepared else 0) | (LISTENS if forgets(text) else 0)
    flags &= ~(SEQUENCES | WRITES)
    if flags & UNDYING and not LASTS.search(text):
        flags &= ~UNDYING
    if flags & CREATES and client.settings.own_temp:
        flags |= TEMP
    return sql_flags, flags, said


def _only_cleans(said: Look) -> bool:
    """Does this text only take away what a session may have?"""
    return CLEANERS.issuperset([b" ".join(statement.lower().split()) for statement in said.statements])


def _has_state(client: ClientState) -> bool:
    """Has this client anything that can be taken away, and of which the server would not tell by itself?"""
    settings = client.settings
    return bool(settings.prepared or client.channels) or not ALWAYS_REPORTED.issuperset(settings.values)


def channels_in(text: bytes) -> tuple[bytes, ...]:
    """The channels that executing `text` may have the session listen to."""
    return tuple([name for verb, name in read_of(text).channels if verb == "LISTEN"])


def forgets(text: bytes) -> bool:
    """Does this text discard all, channels among it?"""
    return FORGETS.search(text) is not None


def unlistens(text: bytes) -> bool:
    """Does this text end to listen to anything?"""
    return UNLISTENS.search(text) is not None


def unnamed(text: bytes, vague: frozenset[bytes]) -> bool:
    """Does this text set something whose name it puts together, or call a function (one of `vague`) that does?"""
    if CONFIGURES.search(text) is not None:
        return True
    said = text.lower()
    return any(name in said for name in vague)


def counts(text: bytes) -> bool:
    """Does this text ask for the values that sequences have in its session?"""
    return COUNTS.search(text) is not None


def statements_in(text: bytes) -> tuple[bytes, ...]:
    """The names of prepared statements that SQL speaks of."""
    said = read_of(text)
    return said.executes + said.prepares


def deallocated_in(text: bytes) -> list[bytes]:
    """The names of prepared statements that SQL takes away."""
    found: list[bytes] = []
    for statement in read_of(text).statements:
        if statement[:10].lower() == b"deallocate":
            found += look(statement).executes
    return found


def names_in(bind: bytes) -> tuple[str, ...]:
    """Parameters that look like names of custom settings, in a Bind message from its formats on."""
    found = []
    at = 2 + 2 * int.from_bytes(bind[:2], "big")
    count = int.from_bytes(bind[at : at + 2], "big")
    at += 2
    for _ in range(count):
        size = int.from_bytes(bind[at : at + 4], "big", signed=True)
        at += 4
        if size > 0:
            value = bind[at : at + size]
            at += size
            if len(value) < 128 and NAME.fullmatch(value):
                found.append(value.decode().lower())
    return tuple(found)


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
