cimport cython

cdef int AMPERSAND, BACKSLASH, DOUBLE, QUOTE, STAR
cdef int DASH, SLASH, MARK, IDENT, DOLLAR, DIGIT, NAME
cdef Py_ssize_t LONGEST_NAME
cdef bytes CLASSES, LOWER

@cython.locals(size=Py_ssize_t, at=Py_ssize_t)
cdef bint spells(const unsigned char* text, Py_ssize_t first, Py_ssize_t end, bytes word) noexcept

@cython.locals(size=Py_ssize_t, at=Py_ssize_t)
cdef bint mentions(const unsigned char* text, Py_ssize_t start, Py_ssize_t stop, bytes word) noexcept

@cython.locals(end=Py_ssize_t, kind=int, letter=int)
cdef Py_ssize_t skip(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef Py_ssize_t word_end(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(after=Py_ssize_t)
cdef Py_ssize_t _string(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop, bint escapes) noexcept

@cython.locals(letter=int)
cdef Py_ssize_t piece(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop, bint escapes) noexcept

@cython.locals(letter=int, parted=bint)
cdef Py_ssize_t continued(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef Py_ssize_t quoted(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(end=Py_ssize_t, size=Py_ssize_t, same=Py_ssize_t)
cdef Py_ssize_t _dollar(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(depth=Py_ssize_t, letter=int)
cdef Py_ssize_t _comment(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

cdef Py_ssize_t _line(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(letter=int, end=Py_ssize_t)
cdef Py_ssize_t blank(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

cpdef bytes cut(bytes name)
