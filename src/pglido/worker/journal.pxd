cimport cython

from pglido.worker.links cimport Guest, uuid_of

cdef tuple LOGIN

cdef class Journal:
    cdef public bint comings
    cdef public bint goings
    cdef long long _moment
    cdef bytes _stamp
    cdef object _form

    cpdef int came(self, Guest guest) except -1

    cpdef int left(self, Guest guest, str why, long long age) except -1

    @cython.locals(now=double, moment="long long")
    cdef void _write(self, bytes text, Guest guest) except *
