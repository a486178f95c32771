cimport cython

from libc.stdint cimport uint64_t

cdef int COPY_END, FAKE, KIND, MAX_OWED, NEAR, SWALLOW, SYNCING

@cython.final
cdef class Replies:
    cdef public Py_ssize_t count
    cdef readonly int head
    cdef public Py_ssize_t turns
    cdef uint64_t _near
    cdef bytearray _far

    @cython.locals(wide=uint64_t)
    cpdef int push(self, int entry) except -1

    @cython.locals(entry=int)
    cpdef int pop(self) except -1

    @cython.locals(entry=int, wide=uint64_t)
    cdef int _take(self) except -1

    cpdef bytes entries(self)
    cdef bint awaited(self) except -1

    @cython.locals(entry=int, ended=bint)
    cpdef bint copy_begins(self) except -1
