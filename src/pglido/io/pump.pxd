from pglido.io.keeper cimport Keeper
from pglido.io.links cimport ClientLink, Link, ServerLink
from pglido.io.poller cimport Poller
from pglido.io.secure cimport Tls
from pglido.session.client cimport Client
from pglido.session.outbox cimport Outbox
from pglido.session.server cimport Server
from pglido.session.setup cimport Setup
from pglido.session.state cimport Rules

cdef int ATTACH, GO_ON, GOODBYE, HEAR, IDLE, WAIT
cdef int COLLECT, CONNECTING, RAW, RELAY
cdef Py_ssize_t BUFFER, PIECE

cdef class Pump(Poller):
    cdef public object host
    cdef Keeper keeper
    cdef Outbox to_client
    cdef Outbox to_server
    cdef bytearray clear
    cdef object clear_view

    cpdef void watch(self, Link link) except *
    cpdef int send(self, Link link, bytes data) except -1
    cpdef void send_and_close(self, Link link, bytes data) except *
    cpdef int collect(self, Link link) except -1
    cdef int take_inbox(self, ServerLink server) except -1
    cpdef int relay(self, Link link) except -1
    cpdef int join_raw(self, Link one, Link other) except -1
    cpdef int pair(self, ClientLink client, ServerLink server) except -1
    cpdef int part(self, ClientLink client, ServerLink server) except -1
    cpdef int resume(self, ClientLink client) except -1
    cdef void transmit(self, Link link, char* data, Py_ssize_t size) except *
    cdef int snap(self, Link link) except -1
    cdef void carry(self, Link link, char* data, Py_ssize_t size) except *
    cdef void drain(self, Link link) except *
    cdef int out_changed(self, Link link) except -1
    cdef int deliver(self, Link link, Outbox outbox, char* buf) except -1
    cdef int push(self, ClientLink client, char* buf, Py_ssize_t pos, Py_ssize_t end) except -1
    cdef int goodbye(self, ClientLink client) except -1
    cdef void on_client(self, ClientLink client, char* buf, Py_ssize_t got) except *
    cdef void on_server(self, ServerLink server, char* buf, Py_ssize_t got) except *
    cdef int count(self, ClientLink client, Server session) except -1
    cdef bint let_go(self, ClientLink client) except -1
    cdef bint settle(self, ClientLink client, ServerLink server) except -1
    cdef int now_hears(self, ClientLink client, Setup setup) except -1
    cdef bint open_to_notes(self, ClientLink client) except -1
    cpdef Py_ssize_t notify(self, ClientLink client, bytes data) except -1
    cpdef int flush_notes(self, ClientLink client) except -1
    cdef void on_event(self, Link link, unsigned int events) except *
    cpdef int secured(self, Link link, Tls tls) except -1
    cdef Py_ssize_t open(self, Link link, Tls tls, Py_ssize_t got) except -2
    cdef int store(self, Link link, char* buf, Py_ssize_t got) except -1
    cdef void lost(self, Link link) except *
    cdef int guard(self, Link link, unsigned int events) except -1
