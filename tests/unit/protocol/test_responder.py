"""The server's side of the protocol: the same answers however bytes are cut, PostgreSQL's errors, and bounds."""

import struct
from collections.abc import Iterable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from harness.steps import assert_linear
from parity.frontend import (
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    call,
    close,
    copy_data,
    describe,
    execute,
    message,
    parse,
    query,
    split,
)
from pglido.protocol.errors import PgError, ProtocolViolation
from pglido.protocol.responder import (
    Answer,
    Answered,
    Ended,
    Event,
    Failed,
    Fill,
    FunctionCall,
    Prepare,
    Reply,
    Responder,
    Rules,
    Run,
    Statement,
    Terminated,
)
from pglido.protocol.rows import INT4, TEXT, Column

LONGEST, STATEMENTS, PORTALS = 1000, 5, 3
RULES = Rules(LONGEST, STATEMENTS, PORTALS, "here", lambda sql: [one.strip() for one in sql.split(";") if one.strip()])
NUMBERS = (Column("n", INT4),)


class User:
    """Understands `rows N`, `begin`, `commit`, `set NAME VALUE`, `say WORD`, the empty query, and $1 for a number."""

    def __init__(self) -> None:
        self.responder: Responder[str] = Responder(RULES)
        self.events: list[str] = []
        self.left = False

    def say(self, *data: bytes) -> bytes:
        """What is answered to these bytes."""
        responder = self.responder
        responder.feed(b"".join(data))
        while not self.left and (event := responder.next()) is not None:
            while not isinstance(event, Answered | Terminated):
                event = responder.reply(self.reply(event))
            self.left = isinstance(event, Terminated)
        return responder.taken()

    def reply(self, event: Event[str]) -> Reply[str]:
        match event:
            case Prepare(sql, types):
                count = sql.count("$1")
                return self.understood(sql, types if types else (0,) * count if types is not None else ())
            case Fill(statement, (value,)):
                assert statement.meaning is not None
                return self.understood(statement.meaning.replace("$1", (value or b"null").decode()), statement.types)
            case Run(statement):
                assert statement.meaning is not None
                self.events.append(statement.meaning)
                return self.answer(statement.meaning)
            case Failed(error):
                self.events.append("failed")
                return PgError(error.sqlstate, error.text, "detail", "hint")
            case Ended():
                self.events.append("ended")
                return None
            case FunctionCall():
                return PgError("0A000", "no functions")
        raise AssertionError(event)

    def understood(self, sql: str, types: tuple[int, ...]) -> Reply[str]:
        word = sql.split(" ")[0]
        if word not in ("", "rows", "begin", "commit", "set", "say", "late"):
            return PgError("42601", f"what is {word}?")
        columns = {"rows": NUMBERS, "say": (Column("word"), Column("n", INT4))}.get(word)
        return Statement(sql or None, columns if "$1" not in sql else None, types)

    def answer(self, sql: str) -> Reply[str]:
        word, *rest = sql.split(" ")
        match word:
            case "rows":
                return Answer("SELECT", [[number] for number in range(int(rest[0]))])
            case "say":
                return Answer("SHOW", [[rest[0], 1]])
            case "set":
                return Answer("SET", reports=[(rest[0], rest[1])])
            case "late":
                return PgError("22000", "too late")
        return Answer(word.upper(), status="T" if word == "begin" else "I")


def kinds(data: bytes) -> str:
    """The types of some messages."""
    return "".join(kind for kind, _ in split(data))


def errors(data: bytes) -> list[tuple[str, str]]:
    """SQLSTATE and message of each error."""
    found = []
    for kind, body in split(data):
        if kind == "E":
            fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
            assert (fields[b"S"], fields[b"D"], fields[b"H"]) == ("ERROR", "detail", "hint")
            found.append((fields[b"C"], fields[b"M"]))
    return found


def tags(data: bytes) -> list[bytes]:
    """The tags of statements that are complete."""
    return [body[:-1] for kind, body in split(data) if kind == "C"]


def formatted(*formats: int, statement: str = "", given: Iterable[int] = (), values: Iterable[bytes] = ()) -> bytes:
    """A Bind with result formats, and of parameters formats and values."""
    given, values = list(given), list(values)
    body = b"\0" + statement.encode() + b"\0" + struct.pack(f"!h{len(given)}h", len(given), *given)
    body += struct.pack("!h", len(values)) + b"".join(struct.pack("!i", len(one)) + one for one in values)
    return message("B", body + struct.pack(f"!h{len(formats)}h", len(formats), *formats))


PIECES = [
    query("rows 2"),
    query("rows 1; say hello; set a b"),
    query("begin; rows 0"),
    query("commit"),
    query(""),
    query(" ; "),
    query("nonsense"),
    query("rows 1; late; rows 1"),
    parse("s", "rows 3") + describe("s") + bind("s", portal="p") + describe("p", "P"),
    bind("s") + execute(rows=2) + execute(rows=2) + SYNC,
    execute("p") + execute("p") + FLUSH,
    parse("", "say $1") + describe("") + bind("", b"it") + describe("", "P") + execute() + SYNC,
    parse("", "set a b") + bind("") + execute() + execute() + SYNC,
    parse("", "") + bind("") + describe("", "P") + execute() + execute(),
    parse("", "nonsense"),
    close("s") + close("p", "P") + close("none"),
    execute("none"),
    bind("none"),
    formatted(1) + execute(),
    call(1),
    copy_data(b"x"),
    SYNC,
]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.data())
def test_the_same_however_it_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces) + TERMINATE
    whole, cut = User(), User()
    expected = whole.say(stream)
    marks = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    got = b"".join(cut.say(stream[a:b]) for a, b in zip([0, *marks], [*marks, len(stream)], strict=True))
    assert (got, cut.events) == (expected, whole.events)
    assert cut.left


def test_every_message_cut_at_every_byte() -> None:
    stream = b"".join(PIECES) + TERMINATE
    whole, cut = User(), User()
    expected = whole.say(stream)
    assert b"".join(cut.say(stream[at : at + 1]) for at in range(len(stream))) == expected
    assert cut.events == whole.events
    for piece in PIECES:
        for at in range(len(piece)):
            one = User()
            two = User()
            assert one.say(piece[:at]) + one.say(piece[at:]) == two.say(piece)


# Simple queries.


def test_each_statement_of_a_simple_query_is_answered_and_the_transaction_ends_once() -> None:
    user = User()
    said = user.say(query("rows 2; say hello; set a b; ;"))
    assert kinds(said) == "TDDCTDCCSZ"
    assert tags(said) == [b"SELECT 2", b"SHOW", b"SET"]
    assert user.events == ["rows 2", "say hello", "set a b", "ended"]


def test_an_error_ends_a_simple_query() -> None:
    user = User()
    said = user.say(query("rows 1; nonsense; rows 1"), query("late"), query("rows 0"))
    assert kinds(said) == "TDCEZEZTCZ"
    assert errors(said) == [("42601", "what is nonsense?"), ("22000", "too late")]
    assert user.events == ["rows 1", "failed", "late", "failed", "rows 0", "ended"]


@pytest.mark.parametrize("sql", ["", ";", " ; ; "])
def test_the_empty_query(sql: str) -> None:
    assert kinds(User().say(query(sql))) == "IZ"


def test_the_status_of_a_transaction_is_told() -> None:
    user = User()
    said = user.say(query("begin"), SYNC, query("nonsense"), query("commit"), SYNC)
    assert [body for kind, body in split(said) if kind == "Z"] == [b"T", b"T", b"T", b"I", b"I"]
    assert user.events == ["begin", "failed", "commit", "ended", "ended"]


def test_a_simple_query_ends_what_is_unnamed() -> None:
    user = User()
    user.say(parse("", "rows 1"), parse("s", "rows 1"), bind("s"), bind("s", portal="p"), query("begin"))
    assert kinds(user.say(execute("p"), bind(""), SYNC)) == "DCEZ"
    user.say(bind("s"), query("begin"))
    assert errors(user.say(execute(), SYNC)) == [("34000", 'portal "" does not exist')]


# Statements and portals.


def test_an_extended_query_step_by_step() -> None:
    user = User()
    steps = [parse("s", "rows 2"), describe("s"), bind("s"), describe("", "P"), execute(), SYNC]
    assert [kinds(user.say(step)) for step in steps] == ["1", "tT", "2", "T", "DDC", "Z"]
    assert user.events == ["rows 2", "ended"]


def test_rows_come_in_portions_and_only_once() -> None:
    user = User()
    said = user.say(parse("", "rows 5"), bind(""), *[execute(rows=2)] * 2, execute(rows=1), *[execute()] * 2, SYNC)
    assert kinds(said) == "12DDsDDsDsCCZ"
    assert tags(said) == [b"SELECT 0"] * 2
    assert user.events.count("rows 5") == 1
    said = user.say(parse("", "rows 5"), bind(""), execute(rows=4), execute(rows=4), SYNC)
    assert (kinds(said), tags(said)) == ("12DDDDsDCZ", [b"SELECT 1"])


def test_what_gives_no_rows_runs_once() -> None:
    user = User()
    said = user.say(parse("", "set a b"), bind(""), execute(rows=1), execute(), SYNC)
    assert (kinds(said), errors(said)) == ("12CSEZ", [("55000", 'portal "" cannot be run')])
    assert user.events == ["set a b", "failed", "ended"]


def test_values_take_the_place_of_parameters() -> None:
    user = User()
    said = user.say(parse("s", "rows $1"), describe("s"), bind("s", b"2"), describe("", "P"), execute(), SYNC)
    assert kinds(said) == "1tn2TDDCZ"
    assert [body for kind, body in split(said) if kind == "t"] == [struct.pack("!hi", 1, TEXT)]
    assert errors(user.say(bind("s", b"2", b"3"), SYNC)) == [
        ("08P01", 'bind message supplies 2 parameters, but prepared statement "s" requires 1')
    ]
    assert errors(user.say(formatted(statement="s", given=(0, 0), values=[b"1"]), SYNC)) == [
        ("08P01", "bind message has 2 parameter formats but 1 parameters")
    ]
    assert errors(user.say(formatted(statement="s", given=(2,), values=[b"1"]), SYNC)) == [
        ("22023", "unsupported format code: 2")
    ]


def test_formats_of_results() -> None:
    user = User()
    user.say(parse("s", "say it"))
    for formats, sent in (((), b"1"), ((1,), b"\0\0\0\1"), ((0, 1), b"\0\0\0\1"), ((1, 0), b"1")):
        ((_, row),) = [one for one in split(user.say(formatted(*formats, statement="s"), execute())) if one[0] == "D"]
        assert row == b"\0\2\0\0\0\2it" + struct.pack("!i", len(sent)) + sent
    assert errors(user.say(formatted(0, 0, 0, statement="s"), SYNC)) == [
        ("08P01", "bind message has 3 result formats but query has 2 columns")
    ]
    assert errors(user.say(formatted(-1, statement="s"), SYNC)) == [("22023", "unsupported format code: -1")]
    # PostgreSQL does not look at the formats of what has no columns.
    assert kinds(user.say(parse("", "set a b"), formatted(7, 7), execute(), SYNC)) == "12CSZ"


def test_names_are_taken_given_up_and_cut() -> None:
    user = User()
    long = "n" * 70
    assert (
        kinds(user.say(parse("s", "rows 1"), parse("", "rows 1"), parse("", "rows 2"), parse(long, "rows 3"))) == "1111"
    )
    assert errors(user.say(parse("s", "rows 1"), SYNC)) == [("42P05", 'prepared statement "s" already exists')]
    assert errors(user.say(parse(long[:63], "rows 1"), SYNC))[0][0] == "42P05"
    assert kinds(user.say(bind("s"), bind("s"), bind("s", portal="p"))) == "222"
    assert errors(user.say(bind("s", portal="p"), SYNC)) == [("42P03", 'cursor "p" already exists')]
    assert kinds(user.say(close("s"), close("s"), close("p", "P"), SYNC)) == "333Z"
    assert errors(user.say(bind("s"), SYNC)) == [("26000", 'prepared statement "s" does not exist')]
    user.say(close(""))
    assert errors(user.say(bind(""), SYNC)) == [("26000", "unnamed prepared statement does not exist")]
    assert errors(user.say(execute("p"), SYNC)) == [("34000", 'portal "p" does not exist')]
    assert errors(user.say(describe("s"), SYNC, describe("p", "P"), SYNC)) == [
        ("26000", 'prepared statement "s" does not exist'),
        ("34000", 'portal "p" does not exist'),
    ]


def test_a_parse_that_fails_takes_the_unnamed_statement_away() -> None:
    assert kinds(User().say(parse("", "rows 1"), parse("", "nonsense"), SYNC, bind(""), SYNC)) == "1EZEZ"


def test_portals_end_with_their_transaction() -> None:
    user = User()
    user.say(parse("s", "rows 2"), bind("s", portal="p"), execute("p", 1))
    assert kinds(user.say(SYNC, execute("p"), SYNC)) == "ZEZ"
    user.say(query("begin"), bind("s", portal="p"))
    assert kinds(user.say(SYNC, execute("p", 1), SYNC)) == "ZDsZ"
    assert kinds(user.say(parse("", "nonsense"), SYNC, execute("p"), SYNC)) == "EZEZ"
    user.say(bind("s", portal="p"), query("commit"))
    assert errors(user.say(execute("p"), SYNC)) == [("34000", 'portal "p" does not exist')]


# Errors.


@pytest.mark.parametrize("skipped", [piece for piece in PIECES if SYNC not in piece])
def test_an_error_skips_everything_up_to_sync(skipped: bytes) -> None:
    user = User()
    assert kinds(user.say(parse("", "nonsense"))) == "E"
    assert user.say(skipped) == b""
    assert user.events == ["failed"]
    assert kinds(user.say(SYNC, query("rows 0"))) == "ZTCZ"


def test_a_function_call_is_refused_and_copy_data_passed_over() -> None:
    said = User().say(call(1), copy_data(b"x"), message("c"), message("f", b"why\0"), query("rows 0"))
    assert (kinds(said), errors(said)) == ("EZTCZ", [("0A000", "no functions")])


def test_text_that_is_no_utf_8_is_an_error_and_no_end() -> None:
    said = User().say(message("Q", b"\xff\0"), message("P", b"\0\xe4\0\0\0"), SYNC, query("rows 0"))
    assert kinds(said) == "EZEZTCZ"
    assert {sqlstate for sqlstate, _ in errors(said)} == {"22021"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"y\0\0\0\4", "invalid frontend message type 121"),
        (message("p", b"x\0"), "invalid frontend message type 112"),
        (message("Q", b"rows 1"), "invalid string in message"),
        (message("Q", b"rows 1\0x"), "invalid message format"),
        (message("P", b"\0\0\0"), "insufficient data left in message"),
        (message("B", b"\0\0\x7f\xff"), "insufficient data left in message"),
        (message("B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"), "insufficient data left in message"),
        (message("D", b"X\0"), "invalid message subtype 88"),
        (message("E", b"\0\0\0\0"), "insufficient data left in message"),
        *[
            (b"Q" + struct.pack("!I", size), f"invalid message length {size}: at most {LONGEST} bytes are taken here")
            for size in (0, 3, LONGEST + 1, 1 << 31, (1 << 32) - 1)
        ],
    ],
)
def test_what_breaks_the_protocol_ends_it(said: bytes, why: str) -> None:
    user = User()
    assert kinds(user.say(query("rows 0"))) == "TCZ"
    with pytest.raises(ProtocolViolation) as broken:
        user.say(said + query("rows 0"))
    assert broken.value.text == why
    assert user.responder.next() is None


@pytest.mark.parametrize("kind", "py")
def test_an_unknown_message_ends_it_also_where_messages_are_skipped(kind: str) -> None:
    user = User()
    user.say(parse("", "nonsense"))
    with pytest.raises(ProtocolViolation):
        user.say(message(kind))


@given(st.lists(st.tuples(st.sampled_from("QPBDECSHFdcfXp\0"), st.binary(max_size=40)), max_size=20))
def test_whatever_comes_there_is_an_answer_or_an_end(said: list[tuple[str, bytes]]) -> None:
    user = User()
    try:
        for kind, body in said:
            for reply, _ in split(user.say(message(kind, body))):
                assert reply in "TDCZEI123nstS"
    except ProtocolViolation:
        pass


@given(st.binary(max_size=300))
def test_bytes_without_sense(data: bytes) -> None:
    try:
        User().say(data)
    except ProtocolViolation:
        pass


# Bounds.


def test_so_many_statements_and_portals_are_kept() -> None:
    user = User()
    for number in range(STATEMENTS):
        assert kinds(user.say(parse(f"s{number}", "rows 1"))) == "1"
    assert errors(user.say(parse("more", "rows 1"), SYNC)) == [
        ("53400", f"too many prepared statements (at most {STATEMENTS} here)")
    ]
    for number in range(PORTALS):
        assert kinds(user.say(bind("s0", portal=f"p{number}"))) == "2"
    assert errors(user.say(bind("s0"), SYNC)) == [("53400", f"too many portals (at most {PORTALS} here)")]
    assert kinds(user.say(close("s1"), parse("more", "rows 1"), SYNC)) == "31Z"
    assert kinds(user.say(*[bind("s0")] * 2 * PORTALS, SYNC)) == "2" * 2 * PORTALS + "Z"


def test_one_message_is_dealt_with_at_a_time() -> None:
    user = User()
    user.responder.feed(query("") * 100)
    for number in range(100):
        assert isinstance(user.responder.next(), Ended)
        assert user.responder.made == 5 + 11 * number
        assert isinstance(user.responder.reply(None), Answered)
    assert not user.responder.idle
    assert user.responder.next() is None
    assert user.responder.idle


def test_nothing_is_read_while_an_event_waits() -> None:
    responder = User().responder
    responder.feed(query("rows 1") * 2)
    assert isinstance(responder.next(), Prepare)
    with pytest.raises(AssertionError):
        responder.next()


def test_a_flood_costs_in_proportion_however_it_is_cut() -> None:
    def whole(size: int) -> object:
        user = User()
        return lambda: user.say((parse("", "rows 1") + bind("") + execute() + query("rows 2") + SYNC) * size)

    def cut(size: int) -> object:
        user = User()
        data = parse("", "rows 1") * size
        return lambda: [user.say(data[at : at + 1]) for at in range(len(data))]

    assert_linear(whole, 50)
    assert_linear(cut, 20)
