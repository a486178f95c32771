cimport cython

from pglido.session.client.partial cimport PartialMessages
from pglido.session.outbox cimport Outbox
from pglido.session.server.statements cimport ServerStatements
from pglido.session.server.replay cimport Replay
from pglido.session.server.reader cimport Server

cdef int BIND, CLOSE, DESCRIBE, IDLE, PARSE
cdef int BINDING, CLOSING, DESCRIBING, PARSING, STATEMENT, INTERNAL, SYNCING
cdef bytes AIMED, MISMATCH
cdef dict NOT_KEPT
cdef tuple OF_MEMORY
cdef int PORTAL_KIND, NO_NAME
cdef Py_ssize_t CHANNEL, DOOM, FEW_DOOMS, NAMED, PARSED, UNNAMED_FIRST
cdef int BINDS, OPEN
cdef int LISTENS, PREPARES
cdef Py_ssize_t LONGEST, NAME_SIZE, SMALL, NAMES_FIRST, LONGEST_NAME

cdef bint _begins_with_d(const unsigned char* src, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef class ExtendedQuery(PartialMessages):
    @cython.locals(first=Py_ssize_t, end=Py_ssize_t, name=bytes, taken=bint, flags=int)
    cdef bytes answer_alone(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t stop)

    @cython.locals(server=Server)
    cdef Py_ssize_t plain(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    cdef int _heed_kept(self, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop) except -1

    @cython.locals(server=Server, stop=Py_ssize_t, first=Py_ssize_t, end=Py_ssize_t, name=bytes, lack=tuple)
    cdef Py_ssize_t rewrite(self, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(rest=bytes, flags=int)
    cdef Py_ssize_t _unshared(self, int kind, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t rest_at, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, prepared=ServerStatements, rest=bytes, have=Py_ssize_t, flags=int)
    cdef Py_ssize_t _parse(self, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t rest_at, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1

    @cython.locals(text=bytes)
    cdef tuple _lack_of_doom(self, ServerStatements prepared, bytes name)
    @cython.locals(more=Py_ssize_t)
    cdef tuple _lack_of_room(self, bytes name, object statement, Py_ssize_t size, Py_ssize_t named)
    cdef Py_ssize_t _refuse_statement(self, tuple lack, bint unnamed, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(processes=dict, values=bytes, bind=bytes)
    cdef Py_ssize_t _bind_aimed(self, Server server, bytes rest, const unsigned char* src, Py_ssize_t at, Py_ssize_t first, Py_ssize_t end, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1

    cdef Py_ssize_t refuse_query(self, tuple lack, Py_ssize_t have, Outbox out, const unsigned char* buf) except -1
    cdef int _provoke(self, Server server, tuple lack, Outbox out, const unsigned char* buf) except -1
    cdef tuple lack_for(self, bytes text, int flags)

    @cython.locals(server=Server)
    cdef Py_ssize_t _close_statement(self, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t have, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, size=Py_ssize_t)
    cdef Py_ssize_t _send_as(self, bytes name, int kind, int describing, const unsigned char* src, Py_ssize_t at, Py_ssize_t first, Py_ssize_t end, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1

    @cython.locals(rest=bytes)
    cdef Py_ssize_t _use_unnamed(self, Server server, int kind, const unsigned char* src, Py_ssize_t at, Py_ssize_t end, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1
    cdef int _foresee(self, ServerStatements prepared, bytes rest) except -1

    @cython.locals(prepared=ServerStatements, fresh=bint)
    cdef int _bring(self, Server server, int kind, bytes name, object statement, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, prepared=ServerStatements, rest=bytes, again=bint, size=Py_ssize_t, head=bytes, tail=bytes)
    cdef Py_ssize_t _use(self, int kind, bytes name, const unsigned char* src, Py_ssize_t at, Py_ssize_t first, Py_ssize_t end, Py_ssize_t have, Py_ssize_t total, Outbox out, const unsigned char* buf) except -1
