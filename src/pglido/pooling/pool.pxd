cimport cython

from pglido.pooling.queue cimport Queue, QueueMember, Ticket

cdef int OPENING, IDLE, BUSY, CHECKING, CLOSING, OPEN, SHUT
cdef Py_ssize_t LOOK

@cython.final
cdef class ServerSlot(QueueMember):
    cdef public Pool pool
    cdef public int state
    cdef public object startup_params
    cdef public object settings
    cdef public long long generation
    cdef public object server
    cdef public double born
    cdef public double since
    cdef public double dies
    cdef public bint doomed
    cdef public bint recalled
    cdef public bint retired
    cdef public bint used

@cython.final
cdef class Pool:
    cdef public tuple key
    cdef public object limits
    cdef public object chance
    cdef public dict slots
    cdef public Queue idle
    cdef public Queue line
    cdef public dict logins
    cdef public Py_ssize_t clients
    cdef public Py_ssize_t opening
    cdef public Py_ssize_t leases
    cdef public long long generation
    cdef public Py_ssize_t granted
    cdef public Py_ssize_t recalls
    cdef public Py_ssize_t returned
    cdef public Py_ssize_t asked
    cdef public double asked_at
    cdef public object outage
    cdef readonly int gate
    cdef public Ticket notified
    cdef public double check_delay
    cdef public bint round_robin
    cdef public Py_ssize_t minimum
    cdef public object startup_params
    cdef public double wait_time
    cdef public Py_ssize_t assignments
    cdef public double busy_time
    cdef public Py_ssize_t period
    cdef public Py_ssize_t comers
    cdef public double loaded_at

    @cython.locals(_=Py_ssize_t, found=ServerSlot, slot=ServerSlot)
    cpdef ServerSlot take(self, object startup_params, object settings, double now, long long generation=*)

    @cython.locals(ticket=Ticket)
    cpdef Ticket wait(self, object client, object startup_params, object settings, double now, long long generation=*)

    cpdef int leave(self, Ticket ticket) except -1

    @cython.locals(ticket=Ticket)
    cpdef Ticket freed(self, ServerSlot slot, object settings, double now)

    cdef double _pause(self, Py_ssize_t wants) except -1

    cdef Py_ssize_t _needed(self, double now) except? -1
    @cython.locals(needed=Py_ssize_t)
    cpdef bint needs_plan(self, double now) except -1
