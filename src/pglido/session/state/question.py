"""The question that a server is asked about the state of its session: how far it has come.

               ask                     all rows are there
    NONE ----------------> SENT --------------------------> ANSWERED ---+
     ^ |                    |                                           |
     | +--------------> DECIDING -------------------------> DECIDED ----+
     |  ask, where the      |                                           |
     |  client must wait    | ReadyForQuery                             | ReadyForQuery
     +----------------------+-------------------------------------------+

What it is asked about, the flags of `sql.scanner`, has a state for each flag: a statement makes it DUE (`unverified`);
with the question it is SENT (`StateQuery.flags`); an answer ends that. Where ReadyForQuery comes without one (a cancel,
a timeout) it is UNANSWERED (`SessionState._unanswered`), pins the client, and is DUE again when that goes on.
"""

from ..transitions import Machine

# States; the bits can be asked for: SENT while rows are to come, WAITS while the client must not go on.
NONE = 0
SENT = 1
WAITS = 2
ANSWERED = 4
DECIDING = SENT | WAITS
DECIDED = ANSWERED | WAITS

# Events.
ASK = 0
ASK_DECIDING = 1
ANSWER = 2
READY = 3

TABLE = {
    NONE: {ASK: SENT, ASK_DECIDING: DECIDING},
    SENT: {ANSWER: ANSWERED, READY: NONE},
    DECIDING: {ANSWER: DECIDED, READY: NONE},
    ANSWERED: {READY: NONE},
    DECIDED: {READY: NONE},
}
QUESTION = Machine(
    "question",
    {NONE: "none", SENT: "sent", DECIDING: "deciding", ANSWERED: "answered", DECIDED: "decided"},
    {ASK: "ask", ASK_DECIDING: "ask, the client waits", ANSWER: "answer", READY: "ready"},
    TABLE,
)
