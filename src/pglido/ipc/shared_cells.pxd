cimport cython

cdef class SharedCells:
    cdef public int rows
    cdef public int row
    cdef long long[::1] _cells
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t width

    cpdef int add(self, int column, long long delta) except -1

    @cython.locals(column=int)
    cpdef int release(self, tuple columns) except -1

    cdef Py_ssize_t _place(self, Py_ssize_t column, Py_ssize_t row) except -1

    cpdef long long get(self, int column, int row) except? -1

    @cython.locals(found="long long", row=int)
    cpdef long long total(self, int column) except? -1
