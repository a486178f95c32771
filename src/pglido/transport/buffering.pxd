from pglido.transport.connection cimport Link
from pglido.transport.poller cimport Poller
from pglido.transport.tls_record cimport TlsRecords

cdef int COLLECT, CONNECTING, FLOW, KEEP, RAW
cdef Py_ssize_t BUFFER, PIECE

cdef class Buffering(Poller):
    cdef bytearray clear
    cdef object clear_view

    cpdef object watch(self, Link link)
    cpdef int send(self, Link link, bytes data) except -1
    cpdef object send_and_close(self, Link link, bytes data)
    cpdef int collect(self, Link link) except -1
    cpdef int join_raw(self, Link one, Link other) except -1
    cdef object transmit(self, Link link, char* data, Py_ssize_t size)
    cdef int snap(self, Link link) except -1
    cdef object carry(self, Link link, char* data, Py_ssize_t size)
    cdef object drain(self, Link link)
    cdef int out_changed(self, Link link) except -1
    cpdef int secured(self, Link link, TlsRecords tls) except -1
    cdef Py_ssize_t open(self, Link link, TlsRecords tls, Py_ssize_t got) except -2
    cdef int store(self, Link link, char* buf, Py_ssize_t got) except -1
