cdef class TlsRecords:
    cdef object came
    cdef readonly object going
    cdef readonly object session

    cpdef bint handshake(self, bytes data) except -1
    cdef Py_ssize_t open(self, char* data, Py_ssize_t size, object into)
    cdef bytes seal(self, char* data, Py_ssize_t size)
