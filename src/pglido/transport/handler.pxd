from pglido.transport.connection cimport Link

cdef class Handler:
    cdef int data(self, Link link, char* buf, Py_ssize_t got) except -1
    cpdef int go_on(self, Link link) except -1
    cpdef int lost(self, Link link) except -1
    cpdef int failed(self, Link link) except -1
    cpdef int overlong(self, double seconds, Link slowest, double worst, int kind) except -1
