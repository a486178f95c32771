from pglido.io.links cimport Link, Watched
from pglido.io.pump cimport Pump

cdef class EpollPump(Pump):
    cdef int epoll
    cdef list graves
