cimport cython

cdef class Member:
    cdef public Member ahead
    cdef public Member behind
    cdef public bint stands

cdef class Ticket(Member):
    cdef public object client
    cdef public object birth
    cdef public object settings
    cdef public long long generation
    cdef public double since
    cdef public bint login
    cdef public bint notified

@cython.final
cdef class Line:
    cdef public Member front
    cdef public Member back
    cdef public Py_ssize_t size

    cpdef int join(self, Member member) except -1

    cpdef object leave(self, Member member)

    cpdef list all(self)

    @cython.locals(member=Member)
    cpdef list first(self, Py_ssize_t count)
