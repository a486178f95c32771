cimport cython

from pglido.session.state.budget cimport MemoryBudget
from pglido.session.client.inspection cimport Inspection
from pglido.session.outbox cimport Outbox
from pglido.session.server.reader cimport Server
from pglido.protocol cimport octets

cdef int CLOSE_IT, COPYING
cdef Py_ssize_t LITTLE, LONGEST_READ, SPARE


cdef class PartialMessages(Inspection):
    cdef public tuple fault
    cdef public bytearray buffered
    cdef public Py_ssize_t wanted
    cdef public Py_ssize_t reserved
    cdef public bint dropping

    cdef int begin_holding(self) except -1
    cpdef bint half_sent(self)
    cpdef bint waits_for_more(self)
    @cython.locals(at=Py_ssize_t, last=Py_ssize_t, size=Py_ssize_t)
    cpdef bint says_goodbye(self, bytes data) except -1
    cdef int release(self) except -1
    cpdef int drop(self) except -1
    cdef Py_ssize_t refuse(self, str sqlstate, str text) except -1
    cpdef Py_ssize_t held_bytes(self) except -1
    @cython.locals(wanted=Py_ssize_t, budget=MemoryBudget)
    cdef tuple lack(self, Py_ssize_t size, Py_ssize_t in_all)
    @cython.locals(budget=MemoryBudget)
    cdef bint has_room(self, Py_ssize_t total) except -1
    @cython.locals(server=Server)
    cdef bint owes_much(self) except -1
    cdef Py_ssize_t await_whole(self, Py_ssize_t total) except -1
    cdef Py_ssize_t pass_on(self, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1
