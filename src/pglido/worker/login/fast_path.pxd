cimport cython

from pglido.auth.scram_server cimport ScramServer, ScramTerms
from pglido.transport.accept cimport accept
from pglido.transport.tls_record cimport TlsRecords
from pglido.transport.transport cimport Transport
from pglido.pooling.pool cimport Pool
from pglido.protocol cimport octets
from pglido.worker.dispatch cimport Dispatch
from pglido.worker.connections cimport ClientConnection
from pglido.worker.login.login_template cimport LoginTemplate, greet
from pglido.worker.login.scram_login cimport ScramLogin

cdef int CLIENTS, ACCEPTED, DEFAULTS, LONGEST, LONGEST_PROOF, LONGEST_MESSAGE, PACKETS, ACCEPT_BATCH
cdef int PASSWORD, SHUT, SSL_REQUEST
cdef int ASKS_TLS, CHALLENGED, SECURED
cdef bytes YES, NO, SSL_PACKET

cpdef bint is_strange(object start) except -1

cdef class FastLogin:
    cdef public Dispatch lifecycle
    cdef public object logins
    cdef public dict packets
    cdef public dict templates
    cdef bint encrypted
    cdef bint trusting
    cdef bint asking
    cdef public int era
    cdef int batch
    cdef public long long spare
    cdef public dict listeners
    cdef dict secrets
    cdef object ignored
    cdef bint asks_elsewhere
    cdef ScramTerms terms
    cdef object on_startup
    cdef object on_proof
    cdef object on_tls

    cpdef void adopt(self, object settings, dict listeners, object users) except *

    cpdef void open(self, int fd, bint unix, object rest) except *

    @cython.locals(count=int, taken=tuple)
    cpdef void take(self, int fd, object listener) except *

    cpdef void take_spare(self, int fd, bint unix) except *

    @cython.locals(lifecycle=Dispatch, client=ClientConnection, serial="long long")
    cdef int arrive(self, int fd, str address, object listener) except -1

    cpdef int wait(self, ClientConnection client) except -1

    @cython.locals(said=bytes)
    cpdef void first_packet(self, ClientConnection client) except *

    cpdef tuple refusal_reason(self, ClientConnection client, object start)

    cdef void _begin_tls(self, ClientConnection client) except *

    @cython.locals(transport=Transport, said=bytes, tls=TlsRecords, done=bint)
    cpdef void handshake(self, ClientConnection client) except *

    cdef int _silent(self, ClientConnection client, object waiter) except -1

    @cython.locals(template=LoginTemplate, challenge=ScramServer)
    cdef bint _admit(self, ClientConnection client, bytes packet, object start) except -1

    @cython.locals(said=bytes, answer=bytes, proving=ScramLogin)
    cpdef void prove(self, ClientConnection client) except *

    @cython.locals(size="long long")
    cdef bint _whole(self, ScramLogin proving, ClientConnection client, bytes said) except -1

    @cython.locals(said=bytes, size="long long")
    cdef bytes _weigh(self, ScramLogin proving)

    @cython.locals(lifecycle=Dispatch, template=LoginTemplate, challenge=ScramServer)
    cdef void _proved(self, ClientConnection client, ScramLogin proving) except *

    @cython.locals(challenge=ScramServer, packet=bytes)
    cdef void _proved_before(self, ClientConnection client, ScramLogin proving) except *

    @cython.locals(lifecycle=Dispatch)
    cdef bint _fits(self, LoginTemplate template) except -1

    cdef int _greet(self, ClientConnection client, LoginTemplate template, bytes last) except -1

    cpdef object read(self, bytes packet, object code)
    cpdef void remember(self, bytes packet, LoginTemplate template) except *

cdef void keep(object table, bytes packet, object what) except *
