from pglido.worker.connections cimport Guest

cdef tuple LOGIN
cdef int LONGEST_KNOWN, KNOWN, MILLISECONDS, MORE

cdef class Journal:
    cdef public bint comings
    cdef public bint goings
    cdef long long _second
    cdef bytes _stamp
    cdef object _form
    cdef dict _closings

    cpdef int came(self, Guest guest) except -1

    cpdef int left(self, Guest guest, str why, long long age) except -1

    cdef bytes _closing(self, str why)

    cdef void _write(self, Guest guest, bytes text, long long age) except *
