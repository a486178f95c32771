cimport cython

from pglido.session.server.statements cimport ServerStatements
from pglido.session.server.reply_queue cimport ReplyQueue
from pglido.session.server.replay cimport Replay
from pglido.session.state.session_state cimport SessionState
from pglido.session.server.notification_sender cimport NotificationSender
from pglido.session.state.shared cimport ClientState

cdef long long NOBODYS
cdef int IDLE, IN_TRANSACTION
cdef int ASKING, BINDING, COPY_END, EXECUTING, KIND, PARSING, QUERYING, INTERNAL, SYNCING
cdef int COPYING, ILLEGAL, OPEN, PIPED, SHIFT, SKIPPING, UNSYNCED
cdef bytes BATCHES
cdef const unsigned char* _next

cdef class ServerFlow:
    cdef public ClientState client
    cdef public ReplyQueue replies
    cdef public ServerStatements prepared
    cdef public int status
    cdef readonly int batch
    cdef public bint worn
    cdef public int turns
    cdef public object good
    cdef public SessionState state
    cdef public NotificationSender notification_sender
    cdef public Replay retry
    cdef public bytes unsent
    cdef public bytearray notes
    cdef public bint keeps_ready
    cdef public bint ready_kept
    cdef public bint flushed
    cdef public bint changing
    cdef public int redefining
    cdef public str fault
    cdef public bytes last_error
    cdef public bytes lent_error
    cdef public bint told
    cdef Py_ssize_t _need
    cdef bint _paused
    cdef int _kind
    cdef bint _dropping
    cdef bytearray _held
    cdef Py_ssize_t _wanted
    cdef bytes _types

    cdef bint _at_rest(self) except -1
    cpdef bint free(self) except -1
    cpdef bint adopting(self) except -1
    cpdef bint answering(self) except -1

    cdef bint ending(self) except -1
    cdef bint decides(self) except -1
    cdef bint unsynced(self) noexcept
    cpdef bint awaits_more(self)
    cpdef bint between_messages(self) except -1
    @cython.locals(after=int)
    cdef int expect(self, int kind) except -1
    @cython.locals(after=int)
    cdef int on_batch(self, int event) except -1
    cdef int _no_such_event(self, int event) except -1
    cpdef bytes ask(self, str sql)
    cpdef bytes begin(self, bytes query)
    cpdef bytes own(self, bytes sent)

    cpdef bytes farewell(self)
    cpdef bytes farewell(self)
    cpdef int drop(self) except -1
    cdef int redefined(self) except -1
    cpdef bytes abandon(self)
