"""Random batches: sequences of messages about prepared statements, COPY and transactions, and where they are cut.

What PostgreSQL answers to each beginning of a sequence is known by saying just that on a connection of its own, with a
Terminate behind it. So a reader knows how much must come before it says more, without waiting for silence.
"""

import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

import harness.messages as m
from harness.cluster import Cluster
from harness.twins import difference
from harness.wire import Closed, Message, Wire, rows_in

TABLES = "CREATE TABLE IF NOT EXISTS copied (n int)"
NAMES = ["", "s", "s", "t"]
PORTALS = ["", "", "", "p"]
SQL = [
    "SELECT 1",
    "SELECT 'two'",
    "SELECT 1/0",
    "SELEC",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DEALLOCATE s",
    "DEALLOCATE t",
    "PREPARE s AS SELECT 3",
    "PREPARE t AS SELECT 4",
    "EXECUTE s",
    "EXECUTE t",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COPY copied FROM STDIN",
    "COPY (SELECT 5) TO STDOUT",
]
SIMPLE_ONLY = [
    "",
    "SELECT 6; SELECT 7",
    "DEALLOCATE s; SELECT 1/0",
    "SELECT 8; DEALLOCATE ALL",
    "BEGIN; DEALLOCATE ALL; SELECT 1/0",
    "PREPARE s AS SELECT 9; EXECUTE s",
    "COPY copied FROM STDIN; COPY copied FROM STDIN",
    "COPY copied FROM STDIN; DEALLOCATE ALL",
]


class Said(NamedTuple):
    """One message, and it for a person."""

    data: bytes
    text: str


def draw(rng: random.Random) -> list[Said]:
    """A sequence of messages, up to its Terminate."""
    said: list[Said] = []
    for _ in range(rng.randint(1, 5)):
        said += _piece(rng)
    said.append(rng.choice([SYNC, SYNC, FLUSH]))
    return said


SYNC, FLUSH = Said(m.SYNC, "Sync"), Said(m.FLUSH, "Flush")


def _piece(rng: random.Random) -> list[Said]:
    """Some messages that belong together, or none of which does."""
    kind = rng.choice("ppppbbbbrrrrrqqqqqdcccssssfyyx")
    name, portal = rng.choice(NAMES), rng.choice(PORTALS)
    if kind == "p":
        return [parse(name, rng.choice(SQL))]
    if kind == "b":
        return [bind(portal, name), execute(portal)][: rng.choice([1, 2, 2, 2])]
    if kind == "r":
        sql = rng.choice(SQL)
        pieces = [parse("", sql), bind("", ""), execute("")]
        return pieces if rng.random() < 0.8 else [*pieces, SYNC]
    if kind == "q":
        return [query(rng.choice(SQL + SIMPLE_ONLY))]
    if kind == "d":
        of = rng.choice("SSP")
        return [describe(of, name if of == "S" else portal)]
    if kind == "c":
        of = rng.choice("SSSP")
        return [close(of, name if of == "S" else portal)]
    if kind == "s":
        return [SYNC]
    if kind == "f":
        return [FLUSH]
    if kind == "y":
        rows = [copied("1\n")] * rng.randint(0, 2)
        return [*rows, copied(None) if rng.random() < 0.8 else Said(m.copy_fail("x"), "CopyFail")]
    return [rng.choice([parse(name, "SELECT 1"), execute(portal), bind(portal, name)])]


def parse(name: str, sql: str) -> Said:
    """A Parse."""
    return Said(m.parse(name, sql), f"Parse {name!r} {sql}")


def bind(portal: str, name: str) -> Said:
    """A Bind without parameters."""
    return Said(m.bind(portal, name), f"Bind {portal!r} {name!r}")


def execute(portal: str) -> Said:
    """An Execute of all rows."""
    return Said(m.execute(portal), f"Execute {portal!r}")


def query(sql: str) -> Said:
    """A simple query."""
    return Said(m.query(sql), f"Query {sql}")


def describe(of: str, name: str) -> Said:
    """A Describe of a statement (S) or portal (P)."""
    return Said(m.describe_statement(name) if of == "S" else m.describe_portal(name), f"Describe {of} {name!r}")


def close(of: str, name: str) -> Said:
    """A Close of a statement (S) or portal (P)."""
    return Said(m.close_statement(name) if of == "S" else m.close_portal(name), f"Close {of} {name!r}")


def copied(data: str | None) -> Said:
    """CopyData, or the CopyDone for None."""
    return Said(m.COPY_DONE, "CopyDone") if data is None else Said(m.copy_data(data.encode()), "CopyData")


class Rival:
    """Another client of the pool, which moves the first one from server to server: it holds one now and then."""

    def __init__(self, wire: Wire, rng: random.Random) -> None:
        self.wire = wire
        self.rng = rng
        wire.send(m.parse("s", "SELECT 'rival'"), m.parse("t", "SELECT $1::text"), m.SYNC)
        wire.until()

    def acts(self) -> None:
        """Do something, and see that it has what it had."""
        what = self.rng.choice(["BEGIN", "COMMIT", "s", "t", "t"])
        if len(what) > 1:
            self.wire.run(what)
        else:
            self.wire.send(m.bind("", what, *(["rival"] if what == "t" else [])), m.execute(), m.SYNC)
            read = self.wire.until()
            assert rows_in(read) == [[b"rival"]], read


def beginnings(cluster: Cluster, said: Sequence[Said]) -> list[list[str]]:
    """What PostgreSQL says to no message of a sequence, to the first, to the first two, and so on."""
    found = []
    for count in range(len(said) + 1):
        got = answered(cluster.wire(), [b"".join([one.data for one in said[:count]])], [0, 0])
        found.append(got[: got.index(BROKEN)] if BROKEN in got else got)
    return found


def differs(said: Sequence[Said], cuts: Collection[int], before: Sequence[list[str]], wire: Wire, rival: Rival) -> str:
    """What a pooler's client is told otherwise, where a write begins at each of `cuts`; empty if nothing."""
    starts = [0, *sorted(cuts)]
    parts = [b"".join([one.data for one in said[at:end]]) for at, end in zip(starts, [*starts[1:], None], strict=True)]
    due = [len(before[at]) for at in [*starts, len(said)]]
    got = answered(wire, parts, due, rival)
    if BROKEN in got:
        del got[got.index(BROKEN) :]
    wanted = before[-1]
    for at, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one.replace(PARSES, BINDS) == other or one.replace(PARSES, DESCRIBES) == other:
            got[at] = other
    if "FATAL" in "".join(wanted[-1:]):
        del got[len(wanted) :]
    wrong = difference(wanted, got)
    if not wrong:
        return ""
    told = "\n".join([("-- write\n" if at in starts else "") + one.text for at, one in enumerate(said)])
    return f"{told}\n{wrong}"


# In the middle of a COPY the connection ends for any of these: pglido may have put a Parse in front of the others.
PARSES, BINDS, DESCRIBES = (f"unexpected message type 0x{ord(kind):02X}" for kind in "PBD")
# What follows from the Terminate in the middle of a COPY.
BROKEN = "E 08P01 Terminate in the middle of a COPY"


def answered(wire: Wire, parts: Sequence[bytes], due: Sequence[int], rival: Rival | None = None) -> list[str]:
    """All that a server says to `parts` and a Terminate; before each of them `due` messages of it must be there."""
    read: list[Message] = []
    try:
        for part, count in zip([*parts, m.TERMINATE], due, strict=True):
            while len(read) < count:
                read.append(wire.message())
            if rival is not None:
                rival.acts()
            wire.send(part)
        read += wire.messages()
    except (Closed, BrokenPipeError, ConnectionResetError):
        read.append(Message("closed", b""))
    except TimeoutError:
        read.append(Message("silent", b""))
    wire.close()
    return [shown(one) for one in read if one.kind != "S"]


def shown(one: Message) -> str:
    """A message without what may differ."""
    if one.kind in ("E", "N"):
        fields = one.fields
        if "unexpected message type 0x58" in fields.get("M", ""):
            return BROKEN
        return f"{one.kind} {fields.get('V')} {fields.get('C')} {fields.get('M')}"
    if one.kind == "D":
        return f"D {one.row}"
    if one.kind == "T":
        return f"T {one.columns}"
    return f"{one.kind} {one.body!r}"
