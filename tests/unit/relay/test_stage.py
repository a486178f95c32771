"""A client's connection goes from stage to stage as the table says, and never otherwise."""

import pytest

from harness.switchboard import Switchboard
from parity.frontend import TERMINATE, query
from pglido.relay.links import ClientLink
from pglido.relay.stage import (
    ARRIVED,
    ASKS_TLS,
    CHALLENGED,
    ENDS,
    EVENTS,
    HANGS_UP,
    HUNG_UP,
    JOINED,
    LEAVING,
    LINGERING,
    LISTEN_ONLY,
    LISTENS,
    LOGIN,
    LONG_WAY,
    PROVING,
    RAW,
    SECURED,
    SERVED,
    STAGES,
    TABLE,
    TERMINATES,
    TLS,
    WELCOMED,
)
from pglido.session.transitions import IllegalTransition

FAST = [(CHALLENGED, PROVING), (WELCOMED, SERVED)]
WAYS = {
    "trusted": [(WELCOMED, SERVED), (TERMINATES, LEAVING), (ENDS, LINGERING)],
    "by a proof": [*FAST, (HANGS_UP, HUNG_UP), (TERMINATES, LEAVING), (ENDS, LINGERING)],
    "on TLS": [(ASKS_TLS, TLS), (SECURED, ARRIVED), *FAST, (ENDS, LINGERING)],
    "TLS the long way": [(LONG_WAY, LOGIN), (SECURED, ARRIVED), (LONG_WAY, LOGIN), (WELCOMED, SERVED)],
    "a proof judged beside the loop": [(CHALLENGED, PROVING), (LONG_WAY, LOGIN), (CHALLENGED, PROVING)],
    "first of its kind": [(CHALLENGED, PROVING), (LONG_WAY, LOGIN), (WELCOMED, SERVED)],
    "listens": [(LONG_WAY, LOGIN), (LISTENS, LISTEN_ONLY), (ENDS, LINGERING)],
    "console": [(LONG_WAY, LOGIN), (JOINED, RAW), (ENDS, LINGERING)],
    "refused": [(LONG_WAY, LOGIN), (ENDS, LINGERING)],
}


def client_at(stage: int) -> ClientLink:
    """A client's connection that has come to this stage, by the shortest way."""
    ways: list[tuple[int, list[int]]] = [(ARRIVED, [])]
    for at, events in ways:
        if at == stage:
            link = ClientLink(-1)
            for event in events:
                link.on_stage(event)
            assert link.stage == stage
            return link
        ways.extend((after, [*events, event]) for event, after in TABLE[at].items() if len(events) < len(STAGES))
    raise AssertionError("no way leads there")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_ways(way: list[tuple[int, int]]) -> None:
    link = ClientLink(-1)
    assert link.stage == ARRIVED
    for event, stage in way:
        link.on_stage(event)
        assert link.stage == stage


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_table_does_not_have_is_a_bug(stage: int) -> None:
    for event in EVENTS:
        link = client_at(stage)
        if event in TABLE[stage]:
            link.on_stage(event)
            assert link.stage == TABLE[stage][event]
            continue
        text = f"stage of a client: {EVENTS[event]} while {STAGES[stage]}"
        with pytest.raises(IllegalTransition, match=f"^{text}$"):
            link.on_stage(event)
        assert link.stage == stage


def test_all_ends_are_one() -> None:
    assert all(row.get(ENDS) == LINGERING for stage, row in TABLE.items() if stage != LINGERING)
    assert TABLE[LINGERING] == {}


def test_the_connection_on_which_a_bug_is_met_ends_alone(board: Switchboard) -> None:
    """One that was never welcomed can't leave."""
    client, other = board.client(CHALLENGED), board.client()
    client.say(query("select 1") + TERMINATE)
    assert board.dispatcher.log == [("failed",)]
    assert client.link.closed
    assert not other.link.closed
