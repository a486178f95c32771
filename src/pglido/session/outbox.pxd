cdef class Outbox:
    cdef public Py_ssize_t start
    cdef public Py_ssize_t stop
    cdef public bytearray parts

    cpdef void clear(self) except *
    cdef void run(self, const unsigned char* buf, Py_ssize_t start, Py_ssize_t stop) except *
    cdef void put(self, const unsigned char* buf, bytes data) except *
