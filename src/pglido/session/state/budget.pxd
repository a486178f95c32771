cdef class MemoryBudget:
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t each
    cdef public Py_ssize_t used
    cdef public Py_ssize_t shared
    cdef public bint tight
    cdef public Py_ssize_t refused
    cdef public str reason

    cpdef Py_ssize_t total(self) except -1
