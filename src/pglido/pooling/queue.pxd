cimport cython

cdef class QueueMember:
    cdef public QueueMember ahead
    cdef public QueueMember behind
    cdef public bint stands

cdef class Ticket(QueueMember):
    cdef public object client
    cdef public object startup_params
    cdef public object settings
    cdef public long long generation
    cdef public double since
    cdef public bint login
    cdef public bint notified

@cython.final
cdef class Queue:
    cdef public QueueMember front
    cdef public QueueMember back
    cdef public Py_ssize_t size

    cpdef int join(self, QueueMember member) except -1

    cpdef object leave(self, QueueMember member)

    cpdef list all(self)

    @cython.locals(member=QueueMember)
    cpdef list first(self, Py_ssize_t count)
