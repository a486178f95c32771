from pglido.transport.connection cimport Link

cdef class Handler:
    cdef int data(self, Link link, char* buf, Py_ssize_t got) except -1
    cpdef void go_on(self, Link link) except *
    cpdef void lost(self, Link link) except *
    cpdef void failed(self, Link link) except *
    cpdef void overlong(self, double seconds, Link slowest, double worst, int kind) except *
