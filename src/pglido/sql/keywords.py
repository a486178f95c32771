"""The words that are watched for in a query, and the flags by which it is said what they may do."""

from .session_functions import LASTING

# What a text may do, as `scanner.scan` says it.
SETS = 1  # changes a setting beyond the transaction
TEMP = 2  # makes or names something temporary
HOLD = 4  # declares a cursor that outlives its transaction
LOCKS = 8  # takes or gives an advisory lock of the session
PREPARES = 16  # makes, runs or drops a prepared statement of SQL
LISTENS = 32  # begins or ends to listen, or asks to what
LOADS = 64  # loads a library
ENDS = 128  # begins a statement that may end what keeps a client on its server
SEEDS = 256  # seeds the session's random numbers
SEQUENCES = 512  # asks for the last value that this session took of a sequence
CREATES = 1024  # creates or alters what may become temporary by the search path
WRITES = 2048  # writes rows
DEFINES = 4096  # what functions do may be different afterwards
TAILS = 8192  # has more than one statement
ENTERS = 16384  # the first statement begins or ends a transaction or a part of it
KEEPS = 32768  # leaves in the server process what nothing takes away, or nobody can be asked for
SHOWS = 65536  # shows the prepared statements of the session
SIGNALS = 524288  # cancels or terminates what another session does
NOTIFIES = 262144  # sends a notification (131072 is no flag of a text: `session.state.state_query.UNNAMED`)
# What can't be known: all that a text may do, without the two flags that tell of its shape.
ANYTHING = SETS | TEMP | HOLD | LOCKS | PREPARES | LISTENS | LOADS | ENDS | SEEDS | SEQUENCES
ANYTHING |= CREATES | WRITES | DEFINES | KEEPS | NOTIFIES
# The same of a function that is called: whether it does what lasts for ever isn't said by the text that calls it.
CALLED = ANYTHING & ~(LOADS | SEEDS | KEEPS)
# Nor can be told how many statements there are.
UNREADABLE = ANYTHING | TAILS

# What else a word means, beyond its flags.
SET = 1
PREPARE = 2
LEAD = 3  # in front of a statement that is explained
DEFINE = 4
DEFINED = 5
CONFIG = 6
BODY = 7
CASE = 8
CEASE = 9
SETTINGS = 10
RUNS = 11  # a function that runs SQL given as a value

# The words that are watched for: flags wherever it stands, flags where a statement begins with it, what else it means.
KEYWORDS: dict[str, tuple[int, int, int]] = {
    "set": (0, SETS, SET),
    "reset": (0, SETS | ENDS, 0),
    "discard": (0, SETS | ENDS, 0),
    "temp": (TEMP, 0, 0),
    "temporary": (TEMP, 0, 0),
    "hold": (HOLD, 0, 0),
    "prepare": (0, PREPARES, PREPARE),
    "deallocate": (0, PREPARES | ENDS, 0),
    "execute": (PREPARES, 0, 0),
    "listen": (0, LISTENS, 0),
    "unlisten": (0, LISTENS, 0),
    "notify": (0, NOTIFIES, 0),
    "load": (0, LOADS, 0),
    "close": (0, ENDS, 0),
    "create": (0, CREATES, DEFINE),
    "alter": (0, CREATES, DEFINE),
    "drop": (0, ENDS, DEFINE),
    "import": (0, CREATES, 0),
    "insert": (WRITES, 0, 0),
    "update": (WRITES, 0, 0),
    "delete": (WRITES, 0, 0),
    "merge": (WRITES, 0, 0),
    "copy": (WRITES, 0, 0),
    "truncate": (WRITES, 0, 0),
    "function": (0, 0, DEFINED),
    "procedure": (0, 0, DEFINED),
    "routine": (0, 0, DEFINED),
    "aggregate": (0, 0, DEFINED),
    "trigger": (0, 0, DEFINED),
    "extension": (0, 0, DEFINED),
    "language": (0, 0, DEFINED),
    "schema": (0, 0, DEFINED),
    "rule": (0, 0, DEFINED),
    "begin": (0, ENTERS, BODY),
    "start": (0, ENTERS, 0),
    "commit": (0, ENTERS, 0),
    "end": (0, ENTERS, CEASE),
    "rollback": (0, ENTERS, 0),
    "abort": (0, ENTERS, 0),
    "savepoint": (0, ENTERS, 0),
    "release": (0, ENTERS, 0),
    "case": (0, 0, CASE),
    "explain": (0, 0, LEAD),
    "analyze": (0, 0, LEAD),
    "analyse": (0, 0, LEAD),
    "verbose": (0, 0, LEAD),
    "do": (0, ANYTHING, 0),
    "call": (0, ANYTHING, 0),
    # It follows an identifier that is spelled in an escape of its own.
    "uescape": (UNREADABLE, 0, 0),
}
# What functions leave (see `session_functions`).
LEFT = {
    "SEEDS": SEEDS,
    "SETS": SETS,
    "SEQUENCES": SEQUENCES,
    "WRITES": WRITES,
    "LISTENS": LISTENS,
    "LOCKS": LOCKS,
    "KEEPS": KEEPS,
    "ANYTHING": ANYTHING,
}
# The same for names, which may be quoted.
NAMES: dict[str, tuple[int, int, int]] = {
    "set_config": (0, 0, CONFIG),
    # UPDATE of this view is set_config.
    "pg_settings": (0, 0, SETTINGS),
    # What a string constant is, is different afterwards.
    "standard_conforming_strings": (ANYTHING, 0, 0),
    "pg_temp": (TEMP, 0, 0),
    # Leaves nothing, but is to be noticed (see `analysis.RELOADED`).
    "pg_reload_conf": (CREATES, 0, 0),
    "pg_prepared_statements": (SHOWS, 0, 0),
    "pg_prepared_statement": (SHOWS, 0, 0),
    "pg_notify": (NOTIFIES, 0, 0),
    "pg_cancel_backend": (SIGNALS, 0, 0),
    "pg_terminate_backend": (SIGNALS, 0, 0),
    **{name: (LEFT[row.leaves], 0, RUNS if row.run else 0) for row in LASTING for name in row.names},
}
