from pglido.relay.links cimport ClientLink, ServerLink

cdef class HostInterface:
    cpdef bint attach(self, ClientLink client) except -1
    cpdef void released(self, ServerLink server) except *
    cpdef void client_gone(self, ClientLink client, str why) except *
