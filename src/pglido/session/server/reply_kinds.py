"""What an entry in the queue of owed replies says: one kind, and whose the answer is.

    (no mark)  the server answers, and the answer is the client's
    INTERNAL   pglido asked, not the client: the answer is not passed on

and besides STATEMENT: it is a shared statement that a Describe is about.

COPY_END is no question: it marks where the client ended its COPY data, which decides whether a Sync sent before
it was read by the server or ignored (protocol chapter "COPY Operations").
"""

PARSING = 1
BINDING = 2
DESCRIBING = 3
EXECUTING = 4
CLOSING = 5
SYNCING = 6
QUERYING = 7
CALLING = 8
COPY_END = 9
# pglido's own queries that may fail: asking what became of the session, and trying what need not work.
ASKING = 10
TRYING = 11

KIND = 0x0F
INTERNAL = 0x10
STATEMENT = 0x20

NAMES = "?", "parse", "bind", "describe", "execute", "close", "sync", "query", "call", "copy_end", "ask", "try"

# A pipeline longer than this is no pipeline but an attack on our memory; real ones stay below thousands.
MAX_OWED = 1 << 20
