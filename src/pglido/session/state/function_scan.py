"""What a database's own functions may do to a session, as far as their texts tell: SQL that asks a server for it.

And whether what sessions begin with has been changed.

To read all of them takes 150 ms where there are 5,000. Whoever asks again asks first whether any that matters is new,
which takes two: a restore makes thousands of functions, each in a transaction of its own.
"""

import re
from typing import NamedTuple

from ...sql.effects import HIDDEN
from ...sql.session_functions import GLOBALS, KEEPING
from ...sql.transaction_settings import HINDERING
from .parameters import literal

EQUALS = "OPERATOR(pg_catalog.=)"
AT_MOST = "OPERATOR(pg_catalog.<=)"

# What functions do to a session is told by their text: these words outside of the ordinary. A statement begins behind
# what ends another, a comment, a label, or the quote of one that is executed.
WORDS = (
    r"set_config|advisory_lock|advisory_unlock|\mpg_temp\M|\mtemp(orary)?\M|setseed|\mhold\M|\mset_limit\M|\mpg_settings\M"
    r"|(^|--[^\n]*|[;''\"$/]|>>|\m(begin|then|else|loop))\s*"
    r"(set(?!\s+(local|constraints|transaction)\s+[\w\"])[\s/\"-]|reset\s|discard\s|load\s|listen\s|unlisten\s"
    r"|prepare\s|deallocate\s)"
)
# The custom settings that a function speaks of by their names; and one that puts a name together, or has that of one
# which nobody can ask for.
SETTING = r"(?:''|\$|\mset(?:\s|/\*[^/]*/)+(?:session\s+)?)(\"?[[:alpha:]_]\w*\"?(?:\.\"?[[:alpha:]_][\w$]*\"?)+)"
COMPUTED = (
    r"set_config(?!\s*\(\s*(''[^'']*''|[\w.$]+)(::\w+)?\s*,)"
    r"|''\s*set\s+(session\s+)?[\w.\"]*(%|''\s*(\|\||,))|" + HIDDEN.decode()
)
# And those that a question sets for itself.
MASKED = r"\m(" + "|".join(HINDERING) + r")\M"
# Asks for the values of sequences that it has not advanced itself.
COUNTS = r"^(?!.*(nextval|\minsert\M)).*\m(currval|lastval)\M"
# Sends notifications.
NOTIFIES = r"\m(pg_)?notify\M"
# Leaves something in the server process.
KEEPS = r"\m(" + "|".join(["setseed", *KEEPING]) + r")\M|\mload\s+''"
# Changes what sessions begin with.
REDEFINES = r"\malter\s+(role|user|database)\M"
# As they stand in a constant, whatever standard_conforming_strings says.
ESCAPED, NAMED, VAGUE, COUNTING, NOTIFYING, KEPT, SHARED, HIDING, REDEFINING = (
    words.replace("\\", "\\\\")
    for words in (
        f"{WORDS}|{KEEPS}|{REDEFINES}",
        SETTING,
        COMPUTED,
        COUNTS,
        NOTIFIES,
        KEEPS,
        GLOBALS,
        MASKED,
        REDEFINES,
    )
)
# The functions that somebody has made; the first object of a user has this oid. Of an aggregate the text is its row in
# the catalog.
MADE = f"p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND NOT p.prolang {EQUALS} 13::pg_catalog.oid"
TEXT = f"""CASE
    WHEN p.prokind {EQUALS} 'a' THEN (SELECT a::pg_catalog.text FROM pg_catalog.pg_aggregate a
      WHERE a.aggfnoid::pg_catalog.oid {EQUALS} p.oid)
    WHEN pg_catalog.length(p.prosrc) {EQUALS} 0 THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END"""
MATTERS = (
    f"(said OPERATOR(pg_catalog.~*) E'{ESCAPED}|currval|lastval|{NOTIFYING}'"
    f" OR said OPERATOR(pg_catalog.~) E'{SHARED}')"
)
# No older transaction has made what is not seen here.
HORIZON = """(pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())
    OPERATOR(pg_catalog.%) 4294967296::pg_catalog.int8)::pg_catalog.text"""
# Where that holds, for each server counts its own transactions; written so that no setting changes it.
PLACE = f"""(SELECT d.oid::pg_catalog.text OPERATOR(pg_catalog.||) ' '::pg_catalog.text OPERATOR(pg_catalog.||)
    (pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())
      OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8::pg_catalog.text
    FROM pg_catalog.pg_database d WHERE d.datname {EQUALS} pg_catalog.current_database())"""
# The name of the user as whom a server is logged in stands for this in what follows.
USER = "{user}"
# The session defaults that ALTER DATABASE ... SET and ALTER ROLE ... SET have made for the user in this database.
SET_BY_DEFAULT = f"""FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase {EQUALS} ANY (ARRAY[0::pg_catalog.oid,
      (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname {EQUALS} pg_catalog.current_database())])
    AND s.setrole {EQUALS} ANY (ARRAY[0::pg_catalog.oid,
      (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname {EQUALS} {USER}::pg_catalog.name)])"""
# Other after each change of these, and of whether the user is a superuser. The first version that has the function.
HAS_SHA256 = 11
DEFAULTS = f"""(SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(
      (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname {EQUALS} {USER}::pg_catalog.name),
      pg_catalog.string_agg(pg_catalog.concat(
        s.setdatabase OPERATOR(pg_catalog.<>) 0::pg_catalog.oid, s.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid,
        s.setconfig::pg_catalog.text),
        ' ' ORDER BY s.setdatabase, s.setrole)), pg_catalog.getdatabaseencoding())), 'hex')
    {SET_BY_DEFAULT})"""
# Functions call others, which is told by their names. Rows that are written meet triggers, defaults, checks, rules and
# policies.
TOUCHY = f"""
(WITH RECURSIVE own AS MATERIALIZED (
  SELECT made.*, pg_catalog.lower(said) AS read
  FROM (SELECT p.oid, p.proname::pg_catalog.text AS name, {TEXT} AS said FROM pg_catalog.pg_proc p WHERE {MADE}) AS made
), touchy AS (
  SELECT oid, name, said OPERATOR(pg_catalog.~*) E'{ESCAPED}' OR said OPERATOR(pg_catalog.~) E'{SHARED}' AS sets,
    said OPERATOR(pg_catalog.~*) E'{VAGUE}' AS vague, said OPERATOR(pg_catalog.~*) E'{COUNTING}' AS counts,
    said OPERATOR(pg_catalog.~*) E'{NOTIFYING}' AS notifies,
    said OPERATOR(pg_catalog.~*) E'{KEPT}' OR said OPERATOR(pg_catalog.~) E'{SHARED}' AS keeps,
    said OPERATOR(pg_catalog.~*) E'{REDEFINING}' AS redefines
  FROM own WHERE {MATTERS}
  UNION SELECT o.oid, o.name, t.sets, t.vague OR t.sets AND o.said OPERATOR(pg_catalog.~*) E'{VAGUE}', t.counts,
    t.notifies, t.keeps, t.redefines
    FROM touchy t JOIN own o
    ON pg_catalog.strpos(o.read, pg_catalog.lower(t.name)) OPERATOR(pg_catalog.>) 0
    WHERE t.sets OR t.counts OR t.notifies
), code AS (
  SELECT said FROM own WHERE oid {EQUALS} ANY (SELECT oid FROM touchy WHERE sets)
) SELECT pg_catalog.json_build_object(
  'place', {PLACE},
  'horizon', {HORIZON},
  'defaults', {DEFAULTS},
  'names', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE sets OR counts),
  'bearers', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc p
    WHERE p.proname::pg_catalog.text {EQUALS} ANY (SELECT name FROM touchy WHERE sets OR counts OR notifies)),
  'vague', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE vague),
  'counts', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE counts),
  'notifies', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE notifies),
  'notify_triggers', EXISTS(
    SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid {EQUALS} ANY (SELECT oid FROM touchy WHERE notifies)),
  'keeps', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE keeps),
  'redefines', (SELECT pg_catalog.json_agg(DISTINCT name) FROM touchy WHERE redefines),
  'settings', (SELECT pg_catalog.json_agg(
      DISTINCT pg_catalog.rtrim(pg_catalog.replace(pg_catalog.lower(found[1]), '"', ''), '$'))
    FROM code, LATERAL (SELECT pg_catalog.regexp_matches(said, E'{NAMED}', 'gi')
      UNION ALL SELECT pg_catalog.regexp_matches(said, E'{HIDING}', 'gi')) AS matched(found)),
  'triggers', EXISTS(
    SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid {EQUALS} ANY (SELECT oid FROM touchy WHERE sets))
    OR EXISTS(SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid {EQUALS} 1255::pg_catalog.oid
      AND d.refobjid {EQUALS} ANY (SELECT oid FROM touchy WHERE sets)
      AND d.classid {EQUALS} ANY (ARRAY[2604,2606,2618,3256]::pg_catalog.oid[]))))"""
# What stands for itself in a regular expression behind a backslash only.
SPECIAL = re.compile(r"\W")
# What may call a function where rows are written.
CALLERS = ("pg_trigger", "pg_attrdef", "pg_constraint", "pg_rewrite", "pg_policy")


class FunctionSnapshot(NamedTuple):
    """What was known of functions, where and when: at that time no older transaction than `horizon` was under way.

    `names` are those of functions that matter, and so many functions bear one of them.
    """

    place: str
    horizon: str
    names: tuple[str, ...]
    bearers: int


def everything(user: str) -> str:
    """SQL for all there is about functions; `user` is who the server is logged in as."""
    return TOUCHY.replace(USER, literal(user))


def news(since: FunctionSnapshot, user: str) -> str:
    """SQL that answers as `everything` does, or with no more than the new horizon where nothing that matters is new.

    What matters may set something, or notify, speaks of a function that does, bears the name of one, or is gone; and
    where there is one, so does what may call it. A transaction that stays open, in whatever database, holds the
    horizon: what was made since it began is new each time.
    """
    age = f"{AT_MOST} pg_catalog.age('{since.horizon}'::pg_catalog.xid)"
    names = f"ARRAY[{','.join([literal(name) for name in since.names])}]::pg_catalog.text[]"
    tests = [f"{PLACE} OPERATOR(pg_catalog.<>) '{since.place}'"]
    new = [MATTERS]
    if since.names:
        tests.append(
            f"(SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc p WHERE p.proname::pg_catalog.text {EQUALS}"
            f" ANY ({names})) OPERATOR(pg_catalog.<>) {since.bearers}"
        )
        for caller in CALLERS:
            tests.append(f"EXISTS(SELECT FROM pg_catalog.{caller} c WHERE pg_catalog.age(c.xmin) {age})")
        new = [f"name {EQUALS} ANY ({names})", MATTERS, f"said OPERATOR(pg_catalog.~*) {literal(_any_of(since.names))}"]
    tests.append(
        f"""EXISTS(SELECT FROM (SELECT p.proname::pg_catalog.text AS name, {TEXT} AS said FROM pg_catalog.pg_proc p
    WHERE {MADE} AND pg_catalog.age(p.xmin) {age} OFFSET 0) AS made WHERE {" OR ".join(new)})"""
    )
    same = f"pg_catalog.json_build_object('place', {PLACE}, 'horizon', {HORIZON}, 'defaults', {DEFAULTS})"
    return f"CASE WHEN {' OR '.join(tests)} THEN {TOUCHY} ELSE {same} END".replace(USER, literal(user))


def _any_of(names: tuple[str, ...]) -> str:
    """A regular expression for any of these: for each name its own comparison took a second for 300."""
    return "|".join([SPECIAL.sub(r"\\\g<0>", name) for name in names])
