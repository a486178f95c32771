cimport cython

from pglido.relay.dispatcher cimport Dispatcher
from pglido.relay.links cimport ClientLink, ServerLink
from pglido.transport.connection cimport Link
from pglido.transport.handler cimport Handler
from pglido.transport.transport cimport Transport
from pglido.session.client.dispatch cimport Client
from pglido.session.outbox cimport Outbox
from pglido.session.server.reader cimport Server
from pglido.session.state.session_state cimport SessionState
from pglido.session.state.shared cimport PoolRules

cdef int ATTACH, GO_ON, GOODBYE, IDLE, PAUSE, WAIT, WISH
cdef int HANDLED, HANGS_UP, HUNG_UP, LEAVING, RAW, SERVED, TERMINATES
cdef bytes READY_IDLE

@cython.final
cdef class Relay(Handler):
    cdef readonly Transport transport
    cdef readonly Dispatcher dispatcher
    cdef Outbox to_client
    cdef Outbox to_server

    cdef int take_inbox(self, ServerLink server) except -1
    cpdef int relay(self, Link link) except -1
    cpdef int pair(self, ClientLink client, ServerLink server) except -1
    cpdef int part(self, ClientLink client, ServerLink server) except -1
    cpdef int resume(self, ClientLink client) except -1
    cdef int deliver(self, Link link, Outbox outbox, char* buf) except -1
    cdef int push(self, ClientLink client, char* buf, Py_ssize_t pos, Py_ssize_t end) except -1
    cdef int goodbye(self, ClientLink client) except -1
    cdef bint stays(self, ClientLink client) except -1
    cdef object on_client(self, ClientLink client, char* buf, Py_ssize_t got)
    cdef object on_server(self, ServerLink server, char* buf, Py_ssize_t got)
    cdef int count(self, ClientLink client, Server session) except -1
    cdef bint let_go(self, ClientLink client) except -1
    cdef bint settle(self, ClientLink client, ServerLink server) except -1
    cdef int now_hears(self, ClientLink client, SessionState state) except -1
    cdef int keep_ready(self, ClientLink client) except -1
    cpdef int ready(self, ClientLink client) except -1
    cdef bint open_to_notes(self, ClientLink client) except -1
    cpdef Py_ssize_t notify(self, ClientLink client, bytes data) except -1
    cpdef int flush_notes(self, ClientLink client) except -1
