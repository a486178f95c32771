cimport cython

from pglido.io.pump cimport Pump
from pglido.worker.exchange cimport Exchange
from pglido.worker.links cimport Guest

cdef int CLIENTS, ACCEPTED, LONGEST, REGULARS
cdef int RELAY, SSL_REQUEST
cdef bytes NO, SSL_PACKET

cdef class Regular:
    cdef public str user
    cdef public int minor
    cdef public object live
    cdef public object home
    cdef public object profile

cpdef void greet(Exchange host, Guest guest, object profile, bytes last) except *

cdef class Porch:
    cdef public Exchange host
    cdef public object board
    cdef public object regulars

    cpdef void forget(self) except *
    cpdef void remember(self, bytes packet, Regular regular) except *

    @cython.locals(host=Exchange, guest=Guest, serial="long long")
    cpdef void arrive(self, int fd, str address, object door) except *

    @cython.locals(said=bytes, regular=Regular)
    cpdef void knock(self, Guest guest, object door) except *

    @cython.locals(host=Exchange)
    cdef bint _greet(self, Guest guest, Regular regular) except -1
