cimport cython

from pglido.session.outbox cimport Outbox
from pglido.session.state.listen_mark cimport ListenMark
from pglido.session.state.parameters cimport SessionParameters
from pglido.session.state.shared cimport ClientState, FunctionCatalog

cdef int ASKING, QUERYING, INTERNAL, TRYING
cdef int ANSWER, ASK, ASK_DECIDING, ILLEGAL, READY, SHIFT
cdef bytes QUESTIONS
cdef const unsigned char* _next

cdef class SessionState(ListenMark):
    cdef public SessionParameters home
    cdef public SessionParameters settings
    cdef public str encoding
    cdef public str server_encoding
    cdef public dict last
    cdef public SessionParameters defaults
    cdef public bint renewed
    cdef public int version
    cdef public bint resetting
    cdef public bint discarding
    cdef public SessionParameters coming
    cdef public int unverified
    cdef public dict there
    cdef public bint defining
    cdef readonly int asking
    cdef public set names
    cdef public bint exact
    cdef public bytes cause
    cdef public int pins
    cdef public FunctionCatalog functions
    cdef public bint stale_plans
    cdef public long long counter
    cdef public long long number
    cdef bint _has_temp
    cdef public bint had_temp
    cdef bint _first_temp
    cdef bint _says_temp
    cdef int _unanswered
    cdef int _queries
    cdef list _reports
    cdef dict _passing
    cdef object _asked
    cdef list _came
    cdef bint _was_reset
    cdef dict _unclear

    cpdef bytes adopt(self, SessionParameters wanted)
    cdef int closed(self, bytes name) except -1
    cdef int swallowed(self) except -1
    cdef int reported(self, str name, bytes value) except -1
    cpdef int keep_reported(self, dict reported) except -1
    cdef bint unread(self)
    cpdef bint converts(self)
    cdef int _tell(self, str name, str value, Outbox out, const unsigned char* buf) except -1
    cdef int learn(self, ClientState client, bint idle, Outbox out, const unsigned char* buf) except -1
    cdef int _settle_passing(self, ClientState client) except -1
    cpdef int renew(self) except -1
    cdef int tell(self, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef int _renew_for(self, ClientState client) except -1
    cdef int _settle_reset(self, ClientState client, Outbox out, const unsigned char* buf) except -1
    cpdef int add_unverified(self, int flags, tuple names, bint exact, bytes cause) except -1
    cdef int command_done(self, bytes tag, ClientState client, bint own) except -1
    cdef int refused(self, ClientState client, bint in_block) except -1
    cdef bytes forget_sequences(self)
    cdef int temp_appears(self, ClientState client) except -1
    cdef int temp_made(self, ClientState client) except -1
    cdef int _no_first_temp(self, ClientState client) except -1
    cdef bint may_shadow(self) except -1
    cdef bint makes_temp(self) except -1
    cdef bytes make_temp_schema(self)
    cdef bytes forget_plans(self)
    cpdef bytes question(self)
    cdef bytes _ask(self, object asked)
    @cython.locals(after=int)
    cdef int _on_question(self, int event) except -1
    cdef dict _owned(self, list names, dict unclear)
    cdef int answered(self, bytes row, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef int _settle(self, object asked, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef dict _own(self, dict values, ClientState client)
    cdef dict _cleared(self, list names, dict unclear, ClientState client)
    cdef int _correct(self, dict former, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef int over(self) except -1
    cdef int mark_unsynced(self) except -1
    cdef int reconsider(self) except -1
    cpdef bint dirty(self)
    cpdef int cleaned(self) except -1
