cimport cython

from pglido.sql cimport clauses, lexer, scanner

cdef int DOUBLE, QUOTE
cdef int NAME
cdef int BODY, CASE, CEASE, DEFINE, DEFINED
cdef bytes CLASSES

@cython.locals(at=Py_ssize_t, end=Py_ssize_t, stop=Py_ssize_t, kind=str)
cpdef list tokenize(bytes text)
