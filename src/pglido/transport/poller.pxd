from pglido.transport.connection cimport Link, Watched

cdef int CONNECTING

cdef double monotonic() noexcept
cdef double coarse() noexcept

cdef class Poller:
    cdef bytearray buffer
    cdef char* data
    cdef list gone

    cpdef int add(self, Link link) except -1
    cpdef int forget(self, Link link) except -1
    cdef int ask_for(self, Link link, unsigned int mask) except -1
    cdef Py_ssize_t send_some(self, Link link, char* data, Py_ssize_t size) except -2
    cdef bint settled(self, Link link) except -1
    cdef Py_ssize_t receive(self, Link link) except -2
    cpdef int watch_descriptor(self, Watched watched, int fd, int events, bint known) except -1
    cpdef int unwatch_descriptor(self, Watched watched, int fd) except -1

    cpdef object close(self, Link link)
    cpdef int release(self, Link link) except -1
    cpdef int connecting(self, Link link) except -1
    cdef int unmask(self, Link link) except -1
    cdef Py_ssize_t send_now(self, Link link, char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t receive_now(self, Link link) except -2
    cpdef list buffers(self)

cdef unsigned int wanted(int events) noexcept
cdef object tell(Watched watched, unsigned int bits, list out)
