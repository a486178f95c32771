from libc.stdint cimport uint64_t

from pglido.transport.uring_kernel cimport UringKernel
from pglido.transport.connection cimport Link, Watched
from pglido.transport.rounds cimport Rounds

# What of a link is with the kernel.
cdef enum:
    NOTHING = 0
    POLL = 1
    RECEIVE = 2

# The name of a request: the address of what it is for, and in its lowest bits which of its requests it is.
cdef enum:
    OTHER = 0
    COMING = 1
    GOING = 2
    SENT = 3
    WHICH = 3

cdef inline uint64_t named(object thing, int kind) noexcept:
    return <uint64_t><void*>thing | kind

cdef inline int which(uint64_t name) noexcept:
    return name & WHICH

cdef inline object whose(uint64_t name):
    return <object><void*>(name & ~<uint64_t>WHICH)

cdef class UringRequests(Rounds):
    cdef UringKernel ring
    cdef list changed

    cdef object change(self, Link link)
    cdef object say(self, Link link)
    cdef object say_in(self, Link link)
    cdef object say_out(self, Link link)
    cdef object poll(self, Link link, unsigned int mask, int kind)
    cdef object say_watched(self, Watched watched)
    cdef object say_all(self)
