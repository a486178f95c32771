"""The same bytes to PostgreSQL and to pglido: the replies are equal, message by message, however the bytes are cut."""

from functools import cache
from typing import Any

import pytest

from conftest import MakePooler
from harness.cluster import Cluster
from harness.dialogue import Dialogue, compare, hold
from harness.messages import PROTOCOL_3_2
from harness.wire import Message

from .dialogue_table import DIALOGUES, LOGINS

# Answers of these are long: to hold them a hundred times shows no more.
LONG = ("many", "much", "long")
# Dialogues up to this many bytes are held once for each place where they can be cut, others up to the second
# limit once, byte by byte.
CUT_EVERYWHERE, BYTE_BY_BYTE = 70, 1500
SHORT = [dialogue for dialogue in DIALOGUES if not any(word in dialogue.name for word in LONG)]


@cache
def directly(address: tuple[str, int], dialogue: Dialogue) -> list[list[Message]]:
    """What PostgreSQL answers."""
    return hold(address, dialogue)


def own_error(dialogue: Dialogue, mode: str) -> bool:
    """Whether pglido finds the errors in a dialogue itself: in session mode it knows nothing of statements."""
    return dialogue.own and (mode == "transaction" or dialogue.name.startswith("fatal"))


def _named(dialogues: list[Dialogue]) -> list[Any]:
    return [pytest.param(dialogue, id=dialogue.name.replace(" ", "-")) for dialogue in dialogues]


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("dialogue", _named(DIALOGUES))
def test_dialogue_is_answered_as_by_postgresql(
    dialogue: Dialogue, mode: str, cluster: Cluster, shared_pooler: MakePooler
) -> None:
    if mode not in dialogue.modes:
        return
    expected = directly(cluster.address, dialogue)
    pooler = shared_pooler(cluster, pool_mode=mode)
    got = hold(pooler.address, dialogue)
    assert not (difference := compare(expected, got, own=own_error(dialogue, mode))), difference


@pytest.mark.parametrize("dialogue", _named(DIALOGUES))
def test_dialogue_is_answered_as_by_postgresql_16(
    dialogue: Dialogue, cluster16: Cluster, shared_pooler: MakePooler
) -> None:
    if "transaction" not in dialogue.modes:
        return
    pooler = shared_pooler(cluster16)
    difference = compare(directly(cluster16.address, dialogue), hold(pooler.address, dialogue), own=dialogue.own)
    assert not difference, difference


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("dialogue", _named([d for d in SHORT if d.size <= BYTE_BY_BYTE]))
def test_dialogue_is_answered_alike_byte_by_byte(
    dialogue: Dialogue, mode: str, cluster: Cluster, shared_pooler: MakePooler
) -> None:
    if mode not in dialogue.modes:
        return
    pooler = shared_pooler(cluster, pool_mode=mode)
    got = hold(pooler.address, dialogue, cuts=frozenset(range(dialogue.size)))
    difference = compare(directly(cluster.address, dialogue), got, own=own_error(dialogue, mode))
    assert not difference, difference


@pytest.mark.parametrize("dialogue", _named([d for d in SHORT if d.size <= CUT_EVERYWHERE]))
def test_dialogue_is_answered_alike_wherever_it_is_cut(
    dialogue: Dialogue, cluster: Cluster, shared_pooler: MakePooler
) -> None:
    if "transaction" not in dialogue.modes:
        return
    pooler = shared_pooler(cluster)
    expected = directly(cluster.address, dialogue)
    for cut in range(1, dialogue.size):
        got = hold(pooler.address, dialogue, cuts=frozenset([cut]))
        difference = compare(expected, got, own=dialogue.own)
        assert not difference, f"cut at {cut}: {difference}"


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("dialogue", _named(LOGINS))
def test_login_is_answered_as_by_postgresql(
    dialogue: Dialogue, mode: str, cluster: Cluster, shared_pooler: MakePooler
) -> None:
    pooler = shared_pooler(cluster, pool_mode=mode)
    difference = compare(directly(cluster.address, dialogue), hold(pooler.address, dialogue), own=dialogue.own)
    assert not difference, difference


@pytest.mark.parametrize("dialogue", _named([d for d in LOGINS if d.version < PROTOCOL_3_2 - 1 and not d.own]))
def test_login_is_answered_as_by_postgresql_16(
    dialogue: Dialogue, cluster16: Cluster, shared_pooler: MakePooler
) -> None:
    if any(name.startswith("_pq_") for name, _ in dialogue.login):
        return  # the newest minor version, which the answer tells, is pglido's own
    pooler = shared_pooler(cluster16)
    difference = compare(directly(cluster16.address, dialogue), hold(pooler.address, dialogue), own=dialogue.own)
    assert not difference, difference
