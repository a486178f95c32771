from pglido.io.links cimport ClientLink, Link, ServerLink
from pglido.io.poller cimport Poller
from pglido.io.secure cimport Tls

cdef int COLLECT, CONNECTING, RAW
cdef Py_ssize_t BUFFER, PIECE

cdef class Carrier(Poller):
    cdef bytearray clear
    cdef object clear_view

    cpdef void watch(self, Link link) except *
    cpdef int send(self, Link link, bytes data) except -1
    cpdef void send_and_close(self, Link link, bytes data) except *
    cpdef int collect(self, Link link) except -1
    cpdef int join_raw(self, Link one, Link other) except -1
    cdef void transmit(self, Link link, char* data, Py_ssize_t size) except *
    cdef int snap(self, Link link) except -1
    cdef void carry(self, Link link, char* data, Py_ssize_t size) except *
    cdef void drain(self, Link link) except *
    cdef int out_changed(self, Link link) except -1
    cpdef int secured(self, Link link, Tls tls) except -1
    cdef Py_ssize_t open(self, Link link, Tls tls, Py_ssize_t got) except -2
    cdef int store(self, Link link, char* buf, Py_ssize_t got) except -1
