"""Session defaults, of ALTER ROLE ... SET and ALTER DATABASE ... SET: SQL that asks for them, and its answers."""

import json
from collections.abc import Sequence

from ...protocol import messages
from . import state_query
from .function_scan import DEFAULTS, EQUALS, HAS_SHA256, SET_BY_DEFAULT, USER
from .parameters import IDENTITY, PASSING, literal

# Settings whose defaults nobody could keep, or that are about the connection: these are the server's.
NOT_KEPT = (*IDENTITY, *sorted(PASSING), "temp_buffers")
# The types of what is told, without any settings and with some.
NOTHING = type(None)
SHAPES = [[names, dict, custom] for names in (list, NOTHING) for custom in (dict, NOTHING)]
# Of more settings than this nothing is kept, nor of one whose value has more characters.
MOST, LONGEST = 200, 1000

AT_MOST = "OPERATOR(pg_catalog.<=)"
# What an extension defines does not take any value.
NAMES = f"""(SELECT DISTINCT pg_catalog.lower(pg_catalog.split_part(entry, '=', 1)) AS name
    {SET_BY_DEFAULT.replace(" WHERE ", ", pg_catalog.unnest(s.setconfig) AS entry WHERE ", 1)}
    AND NOT EXISTS(SELECT FROM pg_catalog.pg_extension e
      WHERE e.extname {EQUALS} pg_catalog.lower(pg_catalog.split_part(entry, '.', 1))::pg_catalog.name)
    LIMIT {MOST + 1}) AS named"""
VALUES = f"""pg_catalog.json_build_array(
  (SELECT pg_catalog.json_agg(name) FROM {NAMES}),
  (SELECT pg_catalog.json_object_agg(pg_catalog.lower(name), reset_val) FROM pg_catalog.pg_settings
    WHERE (context {EQUALS} 'user' OR context {EQUALS} 'superuser' AND {{may_set}})
      AND pg_catalog.length(reset_val) {AT_MOST} {LONGEST}),
  (SELECT pg_catalog.json_object_agg(name, pg_catalog.current_setting(name, true)) FROM {NAMES}
    WHERE pg_catalog.strpos(name, '.') OPERATOR(pg_catalog.>) 0
      AND pg_catalog.length(pg_catalog.current_setting(name, true)) {AT_MOST} {LONGEST}))"""


def digest(user: str, version: int) -> bytes:
    """The message that asks what sessions of `user` begin with in this database now; `version` is PostgreSQL's."""
    told = DEFAULTS.replace(USER, literal(user)) if version >= HAS_SHA256 else "NULL"
    return _query(f"SELECT {told}", version)


def read_digest(rows: Sequence[Sequence[bytes | None]]) -> str:
    """Something that is other after each change; empty where that is not told."""
    told = rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else None
    return "" if told is None else told.decode("ascii")


def values(user: str, version: int) -> bytes:
    """The message that asks for the settings of a session that has just begun."""
    asked = VALUES.replace(USER, literal(user)).replace("{may_set}", state_query.may_set(version))
    return _query(f"SELECT {state_query.digits(asked, state_query.OWN)}", version)


def read_values(rows: Sequence[Sequence[bytes | None]]) -> tuple[frozenset[str], dict[str, str]]:
    """The names of those that are set by ALTER ROLE and the like, and the values of all that may be set.

    Raises ValueError where that is no answer.
    """
    if len(rows) != 1 or len(rows[0]) != 1 or rows[0][0] is None:
        raise ValueError("not the settings that were asked for")
    told = json.loads(bytes.fromhex(rows[0][0].decode("ascii")).decode("utf-8", messages.ESCAPE))
    if not isinstance(told, list) or [*map(type, told)] not in SHAPES:
        raise ValueError("not the settings that were asked for")
    names, settings, custom = told
    if len(names or ()) > MOST:
        return frozenset(), {}
    found = {**(settings or {}), **(custom or {})}
    values = {name: value for name, value in found.items() if isinstance(value, str) and name not in NOT_KEPT}
    return frozenset(map(str, names or ())), values


def _query(sql: str, version: int) -> bytes:
    return messages.query(";".join([*state_query.undisturbed(version), sql]))
