from pglido.io.links cimport ClientLink, ServerLink
from pglido.pool.pool cimport Pool, Slot, Ticket
from pglido.pool.stats cimport Stats

cdef class Guest(ClientLink):
    cdef public long long serial
    cdef public str address
    cdef public double born
    cdef public str user
    cdef public int minor
    cdef public object live
    cdef public Pool pool
    cdef public Ticket ticket
    cdef public object login
    cdef public tuple claims
    cdef public bint cancel_wanted
    cdef public bint hears
    cdef public int declined
    cdef public bint listens
    cdef public object listener

cdef class Backend(ServerLink):
    cdef public long long serial
    cdef public str address
    cdef public double born
    cdef public object live
    cdef public Stats stats
    cdef public Slot slot
    cdef public object place
    cdef public int pid
    cdef public bytes key
    cdef public int cancels
    cdef public double deadline
    cdef public bint reset_due
    cdef public bint always_reset
    cdef public double pinned
    cdef public tuple claims
    cdef public dict reported
