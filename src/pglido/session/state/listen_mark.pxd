from pglido.session.server.reply_queue cimport ReplyQueue
from pglido.session.state.shared cimport ClientState

cdef int QUERY, INTERNAL, TRYING

cdef class ListenMark:
    cdef public ReplyQueue replies
    cdef public bint heard
    cdef public bint needs_mark
    cdef set _some
    cdef dict _marks
    cdef frozenset _others
    cdef bint _all
    cdef bint _all_marked
    cdef bint _none
    cdef bint _ending
    cdef bint _ended

    cdef int _unmark(self) except -1
    cpdef bytes bring(self, frozenset channels, frozenset ended, bint in_block)
    cdef list _rest(self, frozenset channels, bint in_block)
    cdef list _marked(self, frozenset channels)
    cdef int unlistens(self) except -1
    cdef bytes mark_again(self)
    cdef bytes attempt(self, bytes sql)
    cdef int tagged(self, bytes tag) except -1
    cdef int failed(self) except -1
    cdef int hear(self, frozenset there, ClientState client) except -1
    cdef frozenset _left(self, frozenset there, frozenset channels)
    cdef int deaf(self) except -1
