cimport cython

from pglido.io.pump cimport Pump
from pglido.pool.pool cimport Pool, Slot, Ticket
from pglido.pool.stats cimport Stats
from pglido.session.client cimport Client
from pglido.worker.links cimport Backend, Guest

cdef int CLOSING

cdef class Exchange:
    cdef public Pump pump
    cdef public str no_ring
    cdef public object outside
    cdef public list freed
    cdef bint giving
    cdef dict __dict__

    @cython.locals(pool=Pool, session=Client, slot=Slot, now=double, birth=object, ticket=Ticket)
    cpdef bint attach(self, Guest guest) except -1

    cpdef void released(self, Backend backend) except *

    cpdef void give(self, Backend backend) except *

    @cython.locals(slot=Slot, pool=Pool, ticket=Ticket)
    cdef void _give(self, Backend backend) except *

    @cython.locals(guest=Guest, stats=Stats)
    cpdef void serve(self, Ticket ticket, Backend backend) except *
