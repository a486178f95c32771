cimport cython

cdef int COPY_END, FAKE, KIND, MAX_OWED, SWALLOW, SYNCING

cdef class Replies:
    cdef public Py_ssize_t count
    cdef readonly int head
    cdef public Py_ssize_t turns
    cdef Py_ssize_t _first
    cdef bytearray _ring

    @cython.locals(size=Py_ssize_t)
    cpdef int push(self, int entry) except -1

    @cython.locals(entry=int)
    cpdef int pop(self) except -1

    @cython.locals(entry=int)
    cdef int _take(self) except -1

    cpdef bytes entries(self)
    cpdef int last(self) except -1
    cdef bint awaited(self) except -1

    @cython.locals(entry=int, ended=bint)
    cpdef bint copy_begins(self) except -1
