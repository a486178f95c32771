from pglido.auth.scram_server cimport ScramServer

cdef class ScramLogin:
    cdef public bytes packet
    cdef public object start
    cdef public ScramServer challenge
    cdef public int era
    cdef public bytes head
    cdef public long long missing
