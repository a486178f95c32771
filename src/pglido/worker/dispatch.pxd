cimport cython

from pglido.relay.host_interface cimport Keeper
from pglido.relay.links cimport ClientLink, ServerLink
from pglido.relay.relay cimport Pump
from pglido.ipc.shared_cells cimport SharedCells
from pglido.pooling.queue cimport Ticket
from pglido.pooling.pool cimport Pool, ServerSlot
from pglido.pooling.stats cimport Stats
from pglido.session.state.budget cimport MemoryBudget
from pglido.session.client.dispatch cimport Client
from pglido.worker.login.access_log cimport Journal
from pglido.worker.connections cimport Backend, Guest

cdef int CLIENTS, CLOSING, MASK

cdef class Exchange(Keeper):
    cdef public int index
    cdef public long long serial
    cdef public bint draining
    cdef public dict guests
    cdef public dict lingering
    cdef public Pump pump
    cdef public str no_ring
    cdef public object outside
    cdef public object freed
    cdef bint giving
    cdef public Journal journal
    cdef public SharedCells board
    cdef public long long most
    cdef public MemoryBudget budget
    cdef dict __dict__

    cpdef bint crowded(self, Guest guest) except -1

    @cython.locals(pool=Pool, guest=Guest, session=Client, slot=ServerSlot, now=double, birth=object)
    cpdef bint attach(self, ClientLink client) except -1

    @cython.locals(guest=Guest)
    cpdef void client_gone(self, ClientLink client, str why) except *

    @cython.locals(ticket=Ticket)
    cpdef void end(self, Guest guest, str why, bytes last=*) except *

    cdef int _pair(self, Guest guest, Backend backend) except -1

    @cython.locals(backend=Backend)
    cpdef void released(self, ServerLink server) except *

    cpdef long long next_serial(self) except -1

    cpdef int give(self, Backend backend) except -1

    @cython.locals(slot=ServerSlot, pool=Pool, ticket=Ticket)
    cdef int _give(self, Backend backend) except -1

    @cython.locals(guest=Guest, stats=Stats)
    cpdef void serve(self, Ticket ticket, Backend backend) except *
