from libc.stdint cimport uint64_t

from pglido.io.kernel_ring cimport KernelRing
from pglido.io.links cimport ClientLink, Link, Watched
from pglido.io.pump cimport Pump

cdef int RAW, RELAY
cdef int LENT_SIZE, CLIENT_BULK, CALM, MUCH, QUEUE_LIMIT, SLICE
cdef int NOTHING, POLL, RECEIVE
cdef int OTHER, COMING, GOING, SENT, WHICH

cdef uint64_t named(object thing, int kind) noexcept
cdef int which(uint64_t name) noexcept
cdef object whose(uint64_t name)

cdef class RingPump(Pump):
    cdef KernelRing ring
    cdef Py_ssize_t got
    cdef list changed
    cdef list ripe
    cdef list aside
    cdef list flights

    cdef void change(self, Link link) except *
    cdef bint ours(self, Link link) noexcept
    cdef int bulk(self, Link link) noexcept
    cdef void say(self, Link link) except *
    cdef void say_in(self, Link link) except *
    cdef void say_out(self, Link link) except *
    cdef void say_watched(self, Watched watched) except *
    cdef void enter(self, int timeout) except *
    cdef void land(self) except *
    cdef void fell_short(self, Link link, int result) except *
    cdef void reap(self, list out) except *
    cdef void done(self, uint64_t name, int result, unsigned int flags, list out) except *
    cdef void done_in(self, Link link, int result, unsigned int flags) except *
    cdef void received(self, Link link, char* data, Py_ssize_t size) except *
    cdef void done_out(self, Link link, int result) except *
    cdef void done_watched(self, Watched watched, int result, list out) except *
    cdef void ripen(self, Link link) except *
