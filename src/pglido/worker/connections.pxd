cimport cython

from pglido.relay.links cimport ClientLink, ServerLink
from pglido.transport.tls_record cimport TlsRecords
from pglido.pooling.queue cimport Ticket
from pglido.pooling.pool cimport Pool, ServerSlot
from pglido.pooling.stats cimport Stats
from pglido.worker.login.scram_login cimport ScramLogin

cdef bytes HEX
cdef bytes _SAME
cdef int UUID_SIZE

@cython.locals(at=int)
cdef void put_uuid(char* text, long long serial) noexcept

cpdef str uuid_of(long long serial)

cdef class ClientConnection(ClientLink):
    cdef public long long serial
    cdef public str address
    cdef public double born
    cdef public str user
    cdef public int minor
    cdef public object runtime
    cdef public Pool pool
    cdef public Ticket ticket
    cdef public object login
    cdef public ScramLogin proving
    cdef public TlsRecords handshake
    cdef public tuple claims
    cdef public bint cancel_wanted
    cdef public Py_ssize_t period
    cdef public bint hears
    cdef public int declined
    cdef public object listen_only
    cdef public object listener
    cdef public bytes known_as
    cdef public long long generation
    cdef public object session_defaults
    cdef public object fitted

    cpdef bytes name_for_log(self)

cdef class ServerConnection(ServerLink):
    cdef public long long serial
    cdef public str address
    cdef public double born
    cdef public object runtime
    cdef public Stats stats
    cdef public ServerSlot slot
    cdef public object place
    cdef public int pid
    cdef public bytes key
    cdef public int cancels
    cdef public double deadline
    cdef public bint reset_due
    cdef public bint always_reset
    cdef public double pinned
    cdef public tuple claims
    cdef public dict reported
    cdef public object session_defaults
