"""What a query may touch of its session is seen in its text, however it is spelled, and nothing is seen in quotes."""

import re
import time
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from harness.steps import assert_linear
from parity.builds import BUILDS, INSTALLED, SOURCE, Build
from pglido.sql import scanner
from pglido.sql.analysis import LARGE, Analysis
from pglido.sql.keywords import CALLED
from pglido.sql.scanner import (
    ANYTHING,
    CREATES,
    DEFINES,
    ENDS,
    ENTERS,
    HOLD,
    KEEPS,
    LISTENS,
    LOADS,
    LOCKS,
    PREPARES,
    SEEDS,
    SEQUENCES,
    SETS,
    TAILS,
    TEMP,
    WRITES,
)

NAMES = ["SETS", "TEMP", "HOLD", "LOCKS", "PREPARES", "LISTENS", "LOADS", "ENDS", "SEEDS", "SEQUENCES", "CREATES"]
NAMES += ["WRITES", "DEFINES", "KEEPS", "TAILS", "ENTERS", "SHOWS"]


def told(flags: int) -> str:
    """Flags by their names."""
    names = [name for name in NAMES if flags & getattr(scanner, name)]
    if flags & ANYTHING == ANYTHING:
        names = ["ANYTHING", *[name for name in names if not ANYTHING & getattr(scanner, name)]]
    return " ".join(names)


def scan(text: str | bytes, odd: bool = False, touchy: frozenset[bytes] | None = None) -> int:
    """The flags of a text, which are the same on each build, and wherever it lies."""
    data = text.encode() if isinstance(text, str) else text
    found = [build.sql.scanner.scan(data, 0, len(data), odd, touchy) for build in BUILDS]
    found += [build.sql.scanner.scan(b"'" + data + b"\0'", 1, len(data) + 2, odd, touchy) for build in BUILDS]
    assert len(set(found)) == 1, list(map(told, found))
    flags: int = found[0]
    return flags


def look(text: str | bytes) -> Any:
    """What is said by name in a text, which is the same on each build."""
    data = text.encode() if isinstance(text, str) else text
    found = [build.sql.analysis.look(data) for build in BUILDS]
    said = [tuple([getattr(one, name) for name in Analysis.__slots__]) for one in found]
    assert said.count(said[0]) == len(said)
    return found[0]


PLAIN = [
    "",
    ";; ;",
    "select 1",
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    "select a from t where b = $1 and c = $2 order by d limit 10 for no key",
    "select 'set x = 1; listen y'",
    "select settings, reset_val, a.holder, temps, my_temp, pg_tempest, executed, loading from t",
    "select 1e10, 0x1F, 1_000, .5, 1.5e-3, a[1:2], b -> 'c' ->> 'd', e::text, (f).g, @ -5, 5 !~* 'x'",
    "with x as (select 1), y (b) as (values (2)) select * from x, y",
    "(select 1) union (select 2)",
    "values (1), (2)",
    "table t",
    "show search_path",
    "notify a, 'set'",
    "vacuum analyze t",
    "grant select on t to public",
    "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2), pg_advisory_xact_lock_shared(3)",
    "select set_config('a.b', 'c', true)",
    "select set_config('a.b', 'c', TRUE)",
    "select pg_catalog.set_config('a.b', 'c', /* , false */ True -- false\n)",
    "select set_config('a.b', f(1, (2), array[3, 4]), true), set_config($1, $2, true)",
    "select set_config ('a', ') , false)', true)",
    "select name, setting from pg_settings",
    "set local x = 1",
    "set local time zone 'UTC'",
    'SET/**/LOCAL--\n"x" TO 1',
    "set transaction isolation level serializable",
    "set transaction snapshot '1-1'",
    "set constraints all deferred",
    "prepare transaction 'x'",
    "prepare transaction E'x'",
    "prepare transaction $$x$$",
    "select e'\\' set x = 1; listen y' from t",
    "select e'it\\'s; set x = 1'",
    "select E'a'\n'\\'; set x = 1'",
    "select E'a' -- set\n \t'\\'; set x = 1'",
    "select E'a'\r\v\f'\\'; set x = 1'",
    "select 'a\\' as b",
    "select u&'\\0061; set x = 1'",
    'select u&"x; set x = 1"',
    "select n'; set x = 1', b'01', x'1F'",
    "select ''';set x = 1'''",
    'select """; set x = 1;"""',
    "select $$; set x = 1$$, $a$; set x = 1; $b$ $A$ $$ $a$, $é$; set x = 1$é$, $a$$a $a$",
    "select $_1$; set x = 1$_1$",
    "select a$b$ from c$b$",
    "select $1$$; set x = 1 $$",
    "select 1$$; set x = 1 $$",
    "/* ; set x = 1; /* */ ; listen y */ select 1",
    "/*/; set x = 1; */ select 1",
    "/*/*/; set x = 1*/*/ select 1",
    "/***/ select 1 /****/",
    "-- ; set x = 1\nselect 1",
    "-- ; set x = 1\rselect 1",
    "select 1 -- ; set x = 1",
    "select 1 +-- ; set x = 1\n 1",
    "select 1 */* ; set x = 1 */ 1",
    "select 2 - - 1, 4 / 2 * 3",
    'select éset, seté, _set, set_, "SET", "temp", "hold" from é',
    "select case when a then b end from c",
    "select a.case, b end from c",
    "explain select 1",
    "explain (analyze, verbose off) select 1",
    'explain analyze verbose select load, "set" from reset',
    "select (set = 1) from listen",
    "select 1\0; set x = 1",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_touches_nothing(text: str) -> None:
    assert told(scan(text)) == ""


TABLE: list[tuple[int, list[str]]] = [
    (
        SETS,
        [
            "set x = 1",
            "SET x TO 1",
            "  \t\v\f/* */ -- a\n sEt x = 1",
            "set session x = 1",
            "set role a",
            "set session authorization a",
            "set session characteristics as transaction read only",
            "set time zone 'UTC'",
            "set names 'UTF8'",
            'set "X" = 1',
            'set"X"=1',
            # Settings whose names begin with what makes another statement of it.
            "set local.x = 1",
            "set local . x = 1",
            "set transaction.x to 1",
            "set constraints.x to 1",
            "set local = 1",
            "set local to 1",
            "set local",
            "select set_config('a.b', 'c', false)",
            "select set_config('a.b', 'c', $1)",
            "select set_config('a.b', 'c', true::bool)",
            "select set_config('a.b', 'c', not true)",
            "select set_config('a.b', 'c', (true))",
            "select set_config('a.b', 'c', 'true')",
            "select set_config('a.b', 'c', \"true\")",
            "select set_config('a.b', 'c', true or false)",
            "select set_config('a.b', 'c', case when true then false else true end)",
            "select set_config(is_local => false, setting_name => 'a', new_value => true)",
            "select set_config(true)",
            "select set_config(",
            "select set_config('a', 'b', true",
            "select set_config",
            "select \"set_config\"('a', 'b', false)",
            "select u&\"set_config\"('a', 'b', false)",
            "select SET_CONFIG /* */ ('a', 'b', false)",
            "select set_config('a', 'b', true), set_config('a', 'b', false)",
            "select set_config('a', set_config('b', 'c', false), true)",
            "select set_limit(0.5)",
            "select 1 from set_config('a', 'b', false)",
            "explain analyze select set_config('a', 'b', false)",
        ],
    ),
    (SETS | ENDS, ["reset x", "reset all", "discard all", "DISCARD PLANS"]),
    (SETS | WRITES, ["update pg_settings set setting = 1", 'update pg_catalog."pg_settings" set setting = 1']),
    (
        SETS | SEEDS,
        ["set seed = 0.5", "set session seed to 1", 'set "seed" = 1', "select set_config('seed', '1', false)"],
    ),
    (SEEDS, ["select setseed(1)", "set local seed = 1", "select set_config('Seed', '1', true)"]),
    (
        TEMP,
        ["select * from pg_temp.t", 'select * from "pg_temp".t', "select pg_temp_12.f()", 'select "pg_temp_12".f()'],
    ),
    (TEMP, ["select temp from t", "select 1 into temporary t", "select 1 INTO TEMP t"]),
    (
        TEMP | CREATES,
        ["create temp table t ()", "create local temporary view v as select 1", "create table pg_temp.t ()"],
    ),
    (HOLD, ["declare c cursor with hold for select 1", "explain analyze declare c cursor with HOLD for select 1"]),
    (LOCKS, ["select pg_advisory_lock(1)", "select pg_advisory_lock_shared(1)", "select pg_try_advisory_lock(1)"]),
    (LOCKS, ["select pg_try_advisory_lock_shared(1, 2)", "select pg_catalog.pg_advisory_unlock(1)"]),
    (LOCKS, ["select pg_advisory_unlock_shared(1)", "select pg_advisory_unlock_all()"]),
    (LOCKS, ['select "pg_advisory_lock"(1)', "select PG_ADVISORY_LOCK(1)"]),
    (PREPARES, ["prepare a as select 1", "prepare a (int) as select 1", 'prepare "transaction" as select 1']),
    (PREPARES, ["prepare transaction as select 1", "prepare transaction (int) as select 1"]),
    (PREPARES, ["execute a", "execute a (1)", "explain execute a", "explain (analyze, costs off) execute a"]),
    (PREPARES | CREATES, ["create table t as execute a"]),
    (PREPARES | ENDS, ["deallocate a", "deallocate prepare all"]),
    (LISTENS, ["listen a", "unlisten a", "unlisten *", "select pg_listening_channels()"]),
    (LOADS, ["load 'auto_explain'"]),
    (ENDS, ["close c", "close all", "drop table t", "drop owned by a"]),
    (SEQUENCES, ["select currval('s')", "select lastval()", 'select "lastval"()']),
    (CREATES, ["create table t ()", "alter table t add a int", "import foreign schema s from server t into u"]),
    (CREATES, ["explain analyze create table t as select 1", "explain (verbose) create table t as select 1"]),
    (WRITES, ["select nextval('s')", "select setval('s', 1)"]),
    (WRITES, ["insert into t values (1)", "update t set a = 1", "delete from t", "merge into t using u on true"]),
    (
        WRITES,
        ["copy t from stdin", "truncate t", "with x as (insert into t values (1)) select 1", "select 1 for update"],
    ),
    (
        CREATES | DEFINES,
        [
            "create function f() returns int language sql return 1",
            "create or replace function f() returns int language sql as 'select 1'",
            "alter procedure f owner to a",
            "alter routine f owner to a",
            "create aggregate a (sfunc = f)",
            "create extension e",
            "create schema s",
            "create trusted language l",
            "alter table t disable trigger all",
            "create rule r as on select to t do instead nothing",
        ],
    ),
    (ENDS | DEFINES, ["drop function f", "drop schema s cascade", "drop extension if exists e"]),
    (TAILS, ["select 1; select 2", "; select 1;; select 2;", "select 1; (select 2)", "(select 1); values (2)"]),
    (SETS | TAILS, ["select 1; set x = 1", "select 1;set x = 1", "select ';' ; set local x = 1; set x = 1"]),
    (SETS | TAILS, ["select 'a\\'; set x = 1", "select e'\\\\'; set x = 1", "select $a$ $b$ $a$; set x = 1; $b"]),
    (SETS | TAILS, ["select 'a' 'b\\'; set x = 1", "select E'a' 'b\\'; set x = 1", "select e'a'/**/\n'\\'; set x = 1"]),
    (SETS | TAILS, ["select u&'\\'; set x = 1", "select n'\\'; set x = 1", "select xe'\\'; set x = 1"]),
    (
        SETS | TAILS,
        ["/* /* */ */ select 1; set x = 1 /**/", "select 1 -- */\n; set x = 1", "select 1 /* -- */; set x = 1"],
    ),
    (SETS | TAILS, ["select a$b$; set x = 1; select c$b$", "select 1; explain select 1; set x = 1"]),
    (SETS | TAILS, ["set x = 1; select 1", "select 1) ; set x = 1"]),
    (ENTERS, ["begin", "START TRANSACTION", "commit", "end", "rollback to a", "abort", "savepoint a", "release a"]),
    (ENTERS, ["/* */ begin isolation level serializable;", ";begin"]),
    (ENTERS | TAILS, ["begin; select 1", "begin; commit; begin"]),
    (TAILS, ["select 1; begin", "select 1; commit"]),
    (SETS | ENTERS | TAILS, ["begin; set x = 1; commit"]),
    # A function's body is a part of its statement.
    (
        CREATES | DEFINES | WRITES,
        [
            "create function f() returns int begin atomic delete from t; select 1; end",
            "create function f() returns int begin atomic insert into t values (case when a then b end); select; end;",
        ],
    ),
    (
        CREATES | DEFINES,
        ["create function f() returns int begin atomic select 1 as case, a.end, 2 AS\nend; select 1; end"],
    ),
    (
        CREATES | DEFINES | SETS | TAILS,
        [
            "create function f() returns int begin atomic select case when a then b end; select 2; end; set x = 1",
            "create function begin() returns int language sql as 'select 1'; set x = 1",
            "create function f(begin atomic) returns int language sql as 'select 1'; set x = 1",
        ],
    ),
    (CREATES | DEFINES | WRITES, ["create rule r as on update to t do (delete from u; insert into u values (1))"]),
    (ANYTHING, ["do 'begin end'", "do language plpgsql $$ begin end $$", "call f()", "CALL s.f(1)"]),
    (ANYTHING, ["set standard_conforming_strings = off", 'set "standard_conforming_strings" = off']),
    (ANYTHING, ["select set_config('standard_conforming_strings', 'off', true)", "show standard_conforming_strings"]),
    (ANYTHING, ["select query_to_xml('select 1', true, true, '')", "select * from ts_stat('select a')"]),
    (KEEPS, ["select pg_create_logical_replication_slot('a', 'b', true)", "select isn_weak(true)"]),
    (KEEPS, ["select pg_backup_start('a')"]),
    # Names that are spelled with escapes, and texts that end too early.
    (ANYTHING | TAILS, ["select u&\"set_con\\0066ig\"('a', 'b', false)", "select u&\"a!0062\" uescape '!'"]),
    (
        ANYTHING | TAILS,
        ["select '", "select 'a''", "select e'\\'", 'select "a', "select $$ $", "select $a$ $b$", "/* /* */"],
    ),
    (
        ANYTHING | TAILS,
        ["select e'a'\n'\\'", "select 'a\0'", "select $a$ \0$a$", "/* \0*/", 'select "\0"'],
    ),
    (ENTERS | ANYTHING | TAILS, ["begin; select '"]),
]


@pytest.mark.parametrize(("flags", "text"), [(flags, text) for flags, texts in TABLE for text in texts])
def test_what_touches_something(flags: int, text: str) -> None:
    assert told(scan(text)) == told(flags)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("select 1", 0),
        ("set x = 1", SETS),
        ("select 'a\\'' ; set x = 1; --'", ANYTHING | TAILS),
        ("select 'é'", ANYTHING | TAILS),
        ("begin -- é", ANYTHING | TAILS | ENTERS),
    ],
)
def test_an_odd_text_is_read_only_where_every_byte_is_what_it_looks_like(text: str, flags: int) -> None:
    assert told(scan(text, odd=True)) == told(flags)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("select touch()", True),
        ("select TOUCH /* */ -- a\n (1)", True),
        ("select s.touch()", True),
        ('select s."touch"()', True),
        ('select u&"touch"()', True),
        ("select row.touch", True),
        ('select row."touch"', True),
        ("select s. touch ()", True),
        ('select "Odd ""name"""()', True),
        ('select "TOUCH"()', False),
        ("select touch, (1)", False),
        ("select 'touch()', touch$ (), touched()", False),
        (f"select {'LONG' * 20}()", True),
        (f"select {'LONG' * 15}()", False),
        ("select tooth(), mouch()", False),
        ("select é()", True),
    ],
)
def test_a_call_of_a_function_that_is_known_to_touch(text: str, seen: bool) -> None:
    touchy = frozenset({b"", b"touch", "é".encode(), b'Odd "name"', (b"long" * 20)[:63]})
    # What lasts for ever (LOADS, SEEDS) isn't said by the text that calls it.
    assert scan(text, touchy=touchy) == (CALLED if seen else 0)
    assert told(scan(text)) == ""


# Whatever is said in quotes is not seen, and what comes after it is.

QUOTED_TEXT = st.one_of(
    st.text("ab'\"$\\/*-;\n (SETset)é", max_size=20), st.sampled_from([text for _, texts in TABLE for text in texts])
).filter(lambda text: "\0" not in text)


def dollars(text: str, tag: str) -> str:
    """In dollars, with a tag that the text doesn't have."""
    while f"${tag}$" in text + "$":
        tag += "é"
    return f"${tag}${text}${tag}$"


def commented(text: str) -> str:
    """In a comment, with nothing in it that opens or ends one."""
    return "/*" + text.replace("*", "+").replace("/", "|") + "*/"


QUOTES = st.one_of(
    st.builds(lambda text: "'" + text.replace("'", "''") + "'", QUOTED_TEXT),
    st.builds(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'", QUOTED_TEXT),
    st.builds(lambda text: "e'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'\n ''", QUOTED_TEXT),
    st.builds(lambda text: "'a'--'\n  '" + text.replace("'", "''") + "'", QUOTED_TEXT),
    st.builds(lambda text: "U&'" + text.replace("\\", "\\\\").replace("'", "''") + "'", QUOTED_TEXT),
    st.builds(lambda text: '"a' + text.replace('"', '""') + '"', QUOTED_TEXT),
    st.builds(lambda text: 'U&"a' + text.replace("\\", "").replace('"', '""') + '"', QUOTED_TEXT),
    st.builds(dollars, QUOTED_TEXT, st.sampled_from(["", "a", "_", "é1"])),
    st.builds(lambda text: "--" + text.replace("\n", " ").replace("\r", " ") + "\n", QUOTED_TEXT),
    st.builds(commented, QUOTED_TEXT),
    st.builds(lambda text: "/*/" + commented(text) + "**/", QUOTED_TEXT),
)
SINGLE = [(flags, text) for flags, texts in TABLE for text in texts if not flags & (TAILS | ENTERS)]


@given(st.lists(QUOTES, min_size=1, max_size=4))
def test_nothing_is_seen_in_quotes(quotes: list[str]) -> None:
    assert told(scan(" select " + " , ".join(quotes) + " ")) == ""


@given(st.lists(QUOTES, min_size=1, max_size=4), st.sampled_from(SINGLE))
def test_what_comes_after_quotes_is_seen(quotes: list[str], watched: tuple[int, str]) -> None:
    flags, text = watched
    assume("'a'" not in text or "seed" not in str(quotes).lower())
    found = scan("select " + " , ".join(quotes) + " ;" + text)
    assert found & flags == flags
    assert found & TAILS


@given(QUOTES, st.integers(1, 1000))
def test_a_text_cut_in_quotes_may_be_anything(quote: str, place: int) -> None:
    """Unless what is left is closed, being one of two constants that are joined, or a part of one with quotes in it."""
    data = quote.encode()
    cut = data[: min(place, len(data) - 1)]
    scan(b"select " + cut)
    opened = quote.startswith(("$", "/*")) and cut.count(b"$") > 1 and cut.endswith(b"x")
    if quote.startswith("/*") and len(cut) > 1:
        opened = True
    if quote[0] == '"' and cut.count(b'"') % 2:
        opened = True
    if quote[0] == "'" and "--" not in quote and cut.count(b"'") % 2:
        opened = True
    if opened:
        assert scan(b"select " + cut) & ANYTHING == ANYTHING


WORDS = (
    "' \" $$ $a$ /* */ -- \n ; ( ) E' U&' U&\" \\ '' select set local x = 1 begin atomic end case create function as"
)
WORDS += (
    " . , set_config 'a.b' true pg_temp_1 execute é \0 listen $1 explain analyze do prepare transaction touch time zone"
)
WORDS += " session role to reset deallocate all default unlisten * + - uescape '!' pg_settings update"
SOUP = st.builds(
    lambda space, words: space.join(words).encode(),
    st.sampled_from(["", " "]),
    st.lists(st.sampled_from(WORDS.split(" "))),
)


@given(st.one_of(SOUP, st.binary(max_size=30)), st.booleans(), st.booleans())
@settings(max_examples=1000)
def test_any_text_is_read_the_same_by_each_build(text: bytes, odd: bool, touchy: bool) -> None:
    scan(text, odd, frozenset({b"touch"}) if touchy else None)
    look(text)


@given(st.sampled_from(SINGLE), SOUP)
def test_what_was_seen_is_not_unseen_by_what_follows(watched: tuple[int, str], text: bytes) -> None:
    flags, first = watched
    assert scan(first.encode() + b"\n;" + text) & flags == flags


@given(st.lists(SOUP, max_size=3))
@settings(max_examples=500)
def test_tails_are_what_look_splits(texts: list[bytes]) -> None:
    word = re.compile(rb"[a-z]+($|[ ;])")
    text = b";".join(texts)
    flags = scan(text)
    statements = look(text).statements
    if flags & ANYTHING != ANYTHING and all(word.match(one) for one in statements):
        assert bool(flags & TAILS) == (len(statements) > 1)


# What is said by name.


@pytest.mark.parametrize(
    ("text", "names", "exact"),
    [
        ("select 1", "", True),
        ("set a = 1", "a", True),
        ("SET SESSION A.\"B\".c TO 'x', y", "a.b.c", True),
        ('set "Work_Mem" = 1', "work_mem", True),
        ("set a to default", "a", False),
        ("set a = DEFAULT", "a", False),
        ("set a", "a", False),
        ("set a = 1; set b = 2; set a = 3", "a b", True),
        ("set local a = 1", "", True),
        ("set local.a = 1", "local.a", True),
        ("set session.a = 1", "session.a", True),
        ("set session session.a = 1", "session.a", True),
        ("set time zone 'UTC'", "timezone", True),
        ("set time zone utc", "timezone", True),
        ("set session time zone -3", "timezone", True),
        ("set time zone default", "timezone", False),
        ("set time zone local", "timezone", False),
        ("set time.a = 1", "time.a", True),
        ("set names 'UTF8'", "client_encoding", True),
        ("set names", "client_encoding", False),
        ("set schema 'a'", "search_path", True),
        ("set role a", "role", True),
        ("set role none", "role", True),
        ("set role = a", "role", True),
        ("set session role 'a'", "role", True),
        ("set session authorization a", "session_authorization", False),
        ("set session session authorization a", "session_authorization", False),
        ("set session_authorization to a", "session_authorization", False),
        ("set xml option document", "xmloption", False),
        ("set transaction read only", "", True),
        ("set session transaction read only", "", True),
        (
            "set session characteristics as transaction read only",
            "default_transaction_isolation default_transaction_read_only default_transaction_deferrable",
            False,
        ),
        ("reset a.b", "a.b", False),
        ("reset time zone", "timezone", False),
        ("reset session authorization", "session_authorization", False),
        ("reset role", "role", False),
        ("reset all", "", False),
        ("discard all", "", False),
        ("select set_config('a', 'b', false)", "a", True),
        ("select set_config(E'\\x61', 'b', false)", "a", True),
        ("select set_config(u&'!0061\\' uescape '!', 'b', false)", "a\\", False),
        ("select set_config($$A$$, 'b', false)", "a", True),
        ("select set_config('a'\n'b', 'c', false)", "ab", True),
        ("select set_config($1, 'b', false)", "", False),
        ("select set_config($1, 'b', true)", "", True),
        ("select set_config('a' || 'b', 'b', false)", "a", False),
        ("select set_config(setting_name => 'a.b', new_value => 'b', is_local => false)", "a.b", False),
        ("select set_config", "", False),
        ("select set_config('a', 'b', true)", "a", True),
        ("select f('a.b', 'A.b.c', 'a.1', 'a', 'a. b', '.a', E'a.\\x62', 'é.b')", "a.b a.b.c é.b", True),
        ("select 'a.b'\n'c'", "a.bc", True),
        ("select f('work_mem')", "", True),
        ("update pg_settings set setting = 1", "", False),
        ("select set_limit(1)", "", False),
        ("execute a", "", False),
        ("do $$ begin perform set_config('a', 'b', false); set c.d = 1; execute 'set e = 1'; end $$", "c.d a e", False),
        ("do 'begin set a = 1; end'", "a", False),
        ("call f('a.b')", "a.b", False),
        ("set standard_conforming_strings = on", "standard_conforming_strings", False),
        ("update t set a = 1 where b = 'c'", "", True),
        ("set a = '", "a", False),
    ],
)
def test_the_settings_that_are_named(text: str, names: str, exact: bool) -> None:
    assert (" ".join(look(text).names), look(text).exact) == (names, exact)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("listen a", [("LISTEN", "a")]),
        (
            'LISTEN Ab; unlisten "Ab"; UNLISTEN *; listen é',
            [("LISTEN", "ab"), ("UNLISTEN", "Ab"), ("UNLISTEN", ""), ("LISTEN", "é")],
        ),
        ('listen "a""b"', [("LISTEN", 'a"b')]),
        ('listen U&"a\\0062"', [("LISTEN", "ab")]),
        ("listen U&\"a!0062\" uescape '!'", [("LISTEN", "ab")]),
        (f"listen {'A' * 70}", [("LISTEN", "a" * 63)]),
        (f'listen "{"a" * 62}é"', [("LISTEN", "a" * 62)]),
        ("select listen", []),
        ("do 'listen a'", []),
        ("listen", []),
    ],
)
def test_the_channels_that_are_named(text: str, channels: list[tuple[str, str]]) -> None:
    assert look(text).channels == tuple([(verb, name.encode()) for verb, name in channels])


@pytest.mark.parametrize(
    ("text", "executes", "prepares"),
    [
        ("execute A", "a", ""),
        ('explain (costs off, format json) execute "B"(1); EXPLAIN ANALYZE EXECUTE c', "B c", ""),
        ("create table t as execute a", "a", ""),
        ("grant execute on function f to public", "", ""),
        ("create trigger t after insert on t execute function f()", "", ""),
        ("deallocate a; deallocate prepare B; deallocate all; deallocate prepare all", "a b", ""),
        ('deallocate "all"; deallocate prepare', "all prepare", ""),
        ("prepare A as select 1; prepare b (int) as select execute", "", "a b"),
        ("prepare transaction 'a'; prepare transaction as select 1", "", "transaction"),
    ],
)
def test_the_statements_that_are_named(text: str, executes: str, prepares: str) -> None:
    assert b" ".join(look(text).executes).decode() == executes
    assert b" ".join(look(text).prepares).decode() == prepares


@pytest.mark.parametrize(
    ("text", "databases"),
    [
        ('drop database A; DROP DATABASE IF EXISTS "B b" WITH (FORCE); select 1', ["a", "B b"]),
        ("drop database if", ["if"]),
        ("alter database A rename to b; alter database c set tablespace d", ["a", "c"]),
        ("alter database a set work_mem = 1; alter database b owner to c; alter database c connection limit 1", []),
        ("create database a", []),
        ("create database a owner b template c; CREATE DATABASE d WITH TEMPLATE = 'E'", ["c", "E"]),
        ("create database template", []),
        ("create database a template", []),
        ("drop database", []),
        ("drop table database; alter database", []),
        ("do 'drop database a'", []),
    ],
)
def test_the_databases_that_must_be_left(text: str, databases: list[str]) -> None:
    assert [name.decode() for name in look(text).databases] == databases


@pytest.mark.parametrize(
    ("text", "defaults"),
    [
        ("ALTER ROLE r SET work_mem = '1MB'", 1),
        ("select 1; alter /* so */ database d reset all", 1),
        ("ALTER USER ALL IN DATABASE d SET search_path FROM CURRENT", 1),
        ("ALTER ROLE r NOSUPERUSER", 1),
        ("DO $$BEGIN EXECUTE 'ALTER ' || what; END$$", 1),
        ("DO $$BEGIN PERFORM falter(); END$$", 0),
        ("ALTER TABLE role SET SCHEMA s", 0),
        ("SELECT 'ALTER ROLE r SET work_mem = 1'", 0),
        ("SELECT pg_catalog.PG_RELOAD_CONF()", 2),
        ("ALTER ROLE r RESET ALL; SELECT pg_reload_conf()", 3),
    ],
)
def test_what_may_change_what_sessions_begin_with(text: str, defaults: int) -> None:
    assert look(text).defaults == defaults


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" ; /* */ -- a\n;", []),
        (" select 1 ; /* */ select 2 -- a\n", ["select 1", "select 2"]),
        ("select ';', e'\\';', $$;$$, \";\", (1;2)", ["select ';', e'\\';', $$;$$, \";\", (1;2)"]),
        ("select 1\0; select 2", ["select 1"]),
        ("select 1; select '", ["select 1", "select '"]),
        (
            "create function f() begin atomic select case when a then b end; select 1 as end; end; select 2",
            [
                "create function f() begin atomic select case when a then b end; select 1 as end; end",
                "select 2",
            ],
        ),
    ],
)
def test_the_statements_of_a_text(text: str, statements: list[str]) -> None:
    assert look(text).statements == tuple([one.encode() for one in statements])


def test_a_text_that_is_looked_at_again_is_remembered_unless_it_is_large() -> None:
    assert look(b"set x = 1") is look(b"set x = 1")
    large = b"set x = '" + b"a" * LARGE + b"'"
    assert look(large) is not look(large)
    assert "names=('x',)" in repr(look(b"set x = 1"))


@pytest.mark.parametrize(
    ("text", "vague"),
    [
        ("select * from ts_stat('select a from b')", False),
        ("select * from ts_stat('select a from b', 'ab')", False),
        ("select * from TS_Stat ( $$select a from b$$ :: pg_catalog.text )", False),
        ("select * from ts_stat(e'select\n1')", False),
        ('select * from "ts_stat"($1)', True),
        ("select ts_stat(query) from queries", True),
        ("select ts_stat(query::text) from queries", True),
        ("select * from ts_stat('select ' || $1)", True),
        ("select * from ts_stat('select '::text || $1)", True),
        ("select * from ts_stat(format('select %I', $1))", True),
        ("select * from ts_stat(case when true then 'select 1' else q end) from queries", True),
        ("select * from ts_stat((select query from queries))", True),
        ("select ts_rewrite(tag, 'select a, b from c') from tags", False),
        ("select ts_rewrite(to_tsquery($1, 'a'), 'select a, b from c')", False),
        ("select ts_rewrite(tag, query) from tags", True),
        ("select query_to_xml('select 1', $1, $2, $3)", False),
        ("select query_to_xml(nulls => true, query => $1, tableforest => true, targetns => '')", True),
        ("select * from crosstab('select 1', $1) as c(a int)", True),
        ("select * from connectby('a', 'b', 'c', $1, 0)", True),
        ("select ts_stat from words where ts_stat = $1", False),
        ("select f($1), * from ts_stat('select 1'), g($1)", False),
    ],
)
def test_query_that_is_given_as_a_value_is_read_or_vague(text: str, vague: bool) -> None:
    assert look(text).vague == vague


def test_settings_in_a_query_that_is_given_as_a_value_are_named() -> None:
    text = "select * from ts_stat('select to_tsvector(set_config(''work_mem'', ''1'', false))')"
    assert look(text).names == ("work_mem",)
    assert look("select * from crosstab('select 1', $$select 2; set role a$$)").names == ("role",)


@pytest.mark.parametrize(
    ("front", "again", "back"),
    [
        (b"", b"select set_config(", b""),
        (b"", b"select set_config('a', set_config('b', ", b"true)true)"),
        (b"", b"select set_config('a', 'b', true), ", b""),
        (b"", b"/*", b""),
        (b"", b"$a", b""),
        (b"$a$", b"$ab", b""),
        (b"", b"f ", b""),
        (b"", b"f/**/", b""),
        (b"", b"set local /* */ -- \n ", b""),
        (b"", b"e'a'\n", b""),
        (b"", b"(", b""),
        (b"create function f() begin atomic ", b"as case ", b""),
    ],
)
def test_no_text_takes_long(front: bytes, again: bytes, back: bytes) -> None:
    """Each byte is looked at a few times, however the text is made: counted where it can be, and four times as long
    a text costs some four times as much also where a loop is C's."""

    def scan(build: Build, times: int) -> Callable[[], object]:
        text = front + again * times + back * times
        return lambda: build.sql.scanner.scan(text, 0, len(text), False, frozenset({b"f"}))

    assert_linear(lambda size: scan(SOURCE, size), 100, most=40 * len(again + back))
    short, long = (processor_time(scan(INSTALLED, size * 60_000 // len(again))) for size in (1, 4))
    assert long < 8 * short


def processor_time(work: Callable[[], object]) -> float:
    """How long this process computes for it, at the best of several times."""
    found = []
    for _ in range(5):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)
