"""What a client sends ahead costs in proportion to how much it is, however much is owed to it already."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from harness.steps import assert_linear, steps
from parity.builds import SOURCE
from parity.frontend import COPY_DONE, SYNC, bind, call, close, copy_fail, describe, execute, parse, query

from .conversation import ERROR, READY, WAIT, Conversation, entries, message, talk

PURGE = parse("", "deallocate all") + bind("") + execute()
# Each is a message or a few, with a number in it or not.
PIECES: list[Callable[[int], bytes]] = [
    lambda _: SYNC,
    lambda _: parse("", "select 1"),
    lambda _: bind(""),
    lambda _: describe(""),
    lambda _: execute(),
    lambda _: close("", "S"),
    lambda _: close("", "P"),
    lambda _: COPY_DONE,
    lambda _: copy_fail("no"),
    lambda _: call(1598),
    lambda n: parse(f"s{n}", f"select {n}"),
    lambda n: parse(f"t{n}", "select 1"),
    lambda n: bind(f"s{n}"),
    lambda n: bind(f"s{n // 2}"),
    lambda n: describe(f"s{n}"),
    lambda n: close(f"s{n}"),
    lambda n: close(f"s{n // 2}"),
    lambda _: query("select 1"),
    lambda _: query("begin"),
    lambda _: query("listen here"),
    lambda n: query(f"listen c{n}"),
    lambda _: query("deallocate all"),
    lambda _: PURGE,
    lambda n: query(f"prepare p{n} as select {n}"),
    lambda n: query(f"execute s{n}"),
    lambda _: query("select name from pg_prepared_statements"),
    lambda n: query(f"deallocate s{n}"),
    lambda n: query(f"set a.b = '{n}'"),
    lambda _: query("copy t from stdin"),
    lambda n: parse("", f"deallocate s{n}") + bind("") + execute(),
    lambda n: parse("", f"deallocate s{n}") + bind("", portal=f"p{n}"),
    lambda n: execute(f"p{n}"),
    lambda n: bind(f"_pglido_{n:024x}"),
    lambda n: parse(f"_pglido_{n:024x}", f"select {n}"),
]


def said(pieces: list[Callable[[int], bytes]], size: int) -> bytes:
    """These, so many times."""
    return b"".join([piece(number) for number in range(size) for piece in pieces])


def of_messages(front: str, again: str, size: int) -> bytes:
    """The dialogues below: names of pieces, those of `front` repeated first, then those of `again`."""
    table = {
        "sync": lambda _: SYNC,
        "parse": lambda n: parse(f"s{n}", f"select {n}"),
        "bind": lambda n: bind(f"s{n}"),
        "close": lambda n: close(f"s{n}"),
        "execute": lambda _: execute(),
        "unnamed": lambda _: parse("", "select 1"),
        "bind unnamed": lambda _: bind(""),
        "query": lambda _: query("select 1"),
        "purge": lambda _: PURGE,
        "copy": lambda _: query("copy t from stdin") + copy_fail("no"),
        "begin": lambda _: query("begin"),
        "doom": lambda n: parse("", f"deallocate s{n}") + bind("", portal=f"p{n}"),
        "run": lambda n: execute(f"p{n}"),
        "foreign": lambda n: bind(f"_pglido_{n:024x}"),
        "show": lambda _: query("select name from pg_prepared_statements"),
        "sql": lambda n: query(f"prepare q{n} as select 1"),
    }
    parts = [[table[name] for name in names.split(", ") if name] for names in (front, again)]
    return said(parts[0], size) + said(parts[1], size)


def talks(front: str, again: str, how: dict[str, Any]) -> Callable[[int], Callable[[], object]]:
    """Conversations of each size in which this is said; `how` as `Conversation` takes it."""

    def of_size(size: int) -> Callable[[], object]:
        data = of_messages(front, again, size)
        return lambda: talk(data, **how)

    return of_size


@pytest.mark.parametrize("how", [{}, {"fails": True}, {"listens": True}, {"tag": b"DEALLOCATE ALL"}], ids=str)
@pytest.mark.parametrize(
    ("front", "again"),
    [
        ("", "parse, sync"),
        ("sync", "bind unnamed"),
        ("sync", "bind"),
        ("parse, sync", "bind, execute, sync"),
        ("parse", "close"),
        ("unnamed", "sync"),
        ("unnamed, sync", "bind unnamed, execute, sync"),
        ("purge", "parse"),
        ("parse, purge", "sync"),
        ("query", "parse, sync"),
        ("", "unnamed, query"),
        ("parse, doom", "run"),
        ("parse, doom", "execute"),
        ("doom, run", "parse, bind"),
        ("begin, doom", "run"),
        ("parse", "foreign"),
        ("sql", "parse, close"),
        ("parse, query", "parse, bind, query"),
    ],
)
def test_messages_sent_ahead_cost_no_more_for_being_many(front: str, again: str, how: dict[str, Any]) -> None:
    """Each of them asked all replies that were owed, or what had been promised, one by one."""
    assert_linear(talks(front, again, how), 100, 3000)


@pytest.mark.parametrize("how", [{}, {"fails": True}, {"listens": True}, {"tag": b"DEALLOCATE ALL"}], ids=str)
@pytest.mark.parametrize(
    ("front", "again"),
    [
        ("parse, sync", "show"),
        ("", "parse, sync, show"),
        ("parse, sync, show", "close, sync, show"),
        ("parse, sync", "show, bind, sync"),
        ("parse, begin, show", "show, bind, sync"),
        ("parse, sync, show", "purge, sync, show"),
        ("parse, sync, show", "parse, sync, show"),
    ],
)
def test_statements_are_shown_without_being_made_anew_each_time(front: str, again: str, how: dict[str, Any]) -> None:
    """n queries that show a client's statements, and n of these, which were all brought to the server for each."""
    assert_linear(talks(front, again, how), 60, 6000)


def test_a_statement_that_is_refused_makes_others_no_more_costly_to_show() -> None:
    """The first of n can't be prepared any more, as where its table is gone."""

    def of_size(size: int) -> Callable[[], object]:
        one = Conversation()
        for number in range(size):
            one.say(parse(f"s{number}", f"select {number}") + SYNC)
            while one.server.replies.count:
                one.answer()

        def shows() -> None:
            for number in range(size):
                one.say(query("table pg_prepared_statements"))
                while one.server.replies.count:
                    if one.server.prepared.exposing and one.server.prepared.exposing[0][0] == b"s0":
                        while one.server.replies.head & entries.KIND != entries.PARSING:
                            one.answer()
                        one.hear(ERROR)
                    else:
                        one.answer()
                assert one.server.prepared.shadowed[b"s0"] is None, number

        return shows

    assert_linear(of_size, 40, 3000)


def test_portals_that_drop_statements_are_counted_until_their_transaction_is_over() -> None:
    """Each of them is remembered, and cost nothing of what a client may have."""
    one = Conversation()
    one.say(query("begin"))
    one.answer()
    one.hear(message("C", b"BEGIN\0") + message("Z", b"T"))
    sizes = []
    for size in (0, 100, 200, 400):
        one.say(said([lambda n: parse("", f"deallocate s{n}") + bind("", portal=f"p{n}")], size) + SYNC)
        while one.server.replies.count:
            one.answer() if one.server.replies.head & entries.KIND != entries.SYNCING else one.hear(message("Z", b"T"))
        sizes.append(one.client.held_bytes())
        assert len(one.server.prepared.dooms) == size
    assert 300 * 100 < sizes[1] - sizes[0] < 500 * 100
    each = (sizes[1] - sizes[0]) / 100
    assert [size - sizes[0] for size in sizes] == pytest.approx([each * size for size in (0, 100, 200, 400)], rel=0.02)
    one.say(query("commit"))
    one.answer()
    one.say(query("select 1"))
    assert not one.server.prepared.dooms
    assert one.client.held_bytes() == sizes[0]


def test_copies_sent_ahead_cost_no_more_for_being_many() -> None:
    """Each that began looked at all that was sent behind it."""

    def of_size(size: int) -> Callable[[], object]:
        one = Conversation()
        one.say(of_messages("", "copy", size))

        def answers() -> None:
            for _ in range(size):
                one.hear(message("G", b"\0\0\0"))
                one.hear(ERROR + READY)
            assert not one.server.replies.count

        return answers

    assert_linear(of_size, 200, 300)


def test_errors_that_speak_of_our_names_cost_no_more_for_many_statements() -> None:
    """The client has prepared n, and makes the server say such a name n times."""

    def of_size(size: int) -> Callable[[], object]:
        one = Conversation()
        for number in range(size):
            one.say(parse(f"s{number}", f"select {number}") + SYNC)
            while one.server.replies.count:
                one.answer()
        name = one.client.statements[b"s7"].name
        refusal = message("E", b"SERROR\0VERROR\0C22P02\0Mwhat is " + name + b"?\0\0")

        def errors() -> None:
            for _ in range(size):
                one.say(query("select 'x'::int"))
                one.hear(refusal + READY)
            assert one.seen.count(b"Mwhat is s7?\0") == size

        return errors

    assert_linear(of_size, 100, 700)


@pytest.mark.parametrize("data", [b"", b"D\0\0\0\x0b\0\1\0\0\0\1x"])
def test_what_waits_is_not_looked_at_before_what_it_waits_for(data: bytes) -> None:
    """Rows go by, also of other queries; only the answer to the Parse of this name tells what the Bind is of."""
    one = Conversation()
    one.say(query("select 1"))
    one.say(query("select 2"))
    one.say(parse("a", "select 3") + SYNC)
    one._take(bind("a"), 0)
    assert one.client.verdict == WAIT
    for part in (data, message("C", b"SELECT 1\0"), READY, data, message("C", b"SELECT 1\0"), READY):
        one.hear(part)
        assert not one.client.may_go_on()
    one.hear(message("1"))
    assert one.client.may_go_on()


@pytest.mark.parametrize(
    ("first", "then", "answers"),
    [
        (query("deallocate all"), query("select 1"), message("C", b"DEALLOCATE ALL\0") + READY),
        (parse("", "select 1") + SYNC, bind(""), message("1")),
        (parse("a", "select 1") + SYNC, close("a"), message("1")),
        (parse("a", "select 1") + SYNC, describe("a"), message("1")),
        (parse("a", "select 1") + SYNC, parse("a", "select 2"), message("1")),
        (parse("a", "select 1") + SYNC, query("execute a"), message("1")),
        (parse("a", "select 1") + SYNC, bind("a"), ERROR),
    ],
)
def test_what_waits_goes_on_when_that_is_answered(first: bytes, then: bytes, answers: bytes) -> None:
    """Whatever it waits for: nobody would tell it again."""
    one = Conversation()
    one.say(first)
    one._take(then, 0)
    assert one.client.verdict == WAIT
    assert not one.client.may_go_on()
    one.hear(answers)
    assert one.client.may_go_on()
    one._take(then, 0)
    assert one.client.verdict != WAIT


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3),
    st.lists(st.sampled_from(PIECES), max_size=2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"SELECT 1", b"DEALLOCATE ALL", b"DISCARD ALL", b"DEALLOCATE", b"CREATE TABLE"]),
    st.sampled_from([5, 1 << 20]),
)
@settings(max_examples=50, deadline=None)
def test_no_messages_cost_more_for_each_than_others(
    again: list[Callable[[int], bytes]],
    front: list[Callable[[int], bytes]],
    fails: bool,
    listens: bool,
    tag: bytes,
    statements: int,
) -> None:
    """What may be repeated is searched for messages that cost more the more of them there are."""

    def of_size(size: int) -> Callable[[], object]:
        data = said(front, size) + said(again, size)
        SOURCE.sql.analysis._remembered.clear()
        return lambda: talk(data, fails=fails, tag=tag, statements=statements, listens=listens)

    # Most cost between 50 and 600 steps; reading a text by name costs some for each of its letters.
    assert_linear(of_size, 40, most=4000 * len(again + front))


def test_share_of_one_round_is_bounded() -> None:
    """Of 64 kB that cost much the client's session takes a part, and says PAUSE; and all of it, part by part."""
    one = Conversation()
    data = b"".join([query(f"set a.b = '{number}'") for number in range(2500)])
    pos = rounds = 0
    while pos < len(data):
        taken: list[int] = []
        cost = steps(lambda: taken.append(one._take(data, pos)))  # noqa: B023
        pos = taken[0]
        rounds += 1
        assert cost < 400_000
    assert rounds > 10
    assert one.server.replies.turns == 2500
