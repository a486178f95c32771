cimport cython

from pglido.session.state.budget cimport MemoryBudget
from pglido.session.state.shared cimport ClientState

cdef Py_ssize_t BARE, MANY
cdef MemoryBudget NO_BUDGET

@cython.final
@cython.freelist(32)
cdef class Undo:
    cdef public bytes name
    cdef public object statement
    cdef public bint unnamed
    cdef public bytes client_was
    cdef public long long number
    cdef public int flags
    cdef public long long server_was
    cdef public Py_ssize_t size
    cdef Py_ssize_t at
    cdef Py_ssize_t behind
    cdef Undo later

@cython.final
@cython.freelist(32)
cdef class UndoSpan:
    cdef Py_ssize_t first
    cdef Py_ssize_t last

@cython.final
cdef class UndoLog:
    cdef list _all
    cdef Py_ssize_t _past
    cdef public MemoryBudget budget
    cdef readonly Py_ssize_t size
    cdef dict spans
    cdef Undo front
    cdef Undo back

    @cython.locals(undo=Undo)
    cdef int add(self, bytes name, object statement, bint closes, Py_ssize_t at) except -1

    @cython.locals(undo=Undo)
    cdef int add_unnamed(self, ClientState client, long long server_was, Py_ssize_t at, Py_ssize_t behind) except -1

    cdef int follow(self, Undo undo, Undo was, long long server_was) except -1
    cdef int keep(self, Py_ssize_t size) except -1

    @cython.locals(span=UndoSpan)
    cdef int _lengthen(self, object what, Py_ssize_t at) except -1

    @cython.locals(span=UndoSpan)
    cdef int _shorten(self, object what, Py_ssize_t at) except -1

    @cython.locals(undo=Undo)
    cdef Undo take(self)

    cdef Py_ssize_t count(self) except -1
    cpdef list left(self)
    cpdef int drop(self) except -1
