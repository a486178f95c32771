cimport cython

from pglido.transport.kernel cimport epoll_event
from pglido.transport.connection cimport Link, Watched
from pglido.transport.rounds cimport Rounds

cdef Py_ssize_t ARRIVALS, BUFFER

@cython.final
cdef class EpollBackend(Rounds):
    cdef int epoll
    cdef bytearray arrivals
    cdef list graves

    cdef int receive_all(self, epoll_event* events, int count) except -1
    cdef int flush(self) except -1
