from pglido.pooling.pool cimport Pool
from pglido.pooling.stats cimport Stats
from pglido.session.client.dispatch cimport Client
from pglido.session.state.parameters cimport SessionParameters
from pglido.session.state.shared cimport PoolRules
from pglido.worker.cancel_keys cimport pid_of
from pglido.worker.connections cimport ClientConnection
from pglido.worker.dispatch cimport Dispatch

cdef int HANDLED, WELCOMED

cdef class LoginTemplate:
    cdef public object runtime
    cdef public Pool pool
    cdef public Stats stats
    cdef public int version
    cdef public PoolRules rules
    cdef public SessionParameters settings
    cdef public SessionParameters defaults
    cdef public object session_defaults
    cdef public long long generation
    cdef public tuple began
    cdef public bytes welcome
    cdef public str user
    cdef public int minor
    cdef public bytes known_as
    cdef public bint lends

cpdef void greet(Dispatch lifecycle, ClientConnection client, LoginTemplate template, bytes last) except *
