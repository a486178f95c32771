"""The functions that leave something in a session, or in its server process, by the sections of PostgreSQL's manual.

To be read beside the manual of PostgreSQL 16 to 18: chapters "Functions and Operators", "PL/Perl", "PL/Tcl", and
"PL/Python", and appendix "Additional Supplied Modules". What is in none of these sections leaves nothing. Statements
(SET, LOAD, LISTEN, DECLARE, PREPARE, CREATE TEMP) are in `keywords`.
"""

from typing import NamedTuple

# The flags of `keywords`, which are made there: the name of what a function leaves.
SEEDS = "SEEDS"
SETS = "SETS"
SEQUENCES = "SEQUENCES"
WRITES = "WRITES"
LISTENS = "LISTENS"
LOCKS = "LOCKS"
KEEPS = "KEEPS"
ANYTHING = "ANYTHING"


class SessionFunctions(NamedTuple):
    """Functions of one section of the manual, what they leave, and how that ends when the client has left."""

    section: str
    names: tuple[str, ...]
    leaves: str
    end: str
    # Which of their arguments, counted from 0, have SQL in them.
    run: tuple[int, ...] = ()


CLOSED = "the server is closed"
DISCARDED = "DISCARD ALL"
FOLLOWS = "follows the client; set back for the next one"
AS_OF_QUERY = "as of the query"

LASTING = (
    # Functions and Operators
    SessionFunctions("Mathematical Functions and Operators", ("setseed",), SEEDS, CLOSED),
    SessionFunctions(
        "Sequence Manipulation Functions", ("currval", "lastval"), SEQUENCES, "DISCARD SEQUENCES, and before that"
    ),
    SessionFunctions("Sequence Manipulation Functions", ("nextval", "setval"), WRITES, "DISCARD SEQUENCES"),
    SessionFunctions("System Information Functions and Operators", ("pg_listening_channels",), LISTENS, "UNLISTEN"),
    SessionFunctions(
        "Advisory Lock Functions",
        (
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
            "pg_advisory_unlock",
            "pg_advisory_unlock_shared",
            "pg_advisory_unlock_all",
        ),
        LOCKS,
        DISCARDED,
    ),
    # A backup runs in the process that began it, until that ends it or ends.
    SessionFunctions("Backup Control Functions", ("pg_backup_start", "pg_start_backup"), KEEPS, CLOSED),
    # Temporary slots, and the origin of what is replayed.
    SessionFunctions(
        "Replication Management Functions",
        (
            "pg_create_physical_replication_slot",
            "pg_create_logical_replication_slot",
            "pg_copy_physical_replication_slot",
            "pg_copy_logical_replication_slot",
            "pg_replication_origin_session_setup",
            "pg_replication_origin_session_reset",
        ),
        KEEPS,
        CLOSED,
    ),
    # These, and some of the modules below, run a query that is given as a value.
    SessionFunctions(
        "XML Functions",
        ("query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema"),
        ANYTHING,
        AS_OF_QUERY,
        (0,),
    ),
    SessionFunctions("Text Search Functions and Operators", ("ts_stat",), ANYTHING, AS_OF_QUERY, (0,)),
    SessionFunctions("Text Search Functions and Operators", ("ts_rewrite",), ANYTHING, AS_OF_QUERY, (1,)),
    # Additional Supplied Modules
    SessionFunctions("dblink", ("dblink_connect", "dblink_connect_u"), KEEPS, CLOSED),
    SessionFunctions(
        "postgres_fdw",
        ("postgres_fdw_get_connections", "postgres_fdw_disconnect", "postgres_fdw_disconnect_all"),
        KEEPS,
        CLOSED,
    ),
    SessionFunctions("pg_trgm", ("set_limit",), SETS, FOLLOWS),
    # Of the process in PostgreSQL 16 and 17, a setting in 18.
    SessionFunctions("isn", ("isn_weak",), KEEPS, CLOSED),
    SessionFunctions("sepgsql", ("sepgsql_setcon",), KEEPS, CLOSED),
    SessionFunctions(
        "tablefunc",
        ("crosstab", "crosstab2", "crosstab3", "crosstab4"),
        ANYTHING,
        AS_OF_QUERY,
        (0, 1),
    ),
    # Of these two the names of tables and columns are put into a query as they are.
    SessionFunctions("tablefunc", ("connectby",), ANYTHING, AS_OF_QUERY, (0, 1, 2, 3, 4)),
    SessionFunctions("xml2", ("xpath_table",), ANYTHING, AS_OF_QUERY, (0, 1, 2, 4)),
)

# The names of functions after which nobody but the client may have the server process.
KEEPING = tuple([name for row in LASTING if row.leaves == KEEPS for name in row.names])
# The arguments in which functions get SQL.
RUNNING = {name: row.run for row in LASTING if row.run for name in row.names}
# What the code of a function has that keeps something in its language's interpreter from call to call.
# Manual: "Global Values in PL/Perl", "Global Data in PL/Tcl", "Sharing Data" (PL/Python).
GLOBALS = r"_SHARED|\mGD\M|\mSD\M"
# The same words in lower case, and the languages that have them.
SHARED = ("_shared", "gd", "sd")
LANGUAGES = ("plperl", "plperlu", "plpython3u", "plpython2u", "plpythonu", "pltcl", "pltclu")
