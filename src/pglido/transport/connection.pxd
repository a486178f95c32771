from pglido.transport.tls_record cimport TlsRecords

cdef class Link:
    cdef public int fd
    cdef public int mode
    cdef public int bulk
    cdef public bint read_to_end
    cdef unsigned int mask
    cdef public bint eof
    cdef public bint closed
    cdef public bint broken
    cdef public bint after_close
    cdef bint watched
    cdef bint parked
    cdef public TlsRecords tls
    cdef public bytearray out
    cdef public bytes inbox
    cdef public object waiter
    # Of the round.
    cdef Py_ssize_t queued
    cdef Py_ssize_t queued_at
    cdef bint flying
    cdef Link behind
    cdef char* fresh
    cdef Py_ssize_t fresh_size
    cdef bytes early
    cdef char much
    # Of the ring.
    cdef unsigned int coming_mask
    cdef char coming
    cdef bint going
    cdef bint coming_ends
    cdef bint going_ends
    cdef bint changed
    cdef bint ended
    cdef bint half
    cdef public Link peer

    cdef int reading(self) except -1
    cdef int doing(self) except -1

cdef class Watched:
    cdef public object key
    cdef public object call
    # Of the ring.
    cdef int fd
    cdef unsigned int mask
    cdef bint polled
    cdef unsigned int polled_mask

cpdef object wake(Link link)
