cimport cython

from pglido.wire cimport lexis, phrases

cdef int AMPERSAND, BACKSLASH, DOUBLE, QUOTE, UNDERSCORE
cdef int PLAIN, IDENT, SEMICOLON, OPEN, CLOSE, END, DOLLAR, DIGIT, NAME
cdef Py_ssize_t LONGEST_NAME
cdef int ROW, ANY, FIRST, KIND, NEXT, QUOTED, WORD
cdef int SET, PREPARE, LEAD, DEFINE, DEFINED, CONFIG, BODY, CASE, CEASE, SETTINGS
cdef int _SETS, _TEMP, _SEEDS, _WRITES, _DEFINES, _TAILS, _ENTERS, _ANYTHING, _UNREADABLE, _CALLED
cdef bytes CLASSES, LOWER, SLOTS, ROWS

cdef Py_ssize_t _slot(int first, int last, Py_ssize_t size) noexcept

@cython.locals(classes="const unsigned char*", slots="const unsigned char*", rows="const unsigned char*", maybe=bytes, flags=int, depth=Py_ssize_t, body=Py_ssize_t, defining=int, begin=bint, full=bint, parted=bint, configured=bint, settings=bint, quoted=bint, at=Py_ssize_t, first=Py_ssize_t, end=Py_ssize_t, checked=Py_ssize_t, kind=int, row=int, slot=Py_ssize_t, special=int, told=int)
cpdef int scan(const unsigned char* text, Py_ssize_t start, Py_ssize_t stop, bint odd, frozenset touchy) except -1

@cython.locals(flags=int)
cdef int _named(const unsigned char* text, Py_ssize_t start, Py_ssize_t stop) noexcept

@cython.locals(at=Py_ssize_t)
cdef bint _odd(const unsigned char* text, Py_ssize_t start, Py_ssize_t stop) noexcept

cdef bint _has(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop, int letter) noexcept

@cython.locals(size=Py_ssize_t, at=Py_ssize_t)
cdef int _row(const unsigned char* text, Py_ssize_t first, Py_ssize_t end, int row, const unsigned char* rows) noexcept

@cython.locals(row=int)
cdef int meaning(const unsigned char* text, Py_ssize_t first, Py_ssize_t end, bint quoted) except -1

@cython.locals(row=int)
cdef bint sets(const unsigned char* text, Py_ssize_t first, Py_ssize_t end) except -1

cdef int _watched(const unsigned char* text, Py_ssize_t first, Py_ssize_t end) except -1

@cython.locals(quoted=bint, at=Py_ssize_t, name=bytes)
cdef bint _calls(const unsigned char* text, Py_ssize_t start, Py_ssize_t first, Py_ssize_t end, Py_ssize_t after, Py_ssize_t stop, frozenset touchy) except -1

cdef dict _filters
cdef bytes _filter(frozenset touchy)
