cimport cython

from pglido.session.state.budget cimport MemoryBudget
from pglido.session.state.parameters cimport SessionParameters

cdef Py_ssize_t GONE

cdef class StatementCounts:
    cdef public long long client_parses
    cdef public long long server_parses
    cdef public long long binds

cdef class FunctionCatalog:
    cdef public bint known
    cdef public frozenset touchy
    cdef public bint triggers
    cdef public tuple settings
    cdef public frozenset vague
    cdef public frozenset counting
    cdef public frozenset notifying
    cdef public bint notify_triggers
    cdef public frozenset keeping
    cdef public frozenset pinning
    cdef public frozenset redefining
    cdef public long long version
    cdef public long long findings
    cdef public object since
    cdef public str defaults
    cdef public str user

    cpdef void pin(self, frozenset names) except *
    cpdef void learn(self, object found) except *
    cdef tuple _matter(self)

cdef class PoolRules:
    cdef public bint rewrite
    cdef public bint block
    cdef public bint keep
    cdef public int inspected
    cdef public bint defer
    cdef public FunctionCatalog functions
    cdef public object good
    cdef public StatementCounts counts
    cdef public Py_ssize_t max_statements
    cdef public Py_ssize_t max_packet
    cdef public tuple realm

cdef class StatementsView:
    cdef public dict changed
    cdef public dict gone

    cdef int put(self, bytes name) except -1
    cdef int take(self, bytes name) except -1

cdef class ClientState:
    cdef public PoolRules rules
    cdef public SessionParameters home
    cdef public SessionParameters settings
    cdef public SessionParameters defaults
    cdef public tuple began
    cdef public dict statements
    cdef dict _names
    cdef public StatementsView view
    cdef public bytes unnamed
    cdef public long long unnamed_id
    cdef public int unnamed_flags
    cdef public MemoryBudget budget
    cdef public Py_ssize_t kept
    cdef public Py_ssize_t names
    cdef public Py_ssize_t shares
    cdef public set unparsed
    cdef public dict settled
    cdef public dict marks
    cdef public frozenset channels
    cdef public long long process
    cdef public Py_ssize_t passing

    cdef int begin(self, SessionParameters home, PoolRules rules, MemoryBudget budget) except -1
    cdef int keep(self, Py_ssize_t size) except -1
    cpdef int put_channels(self, frozenset channels) except -1
    cpdef int put_unnamed(self, bytes rest, long long number, int flags) except -1
    cpdef int put_statement(self, bytes name, object statement) except -1
    cpdef object take_statement(self, bytes name)
    cdef dict take_statements(self)
    cpdef dict own_names(self)
    cdef int expect_parse(self, bytes name) except -1
    cdef int settle(self, bytes name) except -1
    cdef int parsed(self, bytes name) except -1
