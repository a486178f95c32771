from pglido.transport.connection cimport Link
from pglido.pooling.stats cimport Stats
from pglido.session.client.dispatch cimport Client
from pglido.session.server.reader cimport Server

cdef int CLIENT_BULK, FLOW, HANDLED, HUNG_UP, ILLEGAL, KEEP, SHIFT, STOP
cdef bytes NEXT_STAGES
cdef const unsigned char* _next

cdef class ServerLink(Link):
    cdef public Server session
    cdef public ClientLink client

cdef class ClientLink(Link):
    cdef public Client session
    cdef public ServerLink server
    cdef public Stats stats
    cdef readonly int stage
    cdef public bint waiting
    cdef public bint paused
    cdef public bint holds
    cdef public bint listens
    cdef public bint late
    cdef public bint tied
    cdef public bytearray notes
    cdef public double started
    cdef public double asked
    cdef public double rested

    cpdef int on_stage(self, int event) except -1
