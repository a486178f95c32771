from pglido.relay.links cimport ClientLink, ServerLink

cdef class Dispatcher:
    cpdef bint attach(self, ClientLink link) except -1
    cpdef void released(self, ServerLink link) except *
    cpdef void client_gone(self, ClientLink link, str why) except *
