from pglido.session.outbox cimport Outbox
from pglido.session.replies cimport Replies
from pglido.session.settings cimport Settings
from pglido.session.state cimport ClientState, Functions

cdef int QUERY, ASKING, QUERYING, SWALLOW, TRYING

cdef class Setup:
    cdef public Replies replies
    cdef public Settings home
    cdef public Settings settings
    cdef public str encoding
    cdef public dict last
    cdef public Settings defaults
    cdef public bint renewed
    cdef public bint grants
    cdef public bint resetting
    cdef public bint discarding
    cdef public Settings coming
    cdef public int suspect
    cdef public dict there
    cdef public bint defining
    cdef public bint deciding
    cdef public set names
    cdef public bint exact
    cdef public bytes cause
    cdef public int pins
    cdef public Functions functions
    cdef public bint heard
    cdef public bint needs_mark
    cdef public bint stale_plans
    cdef public long long counter
    cdef public long long number
    cdef bint _has_temp
    cdef bint _had_temp
    cdef bint _brought
    cdef bint _marked
    cdef bint _ending
    cdef bint _ended
    cdef int _doubt
    cdef int _queries
    cdef list _reports
    cdef dict _passing
    cdef tuple _asked
    cdef set _told
    cdef bint _was_reset

    cpdef bytes adopt(self, Settings wanted)
    cdef int closed(self, bytes name) except -1
    cdef int swallowed(self) except -1
    cdef int reported(self, str name, bytes value) except -1
    cpdef int keep_reported(self, dict reported) except -1
    cdef bint unread(self)
    cdef str learn(self, ClientState client, bint idle, Outbox out, const unsigned char* buf)
    cdef int _settle_passing(self, ClientState client) except -1
    cpdef int renew(self) except -1
    cdef int tell(self, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef int _renew_for(self, ClientState client) except -1
    cdef int _settle_reset(self, ClientState client) except -1
    cpdef int suspicion(self, int flags, tuple names, bint exact, bytes cause) except -1
    cpdef bytes bring(self, frozenset channels, bint in_block)
    cdef int unlistens(self) except -1
    cdef int command_done(self, bytes tag, bint own) except -1
    cdef int failed(self) except -1
    cdef bytes mark_again(self)
    cdef bytes forget_sequences(self)
    cdef int temp_appears(self) except -1
    cdef bint may_shadow(self) except -1
    cdef bytes forget_plans(self)
    cdef bytes _try(self, bytes sql)
    cpdef bytes question(self)
    cdef int _hear(self, frozenset there, ClientState client) except -1
    cdef int answered(self, bytes row, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef dict _own(self, dict values, ClientState client)
    cdef int _correct(self, dict former, ClientState client, Outbox out, const unsigned char* buf) except -1
    cdef int over(self) except -1
    cdef int reconsider(self) except -1
    cpdef bint stained(self)
    cpdef int cleaned(self) except -1
