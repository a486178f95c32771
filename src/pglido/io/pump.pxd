from pglido.io.links cimport ClientLink, Link, ServerLink
from pglido.io.poller cimport Poller
from pglido.session.client cimport Client
from pglido.session.outbox cimport Outbox
from pglido.session.server cimport Server
from pglido.session.state cimport Rules

cdef int ATTACH, GO_ON, GOODBYE, IDLE, WAIT
cdef int COLLECT, HANDSHAKE, RAW, RELAY

cdef class Pump(Poller):
    cdef public object host
    cdef Outbox to_client
    cdef Outbox to_server

    cpdef void watch(self, Link link) except *
    cpdef void send(self, Link link, bytes data) except *
    cpdef void send_and_close(self, Link link, bytes data) except *
    cpdef void collect(self, Link link) except *
    cdef void take_inbox(self, ServerLink server) except *
    cpdef void relay(self, Link link) except *
    cpdef void join_raw(self, Link one, Link other) except *
    cpdef void pair(self, ClientLink client, ServerLink server) except *
    cpdef void part(self, ClientLink client, ServerLink server) except *
    cpdef void resume(self, ClientLink client) except *
    cdef void transmit(self, Link link, char* data, Py_ssize_t size) except *
    cdef void drain(self, Link link) except *
    cdef void out_changed(self, Link link) except *
    cdef void deliver(self, Link link, Outbox outbox, char* buf) except *
    cdef void push(self, ClientLink client, char* buf, Py_ssize_t pos, Py_ssize_t end) except *
    cdef void goodbye(self, ClientLink client) except *
    cdef void on_client(self, ClientLink client, char* buf, Py_ssize_t got) except *
    cdef void on_server(self, ServerLink server, char* buf, Py_ssize_t got) except *
    cdef void count(self, ClientLink client, Server session) except *
    cdef bint let_go(self, ClientLink client) except -1
    cdef void on_event(self, Link link, unsigned int events) except *
    cdef void store(self, Link link, char* buf, Py_ssize_t got) except *
    cdef void lost(self, Link link) except *
    cdef void guard(self, Link link, unsigned int events) except *
