"""The batch on one server connection: what the client has sent since its last Sync, and what the server waits for.

                  message             Execute                Query
        NONE ---------------> OPEN ------------> EXECUTED ----------> PIPED
         ^                     |  Sync              | Sync              | message, Execute, Query
         +---------------------+--------------------+                   v
         ^                                                     PIPED_OPEN, PIPED_EXECUTED
         |            Sync; or the server is idle and owes nothing      |
         +--------------------------------------------------------------+

    any state -- error: the server reads on to a Sync that is still to come --> SKIPPING -- Sync --> NONE
    any other -- the server asks for COPY data --> COPYING -- CopyDone, CopyFail, an error, a message that is out of
                                                    place there --> what it was before, and then as above

`message` is a Parse, Bind, Describe or Close. A Query ends a batch; behind one that has an Execute, PIPED, the implicit
transaction goes on (since PostgreSQL 18): a Sync of pglido's own would commit it. A Sync that came while the server
read COPY data is ignored by it, and the batch is open again (SYNC_IGNORED). A ReadyForQuery that nothing asked for
(UNASKED) answers a Sync that was sent while COPY data was, as the server had refused the COPY already.

Events are the kinds of replies that the client's messages ask for (`reply_kinds`), and what the server says.
"""

from ..transitions import Machine
from .reply_kinds import (
    BINDING,
    CALLING,
    CLOSING,
    COPY_END,
    DESCRIBING,
    EXECUTING,
    NAMES,
    PARSING,
    QUERYING,
    SYNCING,
)

# States. Their bits can be asked for: OPEN is in all that have messages since the last Sync or Query, COPYING in all in
# which the server reads COPY data.
NONE = 0
OPEN = 1
EXECUTED = 2 | OPEN
PIPED = 4
PIPED_OPEN = PIPED | OPEN
PIPED_EXECUTED = PIPED | EXECUTED
SKIPPING = 8
COPYING = 16
# UNSYNCED: the client's next Sync ends what it began, so that one of pglido's own would be too early. GOES_ON: behind a
# Query that is sent now it would be.
UNSYNCED = OPEN | PIPED
GOES_ON = PIPED_EXECUTED & ~OPEN

# Events, besides kinds of replies.
COPY_BEGINS = 10
SYNC_IGNORED = 11
# The server has ended the COPY, if there was one: by an error, or as its turn is over.
COPY_OVER = 12
SKIPS = 13
# ReadyForQuery: idle, and nothing more is owed.
RESTED = 14
UNASKED = 15

_STARTS = (PARSING, BINDING, DESCRIBING, CLOSING)
_ENDS = (QUERYING, CALLING)
_EVENTS = {kind: NAMES[kind] for kind in (*_STARTS, EXECUTING, SYNCING, *_ENDS, COPY_END)} | {
    COPY_BEGINS: "copy begins",
    SYNC_IGNORED: "sync ignored",
    COPY_OVER: "copy over",
    SKIPS: "skips",
    RESTED: "rested",
    UNASKED: "unasked",
}
_STATES = {
    NONE: "none",
    OPEN: "open",
    EXECUTED: "executed",
    PIPED: "piped",
    PIPED_OPEN: "piped, open",
    PIPED_EXECUTED: "piped, executed",
    SKIPPING: "skipping",
    COPYING: "copying",
    COPYING | OPEN: "copying, open",
    COPYING | EXECUTED: "copying, executed",
    COPYING | PIPED: "copying, piped",
    COPYING | PIPED_EXECUTED: "copying, piped, executed",
}


def _sent(start: int, executed: int, ended: int) -> dict[int, int]:
    """A row for what the client may send: `start` comes of a message, `executed` of an Execute, `ended` of a Query."""
    row = dict.fromkeys(_STARTS, start) | dict.fromkeys(_ENDS, ended)
    return row | {EXECUTING: executed}


# What comes of the client's messages while the server reads COPY data is the same: out of place, they end the COPY.
_SENT = {
    NONE: _sent(OPEN, EXECUTED, NONE),
    OPEN: _sent(OPEN, EXECUTED, NONE),
    EXECUTED: _sent(EXECUTED, EXECUTED, PIPED),
    PIPED: _sent(PIPED_OPEN, PIPED_EXECUTED, PIPED),
    PIPED_OPEN: _sent(PIPED_OPEN, PIPED_EXECUTED, PIPED),
    PIPED_EXECUTED: _sent(PIPED_EXECUTED, PIPED_EXECUTED, PIPED),
}
_RESTED = {state: state & ~PIPED for state in _SENT}


def _row(state: int) -> dict[int, int]:
    """What can happen while no COPY data is read."""
    row = _SENT[state] | {SYNCING: NONE, COPY_END: state, COPY_OVER: state, SKIPS: SKIPPING}
    return row | {RESTED: _RESTED[state], UNASKED: NONE}


def _copying(state: int) -> dict[int, int]:
    """What can happen while COPY data is read, where without that it were `state`."""
    row = _SENT[state] | {COPY_END: state, COPY_OVER: state, COPY_BEGINS: COPYING | state, SKIPS: SKIPPING}
    return row | {RESTED: _RESTED[state], UNASKED: NONE}


TABLE = {
    NONE: _row(NONE) | {COPY_BEGINS: COPYING, SYNC_IGNORED: OPEN},
    OPEN: _row(OPEN) | {COPY_BEGINS: COPYING | OPEN, SYNC_IGNORED: OPEN},
    EXECUTED: _row(EXECUTED) | {COPY_BEGINS: COPYING | EXECUTED, SYNC_IGNORED: EXECUTED},
    PIPED: _row(PIPED) | {COPY_BEGINS: COPYING | PIPED},
    PIPED_OPEN: _row(PIPED_OPEN),
    PIPED_EXECUTED: _row(PIPED_EXECUTED)
    | {COPY_BEGINS: COPYING | PIPED_EXECUTED, SYNC_IGNORED: PIPED_EXECUTED},
    SKIPPING: {SYNCING: NONE, COPY_OVER: SKIPPING, UNASKED: NONE},
    COPYING: _copying(NONE),
    COPYING | OPEN: _copying(OPEN) | {SYNC_IGNORED: COPYING | OPEN},
    COPYING | EXECUTED: _copying(EXECUTED) | {SYNC_IGNORED: COPYING | EXECUTED},
    COPYING | PIPED: _copying(PIPED),
    COPYING | PIPED_EXECUTED: _copying(PIPED_EXECUTED) | {SYNC_IGNORED: COPYING | PIPED_EXECUTED},
}  # fmt: skip
BATCH = Machine("batch", _STATES, _EVENTS, TABLE)
