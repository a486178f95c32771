cimport cython

from pglido.relay.dispatcher cimport Dispatcher
from pglido.relay.links cimport ClientLink, ServerLink
from pglido.relay.relay cimport Relay
from pglido.ipc.shared_cells cimport SharedCells
from pglido.pooling.queue cimport Ticket
from pglido.pooling.pool cimport Pool, ServerSlot
from pglido.pooling.stats cimport Stats
from pglido.session.state.budget cimport MemoryBudget
from pglido.session.client.dispatch cimport Client
from pglido.transport.transport cimport Transport
from pglido.worker.login.access_log cimport AccessLog
from pglido.worker.cancel_keys cimport CancelKeys
from pglido.worker.connections cimport ServerConnection, ClientConnection

cdef int CLIENTS, CLOSING, ENDS, MASK, SERIALS

cdef class Dispatch(Dispatcher):
    cdef public int index
    cdef public long long serial
    cdef public CancelKeys cancel_keys
    cdef public bint draining
    cdef public dict clients
    cdef public dict lingering
    cdef public Transport transport
    cdef public Relay relay
    cdef public str no_ring
    cdef public object cancels
    cdef public object freed
    cdef bint giving
    cdef public AccessLog access_log
    cdef public SharedCells counters
    cdef public long long most
    cdef public MemoryBudget budget
    cdef dict __dict__

    cpdef bint over_limit(self, ClientConnection client) except -1

    @cython.locals(pool=Pool, client=ClientConnection, session=Client, slot=ServerSlot, now=double, startup_params=object)
    cpdef bint attach(self, ClientLink link) except -1

    @cython.locals(client=ClientConnection)
    cpdef void client_gone(self, ClientLink link, str why) except *

    @cython.locals(ticket=Ticket)
    cpdef void end(self, ClientConnection client, str why, bytes last=*) except *

    cdef int _pair(self, ClientConnection client, ServerConnection server) except -1

    @cython.locals(server=ServerConnection)
    cpdef void released(self, ServerLink link) except *

    @cython.locals(step=int)
    cpdef long long next_serial(self) except -1

    cpdef int give(self, ServerConnection server) except -1

    @cython.locals(slot=ServerSlot, pool=Pool, ticket=Ticket)
    cdef int _give(self, ServerConnection server) except -1

    @cython.locals(client=ClientConnection, stats=Stats)
    cpdef void serve(self, Ticket ticket, ServerConnection server) except *
