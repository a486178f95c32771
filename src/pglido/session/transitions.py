"""Machines: the states that something can be in, what can happen in each, and which state comes of it.

A machine is a table {state: {event: next state}}, in a file of its own that also draws it. States and events are small
numbers, so that compiled code finds the next state in an array of bytes. What the table does not have can't happen,
whatever a client or a server sends: it is a bug of pglido's own. That raises `IllegalTransition`, which ends the
connection on which it was met, is logged and is counted (`worker.lifecycle.Lifecycle.failed`).
"""

from collections.abc import Mapping

# The next state for what is not in the table.
ILLEGAL = 255
# The events of one machine are below this; `state << SHIFT | event` is the place in its array.
SHIFT = 4


class IllegalTransition(Exception):
    """Something happened in a state in which it can't: a bug."""


class Machine:
    """A table with the names of its states and events; `array` has the next states, ILLEGAL where there is none."""

    def __init__(
        self, name: str, states: Mapping[int, str], events: Mapping[int, str], table: Mapping[int, Mapping[int, int]]
    ) -> None:
        if max(events) >= 1 << SHIFT or min(events) < 0 or table.keys() != states.keys():
            raise ValueError(f"{name}: not a table of these states and events")
        self.name = name
        self.states = states
        self.events = events
        self.table = table
        array = bytearray([ILLEGAL]) * (max(states) + 1 << SHIFT)
        for state, row in table.items():
            for event, after in row.items():
                if event not in events or after not in states:
                    raise ValueError(f"{name}: {event} leads from {state} to {after}")
                array[state << SHIFT | event] = after
        self.array = bytes(array)

    def illegal(self, state: int, event: int) -> IllegalTransition:
        """The error for an event that the table does not have in this state."""
        told = self.events.get(event, str(event)), self.states.get(state, str(state))
        return IllegalTransition(f"{self.name}: {told[0]} while {told[1]}")
