from pglido.transport.buffering cimport Buffering
from pglido.transport.connection cimport Link
from pglido.transport.handler cimport Handler

cdef int COLLECT, CONNECTING, HANDLED, RAW

cdef class Transport(Buffering):
    cdef public Handler handler
    cdef public list paused
    cdef public double now
    cdef public double mark
    cdef double worst
    cdef double limit
    cdef Link slowest
    cdef int slow_kind

    cpdef list turn(self, int timeout)
    cpdef list serve(self, double timeout, object ready)
    cpdef int meet(self, Link link) except -1
    cdef int guard(self, Link link, unsigned int events) except -1
    cdef int spent(self, Link link, double now) except -1
    cdef object on_event(self, Link link, unsigned int events)
    cdef object lost(self, Link link)
    cdef int resume_paused(self, list paused) except -1
    cdef int overlong(self, double seconds) except -1
