cimport cython

@cython.final
cdef class Outbox:
    cdef public Py_ssize_t start
    cdef public Py_ssize_t stop
    cdef public bytearray parts

    cpdef int clear(self) except -1
    cdef int run(self, const unsigned char* buf, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef object put(self, const unsigned char* buf, bytes data)
