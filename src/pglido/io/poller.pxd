from pglido.io.links cimport Link, Watched

cdef int HANDSHAKE

cdef double monotonic() noexcept

cdef class Poller:
    cdef public double now
    cdef bytearray buffer
    cdef object view
    cdef char* data
    cdef list gone

    cdef void guard(self, Link link, unsigned int events) except *

    cpdef void add(self, Link link) except *
    cpdef void forget(self, Link link) except *
    cdef void ask_for(self, Link link, unsigned int mask) except *
    cdef Py_ssize_t send_some(self, Link link, char* data, Py_ssize_t size) except -2
    cdef bint settled(self, Link link) except -1
    cdef Py_ssize_t receive(self, Link link) except -2
    cpdef void watch_descriptor(self, Watched watched, int fd, int events, bint known) except *
    cpdef void unwatch_descriptor(self, Watched watched, int fd) except *
    cpdef list turn(self, int timeout)

    cpdef void close(self, Link link) except *
    cpdef int release(self, Link link) except -1
    cpdef void handshake(self, Link link, bint writing) except *
    cdef void unmask(self, Link link) except *
    cpdef int peek(self, Link link) except? -2
    cdef Py_ssize_t send_now(self, Link link, char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t receive_now(self, Link link) except -2
    cpdef list serve(self, double timeout, object ready)

cdef unsigned int wanted(int events) noexcept
cdef void tell(Watched watched, unsigned int bits, list out) except *
