cimport cython

from pglido.session.server.statements cimport ServerStatements
from pglido.session.server.reader cimport Server
from pglido.session.state.shared cimport ClientState

cdef bytes RESTORE, SAVE
cdef int IN_TRANSACTION, PARSING, INTERNAL, TEMP

cdef class StatementContext(ClientState):
    cdef tuple dialect(self, Server server)
    cdef object as_now(self, bytes name, object statement, Server server)
    cdef Py_ssize_t room(self, Server server) except -1
    cdef bytes first_temp(self, Server server)

    @cython.locals(prepared=ServerStatements, in_block=bint, sent=bytes)
    cdef bytes keep_meanings(self, Server server)
    @cython.locals(prepared=ServerStatements)
    cdef bint _lacks(self, bytes name, Server server) except -1
    cdef bytes _parse_now(self, bytes name, ServerStatements prepared)
