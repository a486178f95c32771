cimport cython

from pglido.session.client.dispatch cimport Client
from pglido.session.outbox cimport Outbox
from pglido.session.server.reader cimport Server

@cython.locals(to_server=Outbox, to_client=Outbox, used=Py_ssize_t)
cpdef tuple from_client(Client client, bytes data)

@cython.locals(to_client=Outbox, result=int)
cpdef tuple from_server(Server server, bytes data)
cpdef int batch_event(Server server, int event) except -1
