cimport cython
cdef int QUERY, FLUSH

cdef class Framer:
    cdef public Py_ssize_t need
    cdef public bytes held
    @cython.locals(count=Py_ssize_t, kind=int, size=Py_ssize_t)
    cdef Py_ssize_t scan(self, const unsigned char* buf, Py_ssize_t pos, Py_ssize_t end) except -1
    cpdef Py_ssize_t feed(self, bytes data)

cdef class Sub:
    cdef public Framer f
    cpdef Py_ssize_t go(self, bytes data)
