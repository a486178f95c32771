from pglido.io.links cimport Link, Watched

cdef int HANDSHAKE

cdef double monotonic() noexcept

cdef class Poller:
    cdef public double now
    cdef int epoll
    cdef bytearray buffer
    cdef object view
    cdef list graves
    cdef list gone

    cdef void guard(self, Link link, unsigned int events) except *
    cdef void ask_for(self, Link link, unsigned int mask) except *
    cpdef void add(self, Link link) except *
    cpdef void forget(self, Link link) except *
    cpdef void close(self, Link link) except *
    cpdef int release(self, Link link) except -1
    cpdef void handshake(self, Link link, bint writing) except *
    cpdef int peek(self, Link link) except? -2
    cdef Py_ssize_t send_some(self, Link link, char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t receive(self, Link link) except -2
    cdef void unmask(self, Link link) except *
    cpdef void watch_descriptor(self, Watched watched, int fd, int events, bint known) except *
    cpdef void unwatch_descriptor(self, Watched watched, int fd) except *
    cpdef list serve(self, double timeout, object ready)
    cpdef list turn(self, int timeout)
