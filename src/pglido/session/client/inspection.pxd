cimport cython

from pglido.session.client.statement_context cimport StatementContext
from pglido.session.outbox cimport Outbox
from pglido.session.server.statements cimport ServerStatements
from pglido.session.server.reply_queue cimport ReplyQueue
from pglido.session.server.reader cimport Server
from pglido.session.state.session_state cimport SessionState
from pglido.session.server.notification_sender cimport NotificationSender
from pglido.session.state.shared cimport FunctionCatalog, PoolRules
from pglido.protocol cimport octets
from pglido.sql cimport scanner

cdef int CALLED, CREATES, UNKNOWN, ENDS, LASTING, LISTENS, NOTIFIES, PREPARES, SEQUENCES, SETS, SHOWS, SIGNALS, TEMP, UNDYING, UNNAMED, UNREAD, WRITES
cdef int FAILED, GO_ON, IDLE, WAIT, WISH
cdef int BINDS, COPYING, GOES_ON, OPEN, SENDS
cdef Py_ssize_t LONGEST_NAME, MARKS, MARKED
cdef tuple NO_NAMES
cdef frozenset LARGE_OBJECTS

cdef class Inspection(StatementContext):
    cdef public Server server
    cdef public int verdict
    cdef public Py_ssize_t classified
    cdef public int sql_flags
    cdef public tuple sql_names
    cdef public bint counts
    cdef public long long counted
    cdef public long long number
    cdef public long long studied
    cdef public Py_ssize_t until
    cdef public Py_ssize_t spent
    cdef public set fresh
    cdef public bint notifies
    cdef public tuple vacates
    cdef public tuple signal_targets
    cdef public bint cancels
    cdef public dict processes
    cdef public tuple wish
    cdef public frozenset granted

    cdef int begin_inspection(self) except -1

    @cython.locals(in_batch=bint)
    cdef bint inspect(self, int flags, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1

    cdef int flags_of(self, bytes text) except -1

    cdef int classify(self, bytes text, int flags) except -1

    @cython.locals(count=Py_ssize_t, size=Py_ssize_t)
    cdef int _forget_marks(self, dict marks) except -1
    cdef int _marked(self, bytes name, bytes text) except -1

    @cython.locals(flags=int)
    cdef int classify_named(self, bytes text) except -1

    @cython.locals(flags=int, names=tuple, end=Py_ssize_t)
    cdef bint inspect_bound(self, bytes name, bytes text, const unsigned char* src, Py_ssize_t at, Py_ssize_t first, Py_ssize_t stop, Outbox out, const unsigned char* buf) except -1

    @cython.locals(flags=int)
    cdef bint inspect_described(self, bytes name, bytes text, Outbox out, const unsigned char* buf) except -1

    cdef int inspect_unknown(self, int flags, bytes text) except -1

    cdef int inspect_call(self, bytes call) except -1
    @cython.locals(flags=int)
    cdef int inspect_kept(self, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop) except -1
    cdef int _wear(self, int flags, bytes text) except -1
    cdef bint aims_at(self, bytes text, bytes bind) except -1
    cdef dict processes_of_targets(self)

    cdef bint inspect_parsed(self, int flags, bytes text, Outbox out, const unsigned char* buf) except -1

    cdef int closes(self, bytes name) except -1

    cdef bint wait(self, Py_ssize_t until) except -1

    @cython.locals(server=Server, replies=ReplyQueue)
    cpdef bint may_go_on(self) except -1

    cdef bint listens(self) except -1

    cpdef int grant(self) except -1

    cdef bint _may_notify(self, int flags) except -1

    @cython.locals(functions=FunctionCatalog)
    cdef bint _hears_functions(self) except -1

    @cython.locals(functions=FunctionCatalog)
    cdef bint _calls_notifying(self, int flags, bytes text) except -1

    @cython.locals(says=bint, executes=bint)
    cdef int _inspect_notify(self, int flags, bytes text, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server)
    cdef bint _at_rest(self) except -1

    @cython.locals(server=Server, notification_sender=NotificationSender)
    cdef int _sign(self, Outbox out, const unsigned char* buf) except -1

    cdef int _scan_functions(self) except -1
    cdef object _read(self, bytes text)
    cdef int _keep(self, int flags, said) except -1
    cdef int _vague(self, int flags, bytes text, said) except -1

    @cython.locals(functions=FunctionCatalog, flags=int)
    cdef int _flags(self, const unsigned char* src, Py_ssize_t first, Py_ssize_t stop) except -1

    cdef bint await_answers(self, Server server, Outbox out, const unsigned char* buf) except -1
    cdef bint _only_writes(self, int flags) except -1
    cdef int _advances(self) except -1
    cdef bint _counts_here(self) except -1
    cdef bint _before_execute(self, int flags, bytes text, tuple names, bint in_batch, bytes portal, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, asks=bint, listens=bint)
    cdef bint _must_wait(self, int flags, bytes text, said, bint in_batch, Outbox out, const unsigned char* buf) except -1

    @cython.locals(sent=bytes)
    cdef bint _keeps_meanings(self, Server server, Outbox out, const unsigned char* buf) except -1

    @cython.locals(server=Server, sent=bytes)
    cdef bint _alone(self, bint in_batch, Outbox out, const unsigned char* buf) except -1

    cdef int _drops(self, ServerStatements prepared, list names, bytes portal) except -1

    @cython.locals(left=bint)
    cdef bint _vacates(self, tuple databases) except -1

    @cython.locals(prepared=ServerStatements, name=bytes)
    cdef bint _expose(self, Server server, said, bint in_batch, Outbox out, const unsigned char* buf) except -1

    @cython.locals(state=SessionState, functions=FunctionCatalog, named=tuple)
    cdef int _suspect(self, int flags, bytes text, said, tuple names) except -1

    cdef int _undying(self, int flags, bytes text) except -1
    cdef bint _has_state(self) except -1

    @cython.locals(state=SessionState, flags=int)
    cdef int _ended(self, bytes text) except -1

    cdef bint _wishes(self, Server server, tuple wish) except -1
    @cython.locals(in_block=bint, called=int, exact=bint, sent=bytes)
    cdef int _bring_channels(self, Server server, int flags, bytes text, said, Outbox out, const unsigned char* buf) except -1
