cimport cython

from pglido.sql cimport lexer

cdef int DOUBLE, QUOTE
cdef int IDENT, OPEN, CLOSE, END, DOLLAR, NAME
cdef int BODY, CASE, CEASE, SEEDS, SETS
cdef bytes CLASSES, LOWER

@cython.locals(first=Py_ssize_t, end=Py_ssize_t, local=bint)
cdef int after_set(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef bint _names_seed(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(end=Py_ssize_t)
cdef bint prepares(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef Py_ssize_t nested(const unsigned char* text, Py_ssize_t start, Py_ssize_t first, Py_ssize_t end, Py_ssize_t stop, int special, Py_ssize_t body) noexcept

cdef bint _atomic(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(at=Py_ssize_t)
cdef bint _label(const unsigned char* text, Py_ssize_t start, Py_ssize_t first) noexcept

@cython.locals(depth=Py_ssize_t, end=Py_ssize_t, alone=bint, fresh=bint, kind=int)
cdef Py_ssize_t locally(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept
