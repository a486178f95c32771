cimport cython

from pglido.session.outbox cimport Outbox
from pglido.session.server.flow cimport ServerFlow
from pglido.session.state.shared cimport ClientState
from pglido.protocol cimport octets

cdef int COMMAND_COMPLETE, COPY_DATA, COPY_IN_RESPONSE, DATA_ROW, ERROR_RESPONSE, IDLE, IN_TRANSACTION, NO_DATA, NOTIFICATION_RESPONSE, PARAMETER_DESCRIPTION, PARAMETER_STATUS, READY_FOR_QUERY, ROW_DESCRIPTION
cdef int ASKING, BINDING, CLOSING, DESCRIBING, EXECUTING, KIND, PARSING, QUERYING, STATEMENT, INTERNAL, SYNCING, TRYING
cdef int COPY_BEGINS, COPY_OVER, RESTED, SKIPS, SYNC_IGNORED, UNASKED
cdef const unsigned char* _answers
cdef bytes ANSWERS, CHANGED, LONG_KINDS, MISMATCH
cdef Py_ssize_t SHORT
cdef int A, C, D, L, R, S, U
cdef int SETS, TEMP
cdef Py_ssize_t TAG_FIRST, RESET_SIZE, DISCARD_SIZE, DEALLOCATE_SIZE, MAX_MESSAGE, LARGE_ERROR

cdef bint changes(int first, int second) noexcept

cdef class Server(ServerFlow):
    @cython.locals(pos=Py_ssize_t, step=Py_ssize_t, kind=int, whole=bytes)
    cdef int take(self, const unsigned char* buf, Py_ssize_t end, Outbox out) except? -2

    @cython.locals(at=Py_ssize_t, size=Py_ssize_t, head=int)
    cdef Py_ssize_t _rows(self, const unsigned char* buf, Py_ssize_t pos, Py_ssize_t end, Outbox out) except -1

    @cython.locals(client=ClientState)
    cdef bint _drops(self, int kind, int head) except -1

    @cython.locals(sender=object)
    cdef bint _notified(self, bytes body, Outbox out, const unsigned char* buf) except -1

    cdef int _hold(self, bytes data, Py_ssize_t wanted) except -1

    @cython.locals(kind=int, size=Py_ssize_t, total=Py_ssize_t, head=int, drop=bint, looked=bint)
    cdef Py_ssize_t _message(self, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Outbox out, const unsigned char* buf) except -1

    cdef bint _tag_matters(self, int size, int first, int second) except -1

    @cython.locals(ended=bint)
    cdef int _copies(self, int head) except -1

    @cython.locals(answers=int, head=int)
    cdef int _passed(self) except -1

    @cython.locals(kind=int, entry=int)
    cdef int _answered(self) except -1

    cdef bint _look(self, int kind, bytes body, int head, bint drop, Outbox out, const unsigned char* buf) except -1

    @cython.locals(kind=int)
    cdef bint _ready(self, int status, int head, bint drop, Outbox out, const unsigned char* buf) except -1

    cdef int _described(self, bytes columns, int head) except -1
    cdef int _committed(self) except -1
    cdef bint _misses_what_was_lent(self, bytes body) except -1
    cdef int _learn(self, bint drop, Outbox out, const unsigned char* buf) except -1

    cdef bint _parameter(self, bytes body, bint drop, Outbox out, const unsigned char* buf) except -1
    @cython.locals(stale=bint)
    cdef int _error(self, bytes body, int head) except -1

    cdef bytes _own_names(self, bytes body)

    @cython.locals(kind=int)
    cdef int _failed(self, int head) except -1

    @cython.locals(skips=bint)
    cdef bint _skips(self) except -1

    cdef object _command_done(self, bytes tag, bint drop)
