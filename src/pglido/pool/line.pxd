cimport cython

cdef class Ticket:
    cdef public object client
    cdef public object birth
    cdef public object settings
    cdef public double since
    cdef public bint notified
    cdef public bint stands
    cdef public Ticket ahead
    cdef public Ticket behind

cdef class Line:
    cdef public Ticket front
    cdef public Ticket back
    cdef public Py_ssize_t size

    @cython.locals(ticket=Ticket)
    cpdef Ticket join(self, object client, object birth, object settings, double since)

    cpdef void leave(self, Ticket ticket) except *

    @cython.locals(ticket=Ticket)
    cpdef list all(self)
