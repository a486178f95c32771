cimport cython

from libc.stdint cimport uint64_t

cdef int COPY_END, KIND, MAX_OWED, NEAR, QUERYING, INTERNAL, SYNCING

@cython.final
cdef class ReplyQueue:
    cdef public Py_ssize_t count
    cdef readonly int head
    cdef public Py_ssize_t turns
    cdef readonly Py_ssize_t own
    cdef readonly Py_ssize_t queries
    cdef readonly Py_ssize_t queried
    cdef readonly Py_ssize_t taken
    cdef readonly Py_ssize_t last_turn
    cdef readonly Py_ssize_t last_own
    cdef uint64_t _near
    cdef bytearray _far

    @cython.locals(wide=uint64_t)
    cpdef int push(self, int entry) except -1

    @cython.locals(entry=int)
    cpdef int pop(self) except -1

    @cython.locals(entry=int, wide=uint64_t)
    cdef int _take(self) except -1

    cpdef bytes entries(self)
    cdef bint awaited(self) noexcept
    cdef bint turns_behind(self, Py_ssize_t number) noexcept
    cdef Py_ssize_t next(self) noexcept

    @cython.locals(ended=int)
    cpdef bint copy_begins(self) except -1

    cdef int _second(self) noexcept

    @cython.locals(both=uint64_t)
    cdef int _drop_second(self) except -1
