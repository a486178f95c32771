from pglido.worker.connections cimport ClientConnection

cdef tuple LOGIN
cdef int LONGEST_KNOWN, KNOWN, MILLISECONDS, MORE

cdef class AccessLog:
    cdef public bint comings
    cdef public bint goings
    cdef long long _second
    cdef bytes _stamp
    cdef object _form
    cdef dict _closings

    cpdef int came(self, ClientConnection client) except -1

    cpdef int left(self, ClientConnection client, str why, long long age) except -1

    cdef bytes _closing(self, str why)

    cdef void _write(self, ClientConnection client, bytes text, long long age) except *
