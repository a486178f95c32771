"""A small language for dialogues: what a client says step by step, and how it knows that a reply is complete.

The same dialogue is held with PostgreSQL and with pglido; `compare` says where the replies differ. What may differ
is named here and nowhere else: the backend's key, whose length must be equal all the same; the order of the
ParameterStatus messages at login, which means nothing; whether AuthenticationOk comes before the error that ends a
login; and, for errors that pglido has to find out by itself, the place in PostgreSQL's source and what pglido adds to
say whose connection it is.
"""

import difflib
import struct
from contextlib import suppress
from dataclasses import dataclass, field

from . import messages as m
from .waiting import wait_until_read
from .wire import Closed, Message, Wire

END = "end of connection"


@dataclass(frozen=True)
class Step:
    """Bytes said at once, and when the reply is complete: after `count` messages whose type is in `until`."""

    data: bytes
    until: str
    count: int


def say(*parts: bytes, until: str = "Z", count: int | None = None) -> Step:
    """A step. By default the reply has one ReadyForQuery for each Query, FunctionCall and Sync said."""
    data = b"".join(parts)
    if count is None:
        count = sum(kind in "QFS" for kind in types_of(data)) if until == "Z" else 1
    return Step(data, until, count)


def types_of(data: bytes) -> str:
    """The types of some messages in a row."""
    found, at = "", 0
    while at < len(data):
        found += chr(data[at])
        at += 1 + struct.unpack_from("!I", data, at + 1)[0]
    return found


@dataclass(frozen=True)
class Dialogue:
    """What one client says after its login.

    `login` are startup parameters in order, `user` among them. `modes` are the pool modes in which the replies have
    to be equal. `own` marks dialogues in which pglido finds an error itself.
    """

    name: str
    steps: tuple[Step, ...] = ()
    login: tuple[tuple[str, str | bytes], ...] = (("user", "app"), ("database", "app"))
    version: int = m.PROTOCOL_3_0
    modes: tuple[str, ...] = ("transaction", "session")
    own: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def size(self) -> int:
        """Bytes said after login."""
        return sum(len(step.data) for step in self.steps)


# Said at the end of each dialogue that does not end the connection: is it still in step?
_STILL_THERE = say(m.query("SELECT 'still in step'"))


def hold(address: tuple[str, int], dialogue: Dialogue, cuts: frozenset[int] = frozenset()) -> list[list[Message]]:
    """Hold a dialogue; returns the reply to the login and to each step.

    `cuts` are positions in what is said after login; at each the client waits until the other side has read what
    came before.
    """
    with Wire.dial(address) as wire:
        wire.send(m.startup(dialogue.login, dialogue.version))
        replies = [_reply(wire, "ZE", 1)]
        if replies[0][-1].kind == "E":
            replies[0] += wire.rest()
            return replies
        said = 0
        ended = False
        for step in (*dialogue.steps, _STILL_THERE):
            inside = sorted(cut - said for cut in cuts if said < cut < said + len(step.data))
            if ended:
                break
            start = 0
            with suppress(BrokenPipeError, ConnectionResetError):  # the reply says how far it got
                for stop in (*inside, len(step.data)):
                    wire.send(step.data[start:stop])
                    if stop < len(step.data):
                        wait_until_read(wire.sock)
                    start = stop
            said += len(step.data)
            ended = step.until == END
            replies.append(wire.rest() if ended else _reply(wire, step.until, step.count))
        return replies


def _reply(wire: Wire, until: str, count: int) -> list[Message]:
    try:
        return wire.until(until, count)
    except Closed as closed:
        return [*closed.read, Message("", b"")]


def compare(expected: list[list[Message]], got: list[list[Message]], *, own: bool = False) -> str:
    """Where two records of a dialogue differ, for a person to read; empty if they don't."""
    for number, (theirs, ours) in enumerate(zip(expected, got, strict=False)):
        left = [show(one, own=own) for one in theirs]
        right = [show(one, own=own) for one in ours]
        if number == 0:
            left, right = _welcome(left), _welcome(right)
        if left != right:
            lines = difflib.unified_diff(left, right, "PostgreSQL", "pglido", n=1, lineterm="")
            return f"step {number}\n" + "\n".join(lines)
    if len(expected) != len(got):
        return f"PostgreSQL answered {len(expected)} steps, pglido {len(got)}"
    return ""


def _welcome(shown: list[str]) -> list[str]:
    """The login's reply with its ParameterStatus messages sorted; of a failed login the error alone."""
    if any(line.startswith("E ") for line in shown):
        return [line for line in shown if not line.startswith("R ")]
    statuses = sorted(line for line in shown if line.startswith("S "))
    others = [line if not line.startswith("S ") else "S" for line in shown]
    return others + statuses


def show(one: Message, *, own: bool = False) -> str:
    """One message as text, without what may differ; equal texts are equal messages."""
    if not one.kind:
        return "(closed)"
    if one.kind == "K":
        return f"K with a key of {len(one.body) - 4} bytes"
    if one.kind in "EN":
        fields = one.fields
        if own and one.kind == "E":
            fields = {code: fields.get(code, "") for code in "SVCM"}
        return f"{one.kind} {fields}"
    if one.kind == "D":
        return f"D {[_short(value) for value in one.row]}"
    return f"{one.kind} {_short(one.body)!s}"


def _short(value: bytes | None) -> str:
    if value is None or len(value) <= 300:
        return repr(value)
    return f"{value[:60]!r}... {len(value)} bytes, hash {hash(value)}"
