from pglido.transport.connection cimport Link
from pglido.transport.transport cimport Transport

cdef int CALM, HANDLED, MUCH, OUTGOING, RAW, SLICE

cdef class Rounds(Transport):
    cdef bytearray outgoing
    cdef Py_ssize_t filled
    cdef Link front
    cdef Link back
    cdef list ripe
    cdef bytes told

    cdef bint ours(self, Link link) noexcept
    cdef int landed(self) except -1
    cdef bint went(self, Link link, char* data, Py_ssize_t size, Py_ssize_t sent) except -1
    cdef int bring(self, Link link, unsigned int events) except -1
    cdef int ripen(self, Link link) except -1
