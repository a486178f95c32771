cimport cython

cdef Py_ssize_t MANY

@cython.final
@cython.freelist(32)
cdef class Promise:
    cdef public bytes name
    cdef public object statement
    cdef public bint unnamed
    cdef public bytes mine
    cdef public bytes its

@cython.final
cdef class Promises:
    cdef list _all
    cdef Py_ssize_t _past

    @cython.locals(promise=Promise)
    cdef int add(self, bytes name, object statement) except -1

    @cython.locals(promise=Promise)
    cdef int add_unnamed(self, bytes mine, bytes its) except -1

    @cython.locals(promise=Promise)
    cdef Promise take(self)

    cpdef list left(self)
