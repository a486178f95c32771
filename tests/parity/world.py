"""A whole pooler in memory: clients with scripts, a few model servers, and the relay of one build between them.

Every step (a client sends, a server reads, a server's answer arrives) is one of those possible now, chosen by
the seed, and takes as many bytes as the seed says: so everything is cut everywhere, and servers change hands at
every chance. The rules are those of the relay and the dispatcher.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .builds import Build
from .frontend import split
from .postgres import DEFAULTS, Postgres

ATTACH, GOODBYE, CLOSE_IT, WAIT, PAUSE = 1, 2, 3, 4, 6


class Say(NamedTuple):
    """What a client sends; with `wait` only when all that it asked before is answered."""

    data: bytes
    wait: bool = False


@dataclass
class Script:
    """One client: what its startup packet set, and what it says."""

    start: dict[str, str]
    says: Sequence[Say]


@dataclass(eq=False)
class Seat:
    """One server: the model, the session about it, and the bytes between the two."""

    server: Postgres
    session: Any
    inward: bytearray = field(default_factory=bytearray)
    outward: bytearray = field(default_factory=bytearray)
    client: "Client | None" = None

    @property
    def still(self) -> bool:
        """Is nothing under way?"""
        return not self.inward and not self.outward


@dataclass(eq=False)
class Client:
    """One client: its session, what it has yet to send, and what it has seen."""

    session: Any
    says: deque[Say]
    unsent: bytearray = field(default_factory=bytearray)
    rest: bytes = b""
    seen: bytearray = field(default_factory=bytearray)
    seat: Seat | None = None
    waiting: bool = False
    leaving: bool = False
    gone: str = ""

    def may_send(self) -> bool:
        """Can it say something now?"""
        if self.gone or self.leaving:
            return False
        if self.unsent:
            return True
        if not self.says:
            return False
        return not self.says[0].wait or (not self.waiting and (self.seat is None or self.seat.still))


class World:
    """One pool; see the module."""

    def __init__(
        self,
        build: Build,
        scripts: Sequence[Script],
        seats: int = 2,
        max_statements: int = 100,
        rewrite: bool = True,
        max_held: int = 1 << 20,
    ) -> None:
        session = build.session
        self.build = build
        self.good = session.state.statement_cache.AcceptedStatements()
        self.counts = session.state.shared.StatementCounts()
        # Both builds begin alike, whatever was done with one of them before: names are made of the generation.
        session.state.statement_cache._kept = session.state.statement_cache._generation = 0
        session.state.statement_cache._known.clear()
        self.budget = session.state.budget.MemoryBudget(max_held)
        self.rules = session.state.shared.PoolRules(
            rewrite, max_statements, 1 << 20, True, False, self.good, self.counts
        )
        self.clients = [
            Client(session.client.dispatch.Client(self.home(one.start), self.rules, self.budget), deque(one.says))
            for one in scripts
        ]
        self.seats = [Seat(Postgres(), session.server.reader.Server()) for _ in range(seats)]
        for seat in self.seats:
            seat.session.good = self.good
        self.idle = list(self.seats)
        self.line: deque[Client] = deque()
        self.log: list[tuple[Any, ...]] = []
        self.steps = 0

    def home(self, start: dict[str, str]) -> Any:
        """The settings of a startup packet."""
        return self.build.session.state.parameters.of_pairs(start.items())

    # Choosing.

    def run(self, seed: int, small: bool = False) -> None:
        """Go on till nothing can happen; with `small` most pieces are a few bytes."""
        self.chance = random.Random(seed)
        self.small = small
        while (choices := self._choices()) and self.steps < 100_000:
            self.steps += 1
            step, thing = self.chance.choice(choices)
            step(thing)
        assert self.steps < 100_000, "no end"

    def _choices(self) -> list[tuple[Any, Any]]:
        choices: list[tuple[Any, Any]] = [(self._send, client) for client in self.clients if client.may_send()]
        choices += [(self._read, seat) for seat in self.seats if seat.inward]
        choices += [(self._answer, seat) for seat in self.seats if seat.outward]
        return choices

    def _some(self, data: bytearray) -> bytes:
        size = len(data)
        if self.small or self.chance.random() < 0.5:
            size = min(size, 1 + int(self.chance.expovariate(1 / 6)))
        piece = bytes(data[:size])
        del data[:size]
        return piece

    # Steps.

    def _send(self, client: Client) -> None:
        while not client.unsent or (client.says and not client.says[0].wait and self.chance.random() < 0.5):
            client.unsent += client.says.popleft().data
        piece = self._some(client.unsent)
        if client.waiting:
            client.rest += piece
        else:
            self._take(client, piece)

    def _read(self, seat: Seat) -> None:
        seat.outward += seat.server.feed(self._some(seat.inward))

    def _answer(self, seat: Seat) -> None:
        session, client = seat.session, seat.client
        result, told = self.build.session.in_memory.from_server(session, self._some(seat.outward))
        self.log.append((self.seats.index(seat), result, told, session.turns, session.status))
        assert result == 0, session.fault
        if client is None:
            assert not told
            self._rested(seat)
            return
        client.seen += told
        if client.waiting and client.session.may_go_on():
            self._resume(client)
        elif client.leaving and not session.answering():
            self._bye(client)
        else:
            self._let_go(client)

    def _take(self, client: Client, data: bytes) -> None:
        while True:
            result = self.build.session.in_memory.from_client(client.session, data)
            verdict, used, to_server, to_client = result
            self.log.append((self.clients.index(client), *result))
            if client.seat is not None:
                client.seat.inward += to_server
            else:
                assert not to_server
            client.seen += to_client
            if verdict not in (ATTACH, PAUSE):
                break
            data = data[used:]
            if verdict == PAUSE:
                continue
            if self.line or not self.idle:
                client.waiting = True
                client.rest = data
                self.line.append(client)
                return
            self._pair(client, self.idle.pop(self.chance.randrange(len(self.idle))))
        if verdict == WAIT:
            client.waiting = True
            client.rest = data[used:]
        elif verdict == GOODBYE:
            if client.seat is not None and client.seat.session.answering():
                client.leaving = True
            else:
                self._bye(client)
        elif verdict == CLOSE_IT:
            self._bye(client, ": ".join(client.session.fault))
        else:
            self._let_go(client)

    def _resume(self, client: Client) -> None:
        client.waiting = False
        rest, client.rest = client.rest, b""
        self._take(client, rest)

    def _let_go(self, client: Client) -> None:
        seat = client.seat
        if seat is not None and seat.session.free():
            self._part(client, seat)
            self._give(seat)

    def _pair(self, client: Client, seat: Seat) -> None:
        client.seat, seat.client = seat, client
        client.session.link(seat.session)

    def _part(self, client: Client, seat: Seat) -> None:
        client.session.unlink()
        client.seat = seat.client = None

    def _give(self, seat: Seat) -> None:
        if not self.line:
            self.idle.append(seat)
            return
        client = self.line.popleft()
        self._pair(client, seat)
        self._resume(client)

    def _bye(self, client: Client, why: str = "goodbye") -> None:
        client.gone = why
        seat = client.seat
        if seat is not None:
            self._part(client, seat)
            seat.inward += seat.session.abandon()
            self._rested(seat)
        client.session.drop()

    def _rested(self, seat: Seat) -> None:
        """As `Lifecycle.rested`."""
        session = seat.session
        if seat in self.idle or seat.client is not None:
            return
        if session.awaits_more():
            seat.inward += session.abandon()
        if session.free():
            self._give(seat)
        elif session.status != ord("I") and not session.replies.head:
            seat.inward += session.ask("ROLLBACK")

    # Judging.

    def check(self) -> None:
        """What must hold when nothing happens any more."""
        for client in self.clients:
            assert client.gone, f"a client hangs: {client}"
        assert self.budget.total() == 0
        for seat in self.seats:
            session, server = seat.session, seat.server
            assert seat in self.idle, f"a server was lost: {seat} {session.replies}"
            assert session.free()
            assert not session.worn
            assert session.replies.count == 0
            assert not session.prepared.undo_log.left()
            # An exposed name is closed before anything else is said, whether or not the server came to take it.
            shadowed = {name.decode() for name in session.prepared.shadowed}
            assert {one.name.decode() for one in session.prepared.known} == set(server.prepared) - shadowed
            assert len(session.prepared.known) <= self.rules.max_statements
            for name, value in session.state.settings.values.items():
                assert server.settings[name] == value, f"{name} is not what it seems"


def private(script: Script) -> tuple[bytes, bool]:
    """What the client would see if it had a server for itself, and whether a pooler can do the same."""
    alone = Postgres(start=script.start)
    return alone.feed(b"".join(one.data for one in script.says)), not alone.beyond


def view(start: dict[str, str], seen: bytes) -> list[Any]:
    """What a client makes of it: the messages, and with each ReadyForQuery the parameters then known.

    How often a parameter is reported is not the client's business, only what it is.
    """
    known = {shown: start.get(name, value) for name, (shown, value) in DEFAULTS.items()}
    story: list[Any] = []
    for kind, body in split(bytes(seen)):
        if kind == "S":
            name, value, _ = body.split(b"\0")
            known[name.decode()] = value.decode()
        else:
            story.append((kind, body))
            if kind == "Z":
                story.append(dict(known))
    return story
