"""What is kept for a client is counted, and given back; who would exceed a limit is refused, and nobody else."""

import pytest

from parity.builds import Build
from parity.frontend import SYNC, bind, close, describe, execute, message, parse, query, rest_of, split

from .dialogue import BOUND, CLOSED, NO_DATA, PARSED, ClientEnd, Talk, done, error, ready, shared

# What PostgreSQL is sent in place of a Parse that is refused.
NOT_KEPT = bind("_pglido-no-room-own")


def text(size: int, number: int = 0) -> str:
    """A query of so many bytes."""
    return f"select {number}".ljust(size)


def refusal(reason: str, hint: str) -> bytes:
    """The ErrorResponse of a client for which no more is kept."""
    fields = f"SERROR\0VERROR\0C53200\0Mout of memory: {reason}\0H{hint}\0\0"
    return message("E", fields.encode())


FEWER = "Close prepared statements that are not needed any more, or say values as parameters; or raise that limit."
OF_ITS_OWN = refusal("more than max_client_held_bytes would be kept for this client", FEWER)
OF_ALL = refusal("more than max_held_bytes would be kept for all clients", FEWER)
OF_MEMORY = refusal("the pooler uses more memory than max_memory", "Try again later, or raise that limit.")
NAMED = {OF_ITS_OWN: "own", OF_ALL: "all", OF_MEMORY: "memory"}


def missing(why: bytes) -> bytes:
    """What PostgreSQL says of that."""
    return error("26000", f'prepared statement "_pglido-no-room-{NAMED[why]}" does not exist')


MISSING = missing(OF_ITS_OWN)


def keep(talk: Talk, client: ClientEnd, name: str, sql: str) -> None:
    """The client prepares this."""
    talk.next = talk.server
    client >> parse(name, sql) + SYNC
    talk.server << (parse(shared(talk.build, rest_of(sql)).decode() if name else "", sql) + SYNC)
    talk.server >> PARSED + ready()
    client << PARSED + ready()


def is_refused(talk: Talk, client: ClientEnd, said: bytes, why: bytes) -> None:
    """PostgreSQL refuses in place of what the client said; its session goes on."""
    talk.next = talk.server
    unnamed = said[5] == 0
    client >> said + SYNC
    talk.server << (close("") if unnamed else b"") + bind(f"_pglido-no-room-{NAMED[why]}") + SYNC
    talk.server >> CLOSED * unnamed + missing(why) + ready()
    client << why + ready()
    talk.forward(client, query("select 1"), done() + ready())


def is_at_rest(talk: Talk) -> None:
    """Nothing is kept for anybody once all are gone."""
    for client in talk.clients:
        client.session.unlink()
        client.session.drop()
    for server in talk.servers:
        server.session.drop()
    assert talk.budget.used == 0


@pytest.mark.parametrize("first", [50_000, 6, 5, 3])
def test_an_unnamed_statement_ends_with_a_refused_parse(build: Build, first: int) -> None:
    talk = Talk(build, max_client_held=60_000)
    keep(talk, talk.client, "", "select 1")
    talk.client >> parse("", text(70_000))[:first] >> parse("", text(70_000))[first:55_000]
    talk.server << close("") + NOT_KEPT
    talk.client >> parse("", text(70_000))[55_000:] + SYNC
    talk.server << SYNC
    talk.server >> CLOSED + MISSING + ready()
    talk.client << OF_ITS_OWN + ready()
    talk.forward(talk.client, bind("") + SYNC, error("26000") + ready())


@pytest.mark.parametrize("sql", ["select 1", "set work_mem to 64"])
def test_an_unnamed_statement_is_kept_until_the_next_parse_and_no_longer(talk: Talk, sql: str) -> None:
    talk.rules.inspected = talk.build.session.state.state_query.INSPECTED
    for number in range(70):
        keep(talk, talk.client, "", sql + str(number) + text(10_000))
        assert 10_000 < talk.client.session.held_bytes() == talk.budget.used < 10_500
    assert not talk.client.session.marks
    talk.forward(talk.client, query("select 1"), done() + ready())
    assert talk.client.session.held_bytes() == talk.budget.used == 0


def test_the_server_keeps_no_text_of_an_unnamed_statement(talk: Talk) -> None:
    keep(talk, talk.client, "", text(10_000))
    assert isinstance(talk.server.session.prepared.unnamed, int)


def test_what_a_skipped_parse_replaced_is_kept_until_its_answer_comes(talk: Talk) -> None:
    keep(talk, talk.client, "", text(10_000, 1))
    talk.client >> bind("nowhere") + parse("", text(5_000, 2)) + SYNC
    assert 15_000 < talk.client.session.held_bytes() == talk.budget.used < 15_500
    talk.server << bind("nowhere") + parse("", text(5_000, 2)) + SYNC
    talk.server >> error("26000") + ready()
    talk.client << error("26000") + ready()
    assert 10_000 < talk.client.session.held_bytes() == talk.budget.used < 10_100
    talk.forward(talk.client, bind("") + SYNC, BOUND + ready())


def test_each_of_many_parses_in_a_pipeline_is_counted(build: Build) -> None:
    talk = Talk(build, max_client_held=100_000)
    for number in range(9):
        talk.client >> parse("", text(10_000, number))
    assert 90_000 < talk.client.session.held_bytes() < 95_000
    talk.server << b"".join([parse("", text(10_000, number)) for number in range(9)])
    talk.client >> parse("", text(10_000, 9)) + bind("") + execute() + SYNC
    talk.server << close("") + NOT_KEPT + bind("") + execute() + SYNC
    talk.server >> PARSED * 9
    talk.client << PARSED * 9
    talk.server >> CLOSED + MISSING + ready()
    talk.client << OF_ITS_OWN + ready()
    assert talk.client.session.held_bytes() == 0
    talk.forward(talk.client, bind("") + SYNC, error("26000") + ready())
    is_at_rest(talk)


def test_owed_describes_are_counted(talk: Talk) -> None:
    keep(talk, talk.client, "s", "select 1")
    before = talk.client.session.held_bytes()
    talk.client >> describe("s") * 1000
    assert talk.client.session.held_bytes() > before + 100_000
    talk.server.got.clear()
    talk.server >> (message("t", b"\0\0") + NO_DATA) * 1000
    talk.client.got.clear()
    assert talk.client.session.held_bytes() == before


def test_a_statement_counts_for_each_of_its_clients_and_once_in_all(talk: Talk) -> None:
    before = talk.budget.total()
    clients = [talk.client, *[talk.newcomer() for _ in range(9)]]
    for client in clients:
        client >> parse("s", text(50_000)) + SYNC
        talk.server.got.clear()
        talk.server >> (CLOSED + PARSED if client is not talk.client else PARSED) + ready()
        client.got.clear()
        assert 50_000 < client.session.held_bytes() < 51_000
    assert 50_000 < talk.budget.total() - before < 55_000


def test_what_only_servers_still_have_counts_for_no_client(talk: Talk) -> None:
    before = talk.budget.total()
    for number in range(5):
        talk.client >> parse("s", text(50_000, number)) + SYNC
        talk.server >> CLOSED * bytes(talk.server.got).startswith(b"C") + PARSED + ready()
        talk.server.got.clear()
        assert 50_000 < talk.client.session.held_bytes() < 51_000
        assert 50_000 < talk.budget.total() - before < 55_000
        talk.client >> close("s") + SYNC
        talk.client << PARSED + ready() + CLOSED + ready()
        assert talk.client.session.held_bytes() == 0
        assert talk.budget.total() == before
    assert len(talk.server.session.prepared.known) == 5


def test_few_large_statements_stay_on_a_server(build: Build) -> None:
    talk = Talk(build, max_held=1 << 30)
    for number in range(8):
        talk.client >> parse(f"s{number}", text(4_000_000, number)) + SYNC
        closed = bytes(talk.server.got).startswith(b"C")
        assert closed == (number >= 4)
        talk.server >> CLOSED * closed + PARSED + ready()
        talk.server.got.clear()
        talk.client << PARSED + ready()
    prepared = talk.server.session.prepared
    assert [one.rest[:8] for one in prepared.known] == [f"select {number}".encode() for number in range(4, 8)]
    assert prepared.size == sum(len(one.rest) for one in prepared.known) <= 16 << 20
    talk.client >> parse("large", text(20_000_000)) + SYNC
    assert len(prepared.known) == 1


def test_settings_count(talk: Talk) -> None:
    client = talk.newcomer({"search_path": "x" * 5000})
    assert 5000 < client.session.held_bytes() < 5500


def test_closing_a_statement_gives_back_what_it_took(talk: Talk) -> None:
    for number in range(5):
        keep(talk, talk.client, f"s{number}", text(1000, number))
    talk.client >> close("s0") + query("deallocate all")
    talk.server << query("deallocate all")
    talk.client << CLOSED
    talk.server >> done("DEALLOCATE ALL") + ready()
    talk.client << done("DEALLOCATE ALL") + ready()
    assert talk.client.session.held_bytes() == 0
    is_at_rest(talk)


@pytest.mark.parametrize("name", ["", "more"])
def test_who_would_exceed_its_limit_is_refused_and_goes_on(build: Build, name: str) -> None:
    talk = Talk(build, max_client_held=60_000)
    other = talk.newcomer()
    keep(talk, talk.client, "s", text(50_000))
    is_refused(talk, talk.client, parse(name, text(12_000, 1)), OF_ITS_OWN)
    keep(talk, other, name, text(12_000, 1))
    talk.client >> close("s") + SYNC
    talk.client << CLOSED + ready()
    keep(talk, talk.client, "another", text(12_000, 2))
    is_at_rest(talk)


def test_a_statement_without_room_is_not_even_held(build: Build) -> None:
    talk = Talk(build, max_client_held=60_000)
    said = parse("s", text(100_000)) + SYNC
    for at in range(0, len(said), 10_000):
        talk.client >> said[at : at + 10_000]
        assert talk.client.session.held_bytes() < 1000
    talk.server << NOT_KEPT + SYNC
    talk.server >> MISSING + ready()
    talk.client << OF_ITS_OWN + ready()


def test_who_has_little_is_not_refused_for_what_all_others_have(build: Build) -> None:
    talk = Talk(build, max_held=60_000)
    other = talk.newcomer()
    keep(talk, talk.client, "", text(55_000))
    keep(talk, other, "s", text(10_000))
    is_refused(talk, other, parse("t", text(10_000, 1)), OF_ALL)
    is_refused(talk, other, parse("", text(10_000, 1)), OF_ALL)
    is_at_rest(talk)


def test_with_memory_short_nobody_prepares_anew_but_all_go_on(talk: Talk) -> None:
    keep(talk, talk.client, "s", text(1000))
    other = talk.newcomer()
    talk.budget.tight = True
    is_refused(talk, talk.client, parse("t", "select 2"), OF_MEMORY)
    is_refused(talk, other, parse("t", text(1000)), OF_MEMORY)
    is_refused(talk, other, parse("", text(20_000)), OF_MEMORY)
    keep(talk, other, "", text(10_000))
    talk.next = talk.server
    talk.client >> bind("s") + execute() + SYNC
    talk.server << bind(shared(talk.build, rest_of(text(1000))).decode()) + execute() + SYNC
    talk.server >> BOUND + done() + ready()
    talk.client << BOUND + done() + ready()
    talk.budget.tight = False
    keep(talk, other, "t", "select 3")


def test_with_memory_short_sql_prepares_nothing_either(talk: Talk) -> None:
    talk.rules.inspected = talk.build.session.state.state_query.INSPECTED
    talk.budget.tight = True
    for said in (query("prepare p as select 1"), query("select 1; prepare p as select 1")):
        talk.client >> said
        talk.server << bind("_pglido-no-room-memory") + SYNC
        talk.server >> missing(OF_MEMORY) + ready()
        talk.client << OF_MEMORY + ready()
    is_refused(talk, talk.client, parse("", "prepare p as select 1"), OF_MEMORY)
    talk.forward(talk.client, query("select 'prepare p'"), done() + ready())
    assert talk.budget.refused == 3
    assert "max_memory" in talk.budget.reason
    is_at_rest(talk)


def test_channels_count_and_who_would_have_too_many_is_refused(build: Build) -> None:
    talk = Talk(build, max_client_held=60_000)
    talk.rules.inspected = build.session.state.state_query.INSPECTED
    session = talk.client.session
    session.put_channels(frozenset([b"c%d" % number for number in range(180)]))
    assert 50_000 < session.held_bytes() == talk.budget.used < 60_000
    more = ";".join([f"listen d{number}" for number in range(20)])
    talk.client >> query(more)
    talk.server << NOT_KEPT + SYNC
    talk.server >> MISSING + ready()
    talk.client << OF_ITS_OWN + ready()
    is_refused(talk, talk.client, parse("", more), OF_ITS_OWN)
    assert talk.budget.refused == 2
    session.put_channels(frozenset())
    assert session.held_bytes() == 0
    is_at_rest(talk)


def test_portals_that_drop_statements_count_and_who_would_have_too_many_is_refused(build: Build) -> None:
    """As long as the transaction lasts in which they were bound; what drops nothing is bound as ever."""
    talk = Talk(build, max_client_held=40_000)
    talk.rules.inspected = build.session.state.state_query.INSPECTED
    talk.forward(talk.client, query("begin"), done("BEGIN") + ready("T"))
    refused = []
    for number in range(130):
        talk.client >> parse("", f"deallocate s{number}") + bind("", portal=f"p{number}") + SYNC
        lacks = NOT_KEPT in bytes(talk.server.got)
        talk.server >> PARSED + (MISSING if lacks else BOUND) + ready("T")
        talk.server.got.clear()
        talk.client << PARSED + (OF_ITS_OWN if lacks else BOUND) + ready("T")
        refused.append(lacks)
    assert 64 < refused.index(True) < 130
    assert all(refused[refused.index(True) :])
    talk.client >> parse("", "delete from t") + bind("") + SYNC
    assert NOT_KEPT not in bytes(talk.server.got)
    talk.server >> PARSED + BOUND + ready("T")
    talk.server.got.clear()
    talk.client << PARSED + BOUND + ready("T")


def test_a_refused_statement_fails_its_transaction(build: Build) -> None:
    talk = Talk(build, max_client_held=20_000)
    talk.forward(talk.client, query("begin"), done("BEGIN") + ready("T"))
    talk.client >> parse("s", text(30_000)) + SYNC
    talk.server << NOT_KEPT + SYNC
    talk.server >> MISSING + ready("E")
    talk.client << OF_ITS_OWN + ready("E")


@pytest.mark.parametrize("size", [10, 5000])
def test_marks_of_statements_that_are_no_more_are_few(talk: Talk, size: int) -> None:
    talk.rules.inspected = talk.build.session.state.state_query.INSPECTED
    for number in range(500):
        talk.client >> parse("s", f"set work_mem to {number}".ljust(size)) + SYNC
        talk.server >> CLOSED * bytes(talk.server.got).startswith(b"C") + PARSED + ready()
        talk.server.got.clear()
        talk.client >> close("s") + SYNC
        talk.client << PARSED + ready() + CLOSED + ready()
    marks = talk.client.session.marks
    assert len(marks) <= 65
    assert sum(map(len, marks)) < 100_000


def test_marks_of_what_an_error_brings_back_are_not_lost(talk: Talk) -> None:
    talk.rules.inspected = talk.build.session.state.state_query.INSPECTED
    marks = talk.client.session
    keep(talk, talk.client, "s", "set work_mem to 1")
    talk.client >> bind("nowhere") + close("s")
    for number in range(300):
        talk.client >> parse("t", f"set work_mem to {number}") + close("t")
    talk.client >> SYNC
    talk.server.got.clear()
    talk.server >> error("26000") + ready()
    talk.client << error("26000") + ready()
    assert marks.statements.keys() == {b"s"}
    assert marks.marks[rest_of("set work_mem to 1")]


def test_each_of_two_refusals_under_way_says_its_own_reason(build: Build) -> None:
    talk = Talk(build, max_client_held=60_000)
    talk.client >> parse("s", text(70_000)) + SYNC
    talk.budget.tight = True
    talk.client >> parse("s", text(30_000)) + SYNC
    talk.server << NOT_KEPT + SYNC + bind("_pglido-no-room-memory") + SYNC
    talk.server >> MISSING + ready() + missing(OF_MEMORY) + ready()
    talk.client << OF_ITS_OWN + ready() + OF_MEMORY + ready()


@pytest.mark.parametrize(
    ("said", "answer"),
    [(close("s"), CLOSED), (close("p", "P"), CLOSED), (describe("s"), message("t", b"\0\0") + NO_DATA)],
)
def test_what_costs_more_to_remember_than_to_say_waits_for_answers(build: Build, said: bytes, answer: bytes) -> None:
    """A Close has 7 bytes."""
    talk = Talk(build, max_client_held=60_000)
    keep(talk, talk.client, "s", "select 1")
    talk.client >> said * 5000
    rounds = 0
    while talk.server.got:
        assert talk.client.session.held_bytes() < 65_000
        sent = list(split(bytes(talk.server.got)))
        talk.server.got.clear()
        rounds += 1
        talk.server >> answer * sum(1 for kind, _ in sent if kind in "CD")
    assert rounds > 10
    talk.client << answer * 5000
    assert talk.client.session.held_bytes() < 2000


def test_statements_leave_room_for_queries(build: Build) -> None:
    """Who prepares as much as all may have keeps nobody's query from being read, which else would pin its client."""
    talk = Talk(build, max_held=60_000)
    talk.rules.inspected = build.session.state.state_query.INSPECTED
    keep(talk, talk.client, "", text(55_000))
    other = talk.newcomer()
    said = query(text(18_000))
    other >> said[:17_000]
    talk.server << b""
    other >> said[17_000:]
    talk.server << said
    assert talk.server.session.state.unverified == 0
    talk.server >> done() + ready()
    other << done() + ready()
    large = query(text(80_000))
    other >> large[:70_000]
    talk.server << large[:70_000]
    other >> large[70_000:]
    talk.server << large[70_000:]
    assert talk.server.session.state.unverified
    talk.server.session.state.cleaned()
    talk.server >> done() + ready()
    other << done() + ready()


@pytest.mark.parametrize(("size", "held"), [(60_000, True), (70_000, False)])
def test_with_memory_short_a_query_is_held_as_far_as_it_is_read(talk: Talk, size: int, held: bool) -> None:
    talk.rules.inspected = talk.build.session.state.state_query.INSPECTED
    talk.budget.tight = True
    said = query(text(size))
    talk.client >> said[:20_000]
    talk.server << (b"" if held else said[:20_000])
    talk.client >> said[20_000:]
    talk.server << (said if held else said[20_000:])
    talk.server.session.state.cleaned()
    talk.server >> done() + ready()
    talk.client << done() + ready()
