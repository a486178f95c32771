"""Machines of a server's session: tables are closed, what they say is reached by messages, what they don't is an error.

`test_batch` has the batch.
"""

from typing import Any

import pytest

from parity.frontend import SYNC, bind, execute, message, parse, query
from pglido.session.server import batch, deallocation
from pglido.session.state import question
from pglido.session.transitions import ILLEGAL, SHIFT, Machine

from .dialogue import BOUND, PARSED, Talk, done, error, ready

MACHINES = [batch.BATCH, deallocation.DEALLOCATION, question.QUESTION]
machines = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@machines
def test_the_array_is_the_table(machine: Machine) -> None:
    for place, after in enumerate(machine.array):
        state, event = divmod(place, 1 << SHIFT)
        assert after == machine.table.get(state, {}).get(event, ILLEGAL)


@machines
def test_each_state_is_reached_and_left(machine: Machine) -> None:
    """By some way from 0, where all begin; and from each there is one back."""
    ways = {state: set(row.values()) for state, row in machine.table.items()}
    for _ in ways:
        ways = {state: after.union(*(ways[one] for one in after)) for state, after in ways.items()}
    assert all(after == machine.table.keys() for after in ways.values())


@machines
def test_each_event_happens(machine: Machine) -> None:
    assert {event for row in machine.table.values() for event in row} == machine.events.keys()


@machines
def test_an_error_says_what_happened(machine: Machine) -> None:
    pairs = [(state, event) for state in machine.states for event in machine.events]
    state, event = next(pair for pair in pairs if pair[1] not in machine.table[pair[0]])
    told = str(machine.illegal(state, event))
    assert told == f"{machine.name}: {machine.events[event]} while {machine.states[state]}"


@pytest.mark.parametrize(
    "table",
    [{0: {0: 1}}, {0: {0: 2}, 1: {}}, {0: {1: 0}, 1: {}}],
    ids=["a state has no row", "a next state is none", "an event has no name"],
)
def test_a_table_that_is_not_closed_is_refused(table: dict[int, dict[int, int]]) -> None:
    with pytest.raises(ValueError, match="machine"):
        Machine("machine", {0: "here", 1: "there"}, {0: "go"}, table)


def states_of(talk: Talk) -> str:
    state: int = talk.server.session.prepared.deallocation
    return deallocation.DEALLOCATION.states[state]


def test_a_portal_that_deallocates_all(talk: Talk) -> None:
    """It is bound; when it is executed, what follows waits for the answer; it stays till the block is over."""
    talk.forward(talk.client, query("begin"), done("BEGIN") + ready("T"))
    said = parse("", "deallocate all") + bind("")
    talk.client >> said
    assert states_of(talk) == "bound"
    talk.client >> execute() + SYNC
    assert states_of(talk) == "bound and sent"
    talk.server << said + execute() + SYNC
    talk.server >> PARSED + BOUND + done("DEALLOCATE ALL") + ready("T")
    talk.client << PARSED + BOUND + done("DEALLOCATE ALL") + ready("T")
    talk.forward(talk.client, query("select 1"), done() + ready("T"))
    assert states_of(talk) == "bound"
    talk.forward(talk.client, query("commit"), done("COMMIT") + ready())
    talk.next = talk.server
    talk.forward(talk.client, query("select 1"), done() + ready())
    assert states_of(talk) == "none"


def test_a_query_that_deallocates_all(talk: Talk) -> None:
    talk.client >> query("deallocate all")
    assert states_of(talk) == "sent"
    # A portal that does it as well, while the other is not answered, has to wait.
    talk.client >> parse("", "deallocate all") + bind("") + SYNC
    talk.server << query("deallocate all")
    talk.server >> done("DEALLOCATE ALL") + ready()
    talk.client << done("DEALLOCATE ALL") + ready()
    talk.server << parse("", "deallocate all") + bind("") + SYNC
    assert states_of(talk) == "bound"
    talk.server >> PARSED + BOUND + ready()
    talk.client << PARSED + BOUND + ready()


def data_row(*fields: bytes | None) -> bytes:
    """A DataRow; None is NULL."""
    sized = [b"\xff\xff\xff\xff" if one is None else len(one).to_bytes(4, "big") + one for one in fields]
    return message("D", len(fields).to_bytes(2, "big") + b"".join(sized))


def ask(talk: Talk, decides: bool) -> Any:
    """The state of an idle server that was asked about a setting, or (`decides`) about temporary objects."""
    state = talk.server.session.state
    scanner = talk.build.sql.scanner
    state.add_unverified(scanner.TEMP if decides else scanner.SETS, () if decides else ("datestyle",), True, b"set")
    assert state.question()
    return state


# The last row of each answer: a setting by name, as JSON in hexadecimal digits; that there are no temporary objects.
ANSWERS = {False: data_row(b'{"datestyle": "ISO"}'.hex().encode(), None), True: data_row(None, b"f", *[None] * 5)}


@pytest.mark.parametrize("decides", [False, True], ids=["sent", "deciding"])
def test_a_question_is_answered(talk: Talk, decides: bool) -> None:
    """The client waits till its turn is over where the answer decides what it may do, and only there."""
    state = ask(talk, decides)
    assert question.QUESTION.states[state.asking] == ("deciding" if decides else "sent")
    talk.server >> ANSWERS[decides]
    assert talk.server.result == 0
    assert question.QUESTION.states[state.asking] == ("decided" if decides else "answered")
    assert bool(state.asking & question.WAITS) == decides
    talk.server >> ready()
    assert state.asking == question.NONE
    assert state.pins == 0


@pytest.mark.parametrize("decides", [False, True], ids=["sent", "deciding"])
def test_a_question_is_not_answered(talk: Talk, decides: bool) -> None:
    state = ask(talk, decides)
    talk.server >> error("57014") + ready()
    assert state.asking == question.NONE
    assert state.pins


def test_a_question_is_asked_once(talk: Talk) -> None:
    state = ask(talk, True)
    with pytest.raises(talk.build.session.transitions.IllegalTransition, match="ask, the client waits while deciding"):
        ask(talk, True)
    assert state.asking == question.DECIDING
