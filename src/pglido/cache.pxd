cimport cython

cdef Py_ssize_t BARE

@cython.final
cdef class Cache:
    cdef object __weakref__
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t most
    cdef dict _new
    cdef dict _old
    cdef Py_ssize_t _size
    cdef Py_ssize_t _old_size

    @cython.locals(found=tuple)
    cpdef object get(self, key)
    cpdef int put(self, key, value, Py_ssize_t size) except -1
    cpdef int clear(self) except -1
    cpdef Py_ssize_t size(self) except -1
