"""What a client listens to already costs nothing when it listens to more, or ends to listen to some of it."""

import re

import pytest

from harness.steps import steps
from parity.builds import SOURCE
from parity.frontend import query

from .conversation import Conversation

SAID = re.compile(rb'(UNLISTEN|LISTEN|BEGIN|ROLLBACK|DISCARD) ?"?(\w+|\*)?', re.IGNORECASE)


class Listener(Conversation):
    """A client and a server, which listens to `there`; `sent` are the bytes that it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.there: set[bytes] = set()
        self.before: set[bytes] = set()
        self.sent = 0

    def _take(self, data: bytes, pos: int) -> int:
        to_server, to_client = SOURCE.session.outbox.Outbox(), SOURCE.session.outbox.Outbox()
        pos = self.client.take(data, pos, len(data), to_server, to_client)
        said = to_server.collected(data)
        self.sent += len(said)
        for verb, name in SAID.findall(said):
            verb = verb.upper()
            if verb == b"BEGIN":
                self.before = set(self.there)
            elif verb == b"ROLLBACK":
                self.there = self.before
            elif verb == b"LISTEN":
                self.there.add(name)
            else:
                self.there -= {name} - {b"*", b"ALL"} or self.there
        return pos

    def does(self, *texts: str) -> None:
        """These are said one after another; then no transaction is open, and the server is asked what it listens to."""
        for text in texts:
            self.say(query(text))
            while self.server.replies.count:
                self.hear(self.tag + (b"Z\0\0\0\5I" if text == texts[-1] else b"Z\0\0\0\5T"))
        self.server.state.hear(frozenset(self.there), self.client)
        self.there = set()
        self.client.granted = None


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["LISTEN {}"], 1),
        (["BEGIN", "LISTEN {}", "COMMIT"], 1),
        (["BEGIN", "LISTEN {}", "ROLLBACK"], 0),
        (["LISTEN {0}; LISTEN {0}b"], 2),
        (["LISTEN {0}; UNLISTEN {0}"], 0),
        (["LISTEN {0}", "UNLISTEN {0}"], 0),
    ],
)
def test_channels_cost_as_much_as_is_said_of_them(texts: list[str], left: int) -> None:
    """For each LISTEN the server was made to listen to all that came before."""
    costs = []
    for size in (50, 100, 200):
        one = Listener()
        taken = steps(lambda: [one.does(*[text.format(f"c{n}") for text in texts]) for n in range(size)])  # noqa: B023
        assert len(one.client.channels) == left * size
        costs.append(taken + one.sent)
    _, two, four = costs
    assert four <= 2.5 * two, costs


@pytest.mark.parametrize(
    "texts",
    [
        ["UNLISTEN {}"],
        ["UNLISTEN {}; select 1"],
        ["begin; UNLISTEN {}; commit"],
        ["BEGIN", "UNLISTEN {}", "COMMIT"],
        ["BEGIN", "UNLISTEN {}", "UNLISTEN {}", "COMMIT"],
        ["BEGIN", "UNLISTEN {}", "ROLLBACK", "UNLISTEN {}"],
        ["BEGIN", "UNLISTEN *", "ROLLBACK", "UNLISTEN {}"],
    ],
    ids=" . ".join,
)
def test_channels_end_one_by_one_at_no_cost_for_the_others(texts: list[str]) -> None:
    """In front of each UNLISTEN in a block the server was made to listen to all that the client does."""
    costs = []
    for size in (50, 100, 200):
        one = Listener()
        for number in range(size):
            one.does(f"LISTEN c{number}")
        one.sent = 0
        said = [[text.format(f"c{number}") for text in texts] for number in range(size - 1)]
        taken = steps(lambda: [one.does(*these) for these in said])  # noqa: B023
        assert one.client.channels == {b"c%d" % (size - 1)}
        costs.append(taken + one.sent)
        # What is sent is counted apart: a letter is less than a step.
        assert one.sent <= 400 * size
    _, two, four = costs
    assert four <= 2.5 * two, costs


def test_channels_that_end_in_one_block_are_named_once() -> None:
    one = Listener()
    for number in range(100):
        one.does(f"LISTEN c{number}")
    one.sent = 0
    one.does("BEGIN", *[f"UNLISTEN c{number}" for number in range(99)], "COMMIT")
    assert one.client.channels == {b"c99"}
    assert one.sent < 100 * 100


@pytest.mark.parametrize("ends", ["UNLISTEN *", "DISCARD ALL", "unlisten*"])
def test_all_end_at_once_without_being_named(ends: str) -> None:
    one = Listener()
    for number in range(100):
        one.does(f"LISTEN c{number}")
    one.sent = 0
    one.does(ends)
    assert not one.client.channels
    one.does("UNLISTEN *; LISTEN other")
    assert one.client.channels == {b"other"}
    assert one.sent < 600


def test_a_block_that_is_rolled_back_ends_nothing() -> None:
    one = Listener()
    for number in range(5):
        one.does(f"LISTEN c{number}")
    before = one.client.channels
    for texts in (["UNLISTEN c1"], ["UNLISTEN *"], ["LISTEN d", "UNLISTEN c2"]):
        one.does("BEGIN", *texts, "ROLLBACK")
        assert one.client.channels == before
    one.does("BEGIN", "UNLISTEN c1", "COMMIT")
    assert one.client.channels == before - {b"c1"}
