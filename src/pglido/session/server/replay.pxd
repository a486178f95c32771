from pglido.session.server.statements cimport ServerStatements
from pglido.session.server.reply_queue cimport ReplyQueue
from pglido.session.state.shared cimport ClientState

cdef int DESCRIBE, EXECUTE, SYNC, PARSING, INTERNAL
cdef int NONE, BOUND, DESCRIBED, EXECUTED, SYNCED
cdef Py_ssize_t DESCRIBE_SIZE, EXECUTE_SIZE
cdef int P

cdef class Replay:
    cdef public int step
    cdef public bint due
    cdef bytes _head
    cdef bytes _tail
    cdef object _statement

    cdef int begin(self, bytes head, bytes tail, object statement) except -1
    cdef int goes_on(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t total) except -1
    @cython.locals(replies=ReplyQueue)
    cdef bint refused(self, ServerStatements prepared) except -1
    cdef bint _holds(self) except -1
    cdef bytes again(self, ServerStatements prepared, ClientState client)
