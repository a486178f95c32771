"""Sessions held twice: by clients of a pooler, and by their twins, each alone with a connection to PostgreSQL.

`hold` runs an interleaving of several clients' steps over few servers. A client that waits for a server is not waited
for, as far as others can still say something; its twin says the same as soon as its reply is there. What is different
between two replies is the report; what may differ is told by `shown` and nowhere else.
"""

import difflib
import select
import struct
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .dialogue import types_of
from .wire import PATIENCE, Message, ServerError, Wire, note

# How long a reply is awaited that may depend on others giving back their servers.
MAYBE = 0.005

# Not to find something temporary: in another way where the session never had anything, which nobody can undo.
NOT_THERE = ("3F000", "42883", "42P01")


@dataclass(frozen=True, repr=False)
class Step:
    """What is said at once; `text` is it for a person.

    `keeps`: it may be that the client keeps its server afterwards. `alone`: it leads back to what the client had at its
    start, so that one with parameters of its own says it outside of a transaction only.
    """

    data: bytes
    text: str
    keeps: bool = False
    alone: bool = False

    def __repr__(self) -> str:
        return repr(self.text)

    @property
    def turns(self) -> int:
        """How many ReadyForQuery come back."""
        return sum(kind in "QS" for kind in types_of(self.data))


class End:
    """One end of a conversation: what came back for the last step, and whether that is all."""

    def __init__(self, address: tuple[str, int], login: Mapping[str, str]) -> None:
        self.wire = Wire.dial(address)
        self.refused = ""
        self.held = bytearray()
        self.read: list[Message] = []
        self.due = 0
        self.ended = False
        self.status = "I"
        try:
            self.wire.login(**login)
        except ServerError as error:
            self.refused = error.sqlstate
            self.ended = True

    def close(self, *, politely: bool = True) -> None:
        """End the connection."""
        with suppress(OSError):
            self.wire.bye() if politely else self.wire.close()
        if self.wire in Wire.opened:
            Wire.opened.remove(self.wire)

    def say(self, step: Step) -> None:
        """Send a step."""
        self.read = []
        self.due = step.turns
        self.wire.send(step.data)

    def await_reply(self, within: float) -> bool:
        """Read for so long, at most, until the reply is complete; returns whether it is."""
        deadline = time.monotonic() + within
        while self.due and not self.ended:
            ready, _, _ = select.select([self.wire.sock], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            got = b""
            with suppress(ConnectionResetError):
                got = self.wire.sock.recv(65536)
            if not got:
                self.ended = True
                self.read.append(Message("", b""))
            self.held += got
            self._take()
        return True

    def take_reply(self) -> list[str]:
        """What came as text, without what may differ; the ParameterStatus are learnt.

        Notifications are last: of several turns it may be another one that they come with.
        """
        self.wire.parameters.update([one.pair for one in self.read if one.kind == "S"])
        notes = [_show(one) for one in self.read if one.kind == "A"]
        return [_show(one) for one in self.read if one.kind not in "SA"] + notes

    @property
    def parameters(self) -> list[str]:
        """What it was told of its settings."""
        return [f"{name} = {value}" for name, value in sorted(self.wire.parameters.items())]

    def _take(self) -> None:
        while len(self.held) >= 5 and len(self.held) > (size := struct.unpack_from("!i", self.held, 1)[0]):
            one = Message(chr(self.held[0]), bytes(self.held[5 : size + 1]))
            del self.held[: size + 1]
            self.read.append(one)
            if one.kind == "Z":
                self.due -= 1
                self.status = one.body.decode()


class Pair:
    """A client and its twin, with the steps that are still to be said."""

    def __init__(self, number: int, client: End, twin: End, plain: bool) -> None:
        self.number = number
        self.client = client
        self.twin = twin
        self.plain = plain
        self.steps: deque[Step] = deque()
        self.said: list[Step] = []
        self.waits = False
        self.keeps = False

    @property
    def may_hold(self) -> bool:
        """May it have a server now?"""
        return self.waits or self.keeps or self.twin.status != "I"

    def say(self) -> None:
        """Send the next step."""
        step = self.steps.popleft()
        if step.alone and not self.plain and self.twin.status != "I":
            return
        self.said.append(step)
        self.client.say(step)
        self.waits = True
        self.keeps = self.keeps or step.keeps

    def settle(self, within: float) -> str:
        """Await the client's reply, then have the twin say the same; returns what is different."""
        if not self.waits or not self.client.await_reply(within):
            return ""
        self.waits = False
        step = self.said[-1]
        self.twin.say(step)
        assert self.twin.await_reply(PATIENCE), f"PostgreSQL does not answer {step.text}"
        expected, got = self.twin.take_reply(), self.client.take_reply()
        if self.plain or not step.alone:
            # What led back to a default is told a moment later, when the server has been asked for it.
            expected += self.twin.parameters
            got += self.client.parameters
        return difference(expected, got)


class Different(AssertionError):
    """A client was answered otherwise than its twin."""


def hold(
    pooler: tuple[str, int],
    server: tuple[str, int],
    logins: Sequence[tuple[Mapping[str, str], Mapping[str, str]]],
    steps: Iterable[tuple[int, Step]],
    servers: int,
) -> None:
    """Hold an interleaving: `steps` are (number of the client, step); `logins` the clients' and their twins'.

    Raises Different with a report.
    """
    pairs: list[Pair] = []
    try:
        _hold(pairs, pooler, server, logins, steps, servers)
    finally:
        for pair in pairs:
            pair.client.close(politely=False)
            pair.twin.close(politely=False)


def _hold(
    pairs: list[Pair],
    pooler: tuple[str, int],
    server: tuple[str, int],
    logins: Sequence[tuple[Mapping[str, str], Mapping[str, str]]],
    steps: Iterable[tuple[int, Step]],
    servers: int,
) -> None:
    for number, (mine, twins) in enumerate(logins):
        plain = set(mine) <= {"user", "database"}
        pair = Pair(number, End(pooler, mine), End(server, twins), plain)
        if pair.client.refused != pair.twin.refused:
            raise Different(f"login {mine}: PostgreSQL {pair.twin.refused!r}, pooler {pair.client.refused!r}")
        pairs.append(pair)
        _same_parameters(pair)
    order: list[str] = []
    for number, step in steps:
        pair = pairs[number]
        pair.steps.append(step)
        if not pair.client.ended and (not pair.waits or _settle(pairs, pair, MAYBE, order)):
            _go_on(pairs, pair, servers, order)
    left = deque(pairs)
    while left:
        pair = left.popleft()
        if pair.client.ended or not (pair.steps or pair.waits):
            pair.client.close()
            pair.twin.close()
            continue
        left.append(pair)
        if not pair.waits or _settle(pairs, pair, 0.0, order):
            _go_on(pairs, pair, servers, order)
        waiting = [one.client.wire.sock for one in left if one.waits]
        if len(waiting) == len(left) and not select.select(waiting, [], [], PATIENCE)[0]:
            raise Different(f"all clients wait\n{_story(order)}")


def _go_on(pairs: list[Pair], pair: Pair, servers: int, order: list[str]) -> None:
    if not pair.steps:
        return
    others = sum(one.may_hold for one in pairs if one is not pair and not one.client.ended)
    pair.say()
    if pair.waits:
        order.append(f"{pair.number}: {pair.said[-1].text}")
        _settle(pairs, pair, PATIENCE if others < servers else MAYBE, order)


def _settle(pairs: list[Pair], pair: Pair, within: float, order: list[str]) -> bool:
    """Returns whether nothing is outstanding any more."""
    wrong = pair.settle(within)
    if pair.waits and within == PATIENCE:
        wrong = "no answer"
    if wrong:
        raise Different(f"client {pair.number}, {pair.said[-1].text}\n{wrong}\n{_story(order)}")
    if pair.client.ended:
        raise Different(f"client {pair.number} was disconnected by {pair.said[-1].text}\n{_story(order)}")
    return not pair.waits


def _story(order: list[str]) -> str:
    return "\n".join(order)


def _same_parameters(pair: Pair) -> None:
    mine, twins = pair.client.wire.parameters, pair.twin.wire.parameters
    if mine != twins:
        raise Different(f"login of {pair.number}: {dict(set(mine.items()) ^ set(twins.items()))}")


def difference(expected: list[str], got: list[str]) -> str:
    """What is different between two replies, for a person; empty if nothing is."""
    if expected == got:
        return ""
    return "\n".join(difflib.unified_diff(expected, got, "PostgreSQL", "pooler", n=9, lineterm=""))


def _show(one: Message) -> str:
    if one.kind in "EN":
        fields = one.fields
        if fields.get("C") in NOT_THERE and "pg_temp" in fields.get("M", ""):
            return "E nothing temporary of this name"
        return f"{one.kind} {fields.get('V')} {fields.get('C')} {fields.get('M')}"
    if one.kind == "D":
        return f"D {one.row}"
    if one.kind == "A":
        return f"A {note(one)}"
    if one.kind == "T":
        return f"T {_columns(one.body)}"
    return f"{one.kind} {one.body!r}"


def _columns(body: bytes) -> list[tuple[str, int, int]]:
    at, found = 2, []
    while at < len(body):
        end = body.index(b"\0", at)
        oid, _, modifier, _ = struct.unpack_from("!ihih", body, end + 7)
        found.append((body[at:end].decode("utf-8", "replace"), oid, modifier))
        at = end + 19
    return found
