"""What takes away all prepared statements of one server at once (DEALLOCATE ALL, DISCARD ALL), or makes plans stale.

                 Bind of such a text            Execute
    NONE -----------------------> BOUND -----------------------> BOUND_SENT
     ^ ^      the block is over    | ^       all is answered         | ^
     | +---------------------------+ +-------------------------------+ |
     |                                                                 |
     |  a Query of such a text              Bind of such a text        |
     +----------------------------> SENT ------------------------------+
            all is answered

SENT: what names and plans mean to what follows is known when the server has answered all that it was sent; so what
follows is not sent before (`Client._comes_early`). BOUND: a portal of this transaction does that each time when it is
executed. SENT is said as well of what drops single statements, and of what may make the client's first temporary
object where there were others (`ServerFlow.decides`).
"""

from ..transitions import Machine

# States; the bits can be asked for.
NONE = 0
BOUND = 1
SENT = 2
BOUND_SENT = BOUND | SENT

# Events.
BINDS = 0
EXECUTES = 1
SENDS = 2
ANSWERED = 3
BLOCK_OVER = 4

TABLE = {
    NONE: {BINDS: BOUND, SENDS: SENT},
    BOUND: {BINDS: BOUND, EXECUTES: BOUND_SENT, SENDS: BOUND_SENT, BLOCK_OVER: NONE},
    SENT: {BINDS: BOUND_SENT, SENDS: SENT, ANSWERED: NONE},
    BOUND_SENT: {BINDS: BOUND_SENT, EXECUTES: BOUND_SENT, SENDS: BOUND_SENT, ANSWERED: BOUND},
}
DEALLOCATION = Machine(
    "deallocate all",
    {NONE: "none", BOUND: "bound", SENT: "sent", BOUND_SENT: "bound and sent"},
    {BINDS: "bind", EXECUTES: "execute", SENDS: "send", ANSWERED: "answered", BLOCK_OVER: "block over"},
    TABLE,
)
