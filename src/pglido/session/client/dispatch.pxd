cimport cython

from pglido.session.outbox cimport Outbox
from pglido.session.server.statements cimport ServerStatements
from pglido.session.client.extended cimport ExtendedQuery
from pglido.session.server.reader cimport Server
from pglido.session.state.session_state cimport SessionState
from pglido.protocol cimport octets

cdef int CLOSE, COPY_DATA, COPY_DONE, COPY_FAIL, EXECUTE, FAILED_TRANSACTION, FLUSH, FUNCTION_CALL, IDLE, IN_TRANSACTION, PARSE, QUERY, SYNC, TERMINATE
cdef int ANSWERED, BOUND, COPYING, EXECUTES, OPEN, SENDS, SENT, SKIPPING, WAITS
cdef int MAX_OWED, CALLING, COPY_END, EXECUTING, QUERYING, SYNCING
cdef int ATTACH, GO_ON, GOODBYE, PAUSE
cdef Py_ssize_t SHARE
cdef int LISTENS, PREPARES, SIGNALS, TOO_LARGE
cdef Py_ssize_t CALLED_FIRST, LONGEST_HELD, LONGEST_NAME, SHORT_LIMIT, SMALL
cdef int OF_STATEMENTS, SHORT
cdef bytes KINDS
cdef const unsigned char* _kinds

cdef class Client(ExtendedQuery):
    cdef public bytes begun
    cdef readonly int latest

    @cython.locals(step=Py_ssize_t, whole=bytes)
    cdef Py_ssize_t take(self, const unsigned char* buf, Py_ssize_t pos, Py_ssize_t end, Outbox to_server, Outbox to_client) except -1

    cpdef int link(self, Server server) except -1
    cpdef int unlink(self) except -1

    @cython.locals(kind=int, size=Py_ssize_t, total=Py_ssize_t, known=int, server=Server, breaks=bint)
    cdef Py_ssize_t _message(self, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Outbox to_server, Outbox to_client, const unsigned char* buf) except -1

    @cython.locals(prepared=ServerStatements, end=Py_ssize_t)
    cdef int _execute(self, Server server, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop) except -1

    cdef bint _comes_early(self, Server server, int kind, Outbox out, const unsigned char* buf) except -1
    @cython.locals(text=bytes, flags=int, lack=tuple)
    cdef Py_ssize_t _query(self, Server server, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1
    @cython.locals(kept=int)
    cdef bint _waits(self, int flags, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1
    cdef bint _must_be_whole(self, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total) except -1

    @cython.locals(state=SessionState)
    cdef int _first(self, Server server, Outbox out, const unsigned char* buf) except -1

    @cython.locals(answer=bytes)
    cdef Py_ssize_t _detached(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox to_client, const unsigned char* buf) except -1
