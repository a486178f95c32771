"""Reading the text of a query costs in proportion to its length, whatever it is made of."""

import re
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from harness.steps import assert_linear, steps
from parity.builds import SOURCE

session, sql = SOURCE.session, SOURCE.sql
HEEDED = session.state.state_query.INSPECTED

# Words that lead somewhere, and what stands between them.
WORDS = rb"""
execute |set |set.|explain |explain (|analyze |prepare |prepare a as |deallocate |reset |discard all|listen |unlisten *
set_config(|set_config('a.b',|set_config('|true|,|(|)|;|.|'|''|"|a.b|aaaaaaaa|$$|$a$|$|--|/*|*/|/| |u&'|u&"|e'|\|uescape
begin atomic |case |end |create function |create |do |do $$|alter role a set |drop database |create database a template
local |session |to |as |=|%|pg_settings|update |set_limit(|ts_stat(|ts_rewrite(|loosen(|currval(
pg_cancel_backend(|pg_stat_activity |pid =|8388609|$1|notify |pg_notify(
"""
WORDS = [b"\n", b"\r", b"||", b"\0", *re.split(rb"[|\n]", WORDS.strip())]
TOUCHY = frozenset([b"loosen", b"a b"])


def read(text: bytes) -> None:
    """All that is asked of a text, of which nothing is remembered."""
    sql.analysis._remembered.clear()
    flags = sql.scanner.scan(text, 0, len(text), False, TOUCHY)
    sql.scanner.scan(text, 0, len(text), True, None)
    said = sql.analysis._look(text)
    reading = sql.effects
    reading.only_cleans(text, said)
    reading.channels(said)
    reading.unnamed(text, TOUCHY)
    reading.counts(text, TOUCHY)
    reading.deallocated(said)
    reading.purges_somewhere(said)
    reading.names_anywhere(text)
    reading.notifies(text)
    sql.signal_targets.wanted(text, b"")
    sql.signal_targets.put_constants(text, {8388609: 1})
    assert flags >= 0


def repeated(front: bytes, again: bytes, back: bytes = b"") -> Callable[[int], Callable[[], None]]:
    """Reading of a text that repeats `again` so many times, and ends in as many times `back`."""

    def of_size(size: int) -> Callable[[], None]:
        text = front + again * size + back * size
        return lambda: read(text)

    return of_size


@pytest.mark.parametrize(
    ("front", "again", "back"),
    [
        (b"explain (", b"execute ", b""),
        (b"explain (", b"execute a) execute b (", b""),
        (b"select ", b"set_config(", b")"),
        (b"select ", b"set_config('a.b', 'c', true),", b""),
        (b"select ", b"set_limit(", b")"),
        (b"select ", b"loosen(", b")"),
        (b"select ", b"ts_stat(", b")"),
        (b"select ts_stat(", b"'a',", b""),
        (b"do '", b"set.", b"'"),
        (b"do $$", b"set a.b.", b"$$"),
        (b"do $$", b"do ''", b"$$"),
        (b"", b"deallocate a;", b""),
        (b"", b"execute a;", b""),
        (b"create function a() begin atomic ", b"case ", b"end "),
        (b"create function a() begin atomic ", b"case --\n", b""),
        (b"", b"begin /* ", b""),
        (b"select ", b"'a'\n--\n", b""),
        (b"select ", b"$a", b""),
        (b"set ", b"a.", b""),
        (b"create database ", b"template ", b""),
        (b"select ", b"pg_cancel_backend(", b")"),
        (b"select pg_cancel_backend(", b"(", b")"),
        (b"select pg_cancel_backend(", b"8", b""),
        (b"select pg_stat_activity, ", b"pid=8388609,", b""),
    ],
)
def test_text_is_read_in_steps_that_grow_with_its_length(front: bytes, again: bytes, back: bytes) -> None:
    """Each of these was, or might be, read anew at each of its words."""
    assert_linear(repeated(front, again, back), 60)


@pytest.mark.usefixtures("patience")
def test_text_of_one_long_word_is_searched_for_names_once() -> None:
    """Where no constant can be told from a name, each letter of this was the beginning of a search to its end."""
    reading = sql.effects
    # Letter by letter each takes half a minute.
    for letter in range(ord("a"), ord("z") + 1):
        assert reading.names_anywhere(bytes([letter]) * reading.LONGEST_READ) == ()


def test_names_of_settings_are_found_anywhere() -> None:
    """Behind digits, too, which may be those of an escape."""
    text = b"'a.b', \\012c.d.e " + b"a" * 1000 + b".c9, \xc3\xa9.f, .g.h x. y .z 1.2"
    names = ("a.b", "c.d.e", "a" * 1000 + ".c9", "\u00e9.f", "g.h")
    assert sql.effects.names_anywhere(text) == tuple(sorted(names))


def test_names_of_functions_are_found_by_word_however_many_there_are() -> None:
    """A text is not searched once for each function that the database has."""
    text = b"select 1, " * 20

    def many(size: int) -> Callable[[], object]:
        functions = frozenset([b"function_%d" % number for number in range(size)])
        sql.effects.counts(text, functions)  # what is kept of these is made
        return lambda: sql.effects.counts(text, functions)

    assert steps(many(400)) == steps(many(100))


@pytest.mark.parametrize(
    "text",
    [
        b"select foo()", b"select FOO ( )", b'select "foo"()', b'select "Foo"()', b"do E'begin\\nfoo(); end'",
        b"do E'begin\\012foo(); end'", b"do E'\\u000afoo()'", b"select a.foo()", b"do 'foo()'", b'select "my foo"()',
    ],
)  # fmt: skip
def test_names_of_functions_are_found_wherever_they_stand(text: bytes) -> None:
    """By their words, in code with escapes, or, where they are no words, anywhere."""
    assert sql.effects.counts(text, frozenset([b"Foo", b"my foo"]))
    assert not sql.effects.counts(re.sub(b"(?i)foo", b"fool", text), frozenset([b"Foo"]))


def test_long_name_of_a_function_is_found_by_what_postgresql_reads_of_it() -> None:
    """It is cut at 63 bytes."""
    assert sql.effects.counts(b"select " + b"f" * 80 + b"()", frozenset([b"f" * 63]))


def test_statements_prepared_by_one_text_are_looked_for_in_it_once() -> None:
    """PostgreSQL gives all of a query's text for each statement that it prepared."""

    def of_size(size: int) -> Callable[[], object]:
        said = ";".join([f"prepare s{number} as select {number}" for number in range(size)])
        prepared = {f"s{number}": said for number in range(size)}
        sql.analysis._remembered.clear()
        return lambda: session.state.statement_cache.replayable(prepared)

    assert_linear(of_size, 15)


def test_statement_prepared_by_a_text_of_several_is_found_by_its_name() -> None:
    """The last case of each: prepared twice, or not in the text, or in one that is not ASCII."""
    replayable = session.state.statement_cache.replayable
    both = "prepare a as select 1; prepare b as select 2"
    assert replayable({"a": both, "b": both}) == {"a": "prepare a as select 1", "b": "prepare b as select 2"}
    assert replayable({"a": "prepare a as select 1"}) == {"a": "prepare a as select 1"}
    assert replayable({"a": "deallocate a; prepare a as select 1; deallocate a; prepare a as select 2"}) is None
    assert replayable({"c": both}) is None
    assert replayable({"a": both + "; select 'é'"}) is None
    assert replayable({"a": ""}) is None
    assert replayable({f"s{n}": both for n in range(session.state.statement_cache.MANY_PREPARED + 1)}) is None


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), st.lists(st.sampled_from(WORDS), max_size=2))
@settings(max_examples=200, deadline=None)
def test_no_text_costs_more_for_each_byte_than_others(again: list[bytes], front: list[bytes]) -> None:
    """What may be repeated is searched for texts that cost more the longer they are."""
    of_size = repeated(b"".join(front), b"".join(again))
    # Most cost between 30 and 150 steps a byte: each letter is looked at in several ways.
    assert_linear(of_size, 60, most=400 * len(b"".join(again)))


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(
    ("front", "again", "back"),
    [
        ("pg_create_physical_replication_slot(", " ", ""),
        ("pg_create_physical_replication_slot", " ", "x"),
        ("", "pg_create_physical_replication_slot(", ""),
        ("pg_create_", "pg_create_", "physical_replication_slot("),
        ("pg_create_logical_replication_slot(", ",", ""),
        ("set_config(", " ", ""),
        ("", "set_config('", ""),
        ("set_config($1", "1", ""),
        ("set_config('a'::", "a", ""),
        ("' set ", " ", "x"),
        ("' set session ", " ", "'"),
        ("' set ", "a.", "'"),
        ("", "' set a", ""),
        ("unlisten", " ", "x"),
        ("discard", " ", "x"),
        ("", "set ", "seed"),
        ("", "\\a", ""),
    ],
)
def test_text_is_searched_once(front: str, again: str, back: str) -> None:
    """Of these each letter was, or might be, where a search begins that goes to the end."""
    reading = sql.effects
    text = (front + again * (reading.LONGEST_READ // len(again)))[: reading.LONGEST_READ - len(back)] + back
    data = text.encode()
    reading.undying(data)
    reading.mentions(data, TOUCHY)
    reading.unnamed(data, TOUCHY)
    reading.counts(data, TOUCHY)
    for search in (reading.shows, reading.forgets, reading.unlistens, reading.notifies, reading.executes):
        search(data)


def test_long_text_is_searched_for_what_it_alters_piece_by_piece() -> None:
    """Of many megabytes an expression looked at each letter, while everybody waited."""
    reading = sql.effects
    size = reading.LONGEST_READ

    said = sql.analysis.look(b"do ''")

    def redefines(text: bytes) -> int:
        return reading.redefines(text, said, frozenset())

    assert_linear(lambda times: lambda: redefines(b"do $$" + b"perform a; " * 6000 * times), 4, most=20)
    for at in (size - 10, size, 2 * size - 20, 2 * size, 3 * size - 3, 5 * size - 6):
        text = bytearray(b" " * 5 * size)
        text[at : at + 6] = b"aLTER "
        assert redefines(bytes(text)) == sql.analysis.ALTERED, at
        text[at - 1] = ord("x")
        assert redefines(bytes(text)) == 0, at


def test_text_longer_than_is_read_is_searched_no_further() -> None:
    """All that can be is suspected of it; what is asked at its end is not found."""
    reading = sql.effects
    text = b"do $$ /*" + b"x" * reading.LONGEST_READ + b"*/ pg_prepared_statements; discard all; unlisten *$$"
    assert reading.undying(text) == reading.ALL_UNDYING
    assert all([reading.mentions(text, TOUCHY), reading.counts(text, TOUCHY), reading.unnamed(text, TOUCHY)])
    assert all([reading.notifies(text), reading.executes(text)])
    assert set(reading.masked(text)) == set(sql.transaction_settings.HINDERING)
    assert not any([reading.shows(text), reading.forgets(text), reading.unlistens(text)])
    assert not reading.mentions(text, frozenset())
