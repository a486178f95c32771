from pglido.session.replies cimport Replies
from pglido.session.state cimport ClientState

cdef int QUERY, SWALLOW, TRYING

cdef class Hearing:
    cdef public Replies replies
    cdef public bint heard
    cdef public bint needs_mark
    cdef frozenset _some
    cdef bint _all
    cdef bint _all_marked
    cdef bint _marked
    cdef bint _ending
    cdef bint _ended

    cdef int _unmark(self) except -1
    cpdef bytes bring(self, frozenset channels, frozenset ended, bint in_block)
    cdef int unlistens(self) except -1
    cdef bytes mark_again(self)
    cdef bytes attempt(self, bytes sql)
    cdef int tagged(self, bytes tag) except -1
    cdef int failed(self) except -1
    cdef int hear(self, frozenset there, ClientState client) except -1
    cdef int deaf(self) except -1
