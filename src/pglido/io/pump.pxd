from pglido.pool.stats cimport Stats
from pglido.session.client cimport Client
from pglido.session.outbox cimport Outbox
from pglido.session.server cimport Server
from pglido.session.state cimport Rules

cdef int ATTACH, GO_ON, GOODBYE, IDLE, WAIT

cdef class Link:
    cdef public int fd
    cdef public int mode
    cdef unsigned int mask
    cdef public bint eof
    cdef public bint quiet
    cdef public bint closed
    cdef public bint broken
    cdef public bint after_close
    cdef bint watched
    cdef public object tls
    cdef public bytearray out
    cdef public bytes inbox
    cdef public object waiter
    cdef public Link peer

cdef class ServerLink(Link):
    cdef public Server session
    cdef public ClientLink client

cdef class ClientLink(Link):
    cdef public Client session
    cdef public ServerLink server
    cdef public Stats stats
    cdef public bint waiting
    cdef public bint leaving
    cdef public double started
    cdef public double asked
    cdef public double rested

cdef class Watched:
    cdef public object key

cdef void wake(Link link) except *

cdef class Pump:
    cdef public object host
    cdef public double now
    cdef int epoll
    cdef bytearray buffer
    cdef object view
    cdef Outbox to_client
    cdef Outbox to_server
    cdef list graves
    cdef list gone

    cpdef void add(self, Link link) except *
    cpdef void forget(self, Link link) except *
    cpdef void close(self, Link link) except *
    cpdef int release(self, Link link) except -1
    cpdef void watch(self, Link link) except *
    cpdef void send(self, Link link, bytes data) except *
    cpdef void send_and_close(self, Link link, bytes data) except *
    cpdef void collect(self, Link link) except *
    cpdef void handshake(self, Link link, bint writing) except *
    cpdef int peek(self, Link link) except? -2
    cdef void take_inbox(self, ServerLink server) except *
    cpdef void relay(self, Link link) except *
    cpdef void join_raw(self, Link one, Link other) except *
    cpdef void pair(self, ClientLink client, ServerLink server) except *
    cpdef void part(self, ClientLink client, ServerLink server) except *
    cpdef void resume(self, ClientLink client) except *
    cdef void transmit(self, Link link, char* data, Py_ssize_t size) except *
    cdef Py_ssize_t send_some(self, Link link, char* data, Py_ssize_t size) except -2
    cdef void drain(self, Link link) except *
    cdef void out_changed(self, Link link) except *
    cdef void deliver(self, Link link, Outbox outbox, char* buf) except *
    cdef Py_ssize_t receive(self, Link link) except -2
    cdef void push(self, ClientLink client, char* buf, Py_ssize_t pos, Py_ssize_t end) except *
    cdef void goodbye(self, ClientLink client) except *
    cdef void on_client(self, ClientLink client, Py_ssize_t got) except *
    cdef void on_server(self, ServerLink server, Py_ssize_t got) except *
    cdef void count(self, ClientLink client, Server session) except *
    cdef void guard(self, Link link, unsigned int events) except *
    cdef bint let_go(self, ClientLink client) except -1
    cdef void on_event(self, Link link, unsigned int events) except *
    cdef void store(self, Link link, Py_ssize_t got) except *
    cdef void unmask(self, Link link) except *
    cdef void lost(self, Link link) except *
    cpdef void watch_descriptor(self, Watched watched, int fd, int events, bint known) except *
    cpdef void unwatch_descriptor(self, Watched watched, int fd) except *
    cpdef list serve(self, double timeout, object ready)
    cpdef list turn(self, int timeout)
