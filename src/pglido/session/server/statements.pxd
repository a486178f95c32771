cimport cython

from pglido.session.server.undo_log cimport Undo, UndoLog, UndoSpan
from pglido.session.server.reply_queue cimport ReplyQueue
from pglido.session.state.shared cimport ClientState, StatementsView

cdef bytes PREFIX
cdef int BLOCK_OVER, BOUND, ILLEGAL, SHIFT
cdef bytes DEALLOCATIONS
cdef const unsigned char* _next
cdef int CLOSING, DESCRIBING, KIND, PARSING, QUERYING, STATEMENT, INTERNAL, SYNCING

cdef class Drop:
    cdef public bytes name
    cdef public object statement

cdef long long _parses
cdef Py_ssize_t DESCRIBE, KNOWN

cdef class ServerStatements:
    cdef public ReplyQueue replies
    cdef readonly UndoLog undo_log
    cdef public dict known
    cdef dict _shared
    cdef readonly Py_ssize_t size
    cdef public long long unnamed
    cdef public dict shadowed
    cdef public object dropping
    cdef public object exposing
    cdef public Py_ssize_t purges_seen
    cdef public StatementsView view
    cdef dict _drops
    cdef list _dropping
    cdef public tuple bound
    cdef public dict dooms
    cdef readonly int deallocation
    cdef public bint turn_lost
    cdef public object describing
    cdef public object awaited
    cdef public object mismatch
    cdef public set unchecked
    cdef public set stale

    cdef int expect(self, int entry, bytes name, object statement) except -1
    cdef int expect_unnamed(self, int entry, ClientState client) except -1
    cdef int name_unnamed(self, ClientState client, bytes rest, int flags) except -1
    @cython.locals(rest=bytes)
    cdef bytes renew_unnamed(self, ClientState client)
    cdef bytes close_unnamed(self, ClientState client)

    cdef bint unnamed_undecided(self) noexcept
    cdef Py_ssize_t unnamed_known_at(self) noexcept

    cdef bint has(self, object statement, Py_ssize_t limit) except -1

    cdef int bound_to(self, bytes portal, object statement) except -1
    cdef bytes describe_portal(self, bytes portal)

    @cython.locals(head=bytes)
    cdef bytes bind_head(self, object statement, Py_ssize_t size)

    @cython.locals(size=Py_ssize_t)
    cdef bytes learn(self, bytes name, object statement, Py_ssize_t limit, int entry, bint fresh)
    cdef int _has(self, object statement) except -1
    cdef int _lacks(self, object statement) except -1
    cdef bytes check(self, object statement, bytes name)
    cdef int describes(self, object statement, bytes name) except -1
    cdef tuple _told(self)
    cdef bytes unlearn(self, object statement)
    cdef int plans_are_stale(self) except -1
    cdef bytes forget(self)
    cdef bytes end_turn(self)
    cdef bytes collide(self, bytes name)
    cdef bytes _borrow(self, bytes name, object statement, bytes rest)
    cdef bytes _up_to_sync(self, bytes sent, bint in_batch)
    cdef bytes evict(self, bytes name)
    @cython.locals(view=StatementsView, name=bytes)
    cdef bytes only_of(self, ClientState client, bint in_batch)
    cdef bint _shows(self, ClientState client) noexcept
    cdef bytes _close_lent(self, bytes name)
    cdef bytes _exposed(self, Undo undo)
    @cython.locals(name=bytes)
    cdef int _not_lent(self, list undone) except -1
    cdef bytes probe(self, bytes name, object statement)
    cdef bytes expose_to_sql(self, bytes name, object statement, bint in_batch)
    cdef bytes expose_name_to_sql(self, bytes name, bint in_batch)
    cdef bint is_exposed(self, bytes name, object statement) except -1
    cdef bint goes_by(self, bytes name, object statement) except -1
    cdef int drops(self, bytes name, object statement) except -1
    cdef list texts_to_undo(self)
    cdef void _undrop(self, bytes name) except *
    cdef int dropped(self) except -1
    cdef int not_dropped(self, ClientState client) except -1
    @cython.locals(name=bytes)
    cdef bytes give_back(self, ClientState client)
    @cython.locals(before=bytes)
    cdef int doom(self, bytes portal, bytes name) except -1
    @cython.locals(name=bytes)
    cdef bint executed(self, bytes portal, ClientState client) except -1
    cdef int block_is_over(self) except -1
    @cython.locals(after=int)
    cdef int on_deallocation(self, int event) except -1
    cdef int _no_such_event(self, int event) except -1

    cdef bint undecided(self, bytes name, object statement) except -1

    cdef bint pending(self, bytes name, object statement) except -1

    cpdef int drop(self) except -1

    @cython.locals(span=UndoSpan)
    cdef bint _pending(self, object what) except -1

    cdef Py_ssize_t known_at(self, bytes name, object statement) except -1

    @cython.locals(span=UndoSpan)
    cdef Py_ssize_t _known_at(self, object what) except -1

    cdef int keep(self, dict there) except -1
    @cython.locals(undo=Undo)
    cdef object answered(self, int entry)
    cdef int described(self, int entry, tuple told, ClientState client) except -1

    @cython.locals(failed=int, entry=int, replies=ReplyQueue, undo=Undo)
    cdef bint skipped(self, ClientState client) except -1

    @cython.locals(undo=Undo)
    cdef object _unnamed_was(self, Undo was, long long server_was, ClientState client)

    cdef object _undo(self, int entry, Undo undo, ClientState client)
    cdef int purged(self, ClientState client) except -1
