"""The dialogues that PostgreSQL and pglido must answer alike: one entry each, sorted by what they are about."""

import struct

import harness.messages as m
from harness.dialogue import END, Dialogue, Step, say
from harness.messages import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close_portal,
    close_statement,
    copy_data,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    message,
    parse,
    query,
)

INT4, INT8, TEXT, BYTEA = 23, 20, 25, 17
INT4PL, INT4DIV, TEXTCAT = 177, 154, 1258
SESSION = ("session",)


def ask(*sqls: str | bytes) -> tuple[Step, ...]:
    """One step with a simple query for each text."""
    return tuple(say(query(sql)) for sql in sqls)


def run(sql: str, *values: m.Value, name: str = "") -> bytes:
    """Parse, Bind, Describe and Execute, without Sync."""
    return parse(name, sql) + bind("", name, *values) + describe_portal() + execute()


def rolled_back(*inside: Step) -> tuple[Step, ...]:
    """Steps inside a transaction that leaves nothing behind."""
    return (say(query("BEGIN")), *inside, say(query("ROLLBACK")))


SIMPLE: dict[str, tuple[Step, ...]] = {
    "one row": ask("SELECT 1"),
    "no rows": ask("SELECT n FROM numbers WHERE n < 0"),
    "no columns": ask("SELECT"),
    "nulls": ask("SELECT NULL, NULL::int, '', NULL::bytea"),
    "many types": ask(
        "SELECT 1::int2, 2::int8, 1.5::float8, 1e-9::float4, 3.14::numeric, true, 'x'::char, 'abc'::name,"
        " '2020-02-29'::date, '12:34:56.789'::time, '2021-01-01 00:00:00+02'::timestamptz, '1 mon 2 days'::interval,"
        " '\\x00ff'::bytea, '{1,NULL,3}'::int[], '{\"a\": [1, null]}'::jsonb, '10.0.0.0/8'::cidr,"
        " '00000000-0000-0000-0000-000000000001'::uuid, 'a=>1'::text, int4range(1, 5), (1, 'x', NULL)::record"
    ),
    "unicode": ask("SELECT 'ä€😀' AS \"ünïcode\", length('ä€😀')"),
    "rows": ask("SELECT n, name FROM numbers WHERE n <= 50 ORDER BY n"),
    "several statements": ask("SELECT 1; SELECT 'two', 2; SELECT 3 WHERE false"),
    "several statements, one wrong": ask("SELECT 1; SELECT 1/0; SELECT 3"),
    "several statements that don't parse": ask("SELECT 1; SELEC 2"),
    "empty": ask("", " ", ";", " ; ; ", "-- nothing", "/* nothing */"),
    "empty among others": ask("SELECT 1;; SELECT 2;"),
    "syntax error": ask("SELEC 1"),
    "unknown table": ask("SELECT * FROM nowhere"),
    "unknown column with a hint": ask("SELECT nme FROM numbers"),
    "division by zero in a function": ask("DO $$ BEGIN PERFORM 1/0; END $$"),
    "error of the user's own": ask(
        "DO $$ BEGIN RAISE EXCEPTION 'mine %', 1 USING ERRCODE = 'XY123', DETAIL = 'd', HINT = 'h',"
        " COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'r', SCHEMA = 's'; END $$"
    ),
    "error in the middle of rows": ask("SELECT 1/(n - 30) FROM numbers ORDER BY n"),
    "notices of all levels": ask(
        "DO $$ BEGIN RAISE DEBUG 'd'; RAISE LOG 'l'; RAISE INFO 'i'; RAISE NOTICE 'n' USING DETAIL = 'x', HINT = 'y';"
        " RAISE WARNING 'w' USING ERRCODE = '01XYZ'; END $$"
    ),
    "notices among rows": ask("SELECT n, warn('row ' || n) FROM numbers WHERE n < 4 ORDER BY n"),
    "not UTF-8": ask(b"SELECT '\xff\xfe'"),
    "long query": ask(f"SELECT length('{'x' * 300_000}')"),
    "long value": ask("SELECT repeat('0123456789', 200000), repeat('y', 100000)"),
    "many rows": ask("SELECT n, repeat('z', n % 300) FROM generate_series(1, 20000) n"),
    "many columns": ask("SELECT " + ", ".join(f"{n} AS column_{n}" for n in range(1600))),
    "two queries at once": (say(query("SELECT 1"), query("SELECT 2")),),
    "twenty queries at once": (say(*(query(f"SELECT {n}, 1/({n} % 7)") for n in range(20))),),
    "notify nobody": ask("NOTIFY nobody_listens, 'x'"),
    "explain": ask("EXPLAIN (COSTS off) SELECT * FROM numbers WHERE n = 1"),
    "show": ask("SHOW transaction_isolation; SHOW server_version_num"),
    "values": ask("VALUES (1, 'a'), (2, NULL)"),
    "table": ask("TABLE notes"),
}

TRANSACTIONS: dict[str, tuple[Step, ...]] = {
    "commit": ask("BEGIN", "SELECT 1", "COMMIT"),
    "rollback": ask("BEGIN", "INSERT INTO notes VALUES (1, 'x')", "ROLLBACK", "SELECT * FROM notes"),
    "failed": ask("BEGIN", "SELECT 1/0", "SELECT 1", "", "COMMIT", "SELECT 1"),
    "failed and rolled back": ask("BEGIN", "SELECT 1/0", "ROLLBACK", "SELECT 1"),
    "savepoints": ask(
        "BEGIN", "SAVEPOINT a", "SELECT 1/0", "SELECT 1", "ROLLBACK TO a", "SELECT 2", "RELEASE a", "RELEASE a", "END"
    ),
    "in one query": ask("BEGIN; SELECT 1; COMMIT", "BEGIN; SELECT 1/0; COMMIT", "ROLLBACK"),
    "half open": ask("BEGIN; SELECT 1", "SELECT 2; COMMIT; SELECT 3"),
    "chain": ask("BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT AND CHAIN", "SHOW transaction_isolation", "ROLLBACK"),
    "begin twice": ask("BEGIN", "BEGIN", "COMMIT"),
    "commit without begin": ask("COMMIT", "ROLLBACK", "SAVEPOINT x", "ROLLBACK TO x"),
    "constraint": rolled_back(
        *ask("INSERT INTO notes VALUES (1, 'a'), (1, 'b')"),
    ),
    "deferred until commit": ask(
        "BEGIN; CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)", "INSERT INTO t VALUES (1), (1)", "COMMIT"
    ),
    "writes": rolled_back(
        *ask(
            "INSERT INTO notes VALUES (1, 'a'), (2, 'b') RETURNING id",
            "UPDATE notes SET body = body || '!' WHERE id = 2",
            "DELETE FROM notes",
            "TRUNCATE notes",
            "MERGE INTO notes USING (VALUES (1)) v (n) ON id = n WHEN NOT MATCHED THEN INSERT VALUES (n, 'm')",
        )
    ),
    "definitions": rolled_back(
        *ask(
            "CREATE TABLE made (n int)",
            "ALTER TABLE made ADD m text",
            "SELECT * INTO made2 FROM made",
            "DROP TABLE made",
        )
    ),
    "temporary table": ask(
        "BEGIN; CREATE TEMP TABLE t (n int) ON COMMIT DROP; INSERT INTO t VALUES (1)",
        "SELECT count(*) FROM t",
        "COMMIT",
        "SELECT * FROM t",
    ),
    "cursor": ask(
        "BEGIN",
        "DECLARE c SCROLL CURSOR FOR SELECT n FROM numbers WHERE n <= 10 ORDER BY n",
        "FETCH 3 FROM c",
        "MOVE 2 IN c",
        "FETCH PRIOR FROM c",
        "FETCH ALL FROM c",
        "FETCH c",
        "CLOSE c",
        "FETCH c",
        "ROLLBACK",
    ),
    "two phases": ask(
        "BEGIN; INSERT INTO notes VALUES (7, 'x'); PREPARE TRANSACTION 'twice'", "ROLLBACK PREPARED 'twice'"
    ),
    "read only": ask("BEGIN READ ONLY", "INSERT INTO notes VALUES (1, 'x')", "ROLLBACK"),
    "prepared in SQL": ask(
        "BEGIN", "PREPARE q (int) AS SELECT $1 + 1", "EXECUTE q (41)", "DEALLOCATE q", "EXECUTE q (1)", "ROLLBACK"
    ),
    "lock": rolled_back(*ask("LOCK TABLE notes IN EXCLUSIVE MODE", "SELECT pg_advisory_xact_lock(1)")),
    "procedure that commits": ask("DO $$ BEGIN COMMIT; ROLLBACK; END $$"),
    "two at once": (say(query("BEGIN"), query("SELECT 1"), query("COMMIT"), query("SELECT 2")),),
    "failure among several at once": (say(query("BEGIN"), query("SELECT 1/0"), query("SELECT 1"), query("ROLLBACK")),),
}

SETTINGS: dict[str, tuple[Step, ...]] = {
    "application name": ask("SET application_name = 'first'", "SHOW application_name", "RESET application_name", "SHOW application_name"),
    "date style": ask("SET DateStyle = 'German, DMY'", "SELECT '2020-02-29'::date", "RESET DateStyle"),
    "time zone": ask("SET TimeZone = 'Asia/Tokyo'", "SELECT '2020-01-01 00:00:00+00'::timestamptz", "SET TIME ZONE DEFAULT"),
    "client encoding": ask("SET client_encoding = 'LATIN1'", b"SELECT '\xe4', length('\xe4')", "RESET client_encoding"),
    "encoding that doesn't exist": ask("SET client_encoding = 'KLINGON'"),
    "interval style": ask("SET IntervalStyle = 'iso_8601'", "SELECT '1 day 2 hours'::interval", "RESET IntervalStyle"),
    "backslashes": ask("SET standard_conforming_strings = off", "SET standard_conforming_strings = on"),
    "local": ask("BEGIN", "SET LOCAL application_name = 'local'", "SHOW application_name", "COMMIT", "SHOW application_name"),
    "rolled back": ask("BEGIN", "SET TimeZone = 'Europe/Berlin'", "SET application_name = 'x'", "ROLLBACK", "SHOW TimeZone"),
    "failed": ask("BEGIN; SET TimeZone = 'Europe/Berlin'; SELECT 1/0", "SHOW TimeZone"),
    "committed": ask("BEGIN", "SET application_name = 'kept'", "COMMIT", "SHOW application_name", "RESET application_name"),
    "by function": ask("SELECT set_config('application_name', 'f', false), set_config('TimeZone', 'Asia/Tokyo', true)", "SHOW TimeZone", "RESET application_name"),
    "local setting that isn't reported": rolled_back(*ask("SET LOCAL work_mem = '1MB'", "SHOW work_mem")),
    "unknown setting": ask("SET no_such_setting = 1", "SHOW no_such_setting"),
    "wrong value": ask("SET DateStyle = 'Klingon'"),
    "reset all": ask("SET application_name = 'x'", "SET TimeZone = 'Asia/Tokyo'", "RESET ALL", "SHOW TimeZone"),
    "discard all": ask("SET application_name = 'x'", "DISCARD ALL", "SHOW application_name"),
    "discard all in a transaction": ask("BEGIN", "DISCARD ALL", "ROLLBACK"),
    "other discards": ask("DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP"),
    "quotes in a value": ask("SET application_name = 'it''s \"quoted\" \\ here'", "SHOW application_name", "RESET application_name"),
    "in an extended query": (
        say(run("SET application_name = 'extended'"), SYNC),
        say(run("SHOW application_name"), SYNC),
        say(run("RESET application_name"), SYNC),
    ),
    "set twice at once": (
        say(query("SET application_name = 'a'"), query("SET application_name = 'b'"), query("SHOW application_name"), query("RESET ALL")),
    ),
}  # fmt: skip

EXTENDED: dict[str, tuple[Step, ...]] = {
    "one row": (say(run("SELECT 1"), SYNC),),
    "parameters": (say(run("SELECT $1::int + $2::int, $3::text", "20", "22", None), SYNC),),
    "types of parameters given": (
        say(parse("", "SELECT $1, $2", INT4, BYTEA), describe_statement(), bind("", "", "7", "\\x00"), execute(), SYNC),
    ),
    "types of parameters unknown": (
        say(parse("", "SELECT $1, $2 || 'x', $3", 0, TEXT, 705), describe_statement(), bind("", "", "a", "b", "c"), execute(), SYNC),
    ),
    "binary values": (
        say(
            parse("", "SELECT $1::int4 * 2, $2::text, $3::bytea"),
            bind("", "", struct.pack("!i", 21), "x", b"\0\xff", formats=(1, 0, 1), results=(1, 0, 1)),
            describe_portal(), execute(), SYNC,
        ),
    ),
    "all results binary": (say(parse("", "SELECT n, name FROM numbers WHERE n < 4 ORDER BY n"), bind("", "", results=(1,)), execute(), SYNC),),
    "empty": (say(run(""), SYNC),),
    "empty with a comment": (say(run("/* nothing */"), SYNC),),
    "no result": (say(run("DO $$ BEGIN END $$"), SYNC),),
    "several statements": (say(run("SELECT 1; SELECT 2"), SYNC),),
    "syntax error": (say(run("SELEC"), SYNC),),
    "error when run": (say(run("SELECT 1/$1::int", "0"), SYNC),),
    "error in a value": (say(run("SELECT $1::int", "four"), SYNC),),
    "too few values": (say(run("SELECT $1::int + $2::int", "1"), SYNC),),
    "too many values": (say(run("SELECT 1", "1"), SYNC),),
    "too many result formats": (say(parse("", "SELECT 1"), bind("", "", results=(0, 1, 0)), SYNC),),
    "zero byte in a value": (say(run("SELECT $1::text", b"a\0b"), SYNC),),
    "notices": (say(run("SELECT warn('x')"), SYNC), say(run("SELECT warn('y')"), run("SELECT warn('z')"), SYNC)),
    "long value": (say(run("SELECT length($1::text), md5($1)", "x" * 1_000_000), SYNC),),
    "many values": (say(run("SELECT " + " + ".join(f"${n}::int" for n in range(1, 501)), *map(str, range(500))), SYNC),),
    "long values back": (say(run("SELECT repeat($1, 1000000), $2::bytea", "ab", "\\x" + "00ff" * 100_000), SYNC),),
    "sync alone": (say(SYNC), say(SYNC, SYNC, SYNC)),
    "flush alone": (say(FLUSH, FLUSH, query("SELECT 1")),),
    "flush without sync": (
        say(parse("", "SELECT $1::int"), FLUSH, until="1"),
        say(describe_statement(), FLUSH, until="T"),
        say(bind("", "", "5"), FLUSH, until="2"),
        say(describe_portal(), FLUSH, until="T"),
        say(execute(), FLUSH, until="C"),
        say(close_portal(), FLUSH, until="3"),
        say(SYNC),
    ),
    "flush after an error": (
        say(parse("", "SELEC"), FLUSH, until="E"),
        say(run("SELECT 1"), FLUSH, SYNC),
        say(run("SELECT 2"), SYNC),
    ),
    "flush, then a simple query": (say(run("SELECT 1"), FLUSH, until="C"), say(query("SELECT 2")), say(SYNC)),
    "no sync before a simple query": (say(run("SELECT 1"), query("SELECT 2"), SYNC),),
    "simple query after an error": (say(parse("", "SELEC"), query("SELECT 2"), SYNC, count=1),),
    "simple and extended in turn": (
        say(query("SELECT 1"), run("SELECT 2"), SYNC, query("SELECT 3"), run("SELECT 4"), SYNC, query("SELECT 1/0"), run("SELECT 6"), SYNC),
    ),
    "five with a sync each": (say(*(run(f"SELECT {n}") + SYNC for n in range(5))),),
    "five with one sync": (say(*(run(f"SELECT {n}") for n in range(5)), SYNC),),
    "fifty with a sync each": (say(*(run("SELECT $1::int, 1/($1::int % 10)", str(n)) + SYNC for n in range(50))),),
    "error in a pipeline": (say(run("SELECT 1"), run("SELECT 1/0"), run("SELECT 3"), SYNC, run("SELECT 4"), SYNC),),
    "syntax error in a pipeline": (say(run("SELECT 1"), run("SELEC"), run("SELECT 3"), SYNC, run("SELECT 4"), SYNC),),
    "errors in a row": (say(run("SELEC"), SYNC, run("SELECT 1/0"), SYNC, run("SELECT 3"), SYNC),),
    "transaction in a pipeline": (
        say(run("BEGIN"), run("INSERT INTO notes VALUES (1, 'x')"), run("SELECT * FROM notes"), run("ROLLBACK"), SYNC),
        say(run("SELECT * FROM notes"), SYNC),
    ),
    "transaction over syncs": (
        say(run("BEGIN"), SYNC, run("SELECT 1"), SYNC, run("SELECT 1/0"), SYNC, run("SELECT 2"), SYNC, run("ROLLBACK"), SYNC),
    ),
    "implicit transaction that fails": (
        say(run("INSERT INTO notes VALUES (1, 'x')"), run("SELECT 1/0"), SYNC),
        say(run("SELECT * FROM notes"), SYNC),
    ),
    "rows in parts": (
        say(parse("", "SELECT n FROM numbers WHERE n <= 10 ORDER BY n"), bind("", ""), execute(limit=3), execute(limit=3), execute(limit=4), execute(), SYNC),
    ),
    "rows in parts over flushes": (
        say(parse("", "SELECT n FROM numbers WHERE n <= 5 ORDER BY n"), bind("", ""), execute(limit=2), FLUSH, until="s"),
        say(execute(limit=2), FLUSH, until="s"),
        say(execute(limit=2), FLUSH, until="C"),
        say(SYNC),
    ),
    "rows in parts over syncs": (
        say(query("BEGIN")),
        say(parse("", "SELECT n FROM numbers WHERE n <= 5 ORDER BY n"), bind("p", ""), describe_portal("p"), execute("p", 2), SYNC),
        say(execute("p", 2), SYNC),
        say(execute("p", 0), SYNC),
        say(execute("p", 0), SYNC),
        say(query("COMMIT")),
        say(execute("p", 0), SYNC),
    ),
    "portals": (
        say(query("BEGIN")),
        say(parse("", "SELECT $1::int"), bind("a", "", "1"), bind("b", "", "2"), execute("b"), execute("a"), close_portal("a"), SYNC),
        say(execute("a"), SYNC),
        say(query("ROLLBACK")),
    ),
    "portal twice": (say(query("BEGIN")), say(parse("", "SELECT 1"), bind("p", ""), bind("p", ""), SYNC), say(query("ROLLBACK"))),
    "portal of the unnamed kind twice": (say(parse("", "SELECT $1::int"), bind("", "", "1"), bind("", "", "2"), execute(), SYNC),),
    "portal run again": (say(run("SELECT 1"), execute(), SYNC), say(run("DO $$ BEGIN END $$"), execute(), SYNC)),
    "portal gone after sync": (say(parse("", "SELECT 1"), bind("p", ""), SYNC), say(execute("p"), SYNC), say(describe_portal("p"), SYNC)),
    "cursor by portal": (
        say(query("BEGIN; DECLARE c CURSOR FOR SELECT n FROM numbers WHERE n < 5 ORDER BY n")),
        say(describe_portal("c"), execute("c", 2), SYNC),
        say(query("FETCH ALL FROM c")),
        say(close_portal("c"), SYNC, query("ROLLBACK")),
    ),
    "missing portal": (say(execute("nowhere"), SYNC), say(describe_portal("nowhere"), SYNC), say(close_portal("nowhere"), SYNC)),
    "insert with returning in parts": (
        say(query("BEGIN")),
        say(parse("", "INSERT INTO notes SELECT n, 'x' FROM generate_series(1, 3) n RETURNING id"), bind("", ""), execute(limit=1), execute(limit=5), SYNC),
        say(query("ROLLBACK")),
    ),
    "describe only": (say(parse("", "SELECT n, name FROM numbers WHERE n = $1"), describe_statement(), SYNC),),
    "describe without result": (say(parse("", "DELETE FROM notes WHERE id = $1"), describe_statement(), SYNC),),
    "message outside its place": (say(copy_data(b"x"), COPY_DONE, copy_fail("x"), query("SELECT 1")),),
}  # fmt: skip

_S = "SELECT $1::int + 1"
STATEMENTS: dict[str, tuple[Step, ...]] = {
    "named": (
        say(parse("s", _S), describe_statement("s"), SYNC),
        say(bind("", "s", "1"), execute(), SYNC),
        say(bind("", "s", "2"), describe_portal(), execute(), SYNC),
        say(describe_statement("s"), SYNC),
        say(close_statement("s"), SYNC),
        say(bind("", "s", "3"), execute(), SYNC),
    ),
    "unnamed over syncs": (
        say(parse("", _S), SYNC),
        say(bind("", "", "1"), execute(), SYNC),
        say(bind("", "", "2"), execute(), SYNC),
        say(describe_statement(), SYNC),
    ),
    "unnamed is gone after a simple query": (say(parse("", _S), SYNC), say(query("SELECT 1")), say(bind("", "", "1"), execute(), SYNC)),
    "unnamed is replaced": (say(parse("", _S), parse("", "SELECT 'new', $1::text"), bind("", "", "x"), execute(), SYNC),),
    "unnamed is gone after a failed parse": (say(parse("", _S), SYNC), say(parse("", "SELEC"), SYNC), say(bind("", "", "1"), execute(), SYNC)),
    "unnamed is closed": (say(parse("", _S), SYNC), say(close_statement(), SYNC), say(bind("", "", "1"), SYNC)),
    "unnamed never made": (say(bind("", ""), SYNC), say(describe_statement(), SYNC)),
    "name taken": (
        say(parse("s", _S), SYNC),
        say(parse("s", _S), SYNC),
        say(parse("s", "SELECT 'other'"), bind("", "s", "1"), execute(), SYNC),
        say(bind("", "s", "41"), execute(), SYNC),
    ),
    "name taken in one pipeline": (say(parse("s", _S), parse("s", "SELECT 2"), run("SELECT 3"), SYNC, bind("", "s", "1"), execute(), SYNC),),
    "missing": (
        say(bind("", "nowhere"), execute(), SYNC),
        say(describe_statement("nowhere"), SYNC),
        say(close_statement("nowhere"), SYNC),
    ),
    "missing among others": (
        say(run("SELECT 1"), bind("", "nowhere"), run("SELECT 2"), SYNC, run("SELECT 3"), SYNC),
        say(run("SELECT 1"), describe_statement("nowhere"), run("SELECT 2"), SYNC, run("SELECT 3"), SYNC),
    ),
    "missing in a transaction": (
        say(query("BEGIN")),
        say(bind("", "nowhere"), SYNC),
        say(query("SELECT 1")),
        say(query("ROLLBACK")),
    ),
    "missing in a failed transaction": (
        say(query("BEGIN; SELECT 1/0")),
        say(bind("", "nowhere"), SYNC),
        say(parse("s", _S), SYNC),
        say(query("ROLLBACK")),
        say(bind("", "s", "1"), execute(), SYNC),
    ),
    "failed parse leaves the name free": (
        say(parse("s", "SELEC"), SYNC),
        say(bind("", "s"), SYNC),
        say(parse("s", _S), bind("", "s", "1"), execute(), SYNC),
    ),
    "parse after an error in the same pipeline": (
        say(run("SELECT 1/0"), parse("s", _S), SYNC),
        say(bind("", "s", "1"), execute(), SYNC),
        say(parse("s", _S), bind("", "s", "1"), execute(), SYNC),
    ),
    "close after an error in the same pipeline": (
        say(parse("s", _S), SYNC),
        say(run("SELECT 1/0"), close_statement("s"), SYNC),
        say(bind("", "s", "1"), execute(), SYNC),
    ),
    "closed and made anew": (
        say(parse("s", _S), bind("", "s", "1"), execute(), close_statement("s"), parse("s", "SELECT 'new'"), bind("", "s"), execute(), SYNC),
        say(bind("", "s"), execute(), SYNC),
    ),
    "closed twice": (say(parse("s", _S), close_statement("s"), close_statement("s"), SYNC),),
    "rolled back with the transaction it was made in": (
        say(query("BEGIN")),
        say(parse("s", _S), SYNC),
        say(query("ROLLBACK")),
        say(bind("", "s", "1"), execute(), SYNC),
    ),
    "made after an error when run": (say(run("SELECT 1"), parse("s", _S), bind("", "s", "x"), SYNC), say(bind("", "s", "1"), execute(), SYNC)),
    "too few values": (say(parse("s", _S), SYNC), say(bind("", "s"), SYNC), say(bind("", "s", "1", "2"), SYNC)),
    "types": (
        say(parse("i", "SELECT $1", INT4), parse("t", "SELECT $1", TEXT), SYNC),
        say(describe_statement("i"), describe_statement("t"), bind("", "i", "x"), SYNC),
        say(bind("", "t", "x"), execute(), SYNC),
    ),
    "same text under two names": (
        say(parse("a", _S), parse("b", _S), SYNC),
        say(close_statement("a"), bind("", "b", "1"), execute(), SYNC),
        say(bind("", "a", "1"), SYNC),
    ),
    "deallocate all": (
        say(parse("s", _S), SYNC),
        say(query("DEALLOCATE ALL")),
        say(bind("", "s", "1"), SYNC),
        say(parse("s", "SELECT 'again'"), bind("", "s"), execute(), SYNC),
    ),
    "deallocate all, extended": (
        say(parse("s", _S), SYNC),
        say(run("DEALLOCATE ALL"), SYNC),
        say(bind("", "s", "1"), SYNC),
        say(parse("s", "SELECT 'again'"), bind("", "s"), execute(), SYNC),
    ),
    "deallocate prepare all": (say(parse("s", _S), SYNC), say(query("deallocate prepare all")), say(bind("", "s", "1"), SYNC)),
    "deallocate all in a pipeline": (
        say(parse("s", _S), SYNC),
        say(run("DEALLOCATE ALL"), parse("s", "SELECT 'again'"), bind("", "s"), execute(), SYNC),
        say(bind("", "s"), execute(), SYNC),
    ),
    "deallocate all that fails": (
        say(parse("s", _S), SYNC),
        say(query("BEGIN; SELECT 1/0")),
        say(query("DEALLOCATE ALL")),
        say(query("ROLLBACK")),
        say(bind("", "s", "1"), execute(), SYNC),
    ),
    "discard all": (
        say(parse("s", _S), SYNC),
        say(query("DISCARD ALL")),
        say(bind("", "s", "1"), SYNC),
        say(parse("s", _S), bind("", "s", "1"), execute(), SYNC),
    ),
    "empty statement": (say(parse("e", ""), describe_statement("e"), bind("", "e"), execute(), SYNC), say(bind("", "e"), execute(), SYNC)),
    "of a transaction's end": (
        say(parse("b", "BEGIN"), parse("c", "COMMIT"), SYNC),
        say(bind("", "b"), execute(), SYNC, run("SELECT 1"), SYNC, bind("", "c"), execute(), SYNC),
        say(bind("", "b"), execute(), bind("", "c"), execute(), SYNC),
    ),
    "names of all kinds": (
        say(parse("with space", _S), parse("ünï", _S), parse('quo"te', _S), parse("x" * 100, _S), SYNC),
        say(bind("", "with space", "1"), execute(), bind("", "ünï", "2"), execute(), bind("", 'quo"te', "3"), execute(), SYNC),
        say(bind("", "x" * 100, "4"), execute(), SYNC),
        say(bind("", "x" * 99, "4"), SYNC),
    ),
    "text that is not UTF-8": (say(parse("s", b"SELECT '\xff'"), SYNC), say(bind("", "s"), SYNC)),
    "long text": (say(parse("s", f"SELECT length('{'y' * 200_000}')"), SYNC), say(bind("", "s"), execute(), SYNC)),
    "thirty, used in turn": (
        say(*(parse(f"s{n}", f"SELECT {n}, $1::int") for n in range(30)), SYNC),
        say(*(bind("", f"s{n}", str(n)) + execute() for n in range(30)), SYNC),
        say(*(bind("", f"s{n}", str(n)) + execute() + SYNC for n in range(29, -1, -1))),
        say(*(close_statement(f"s{n}") for n in range(30)), SYNC),
        say(bind("", "s7", "1"), SYNC),
    ),
}  # fmt: skip

_IN = "COPY notes FROM STDIN"
_ROWS = b"1\tone\n2\ttwo\n"
COPIES: dict[str, tuple[Step, ...]] = {
    "out": ask("COPY (SELECT n, name FROM numbers WHERE n < 20 ORDER BY n) TO STDOUT"),
    "out as CSV": ask("COPY (SELECT n, NULL, 'a,b' FROM numbers WHERE n < 4 ORDER BY n) TO STDOUT WITH (FORMAT csv, HEADER)"),
    "out in binary": ask("COPY (SELECT n, name FROM numbers WHERE n < 4 ORDER BY n) TO STDOUT WITH (FORMAT binary)"),
    "out of nothing": ask("COPY notes TO STDOUT"),
    "out, much": ask("COPY (SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n) TO STDOUT"),
    "out with an error in the middle": ask("COPY (SELECT 1/(n - 10) FROM numbers ORDER BY n) TO STDOUT"),
    "out among others": ask("SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3"),
    "out, extended": (say(run("COPY (SELECT n FROM numbers WHERE n < 4 ORDER BY n) TO STDOUT"), SYNC), say(run("SELECT 1"), SYNC)),
    "in": rolled_back(
        say(query(_IN), until="G"),
        say(copy_data(_ROWS), COPY_DONE, count=1),
        say(query("SELECT * FROM notes ORDER BY id")),
    ),
    "in, all at once": rolled_back(say(query(_IN), copy_data(_ROWS), COPY_DONE), say(query("SELECT count(*) FROM notes"))),
    "in, row by row": rolled_back(
        say(query(_IN), until="G"),
        say(*(copy_data(f"{n}\trow\n".encode()) for n in range(100)), COPY_DONE, count=1),
    ),
    "in, rows cut anywhere": rolled_back(
        say(query(_IN), until="G"), say(copy_data(b"1\to"), copy_data(b"ne\n2"), copy_data(b"\ttwo\n"), COPY_DONE, count=1)
    ),
    "in, nothing": rolled_back(say(query(_IN), until="G"), say(COPY_DONE, count=1)),
    "in, end marked in the data": rolled_back(say(query(_IN), until="G"), say(copy_data(_ROWS + b"\\.\n"), COPY_DONE, count=1)),
    "in, much": rolled_back(
        say(query(_IN), until="G"),
        say(*(copy_data(b"".join(f"{n}\t{'x' * 200}\n".encode() for n in range(k, k + 100))) for k in range(0, 5000, 100)), COPY_DONE, count=1),
        say(query("SELECT count(*), sum(length(body)) FROM notes")),
    ),
    "in, refused by the client": (say(query(_IN), until="G"), say(copy_data(_ROWS), copy_fail("changed my mind"), count=1)),
    "in, refused in a transaction": rolled_back(say(query(_IN), until="G"), say(copy_fail(""), count=1)),
    "in, refused by the server": (say(query(_IN), until="G"), say(copy_data(b"one\n"), copy_data(_ROWS), COPY_DONE, count=1)),
    "in, refused before the end": (
        say(query(_IN), until="G"),
        say(copy_data(b"one\n" + b"2\tx\n" * 20000), until="Z", count=1),
        say(copy_data(_ROWS), COPY_DONE, query("SELECT 1")),
    ),
    "in, of another table's": ask("COPY nowhere FROM STDIN"),
    "in, not even begun": (say(query("COPY nowhere FROM STDIN"), copy_data(_ROWS), COPY_DONE, query("SELECT 1")),),
    "in, twice in one query": (
        say(query("BEGIN; COPY notes FROM STDIN; COPY notes FROM STDIN; ROLLBACK"), until="G"),
        say(copy_data(b"1\tone\n"), COPY_DONE, until="G"),
        say(copy_data(b"2\ttwo\n"), COPY_DONE, count=1),
    ),
    "in, among others": (
        say(query("SELECT 1; BEGIN; COPY notes FROM STDIN; SELECT count(*) FROM notes; ROLLBACK; SELECT 2"), until="G"),
        say(copy_data(_ROWS), COPY_DONE, count=1),
    ),
    "in, failing among others": (
        say(query("SELECT 1; COPY notes FROM STDIN; SELECT 2"), until="G"),
        say(copy_data(b"bad\n"), COPY_DONE, count=1),
    ),
    "in, behind what is waited for": (
        say(query("DEALLOCATE ALL; COPY notes FROM STDIN WHERE false"), until="G"),
        say(copy_data(_ROWS), COPY_DONE, query("SELECT 1")),
    ),
    "in, behind what is waited for, all at once": (
        say(query("DEALLOCATE ALL; COPY notes FROM STDIN WHERE false"), copy_data(_ROWS), COPY_DONE, query("SELECT 1")),
    ),
    "in, with flush and sync between": rolled_back(
        say(query(_IN), until="G"), say(FLUSH, copy_data(_ROWS), SYNC, FLUSH, copy_data(b"3\tx\n"), SYNC, COPY_DONE, count=1)
    ),
    "in, interrupted by a query": (say(query(_IN), until="G"), say(copy_data(_ROWS), query("SELECT 1"), until=END)),
    "in, binary": rolled_back(
        say(query("COPY notes FROM STDIN WITH (FORMAT binary)"), until="G"),
        say(
            copy_data(b"PGCOPY\n\xff\r\n\0" + bytes(8) + struct.pack("!hiii", 2, 4, 9, 3) + b"abc" + struct.pack("!h", -1)),
            COPY_DONE, count=1,
        ),
        say(query("SELECT * FROM notes")),
    ),
    "in, extended": rolled_back(
        say(run(_IN), SYNC, until="G"),
        say(copy_data(_ROWS), COPY_DONE, SYNC),
        say(query("SELECT count(*) FROM notes")),
    ),
    "in, extended, no early sync": rolled_back(
        say(run(_IN), FLUSH, until="G"),
        say(copy_data(_ROWS), COPY_DONE, SYNC),
        say(query("SELECT count(*) FROM notes")),
    ),
    "in, extended, all at once": rolled_back(say(run(_IN), SYNC, copy_data(_ROWS), COPY_DONE, SYNC, count=1)),
    "in, extended, refused by the client": (say(run(_IN), SYNC, until="G"), say(copy_fail("no"), SYNC)),
    "in, extended, refused by the server": (say(run(_IN), SYNC, until="G"), say(copy_data(b"bad\n"), COPY_DONE, SYNC, count=1), say(run("SELECT 1"), SYNC)),
    "in, extended, failing at once": (say(run("COPY nowhere FROM STDIN"), SYNC), say(copy_data(_ROWS), COPY_DONE, SYNC), say(run("SELECT 1"), SYNC)),
    "in, extended, outside a transaction": (
        say(run("COPY notes FROM STDIN WHERE false"), SYNC, until="G"),
        say(copy_data(_ROWS), COPY_DONE, SYNC),
        say(run("SELECT 1"), SYNC),
    ),
    "in, extended, interrupted by a close": (
        say(parse("s", _IN), bind("", "s"), execute(), SYNC, until="G"),
        say(close_statement("s"), SYNC, until=END),
    ),
    "in, extended, interrupted by a close in one write": (
        say(parse("s", _IN), bind("", "s"), execute(), SYNC, close_statement("s"), run("SELECT 1", name="s"), SYNC, until=END),
    ),
    "in, behind a temporary table": (
        # The second time others may have had some before on this server.
        *(
            step
            for _ in range(2)
            for step in (
                say(query("CREATE TEMP TABLE t (n int); COPY t FROM STDIN"), until="G"),
                say(copy_data(b"1\n"), COPY_DONE, count=1),
                say(query("SELECT count(*) FROM t; DROP TABLE t"), SYNC),
            )
        ),
        say(query("CREATE TEMP TABLE t (n int); COPY t FROM STDIN"), copy_data(b"1\n"), COPY_DONE, query("DROP TABLE t")),
    ),
    "in, behind a deallocate": (
        say(parse("s", "SELECT 1"), SYNC),
        say(query(f"DEALLOCATE s; {_IN} WHERE false"), until="G"),
        say(copy_data(_ROWS), COPY_DONE, query("SELECT 1")),
        say(parse("s", "SELECT 1"), run("DEALLOCATE s"), run(f"{_IN} WHERE false"), SYNC, until="G"),
        say(copy_data(_ROWS), COPY_DONE, SYNC),
        say(bind("", "s"), SYNC),
    ),
    "in, interrupted by what may have to wait": (
        say(query(_IN), parse("", "LISTEN x"), until=END),
    ),
    "in, interrupted by a close": (
        say(parse("s", _IN), SYNC),
        say(query(_IN), until="G"),
        say(copy_data(_ROWS), close_statement("s"), SYNC, until=END),
    ),
    "in, outside a transaction": (
        say(query("COPY notes FROM STDIN WHERE false"), until="G"),
        say(copy_data(_ROWS), COPY_DONE, query("SELECT 1"), count=2),
    ),
}  # fmt: skip

FUNCTIONS: dict[str, tuple[Step, ...]] = {
    "call": (say(function_call(INT4PL, "40", "2")),),
    "call in binary": (say(function_call(INT4PL, struct.pack("!i", 40), struct.pack("!i", 2), binary=True)),),
    "call with null": (say(function_call(TEXTCAT, "a", None)),),
    "call that fails": (say(function_call(INT4DIV, "1", "0")), say(function_call(INT4DIV, "4", "2"))),
    "unknown function": (say(function_call(4_000_000_000)),),
    "wrong number of values": (say(function_call(INT4PL, "1")),),
    "calls at once": (say(function_call(INT4PL, "1", "2"), function_call(TEXTCAT, "a", "b"), query("SELECT 3")),),
    "call in a transaction": (
        say(query("BEGIN")), say(function_call(INT4DIV, "1", "0")), say(function_call(INT4PL, "1", "1")), say(query("ROLLBACK")),
    ),
    "call after an error in a pipeline": (say(parse("", "SELEC"), function_call(INT4PL, "1", "1"), SYNC, count=1),),
}  # fmt: skip

# Malformed messages that PostgreSQL survives.
MALFORMED: dict[str, tuple[Step, ...]] = {
    "query without its zero": (say(message("Q", b"SELECT 1")),),
    "query without anything": (say(message("Q", b"")),),
    "query with more behind its zero": (say(message("Q", b"SELECT 1\0SELECT 2\0")),),
    "parse without its zero": (say(message("P", b"name"), SYNC), say(run("SELECT 1"), SYNC)),
    "parse without its counts": (say(message("P", b"\0SELECT 1\0"), SYNC), say(run("SELECT 1"), SYNC)),
    "parse with fewer types than it says": (say(message("P", b"\0SELECT 1\0" + struct.pack("!hi", 2, 23)), SYNC),),
    "parse with more behind its end": (say(message("P", b"\0SELECT 1\0\0\0xx"), SYNC),),
    "bind without anything": (say(message("B", b""), SYNC),),
    "bind cut short": (say(parse("", _S), message("B", bind("", "", "1")[5:-5]), SYNC),),
    "bind with a length beyond its end": (say(parse("", _S), message("B", b"\0\0\0\0" + struct.pack("!hi", 1, 1000) + b"x\0\0"), SYNC),),
    "bind with more behind its end": (say(parse("", _S), message("B", bind("", "", "1")[5:] + b"more"), SYNC),),
    "describe of a third kind": (say(message("D", b"X\0"), SYNC),),
    "describe without anything": (say(message("D", b""), SYNC),),
    "close of a third kind": (say(message("C", b"X\0"), SYNC),),
    "close without its zero": (say(message("C", b"Sname"), SYNC),),
    "execute without its limit": (say(run("SELECT 1"), message("E", b"\0"), SYNC),),
    "function call without anything": (say(message("F", b"")),),
    "copy fail without its zero": (say(query(_IN), until="G"), say(message("f", b"why"), count=1)),
    "sync with a body": (say(message("S", b"x")),),
    "malformed between good ones": (say(run("SELECT 1"), message("B", b"\0"), run("SELECT 2"), SYNC, run("SELECT 3"), SYNC),),
}  # fmt: skip

# Things said after which PostgreSQL closes the connection, with an error that pglido finds itself.
FATAL: dict[str, tuple[Step, ...]] = {
    "goodbye": (say(m.TERMINATE, until=END),),
    "goodbye after a query": (say(query("SELECT 1"), m.TERMINATE, until=END),),
    "unknown type": (say(message("~", b"x"), until=END),),
    "type zero": (say(b"\0\0\0\0\4", until=END),),
    "a reply": (say(message("Z", b"I"), until=END),),
    "a password after login": (say(m.password("x"), until=END),),
    "unknown type after a query": (say(query("SELECT 1")), say(message("~", b"x"), until=END)),
}

_GROUPS: dict[str, dict[str, tuple[Step, ...]]] = {
    "simple": SIMPLE,
    "transaction": TRANSACTIONS,
    "setting": SETTINGS,
    "extended": EXTENDED,
    "statement": STATEMENTS,
    "copy": COPIES,
    "function": FUNCTIONS,
    "malformed": MALFORMED,
    "fatal": FATAL,
}

# Dialogues in which pglido, in transaction mode, knows about names of statements or types of messages itself.
_OWN_GROUPS = {"statement", "malformed", "fatal"}

DIALOGUES = [
    Dialogue(f"{group}: {name}", steps, own=group in _OWN_GROUPS)
    for group, table in _GROUPS.items()
    for name, steps in table.items()
]
DIALOGUES.append(
    Dialogue(
        "statement: deallocated by name",
        (
            say(parse("s", _S), SYNC),
            say(query("DEALLOCATE s")),
            say(bind("", "s", "1"), SYNC),
            say(query("DEALLOCATE s")),
        ),
        modes=SESSION,
    )
)


def _login(
    name: str, *parameters: tuple[str, str | bytes], version: int = m.PROTOCOL_3_0, own: bool = False
) -> Dialogue:
    named = {key for key, _ in parameters}
    base = [(key, "app") for key in ("user", "database") if key not in named]
    asked = [
        key for key, _ in parameters if key.isidentifier() and key not in ("user", "database", "options", "replication")
    ]
    steps = ask(*(f"SELECT current_setting('{key}', true)" for key in asked), _TELL_ALL)
    return Dialogue(f"login: {name}", steps, (*base, *parameters), version, own=own)


# A setting of the application's is null until it is first set in a session and then empty for good, even after RESET:
# so on a shared server it may be either.
_TELL_ALL = (
    "SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('statement_timeout'),"
    " current_setting('extra_float_digits'), current_setting('geqo'), nullif(current_setting('my.tenant', true), ''), current_user"
)

LOGINS = [
    _login("plain"),
    _login("without a database", ("user", "app"), ("database", "")),
    _login("superuser", ("user", "postgres"), ("database", "app")),
    _login("application name", ("application_name", "my app")),
    _login("application name with odd characters", ("application_name", "it's \"my\" \\ äpp\n;--")),
    _login("encoding", ("client_encoding", "LATIN1")),
    _login("encoding in lower case", ("client_encoding", "latin1")),
    _login("date style", ("DateStyle", "German")),
    _login("date style in lower case", ("datestyle", "sql, dmy")),
    _login("time zone", ("TimeZone", "America/New_York")),
    _login("time zone by offset", ("timezone", "-3:30")),
    _login("interval style", ("IntervalStyle", "postgres_verbose")),
    _login("what drivers send", ("client_encoding", "'utf-8'"), ("extra_float_digits", "3"), ("TimeZone", "Europe/Berlin"), ("DateStyle", "ISO")),
    _login("search path", ("search_path", '"$user", pg_catalog, "Odd ""name"""')),
    _login("statement timeout", ("statement_timeout", "12345")),
    _login("statement timeout with a unit", ("statement_timeout", "2min")),
    _login("read only", ("default_transaction_read_only", "on")),
    _login("backslashes", ("standard_conforming_strings", "off")),
    _login("a setting of the application's", ("my.tenant", "x'y")),
    _login("role", ("role", "app")),
    _login("session authorization", ("user", "postgres"), ("database", "app"), ("session_authorization", "app")),
    _login("session authorization in options", ("user", "postgres"), ("database", "app"), ("options", "-c session_authorization=app")),
    _login("session authorization and role", ("user", "postgres"), ("database", "app"), ("session_authorization", "app"), ("role", "app")),
    _login("session setting twice", ("work_mem", "1MB"), ("work_mem", "2MB")),
    _login("options", ("options", "-c work_mem=3MB -c search_path=pg_catalog,public")),
    _login("options, long form", ("options", "--work-mem=3MB --statement-timeout=77")),
    _login("options without blank", ("options", "-cwork_mem=3MB  -cgeqo=off ")),
    _login("options with escapes", ("options", r"-c application_name=with\ blank\\slash -c my.tenant=a\ b")),
    _login("options against parameters", ("options", "-c application_name=option -c work_mem=5MB"), ("application_name", "parameter")),
    _login("options after parameters", ("work_mem", "6MB"), ("options", "-c work_mem=5MB")),
    _login("empty options", ("options", "")),
    _login("3.2", version=m.PROTOCOL_3_2),
    _login("3.2 with a parameter", ("application_name", "new"), version=m.PROTOCOL_3_2),
    _login("3.1", version=0x00030001),
    _login("3.9999", version=0x0003270F),
    _login("unknown protocol option", ("_pq_.no_such_thing", "1")),
    _login("unknown protocol options in 3.2", ("_pq_.a", "1"), ("application_name", "x"), ("_pq_.b", ""), version=m.PROTOCOL_3_2),
    _login("wrong encoding", ("client_encoding", "KLINGON"), own=True),
    _login("wrong date style", ("DateStyle", "klingon"), own=True),
    _login("wrong number", ("work_mem", "much"), own=True),
    _login("number out of range", ("extra_float_digits", "99"), own=True),
    _login("unknown setting", ("no_such_setting", "1"), own=True),
    _login("setting of the server", ("shared_buffers", "1MB"), own=True),
    _login("setting of the superuser", ("log_statement", "all"), own=True),
    _login("session authorization without permission", ("session_authorization", "postgres"), own=True),
    _login("session authorization of nobody", ("session_authorization", "nobody"), own=True),
    _login("role without membership", ("role", "postgres"), own=True),
    _login("unknown setting in options", ("options", "-c no_such_setting=1"), own=True),
    _login("options that are none", ("options", "-c"), own=True),
    _login("options of no known kind", ("options", "nonsense"), own=True),
    _login("no user", ("user", ""), own=True),
    _login("4.0", version=0x00040000, own=True),
]  # fmt: skip
