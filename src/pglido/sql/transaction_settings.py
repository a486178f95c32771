"""What a question sets for its own transaction, so that it costs the same under any settings of the client's.

What a question sets can't be told, by that question, from what the client has set to the value that it has by default.
"""

from collections.abc import Iterable

# The versions that brought settings of the tables below, where not all have them.
SINCE = {"transaction_timeout": 17, "enable_presorted_aggregate": 16, "recursive_worktable_factor": 15}

# What holds while settings are asked for: compiling a question takes a second, a parallel worker milliseconds.
# Manual: "Statement Behavior", "Other Planner Options", "Asynchronous Behavior", "What to Log", "Memory".
HINDERING = {
    "statement_timeout": "0",
    # Who has a lock on a catalog makes clients wait for so long at most.
    "lock_timeout": "10s",
    "transaction_timeout": "0",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
    "debug_print_plan": "off",
    "work_mem": "4MB",
    "hash_mem_multiplier": "2",
}
# What holds besides while catalogs are read: what PostgreSQL comes with. Manual: "Query Planning", "Resource
# Consumption", "Previous PostgreSQL Versions".
PLANNER = {
    "quote_all_identifiers": "off",
    "row_security": "on",
    "enable_bitmapscan": "on",
    "enable_hashagg": "on",
    "enable_hashjoin": "on",
    "enable_incremental_sort": "on",
    "enable_indexonlyscan": "on",
    "enable_indexscan": "on",
    "enable_material": "on",
    "enable_memoize": "on",
    "enable_mergejoin": "on",
    "enable_nestloop": "on",
    "enable_presorted_aggregate": "on",
    "enable_seqscan": "on",
    "enable_sort": "on",
    "enable_tidscan": "on",
    "seq_page_cost": "1",
    "random_page_cost": "4",
    "cpu_tuple_cost": "0.01",
    "cpu_index_tuple_cost": "0.005",
    "cpu_operator_cost": "0.0025",
    "effective_cache_size": "4GB",
    "effective_io_concurrency": "16",
    "recursive_worktable_factor": "10",
    "from_collapse_limit": "8",
    "join_collapse_limit": "8",
    "geqo": "on",
    "geqo_threshold": "12",
}


def masked(names: Iterable[str], version: int) -> list[str]:
    """Those of these settings that PostgreSQL of this version has."""
    return [name for name in names if SINCE.get(name, 0) <= version]


def local(settings: dict[str, str], version: int) -> list[str]:
    """Statements that set these for the transaction alone."""
    return [f"SET LOCAL {name} TO '{settings[name]}'" for name in masked(settings, version)]
