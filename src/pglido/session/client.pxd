cimport cython

from pglido.session.outbox cimport Outbox
from pglido.session.prepared cimport Prepared
from pglido.session.server cimport Server
from pglido.session.state cimport Budget, ClientState, Rules

cdef int FAILED_TRANSACTION, BIND, CLOSE, COPY_DATA, COPY_DONE, COPY_FAIL, DESCRIBE, EXECUTE, FLUSH, FUNCTION_CALL, IDLE, PARSE, QUERY, SYNC, TERMINATE
cdef int MAX_OWED, BINDING, CALLING, CLOSING, COPY_END, DESCRIBING, EXECUTING, FAKE, PARSING, QUERYING, SWALLOW, SYNCING
cdef int ATTACH, CLOSE_IT, GO_ON, GOODBYE, WAIT
cdef Py_ssize_t SMALL, NAMES_FIRST, NAME_LIMIT, SHORT_LIMIT
cdef bytes SIZES

cdef bint _begins_with_d(const unsigned char* src, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef class Client(ClientState):
    cdef public Budget budget
    cdef public Server server
    cdef public int verdict
    cdef public tuple fault
    cdef bytearray _held
    cdef Py_ssize_t _goal
    cdef Py_ssize_t _reserved
    cdef bint _dropping

    @cython.locals(step=Py_ssize_t, whole=bytes)
    cdef Py_ssize_t take(self, const unsigned char* buf, Py_ssize_t pos, Py_ssize_t end, Outbox to_server, Outbox to_client) except -1

    cpdef int link(self, Server server) except -1
    cpdef int unlink(self) except -1
    cpdef bint half_sent(self)
    cpdef bint waits_for_more(self)
    cdef int _release(self) except -1
    cpdef int drop(self) except -1
    cdef Py_ssize_t _close(self, str sqlstate, str text) except -1
    cdef Py_ssize_t _whole(self, Py_ssize_t total) except -1

    @cython.locals(kind=int, size=Py_ssize_t, total=Py_ssize_t, server=Server)
    cdef Py_ssize_t _message(self, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Outbox to_server, Outbox to_client, const unsigned char* buf) except -1

    @cython.locals(answer=bytes)
    cdef Py_ssize_t _detached(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox to_client, const unsigned char* buf) except -1

    @cython.locals(first=Py_ssize_t, end=Py_ssize_t, name=bytes)
    cdef bytes _answer_alone(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t stop)

    cdef Py_ssize_t _pass(self, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server)
    cdef Py_ssize_t _plain(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, stop=Py_ssize_t, first=Py_ssize_t, end=Py_ssize_t, name=bytes)
    cdef Py_ssize_t _prepared(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, prepared=Prepared, rest=bytes, have=Py_ssize_t, sure=bint)
    cdef Py_ssize_t _parse(self, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t rest_at, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server)
    cdef Py_ssize_t _close_statement(self, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, prepared=Prepared, size=Py_ssize_t)
    cdef Py_ssize_t _use(self, int kind, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t first, Py_ssize_t end, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1
