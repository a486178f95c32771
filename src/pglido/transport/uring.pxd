cimport cython
from libc.stdint cimport uint64_t

from pglido.transport.uring_requests cimport UringRequests
from pglido.transport.connection cimport Link, Watched
from pglido.transport.rounds cimport Rounds

@cython.final
cdef class UringBackend(UringRequests):
    cdef object aside

    cdef object enter(self, int timeout)
    cdef object land(self)
    cdef object fell_short(self, Link link, int result)
    cdef object reap(self, list out)
    cdef object done(self, uint64_t name, int result, unsigned int flags, list out)
    cdef object done_in(self, Link link, int result, unsigned int flags)
    cdef object received(self, Link link, char* data, Py_ssize_t size)
    cdef object done_out(self, Link link, int result, unsigned int flags)
    cdef object done_watched(self, Watched watched, int result, list out)
