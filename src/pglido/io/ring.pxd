from libc.stdint cimport uint64_t

from pglido.io.asking cimport Asking
from pglido.io.links cimport ClientLink, Link, Watched

cdef int LENT_SIZE, CLIENT_BULK, CALM, MUCH, QUEUE_LIMIT, SLICE

cdef class RingPump(Asking):
    cdef Py_ssize_t got
    cdef list aside

    cdef void enter(self, int timeout) except *
    cdef void land(self) except *
    cdef int bulk(self, Link link) noexcept
    cdef void fell_short(self, Link link, int result) except *
    cdef void reap(self, list out) except *
    cdef void done(self, uint64_t name, int result, unsigned int flags, list out) except *
    cdef void done_in(self, Link link, int result, unsigned int flags) except *
    cdef void received(self, Link link, char* data, Py_ssize_t size) except *
    cdef void done_out(self, Link link, int result, unsigned int flags) except *
    cdef void done_watched(self, Watched watched, int result, list out) except *
    cdef void ripen(self, Link link) except *
