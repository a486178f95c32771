"""Prepared statements are shared, follow their client from server to server, and fail as PostgreSQL's do."""

import gc

import pytest

from parity.builds import Build
from parity.frontend import FLUSH, SYNC, bind, close, describe, execute, message, parse, query, rest_of

from .dialogue import BOUND, CLOSED, NO_DATA, PARSED, Talk, done, error, ready, shared

PREFIX = "_pglido_"


def name(build: Build, sql: str) -> str:
    """What the statement is called on servers."""
    return shared(build, rest_of(sql)).decode()


def prepare(talk: Talk, sql: str = "select 1", as_name: str = "s") -> str:
    """The client has prepared `sql` on `talk.server`; returns its name there."""
    known = name(talk.build, sql)
    talk.next = talk.server
    talk.client >> parse(as_name, sql) + SYNC
    talk.server << parse(known, sql) + SYNC
    talk.server >> PARSED + ready()
    talk.client << PARSED + ready()
    return known


def anew(known: str, sql: str = "select 1") -> bytes:
    """What a server is sent that has the statement, where a client parses the text itself."""
    return close(known) + parse(known, sql)


def test_a_statement_is_named_by_its_content(build: Build) -> None:
    assert name(build, "select 1") == name(build, "select 1")
    assert name(build, "select 1") != name(build, "select 2")
    assert name(build, "select 1").startswith(PREFIX)
    assert len(name(build, "select 1")) < 64


def test_equal_text_with_other_types_is_another_statement(build: Build) -> None:
    typed = b"select $1\0\0\1\0\0\0\x17"
    assert shared(build, rest_of("select $1")) != shared(build, typed)


def test_a_statement_goes_under_its_shared_name(talk: Talk) -> None:
    known = name(talk.build, "select 1")
    talk.client >> parse("s", "select 1") + bind("s") + describe("s") + execute() + SYNC
    talk.server << parse(known, "select 1") + bind(known) + describe(known) + execute() + SYNC
    answer = PARSED + BOUND + message("t", b"\0\0") + NO_DATA + done() + ready()
    talk.server >> answer
    talk.client << answer
    assert talk.client.server is None


def test_another_client_shares_it(talk: Talk) -> None:
    known = prepare(talk)
    other = talk.newcomer()
    talk.next = talk.server
    other >> parse("mine", "select 1") + bind("mine") + execute() + SYNC
    # What the text means to this client only PostgreSQL can tell.
    talk.server << anew(known) + bind(known) + execute() + SYNC
    talk.server >> CLOSED + PARSED + BOUND + done() + ready()
    other << PARSED + BOUND + done() + ready()
    talk.client >> bind("s") + SYNC
    talk.server << bind(known) + SYNC


def test_a_known_statement_is_parsed_without_a_server(talk: Talk) -> None:
    prepare(talk)
    other = talk.newcomer()
    talk.full = True
    other >> parse("mine", "select 1")
    other << PARSED
    assert other.server is None
    other >> SYNC
    other << ready()


def test_an_unknown_statement_is_not(talk: Talk) -> None:
    talk.full = True
    talk.client >> parse("s", "select 1")
    assert talk.client.verdict == 1


def test_a_statement_that_failed_is_not_thought_good(talk: Talk) -> None:
    talk.client >> parse("s", "nonsense") + SYNC
    talk.server << parse(name(talk.build, "nonsense"), "nonsense") + SYNC
    talk.server >> error("42601") + ready()
    talk.client << error("42601") + ready()
    other = talk.newcomer()
    talk.full = True
    other >> parse("mine", "nonsense")
    assert other.verdict == 1
    assert other.server is None


def test_a_statement_follows_its_client_to_another_server(talk: Talk) -> None:
    known = prepare(talk)
    talk.next = talk.other
    talk.client >> bind("s") + execute() + SYNC
    talk.other << parse(known, "select 1") + bind(known) + execute() + SYNC
    talk.other >> PARSED + BOUND + done() + ready()
    talk.client << BOUND + done() + ready()


def test_two_names_of_one_statement(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> parse("t", "select 1") + bind("t") + bind("s") + SYNC
    talk.client << PARSED
    talk.server << anew(known) + bind(known) * 2 + SYNC
    talk.server >> CLOSED + PARSED + BOUND * 2 + ready()
    talk.client << BOUND * 2 + ready()
    talk.client >> close("t")
    talk.client << CLOSED
    talk.client >> bind("s") + SYNC
    talk.server << bind(known) + SYNC


def test_close_is_answered_here_and_the_statement_stays(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> close("s") + SYNC
    talk.client << CLOSED + ready()
    assert talk.client.server is None
    talk.client >> parse("t", "select 1") + bind("t") + SYNC
    talk.server << anew(known) + bind(known) + SYNC
    talk.client << PARSED
    talk.server >> CLOSED + PARSED + BOUND + ready()
    talk.client << BOUND + ready()


def test_closing_what_there_is_not_is_for_the_server_to_answer(talk: Talk) -> None:
    talk.forward(talk.client, close("nothing") + SYNC, CLOSED + ready())


def test_portals_go_through(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> bind("s", portal="p") + describe("p", "P") + execute("p", 1) + close("p", "P") + SYNC
    # Of the statement nobody was told what it is: the server is asked, once.
    asked = bind(known, portal="p") + describe(known) + describe("p", "P")
    talk.server << asked + execute("p", 1) + close("p", "P") + SYNC
    answer = NO_DATA + message("s") + CLOSED + ready()
    talk.server >> BOUND + types() + NO_DATA + answer
    talk.client << BOUND + answer
    assert talk.client.server is None
    talk.client >> bind("s", portal="p") + describe("p", "P") + SYNC
    talk.server << bind(known, portal="p") + describe("p", "P") + SYNC


# What clients were told of a statement.


INT, TEXT = 23, 25


def types(*oids: int) -> bytes:
    """A ParameterDescription."""
    return message("t", len(oids).to_bytes(2, "big") + b"".join([oid.to_bytes(4, "big") for oid in oids]))


def row(*columns: tuple[str, int], table: int = 7) -> bytes:
    """A RowDescription."""
    fields = [
        b"%b\0%b\0\1%b\0\4\xff\xff\xff\xff\0\0" % (name.encode(), table.to_bytes(4, "big"), oid.to_bytes(4, "big"))
        for name, oid in columns
    ]
    return message("T", len(columns).to_bytes(2, "big") + b"".join(fields))


def typed(known: str, sql: str, *oids: int) -> bytes:
    """A Parse with all types."""
    return message("P", f"{known}\0{sql}\0".encode() + types(*oids)[5:])


def told(talk: Talk, sql: str = "select $1") -> str:
    """The client has prepared `sql` on `talk.server`, and been told of one parameter and column; returns its name."""
    known = prepare(talk, sql)
    talk.client >> describe("s") + SYNC
    talk.server << describe(known) + SYNC
    answer = types(INT) + row(("v", INT)) + ready()
    talk.server >> answer
    talk.client << answer
    return known


def test_a_described_statement_is_the_same_elsewhere(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> bind("s", b"1") + execute() + SYNC
    # With the types that the client goes by; what it then is decides whether it is used.
    talk.other << typed(known, "select $1", INT) + describe(known) + FLUSH
    for byte in PARSED + types(INT):
        talk.other >> bytes((byte,))
        talk.client << b""
    talk.other >> row(("v", INT), table=8)
    talk.client << b""
    talk.other << bind(known, b"1") + execute() + SYNC
    talk.other >> BOUND + done() + ready()
    talk.client << BOUND + done() + ready()
    # From then on it is known there.
    talk.next = talk.other
    talk.client >> bind("s", b"1") + SYNC
    talk.other << bind(known, b"1") + SYNC


@pytest.mark.parametrize("now", [row(("v", TEXT)), row(("w", INT)), row(("v", INT), ("w", INT)), NO_DATA])
def test_a_statement_that_is_another_elsewhere_is_refused(talk: Talk, now: bytes) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> bind("s", b"1") + execute() + SYNC
    talk.other << typed(known, "select $1", INT) + describe(known) + FLUSH
    talk.other >> PARSED + types(INT) + now
    # PostgreSQL has to fail, so that a transaction fails with it.
    misfit = "_pglido-misfit"
    talk.other << bind(misfit, b"1") + execute() + SYNC
    talk.other >> error("26000", f'prepared statement "{misfit}" does not exist') + ready()
    said = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0"
    talk.client << message("E", said) + ready()
    # Whoever prepares it anew has it as it is now.
    talk.next = talk.other
    talk.client >> close("s") + parse("s", "select $1") + describe("s") + SYNC
    fresh = name(talk.build, "select $1")
    assert fresh != known
    talk.client << CLOSED
    talk.other << parse(fresh, "select $1") + describe(fresh) + SYNC
    talk.other >> PARSED + types(TEXT) + now + ready()
    talk.client << PARSED + types(TEXT) + now + ready()


def test_describing_it_elsewhere_is_refused_too(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> describe("s") + SYNC
    talk.other << typed(known, "select $1", INT) + describe(known) + FLUSH
    talk.other >> PARSED + types(INT) + NO_DATA
    talk.other << describe("_pglido-misfit") + SYNC


def test_a_statement_that_can_not_be_parsed_elsewhere_fails_once(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> bind("s", b"1") + execute() + SYNC
    talk.other << typed(known, "select $1", INT) + describe(known) + FLUSH
    talk.other >> error("42P01")
    talk.other << SYNC
    talk.other >> ready()
    talk.client << error("42P01") + ready()
    assert talk.client.server is None
    talk.next = talk.server
    talk.client >> bind("s", b"1") + SYNC
    talk.server << bind(known, b"1") + SYNC


def test_a_client_that_leaves_meanwhile_leaves_nothing(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> bind("s", b"1") + execute() + SYNC
    talk.other << typed(known, "select $1", INT) + describe(known) + FLUSH
    server = talk.other.session
    server.abandon()
    answer = PARSED + types(INT) + row(("v", TEXT))
    assert talk.build.session.in_memory.from_server(server, answer) == (0, b"")
    assert server.prepared.awaited is None
    assert not server.prepared.describing


def test_who_parses_it_anew_has_it_as_it_is_now(talk: Talk) -> None:
    known = told(talk)
    other = talk.newcomer()
    talk.next = talk.server
    other >> query("begin") + parse("mine", "select $1") + SYNC
    # Nobody knows of a change; PostgreSQL says so.
    talk.server << query("begin") + close(known) + parse(known, "select $1") + describe(known) + SYNC
    talk.server >> done("BEGIN") + ready("T") + CLOSED + PARSED + types(TEXT) + row(("v", TEXT)) + ready("T")
    other << done("BEGIN") + ready("T") + PARSED + ready("T")
    fresh = name(talk.build, "select $1")
    assert fresh != known
    other >> bind("mine", b"x") + SYNC
    talk.server << typed(fresh, "select $1", TEXT) + describe(fresh) + FLUSH
    talk.server >> PARSED + types(TEXT) + row(("v", TEXT))
    talk.server << bind(fresh, b"x") + SYNC
    talk.server >> BOUND + ready("T")
    other << BOUND + ready("T")
    other >> query("commit")
    talk.server << query("commit")
    talk.server >> done("COMMIT") + ready()
    other << done("COMMIT") + ready()
    # Who was told otherwise finds another here.
    talk.next = talk.server
    talk.client >> bind("s", b"1") + SYNC
    talk.server << close(known) + typed(known, "select $1", INT) + describe(known) + FLUSH


def test_a_parse_that_is_made_up_for_in_vain_is_made_up_for_again(talk: Talk) -> None:
    known = told(talk)
    other = talk.newcomer()
    other >> parse("s", "select $1") + SYNC
    other << PARSED + ready()
    for _ in range(2):
        talk.next = talk.other
        other >> bind("nothing") + bind("s", b"x") + SYNC
        # What it means now is for PostgreSQL to tell, not what it meant to others.
        talk.other << bind("nothing") + parse(known, "select $1") + describe(known) + bind(known, b"x") + SYNC
        talk.other >> error("26000") + ready()
        other << error("26000") + ready()
        assert other.session.unparsed == {b"s"}
    talk.next = talk.other
    other >> bind("s", b"x") + SYNC
    talk.other << parse(known, "select $1") + describe(known) + bind(known, b"x") + SYNC
    talk.other >> PARSED + types(INT) + NO_DATA + BOUND + ready()
    other << BOUND + ready()
    assert not other.session.unparsed


def test_a_malformed_description_is_no_postgresql(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> describe("s") + SYNC
    talk.server << describe(known) + SYNC
    talk.server >> types(INT) + message("T", b"\0\2v\0")
    assert talk.server.session.fault == "server sent a malformed RowDescription"
    talk.client << types(INT) + message("T", b"\0\2v\0")


def test_what_was_parsed_before_anybody_was_told_is_asked_what_it_is(talk: Talk) -> None:
    known = prepare(talk, "select $1")
    other = talk.newcomer()
    talk.next = talk.other
    other >> parse("mine", "select $1") + describe("mine") + SYNC
    other << PARSED
    talk.other << parse(known, "select $1") + describe(known) + SYNC
    talk.other >> PARSED + types(TEXT) + NO_DATA + ready()
    other << types(TEXT) + NO_DATA + ready()
    talk.next = talk.server
    other >> bind("mine", b"x") + SYNC
    talk.server << close(known) + typed(known, "select $1", TEXT) + describe(known) + FLUSH
    talk.server >> CLOSED + PARSED + types(TEXT) + NO_DATA
    talk.server << bind(known, b"x") + SYNC
    talk.server >> BOUND + ready()
    other << BOUND + ready()


def test_a_client_s_other_names_mean_what_they_meant(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.server
    talk.client >> query("begin") + parse("t", "select $1") + SYNC
    talk.server << query("begin") + close(known) + parse(known, "select $1") + describe(known) + SYNC
    talk.server >> done("BEGIN") + ready("T") + CLOSED + PARSED + types(TEXT) + NO_DATA + ready("T")
    talk.client << done("BEGIN") + ready("T") + PARSED + ready("T")
    talk.client >> bind("s", b"1") + SYNC
    talk.server << close(known) + typed(known, "select $1", INT) + describe(known) + FLUSH
    talk.server >> CLOSED + PARSED + types(INT) + row(("v", INT))
    talk.server << bind(known, b"1") + SYNC
    talk.server >> BOUND + ready("T")
    talk.client << BOUND + ready("T")


def test_an_error_before_it_leaves_the_answer_awaited(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> bind("nothing") + SYNC + bind("s", b"1") + SYNC
    talk.other << bind("nothing") + SYNC + typed(known, "select $1", INT) + describe(known) + FLUSH
    talk.other >> error("26000") + ready()
    talk.client << error("26000") + ready()
    talk.other << b""
    talk.other >> PARSED + types(INT) + row(("v", INT))
    talk.other << bind(known, b"1") + SYNC
    talk.other >> BOUND + ready()
    talk.client << BOUND + ready()


@pytest.mark.parametrize("sql", ["fetch all from c", " EXECUTE x", "call p()"])
def test_what_lasts_no_longer_than_its_cursor_is_not_compared(talk: Talk, sql: str) -> None:
    known = prepare(talk, sql)
    # It may have been parsed for another client's cursor since.
    talk.client >> describe("s") + SYNC
    talk.server << anew(known, sql) + describe(known) + SYNC
    talk.server >> CLOSED + PARSED + types(INT) + row(("v", INT)) + ready()
    talk.client << types(INT) + row(("v", INT)) + ready()
    talk.next = talk.other
    talk.client >> bind("s", b"1") + SYNC
    talk.other << parse(known, sql) + bind(known, b"1") + SYNC


def test_after_all_was_deallocated_it_is_asked_once_more_only(talk: Talk) -> None:
    known = told(talk)
    talk.next = talk.other
    talk.client >> bind("s", b"1") + SYNC
    talk.other << typed(known, "select $1", INT) + describe(known) + FLUSH
    talk.other >> PARSED + types(INT) + NO_DATA
    talk.other << bind("_pglido-misfit", b"1") + SYNC
    talk.other >> error("26000", 'prepared statement "_pglido-misfit" does not exist') + ready()
    talk.client.got.clear()
    talk.next = talk.other
    talk.client >> query("deallocate all")
    talk.other << query("deallocate all")
    talk.other >> done("DEALLOCATE ALL") + ready()
    talk.client << done("DEALLOCATE ALL") + ready()
    assert not talk.other.session.prepared.unchecked
    assert not talk.other.session.prepared.known


def test_what_is_parsed_later_is_forgotten_with_its_name(talk: Talk) -> None:
    prepare(talk)
    other = talk.newcomer()
    talk.full = True
    for number in range(100):
        other >> parse(f"n{number}", "select 1")
        other << PARSED
        if number % 2:
            other >> close(f"n{number}")
            other << CLOSED
    assert other.session.unparsed == other.session.statements.keys()
    assert len(other.session.unparsed) == 50


@pytest.mark.parametrize("tag", ["ALTER TABLE", "CREATE TABLE", "DROP TABLE"])
def test_a_change_is_noticed_however_it_is_cut(talk: Talk, tag: str) -> None:
    known = prepare(talk)
    talk.next = talk.server
    talk.client >> query("change")
    talk.server << query("change")
    for byte in done(tag) + ready():
        talk.server >> bytes((byte,))
    talk.client << done(tag) + ready()
    assert name(talk.build, "select 1") != known


# The order of answers.


def test_what_is_parsed_anew_comes_in_its_place(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> bind("s") + execute() + parse("t", "select 1") + bind("t") + execute() + SYNC
    talk.server << bind(known) + execute() + anew(known) + bind(known) + execute() + SYNC
    talk.server >> BOUND + done() + CLOSED + PARSED + BOUND + done() + ready()
    talk.client << BOUND + done() + PARSED + BOUND + done() + ready()


def test_parse_after_an_unanswered_batch_is_left_to_postgresql(talk: Talk) -> None:
    """That batch may fail in a transaction, and then this Parse fails too."""
    known = prepare(talk)
    talk.client >> query("slow") + parse("t", "select 1") + SYNC
    talk.server << query("slow") + close(known) + parse(known, "select 1") + SYNC
    talk.server >> error("22012") + ready("E") + CLOSED + error("25P02") + ready("E")
    talk.client << error("22012") + ready("E") + error("25P02") + ready("E")


@pytest.mark.parametrize("size", range(1, 12))
def test_answers_come_in_their_places_however_the_server_is_cut(talk: Talk, size: int) -> None:
    known = prepare(talk)
    talk.client >> bind("s") + execute() + parse("t", "select 1") + bind("t") + close("s") + close("t") + SYNC
    talk.server << bind(known) + execute() + anew(known) + bind(known) + close("s") + close("t") + SYNC
    answer = BOUND + done("X") + CLOSED + PARSED + BOUND + CLOSED * 2 + ready()
    for at in range(0, len(answer), size):
        talk.server >> answer[at : at + size]
    assert talk.server.result == 0, talk.server.session.fault
    talk.client << BOUND + done("X") + PARSED + BOUND + CLOSED * 2 + ready()
    assert talk.client.server is None


def test_a_swallowed_parse_is_not_seen_however_it_is_cut(talk: Talk) -> None:
    known = prepare(talk)
    talk.next = talk.other
    talk.client >> bind("s") + SYNC
    talk.other << parse(known, "select 1") + bind(known) + SYNC
    for byte in PARSED + BOUND + ready():
        talk.other >> bytes((byte,))
    talk.client << BOUND + ready()


# Errors.


def test_a_name_in_use_is_refused_by_postgresql_itself(talk: Talk) -> None:
    prepare(talk)
    talk.client >> parse("s", "select 2") + SYNC
    # An empty statement takes the name, so that the server has the words for it.
    talk.server << close("s") + parse("s", "") + parse("s", "select 2") + SYNC
    refusal = error("42P05", 'prepared statement "s" already exists')
    talk.server >> CLOSED + PARSED + refusal + ready()
    talk.client << refusal + ready()
    # What took the name goes before anything else is said.
    known = name(talk.build, "select 1")
    talk.client >> bind("s") + SYNC
    talk.server << close("s") + SYNC + bind(known) + SYNC
    talk.server >> CLOSED + ready() + BOUND + ready()
    talk.client << BOUND + ready()


def test_two_names_in_use_are_both_given_back(talk: Talk) -> None:
    prepare(talk)
    prepare(talk, "select 2", "t")
    talk.client >> parse("s", "x") + SYNC + parse("t", "x") + SYNC
    talk.server << (
        close("s") + parse("s", "") + parse("s", "x") + SYNC + close("t") + parse("t", "") + parse("t", "x") + SYNC
    )
    refusal = error("42P05")
    talk.server >> (CLOSED + PARSED + refusal + ready()) * 2
    talk.client << (refusal + ready()) * 2
    talk.forward_after(talk.client, close("s") + close("t") + SYNC, query("select 1"), CLOSED * 2 + ready(), ready())


def test_an_unknown_name_is_refused_by_postgresql_itself(talk: Talk) -> None:
    talk.client >> bind("nothing") + describe("nothing") + SYNC
    talk.server << bind("nothing") + describe("nothing") + SYNC
    refusal = error("26000", 'prepared statement "nothing" does not exist')
    talk.server >> refusal + ready()
    talk.client << refusal + ready()
    assert talk.client.server is None


def test_an_error_speaks_of_the_clients_name(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> bind("s") + SYNC
    talk.server << bind(known) + SYNC
    talk.server >> error("08P01", f'bind message supplies 0 parameters, but prepared statement "{known}" requires 1')
    talk.client << error("08P01", 'bind message supplies 0 parameters, but prepared statement "s" requires 1')
    talk.server >> ready()
    talk.client << ready()


def test_a_name_whose_parse_failed_can_be_taken_anew(talk: Talk) -> None:
    talk.client >> parse("s", "nonsense") + SYNC
    talk.server << parse(name(talk.build, "nonsense"), "nonsense") + SYNC
    talk.server >> error("42601") + ready()
    talk.client << error("42601") + ready()
    prepare(talk, "select 1", "s")


def test_what_an_error_skipped_did_not_happen(talk: Talk) -> None:
    known = prepare(talk)
    # The server discards all of this after the error, so Close and Parse did nothing.
    talk.client >> bind("nothing") + close("s") + parse("t", "select 2") + parse("u", "select 1") + SYNC
    second = parse(name(talk.build, "select 2"), "select 2")
    talk.server << bind("nothing") + close("s") + second + anew(known) + SYNC
    talk.server >> error("26000") + ready()
    talk.client << error("26000") + ready()
    assert talk.client.session.statements.keys() == {b"s"}
    talk.client >> bind("s") + SYNC
    talk.server << bind(known) + SYNC
    talk.server >> BOUND + ready()
    talk.client << BOUND + ready()
    talk.client >> bind("u") + SYNC
    talk.server << bind("u") + SYNC


def test_what_came_before_an_error_did_happen(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> close("s") + parse("t", "select 1") + bind("nothing") + SYNC
    talk.client << CLOSED + PARSED
    talk.server << bind("nothing") + SYNC
    talk.server >> error("26000") + ready()
    talk.client << error("26000") + ready()
    talk.client >> bind("t") + SYNC
    talk.server << anew(known) + bind(known) + SYNC


def test_the_meaning_of_a_name_waits_for_the_answer_it_depends_on(talk: Talk) -> None:
    nonsense = name(talk.build, "nonsense")
    talk.client >> parse("s", "nonsense") + SYNC + parse("s", "select 1") + SYNC
    talk.server << parse(nonsense, "nonsense") + SYNC
    assert talk.client.verdict == 4
    talk.server >> error("42601") + ready()
    talk.client << error("42601") + ready()
    talk.server << parse(name(talk.build, "select 1"), "select 1") + SYNC


# Memory.


def test_what_is_used_least_makes_room(build: Build) -> None:
    talk = Talk(build, max_statements=2)
    one, two = prepare(talk, "select 1", "one"), prepare(talk, "select 2", "two")
    talk.client >> bind("one") + SYNC
    talk.server << bind(one) + SYNC
    talk.server >> BOUND + ready()
    talk.client << BOUND + ready()
    three = name(build, "select 3")
    talk.client >> parse("three", "select 3") + SYNC
    talk.server << close(two) + parse(three, "select 3") + SYNC
    talk.server >> CLOSED + PARSED + ready()
    talk.client << PARSED + ready()
    talk.client >> bind("two") + SYNC
    talk.server << close(one) + parse(two, "select 2") + bind(two) + SYNC
    talk.server >> CLOSED + PARSED + BOUND + ready()
    talk.client << BOUND + ready()
    assert len(talk.server.session.prepared.known) == 2
    talk.nothing_left()


def test_a_long_pipeline_of_statements_stays_within_the_limit(build: Build) -> None:
    talk = Talk(build, max_statements=3)
    talk.client >> b"".join(parse(f"s{i}", f"select {i}") for i in range(50)) + SYNC
    assert len(talk.server.session.prepared.known) == 3
    talk.server.got.clear()


def test_a_statement_of_nobody_is_forgotten(build: Build) -> None:
    talk = Talk(build)
    # What other tests have left is not to be forgotten meanwhile.
    gc.collect()
    before = build.session.state.statement_cache.count()
    prepare(talk, "select 'short lived'", "s")
    assert build.session.state.statement_cache.count() == before + 1
    talk.next = talk.server
    talk.client >> query("deallocate all")
    talk.server << query("deallocate all")
    talk.server >> done("DEALLOCATE ALL") + ready()
    talk.client << done("DEALLOCATE ALL") + ready()
    # Its names are known till the turn is over.
    talk.next = talk.server
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> done() + ready()
    talk.client << done() + ready()
    talk.good.clear()
    assert build.session.state.statement_cache.count() <= before


def test_good_statements_are_forgotten_when_unused(build: Build) -> None:
    statements = build.session.state.statement_cache
    good = statements.AcceptedStatements(4)
    made = [statements.intern(b"%d" % i, ()) for i in range(5)]
    for one in made:
        good.add(one)
    assert [one in good for one in made] == [False, False, True, True, True]


# Names and sizes.


def test_names_are_told_apart_as_postgresql_does(talk: Talk) -> None:
    known = prepare(talk, "select 1", "x" * 100)
    talk.client >> bind("x" * 99) + SYNC
    talk.server << bind(known) + SYNC


def test_a_large_bind_is_passed_on_as_it_comes(talk: Talk) -> None:
    known = prepare(talk)
    said = bind("s", bytes(100_000))
    talk.client >> said[:40_000]
    wanted = bind(known, bytes(100_000))
    shift = len(wanted) - len(said)
    assert bytes(talk.server.got) == wanted[: 40_000 + shift]
    talk.client >> said[40_000:] + SYNC
    talk.server << wanted + SYNC
    assert talk.client.session.reserved == 0


@pytest.mark.parametrize("cut", [5, 6, 100, 1000, 1030, 2000, 20_000])
def test_a_large_bind_is_awaited_till_its_names_are_there(talk: Talk, cut: int) -> None:
    known = prepare(talk)
    portal = "p" * 1500
    said = bind("s", bytes(30_000), portal=portal)
    for at in range(0, len(said), cut):
        talk.client >> said[at : at + cut]
    talk.server << bind(known, bytes(30_000), portal=portal)
    assert talk.client.session.reserved == 0


def test_a_large_parse_is_held_and_paid_for(talk: Talk) -> None:
    said = parse("s", "x" * 50_000)
    talk.client >> said[:20_000]
    assert talk.budget.used == len(said)
    talk.client >> said[20_000:]
    assert talk.client.session.reserved == 0
    talk.server << parse(name(talk.build, "x" * 50_000), "x" * 50_000)


@pytest.mark.parametrize("kind", ["P", "B", "D", "C"])
def test_a_message_without_end_of_name_is_for_the_server_to_judge(talk: Talk, kind: str) -> None:
    talk.client >> query("begin")
    talk.server << query("begin")
    talk.server >> ready("T")
    talk.client << ready("T")
    talk.client >> message(kind, b"Sxxxx")
    talk.server << message(kind, b"Sxxxx")


# The unnamed statement.


def test_the_unnamed_statement_goes_through(talk: Talk) -> None:
    talk.forward(talk.client, parse("", "select 1") + bind("") + SYNC, PARSED + BOUND + ready())


def test_the_unnamed_statement_follows_its_client(talk: Talk) -> None:
    talk.forward(talk.client, parse("", "select 1") + SYNC, PARSED + ready())
    talk.next = talk.other
    talk.client >> bind("") + SYNC
    talk.other << parse("", "select 1") + bind("") + SYNC
    talk.other >> PARSED + BOUND + ready()
    talk.client << BOUND + ready()


def test_nobody_has_the_unnamed_statement_of_another(talk: Talk) -> None:
    talk.forward(talk.client, parse("", "select secret") + SYNC, PARSED + ready())
    other = talk.newcomer()
    talk.next = talk.server
    other >> bind("") + SYNC
    talk.server << close("") + bind("") + SYNC
    talk.server >> CLOSED + error("26000") + ready()
    other << error("26000") + ready()


def test_a_simple_query_ends_the_unnamed_statement(talk: Talk) -> None:
    talk.forward(talk.client, parse("", "select 1") + SYNC, PARSED + ready())
    talk.forward(talk.client, query("select 2"), ready())
    talk.next = talk.other
    talk.forward(talk.client, bind("") + SYNC, error("26000") + ready())


def test_a_failed_parse_ends_the_unnamed_statement(talk: Talk) -> None:
    talk.forward(talk.client, parse("", "select 1") + SYNC, PARSED + ready())
    talk.forward(talk.client, parse("", "nonsense") + SYNC, error("42601") + ready())
    talk.next = talk.other
    talk.forward(talk.client, bind("") + SYNC, error("26000") + ready())


# Everything at once.


@pytest.mark.parametrize("tag", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_after_discarding_everything_names_are_free(talk: Talk, tag: str) -> None:
    known = prepare(talk)
    talk.forward(talk.client, query(tag.lower()), done(tag) + ready())
    assert not talk.client.session.statements
    assert not talk.server.session.prepared.known
    talk.client >> parse("s", "select 1") + SYNC
    # Answered here, for the text is known to be good.
    talk.client << PARSED + ready()
    talk.client >> bind("s") + SYNC
    talk.server << parse(known, "select 1") + bind(known) + SYNC
    talk.server >> PARSED + BOUND + ready()
    talk.client << BOUND + ready()


def test_discarding_everything_leaves_other_clients_their_statements(talk: Talk) -> None:
    known = prepare(talk)
    other = talk.newcomer()
    talk.next = talk.server
    talk.forward(other, query("deallocate all"), done("DEALLOCATE ALL") + ready())
    talk.next = talk.server
    talk.client >> bind("s") + SYNC
    talk.server << parse(known, "select 1") + bind(known) + SYNC


@pytest.mark.parametrize("sql", ["deallocate all", "DISCARD ALL", " deallocate  prepare all"])
def test_a_name_may_be_taken_anew_behind_a_prepared_deallocate_all(talk: Talk, sql: str) -> None:
    known = prepare(talk)
    talk.client >> parse("", sql) + bind("") + execute() + parse("s", "select 1") + bind("s") + SYNC
    # What `s` is after that depends on its answer.
    talk.server << parse("", sql) + bind("") + execute() + FLUSH
    talk.server >> PARSED + BOUND + done("DEALLOCATE ALL")
    talk.client << PARSED + BOUND + done("DEALLOCATE ALL")
    talk.server << parse(known, "select 1") + bind(known) + SYNC
    talk.server >> PARSED + BOUND + ready()
    talk.client << PARSED + BOUND + ready()
    assert talk.client.session.statements.keys() == {b"s"}
    assert len(talk.server.session.prepared.known) == 1


def test_a_name_may_be_taken_anew_behind_a_deallocate_all(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> query("deallocate all") + parse("s", "select 1") + bind("s") + SYNC
    talk.server << query("deallocate all")
    talk.server >> done("DEALLOCATE ALL") + ready()
    talk.client << done("DEALLOCATE ALL") + ready()
    talk.server << parse(known, "select 1") + bind(known) + SYNC
    talk.server >> PARSED + BOUND + ready()
    talk.client << PARSED + BOUND + ready()
    assert talk.client.session.statements.keys() == {b"s"}


def test_statements_are_counted(talk: Talk) -> None:
    prepare(talk)
    talk.next = talk.other
    talk.client >> bind("s") + FLUSH
    talk.other.got.clear()
    counts = talk.counts
    assert (counts.client_parses, counts.server_parses, counts.binds) == (1, 2, 1)


def test_a_name_is_unknown_behind_a_prepared_deallocate_all(talk: Talk) -> None:
    prepare(talk)
    talk.client >> parse("", "deallocate all") + bind("") + execute() + bind("s") + SYNC
    talk.server << parse("", "deallocate all") + bind("") + execute() + FLUSH
    talk.server >> PARSED + BOUND + done("DEALLOCATE ALL")
    talk.server << bind("s") + SYNC
    talk.server >> error("26000") + ready()
    talk.client << PARSED + BOUND + done("DEALLOCATE ALL") + error("26000") + ready()
    assert not talk.server.session.worn


def test_a_deallocate_all_that_was_refused_took_nothing_away(talk: Talk) -> None:
    known = prepare(talk)
    talk.client >> parse("", "discard all") + bind("") + execute() + parse("s", "select 2") + SYNC + bind("s") + SYNC
    talk.server << parse("", "discard all") + bind("") + execute() + FLUSH
    talk.server >> PARSED + BOUND + error("25001")
    talk.server << SYNC
    talk.server >> ready()
    talk.client << PARSED + BOUND + error("25001") + ready()
    talk.server << bind(known) + SYNC


def test_what_is_gone_is_what_the_executed_portal_deallocates(talk: Talk) -> None:
    first = prepare(talk)
    prepare(talk, "select 2", "t")
    talk.rules.inspected = talk.build.session.state.state_query.INSPECTED
    for word, sync in ("s", SYNC), ("t", b""):
        # SQL finds something of that name.
        lent = close(word) + parse(word, "")
        talk.client >> parse("", f"deallocate {word}") + bind("", portal=word)
        talk.server << lent + sync + parse("", f"deallocate {word}") + lent + bind("", portal=word)
        talk.server >> CLOSED + PARSED + (ready() if sync else b"") + PARSED + CLOSED + PARSED + BOUND
    talk.client >> execute("t") + bind("s") + bind("t") + SYNC
    talk.server << execute("t") + FLUSH
    talk.server >> done("DEALLOCATE")
    talk.server << bind(first) + bind("t") + SYNC
    talk.server >> BOUND + error("26000") + ready()
    talk.client << (PARSED + BOUND) * 2 + done("DEALLOCATE") + BOUND + error("26000") + ready()
    assert talk.client.session.statements.keys() == {b"s"}


def test_an_unnamed_close_that_was_skipped_closed_nothing(talk: Talk) -> None:
    talk.client >> parse("", "select 1") + SYNC
    talk.server << parse("", "select 1") + SYNC
    talk.server >> PARSED + ready()
    talk.client << PARSED + ready()
    talk.client >> execute("none") + close("") + SYNC
    talk.server << execute("none") + close("") + SYNC
    talk.server >> error("34000") + ready()
    talk.client << error("34000") + ready()
    talk.client >> describe("") + SYNC
    talk.server << describe("") + SYNC


@pytest.mark.parametrize("between", ["portal", "notice", "notification", "parameter"])
def test_query_in_a_batch_pins_whatever_comes_before_its_sync(talk: Talk, between: str) -> None:
    """PostgreSQL 18 begins a command with none of these, and so has not ended the transaction when it says that."""
    said = {
        "portal": CLOSED,
        "notice": message("N", b"SNOTICE\0M\0\0"),
        "notification": message("A", b"\0\0\0\1a\0\0"),
        "parameter": message("S", b"search_path\0a\0"),
    }
    closing = message("C", b"Pp\0") if between == "portal" else b""
    talk.client >> parse("", "select 1") + bind("") + execute() + query("select 2") + closing + SYNC
    talk.server.got.clear()
    talk.server >> PARSED + BOUND + done()
    talk.server >> done() + ready("T") + said[between] + ready()
    talk.client.got.clear()
    talk.server.got.clear()
    assert talk.server.session.state.why() == "state of the session unknown"


def test_query_in_a_batch_does_not_pin_where_a_command_comes_before_its_sync(talk: Talk) -> None:
    talk.client >> parse("", "select 1") + bind("") + execute() + query("select 2") + parse("", "select 3") + SYNC
    talk.server.got.clear()
    talk.server >> PARSED + BOUND + done()
    talk.server >> done() + ready("T") + PARSED + ready()
    talk.client.got.clear()
    talk.server.got.clear()
    assert talk.server.session.state.pins == 0


def test_what_a_statement_was_described_as_is_kept_in_few_bytes(talk: Talk) -> None:
    """Its text may be as short as SELECT * FROM a table with many columns."""
    statements = talk.build.session.state.statement_cache
    known = prepare(talk, "select * from wide")
    before = talk.budget.shared
    talk.client >> describe("s") + SYNC
    talk.server << describe(known) + SYNC
    answer = types() + row(*[("c" * 60 + str(at), INT) for at in range(1600)]) + ready()
    talk.server >> answer
    talk.client << answer
    (statement,) = talk.client.session.statements.values()
    assert statement.described is not None
    assert talk.budget.shared - before == statement.size() - statements._BARE - len(statement.rest) < 100


def test_good_statements_count_what_they_may_be_described_as(build: Build) -> None:
    statements = build.session.state.statement_cache
    good = statements.AcceptedStatements()
    parameters = ",".join([f"${number}" for number in range(1, 501)])
    made = [statements.intern(rest_of(f"select {at},{parameters}"), ()) for at in range(100)]
    for one in made:
        good.add(one)
        one.tell((bytes(4 * 500), statements.digest(b"columns")))
    assert good._taken.size() > sum(one.size() for one in made)
