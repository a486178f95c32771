cimport cython

from pglido.session.server.statements cimport ServerStatements

cdef int BINDING, CLOSING, EXECUTING, PARSING, QUERY, INTERNAL, TRYING
cdef long long ANYBODY

@cython.final
cdef class NotificationSender:
    cdef public object signer
    cdef public long long process
    cdef public long long named
    cdef public bint sure
    cdef long long _number
    cdef long long _heard_by
    cdef ServerStatements _prepared

    cpdef int begin(self, signer, long long process) except -1

    @cython.locals(heard_by="long long")
    cdef bint due(self, long long client) except -1

    @cython.locals(heard_by="long long")
    cdef bytes _said(self, long long client)
    cpdef bytes alone(self, long long client)
    cdef bytes within(self, long long client)
    cdef bytes _query(self, bytes sql)
    cdef bytes in_batch(self, long long client)
    cdef int failed(self) except -1
