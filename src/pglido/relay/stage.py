"""The stage of a client's connection: how far it has come on its way in, what it is there for, how it leaves.

               asks for TLS      SECURED                   secured
      ARRIVED -------------> TLS --------> ARRIVED         LOGIN --> ARRIVED
         | challenged                                        ^  | challenged, once its proof was judged beside the loop
         +----------------> PROVING <------------------------|--+
         |                     | long way, also to judge it  |
         +---------------------+-----------------------------+
         | welcomed            | welcomed                    | welcomed      | listens       | joined
         +---------------------+----------> SERVED <---------+          LISTEN_ONLY         RAW
                                              | hangs up behind a Terminate, which has not had its turn
                                              +-----------> HUNG_UP
                                              | terminates    | terminates, while it is owed answers
                                              +---------------+-----> LEAVING

      any of these -- ends: it is to go as soon as it has taken what is still to be sent --> LINGERING

Of one that is SERVED (HUNG_UP, LEAVING) its ticket and its server say whether it stands in line or is active: that is
where `worker.standing` looks, and nobody else.
"""

from ..session.transitions import Machine

# Stages. On its way in: nothing was said yet; a TLS handshake, and a proof, on the fast path; the long way.
ARRIVED = 0
TLS = 1
PROVING = 2
LOGIN = 3
# In: it has a session of a pool with servers; of a database that is for LISTEN only; its bytes pass unseen (console,
# replication).
SERVED = 4
LISTEN_ONLY = 5
RAW = 6
# On its way out, a session still.
HUNG_UP = 7
LEAVING = 8
# Its session is over.
LINGERING = 9

# Events.
ASKS_TLS = 0
SECURED = 1
CHALLENGED = 2
LONG_WAY = 3
WELCOMED = 4
LISTENS = 5
JOINED = 6
HANGS_UP = 7
TERMINATES = 8
ENDS = 9

STAGES = {
    ARRIVED: "arrived",
    TLS: "tls",
    PROVING: "proving",
    LOGIN: "login",
    SERVED: "served",
    LISTEN_ONLY: "listen only",
    RAW: "raw",
    HUNG_UP: "hung up",
    LEAVING: "leaving",
    LINGERING: "lingering",
}
EVENTS = {
    ASKS_TLS: "asks for tls",
    SECURED: "secured",
    CHALLENGED: "challenged",
    LONG_WAY: "long way",
    WELCOMED: "welcomed",
    LISTENS: "listens",
    JOINED: "joined",
    HANGS_UP: "hangs up",
    TERMINATES: "terminates",
    ENDS: "ends",
}
TABLE = {
    ARRIVED: {ASKS_TLS: TLS, CHALLENGED: PROVING, LONG_WAY: LOGIN, WELCOMED: SERVED, ENDS: LINGERING},
    TLS: {SECURED: ARRIVED, ENDS: LINGERING},
    PROVING: {LONG_WAY: LOGIN, WELCOMED: SERVED, ENDS: LINGERING},
    LOGIN: {
        SECURED: ARRIVED,
        CHALLENGED: PROVING,
        WELCOMED: SERVED,
        LISTENS: LISTEN_ONLY,
        JOINED: RAW,
        ENDS: LINGERING,
    },
    SERVED: {HANGS_UP: HUNG_UP, TERMINATES: LEAVING, ENDS: LINGERING},
    LISTEN_ONLY: {ENDS: LINGERING},
    RAW: {ENDS: LINGERING},
    HUNG_UP: {TERMINATES: LEAVING, ENDS: LINGERING},
    LEAVING: {ENDS: LINGERING},
    LINGERING: {},
}
STAGE = Machine("stage of a client", STAGES, EVENTS, TABLE)
