"""What clients say about the state of their sessions, as strategies, and what must be there for it."""

import hypothesis.strategies as st

import harness.messages as m
from harness.twins import Step

ROLES = ("r_one", "r_two")

# To be run by a superuser in each database.
OBJECTS = """
GRANT ALL ON SCHEMA public TO PUBLIC;
CREATE SCHEMA "Odd ""one"; CREATE SCHEMA other_one; GRANT ALL ON SCHEMA "Odd ""one", other_one TO PUBLIC;
CREATE TABLE places (place text); CREATE TABLE other_one.places (place text);
GRANT ALL ON places, other_one.places TO PUBLIC;
INSERT INTO places VALUES ('public'); INSERT INTO other_one.places VALUES ('other');
CREATE FUNCTION harmless(n int) RETURNS int LANGUAGE sql AS 'SELECT n + 1';
CREATE FUNCTION says(name text, value text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN RETURN pg_catalog.set_config(name, value, false); END $$;
CREATE FUNCTION says_too(name text, value text) RETURNS text LANGUAGE sql AS 'SELECT public.says(name, value)';
CREATE FUNCTION says_dynamically(text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'SET work_mem = ' || quote_literal($1); END $$;
CREATE FUNCTION sets_inside() RETURNS text LANGUAGE sql SET work_mem = '3MB' AS
    $$ SELECT pg_catalog.current_setting('work_mem') $$;
CREATE FUNCTION makes_temp() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN CREATE TEMP TABLE made (n int); INSERT INTO made VALUES (7); END $$;
CREATE FUNCTION takes_lock(key bigint) RETURNS void LANGUAGE sql AS
    'SELECT pg_catalog.pg_advisory_lock(key)';
CREATE PROCEDURE sets_zone(zone text) LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('SET TimeZone = %L', zone); COMMIT; END $$;
"""

VALUES = ["plain", "it's", "back\\slash", "ä €", "", 'a "quoted" one', "two\nlines", "$$", "%s", "NULL", "x" * 90]
NAMES = ["app.x", "app.y", "App.X", "other.z"]
# Settings and values that all may set.
SETTINGS = {
    "work_mem": ["1MB", "2048", "64kB"],
    "TimeZone": ["Asia/Tokyo", "Europe/Berlin", "UTC", "+3", "<+05>-05"],
    "DateStyle": ["German, DMY", "SQL", "ISO, YMD"],
    "IntervalStyle": ["iso_8601", "postgres"],
    "application_name": ["it's me", "back\\slash", "ä", "plain"],
    "search_path": ["other_one, public", "public", "", 'public, "$user"', '"Odd ""one", public', "pg_temp, public"],
    "statement_timeout": ["1h", "3600001"],
    "extra_float_digits": ["0", "3"],
    "bytea_output": ["escape", "hex"],
    "enable_seqscan": ["off", "on"],
    "client_min_messages": ["warning", "notice"],
    "default_transaction_isolation": ["serializable", "read committed"],
    "default_transaction_read_only": ["on", "off"],
    "default_statistics_target": ["7", "100000"],
    "transaction_isolation": ["serializable"],
    "no_such_setting": ["1"],
    "log_min_duration_statement": ["1000000"],
    "max_connections": ["5"],
    "role": ["r_one", "none", "no_such_role"],
    "session_authorization": ["r_two", "app"],
    "client_encoding": ["LATIN1", "UTF8", "utf-8"],
    "xmloption": ["document", "content"],
    "geqo_seed": ["0.5"],
    "lc_monetary": ["C"],
    "idle_in_transaction_session_timeout": ["1h"],
}


def quoted(text: str) -> str:
    """A constant of SQL that reads the same whatever standard_conforming_strings says."""
    return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _constants(text: str) -> st.SearchStrategy[str]:
    ways = [quoted(text)]
    if "\\" not in text:
        ways.append("'" + text.replace("'", "''") + "'")
    return st.sampled_from(ways)


@st.composite
def assignments(draw: st.DrawFn) -> str:
    """SET of something, in one of many spellings."""
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(SETTINGS)))
        value = draw(st.sampled_from(SETTINGS[name]))
    else:
        name, value = draw(st.sampled_from(NAMES)), draw(st.sampled_from(VALUES))
    if name == "search_path":
        constant = value or "''"
    else:
        constant = draw(_constants(value))
    how = draw(st.sampled_from(["SET", "set", "SET SESSION", "SET LOCAL", "/* c */ SET -- x\n"]))
    to = draw(st.sampled_from([" TO ", " = ", "="]))
    return f"{how} {name}{to}{constant}"


ODD_SETS = [
    "SET app.home = 'not home'",
    "SET TIME ZONE 'America/New_York'",
    "SET TIME ZONE 5",
    "SET TIME ZONE INTERVAL '+05:30' HOUR TO MINUTE",
    "SET LOCAL TIME ZONE 'Asia/Tokyo'",
    "SET SCHEMA 'other_one'",
    "SET NAMES 'UTF8'",
    "SET ROLE r_one",
    "SET ROLE 'r_two'",
    "SET LOCAL ROLE r_one",
    "SET SESSION ROLE r_two",
    "SET ROLE no_such_role",
    "SET SESSION AUTHORIZATION app",
    "SET SESSION AUTHORIZATION r_one",
    "SET LOCAL SESSION AUTHORIZATION r_two",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET XML OPTION DOCUMENT",
    'SET "app"."x" TO \'in quotes\'',
    "SET app.x = 1, 2",
    "SET app.x = on",
    "SET \"TimeZone\" = 'Asia/Tokyo'",
    "SET search_path TO pg_temp",
    "SET search_path TO 'other_one', \"public\"",
    "DO $$ BEGIN PERFORM set_config('app.x', 'from DO', false); END $$",
    "DO $$ BEGIN SET TimeZone = 'Australia/Sydney'; SET LOCAL work_mem = '9MB'; END $$",
    "DO 'BEGIN NULL; END'",
    "CALL sets_zone('Europe/Paris')",
    "SELECT says('app.x', 'said')",
    "SELECT public.says_too('TimeZone', 'Asia/Tokyo')",
    "SELECT public.says_dynamically('5MB')",
    "SELECT public.sets_inside()",
    "SELECT public.harmless(2)",
    "SELECT set_config('app.x', 'one', false), set_config('app.y', 'two', true)",
    "SELECT set_config(n, v, false) FROM (VALUES ('app.x', 'row'), ('work_mem', '6MB')) AS r (n, v)",
    "UPDATE pg_settings SET setting = '8192' WHERE name = 'work_mem'",
]
RESETS = [
    "RESET ALL",
    "RESET app.x",
    "RESET app.home",
    "RESET work_mem",
    "RESET TimeZone",
    "RESET ROLE",
    "RESET SESSION AUTHORIZATION",
    "RESET search_path",
    "RESET application_name",
    "SET work_mem TO DEFAULT",
    "SET TimeZone TO DEFAULT",
    "SET TIME ZONE LOCAL",
    "SET LOCAL work_mem TO DEFAULT",
    "SET ROLE NONE",
    "DO 'BEGIN PERFORM set_config(''work_mem'', NULL, false); END'",
    "DISCARD ALL",
    "discard all",
]
BLOCKS = [
    *["BEGIN", "COMMIT", "ROLLBACK"] * 4,
    "START TRANSACTION READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "END",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    *["SAVEPOINT a", "ROLLBACK TO a", "RELEASE a"] * 2,
]
ERRORS = ["SELECT 1/0", "SELEC", "SELECT * FROM nowhere", "SELECT 'x'::int"]
PREPARED = [
    *["EXECUTE q1", "EXECUTE q2(3)", "EXECUTE q2(4)"] * 2,
    "PREPARE q1 AS SELECT {me}",
    "PREPARE q1 AS SELECT 'of {me}'::text, current_setting('TimeZone')",
    "PREPARE q2 (int) AS SELECT $1 + {me}",
    "PREPARE q2 AS SELECT $1::int * 2",
    "prepare Q1 as select place from places",
    'PREPARE "Odd q" AS SELECT 1',
    "PREPARE q1 AS SELECT set_config('app.x', 'by q1', false)",
    "PREPARE q2 (int) AS SELECT set_config('app.y', $1::text, false)",
    "DEALLOCATE q1",
    "DEALLOCATE PREPARE q2",
    "DEALLOCATE ALL",
    "EXPLAIN (COSTS OFF) EXECUTE q1",
    'EXECUTE "Odd q"',
    "DISCARD PLANS",
]
KEEPING = [
    "CREATE TEMP TABLE t (n int)",
    "CREATE TEMP TABLE t (n int) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE t (n int) ON COMMIT DELETE ROWS",
    "CREATE TEMP TABLE t ON COMMIT PRESERVE ROWS AS SELECT {me} AS n",
    "CREATE TEMP TABLE IF NOT EXISTS t (n int)",
    "CREATE TABLE pg_temp.t (n int)",
    "CREATE TABLE mine_{me} (n int)",
    "SELECT {me} AS n INTO TEMP t",
    "CREATE TEMP VIEW v AS SELECT {me} AS n",
    "CREATE TEMP SEQUENCE s",
    "CREATE FUNCTION pg_temp.g() RETURNS int LANGUAGE sql AS 'SELECT {me}'",
    "SELECT public.makes_temp()",
    "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series({me}, {me} + 5)",
    "DECLARE c CURSOR FOR SELECT generate_series({me}, {me} + 5)",
    "SELECT pg_advisory_lock({me}01)",
    "SELECT pg_try_advisory_lock({me}02)",
    "SELECT pg_advisory_lock_shared({me}, 3)",
    "SELECT pg_advisory_xact_lock({me}04)",
    "SELECT public.takes_lock({me}01)",
]
AFTER_KEEPING = [
    "INSERT INTO t VALUES (1), ({me})",
    "SELECT n FROM t ORDER BY n",
    "SELECT n FROM pg_temp.t ORDER BY n",
    "DROP TABLE t",
    "DROP TABLE IF EXISTS t, made",
    "DROP TABLE mine_{me}",
    "INSERT INTO mine_{me} VALUES (1)",
    "SELECT * FROM made",
    "SELECT * FROM v",
    "DROP VIEW v",
    "SELECT nextval('s')",
    "DROP SEQUENCE s",
    "SELECT pg_temp.g()",
    "DROP FUNCTION pg_temp.g()",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "FETCH 2 FROM c",
    "FETCH c",
    "MOVE 1 IN c",
    "CLOSE c",
    "CLOSE ALL",
    "SELECT pg_advisory_unlock({me}01)",
    "SELECT pg_advisory_unlock({me}02)",
    "SELECT pg_advisory_unlock_shared({me}, 3)",
    "SELECT pg_advisory_unlock_all()",
]
# Each client has channels of its own: who sends first is not told by the order of answers.
CHANNELS = [
    *["LISTEN a{me}", "LISTEN b{me}", "NOTIFY a{me}", "NOTIFY b{me}, 'said'"] * 2,
    "UNLISTEN a{me}",
    "SELECT pg_notify('a{me}', 'by function')",
    "LISTEN b{me}; NOTIFY b{me}, 'at once'",
    "NOTIFY a{me}, 'never'; SELECT 1/0",
]
LOOKS = [
    "SELECT coalesce(current_setting('app.x', true), ''), coalesce(current_setting('app.y', true), '')",
    "SELECT coalesce(current_setting('other.z', true), ''), coalesce(current_setting('app.home', true), '')",
    "SELECT current_user, session_user, current_setting('role')",
    "SHOW work_mem",
    "SHOW search_path",
    "SHOW TimeZone",
    "SHOW TIME ZONE",
    "SHOW client_encoding",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "SHOW application_name",
    "SHOW SESSION AUTHORIZATION",
    "SELECT place FROM places",
    "SELECT '2020-03-04 05:06:07+00'::timestamptz, '1 year 2 days'::interval, 0.1::float8, '\\x01'::bytea",
    "SELECT concat_ws('|', {})".format(
        ", ".join(f"current_setting('{name}')" for name in sorted(SETTINGS) if name != "no_such_setting")
    ),
    "SELECT name, parameter_types FROM pg_prepared_statements WHERE from_sql ORDER BY name",
    "SELECT name, is_holdable FROM pg_cursors WHERE name = 'c'",
    "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY relname",
    "SELECT classid, objid, objsubid, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    " ORDER BY 1, 2, 3, 4",
]
# Texts that mean the same however a session is, so that they may be prepared on the protocol's level under a name.
STEADY = [
    text
    for text in LOOKS + ODD_SETS + BLOCKS + ["DISCARD PLANS", "SELECT 1/0"]
    if "places" not in text
    and not text.startswith(("SHOW", "UPDATE", "CALL", "SELECT '2020"))
    and "harmless" not in text
]
PARAMETERS = [
    ("SELECT set_config($1, $2, false)", ["app.x"], VALUES),
    ("SELECT set_config($1, $2, false)", ["TimeZone"], ["Asia/Tokyo", "Mars"]),
    ("SELECT set_config($1, $2, false)", ["role"], ["r_one", "none"]),
    ("SELECT set_config($1, $2, $3::bool)", ["app.y"], VALUES),
    ("SELECT set_config($1, $2, false)", ["work_mem"], ["1MB", "-1"]),
    ("SELECT coalesce(current_setting($1, true), $2)", ["app.x", "app.y", "work_mem"], [""]),
    ("SELECT says($1, $2)", ["app.x", "other.z", "TimeZone"], ["plain", "UTC"]),
    ("SELECT $1::text || $2::text", ["a"], ["b"]),
]

RISKY = ("t", "f")


def _batch(name: str, sql: str, *values: str, known: bool = False, sync: bool = True) -> bytes:
    parts = [] if known else [m.parse(name, sql)]
    parts += [m.bind("", name, *values), m.describe_portal(), m.execute()]
    return b"".join(parts) + (m.SYNC if sync else b"")


def _text(draw: st.DrawFn, me: str, resets: bool) -> tuple[str, bool]:
    """A statement, and whether the client may keep its server for it."""
    tables = (
        [LOOKS] * 3
        + [BLOCKS] * 3
        + [ODD_SETS, PREPARED, KEEPING, AFTER_KEEPING, AFTER_KEEPING, CHANNELS, ERRORS, None, None]
    )
    if resets:
        tables.append(RESETS)
    table = draw(st.sampled_from(tables))
    if table is None:
        return draw(assignments()), False
    text = draw(st.sampled_from(table)).replace("{me}", me)
    # Nobody knows what is set where the names come from columns.
    return text, table is KEEPING or "q1" in text or "q2" in text or "set_config(n," in text


@st.composite
def steps(draw: st.DrawFn, number: int, plain: bool) -> Step:
    """A step of the client with this number; `plain`: it came without parameters of its own."""
    me = str(number + 1)
    how = draw(
        st.sampled_from(
            ["simple"] * 6
            + ["unnamed"] * 4
            + ["named", "again", "values", "values", "several", "several", "pipeline", "batch", "resets"]
        )
    )
    if how in ("simple", "unnamed"):
        text, keeps = _text(draw, me, False)
        return Step(m.query(text) if how == "simple" else _batch("", text), f"{how} {text}", keeps)
    if how == "resets":
        text = draw(st.sampled_from(RESETS))
        return Step(m.query(text) if draw(st.booleans()) else _batch("", text), f"{how} {text}", alone=True)
    if how in ("named", "again"):
        name = draw(st.sampled_from(["s1", "s2"]))
        text = draw(st.sampled_from(STEADY)).replace("{me}", me)
        close = m.close_statement(name) if how == "named" and draw(st.booleans()) else b""
        data = close + _batch(name, text, known=how == "again")
        return Step(data, f"{how} {name} {'close ' if close else ''}{text if how == 'named' else ''}", True)
    if how == "values":
        sql, firsts, seconds = draw(st.sampled_from(PARAMETERS))
        values = [draw(st.sampled_from(firsts)), draw(st.sampled_from(seconds))]
        if "$3" in sql:
            values.append(draw(st.sampled_from(RISKY)))
        name = draw(st.sampled_from(["", "", "v1", "v2"]))
        close = m.close_statement(name) if name else b""
        return Step(close + _batch(name, sql, *values), f"values {name} {sql} {values}")
    found = [_text(draw, me, plain) for _ in range(draw(st.integers(2, 4)))]
    texts = [text for text, _ in found]
    keeps = any(keep for _, keep in found)
    if how == "several":
        data = m.query(";".join(texts))
    elif how == "pipeline":
        data = b"".join(m.query(text) if draw(st.booleans()) else _batch("", text) for text in texts)
    else:
        data = b"".join(_batch("", text, sync=False) for text in texts) + m.SYNC
    return Step(data, f"{how} {'; '.join(texts)}", keeps)


# Startup parameters of clients.
HOMES: list[dict[str, str]] = [
    {},
    {"application_name": "it's ä"},
    {"options": "-c search_path=other_one,public -c app.home=home"},
    {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "work_mem": "7MB"},
    {"search_path": "public", "role": "r_one"},
]
