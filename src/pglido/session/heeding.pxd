cimport cython

from pglido.session.outbox cimport Outbox
from pglido.session.server cimport Server
from pglido.session.setup cimport Setup
from pglido.session.state cimport ClientState, Functions, Rules
from pglido.wire cimport sql

cdef int ANYTHING, ENDS, LISTENS, PARTLY, PREPARES, SEQUENCES, SETS, TEMP, UNKNOWN, UNNAMED, WRITES
cdef int FAILED, GO_ON, HEAR, IDLE

cdef class Heeding(ClientState):
    cdef public Server server
    cdef public int verdict
    cdef public int sql_flags
    cdef public bint counts
    cdef public long long counted
    cdef public long long number
    cdef public tuple wish
    cdef public frozenset granted

    @cython.locals(flags=int, text=bytes)
    cdef bint heed(self, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop, bint whole, Outbox out, const unsigned char* buf) except -1

    @cython.locals(flags=int)
    cdef int mark(self, bytes name, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop) except -1

    @cython.locals(flags=int)
    cdef bint heed_marked(self, bytes name, bytes text, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1

    cdef int heed_unknown(self, bytes text) except -1
    cdef bint heed_parsed(self, int flags, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1
    cdef int closes(self, bytes name) except -1

    cpdef int grant(self) except -1

    @cython.locals(functions=Functions, flags=int)
    cdef int _flags(self, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop) except -1

    cdef int _advances(self) except -1

    @cython.locals(server=Server, setup=Setup, functions=Functions, said=tuple)
    cdef int _suspect(self, int flags, bytes text, tuple names) except -1

    @cython.locals(server=Server)
    cdef bint _must_wait(self, int flags, bytes text, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, wish=tuple)
    cdef bint _wishes(self, bytes text, Outbox out, const unsigned char* buf) except -1
