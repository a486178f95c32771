cimport cython

from pglido.sql cimport clauses, lexer

cdef int AMPERSAND, BACKSLASH, DOUBLE, QUOTE, UNDERSCORE
cdef int PLAIN, IDENT, SEMICOLON, OPEN, CLOSE, END, DOLLAR, DIGIT, NAME
cdef Py_ssize_t LONGEST_NAME
cdef int ROW, ANY, FIRST, KIND, NEXT, QUOTED, WORD
cdef int SET, PREPARE, LEAD, DEFINE, DEFINED, CONFIG, BODY, CASE, CEASE, SETTINGS
cdef int _SETS, _TEMP, _SEEDS, _WRITES, _DEFINES, _TAILS, _ENTERS, _ANYTHING, _UNREADABLE, _CALLED
cdef bytes CLASSES, LOWER, SLOTS, ROWS

cdef Py_ssize_t _slot(int first, int last, Py_ssize_t size) noexcept

cpdef int scan(const unsigned char* text, Py_ssize_t start, Py_ssize_t stop, bint odd, frozenset touchy) except -1

@cython.final
cdef class Reader:
    cdef const unsigned char* text
    cdef Py_ssize_t start
    cdef Py_ssize_t stop
    cdef frozenset touchy
    cdef bytes maybe
    cdef int flags
    cdef Py_ssize_t depth
    cdef Py_ssize_t body
    cdef int defining
    cdef bint begin
    cdef bint full
    cdef bint parted
    cdef bint configured
    cdef bint settings
    cdef Py_ssize_t checked

    cdef int begin_with(self, const unsigned char* text, Py_ssize_t start, Py_ssize_t stop, frozenset touchy) except -1

    @cython.locals(text="const unsigned char*", classes="const unsigned char*", stop=Py_ssize_t, at=Py_ssize_t, first=Py_ssize_t, kind=int, named=bint)
    cdef int read(self) except -1

    @cython.locals(text="const unsigned char*", at=Py_ssize_t)
    cdef Py_ssize_t _prefixed(self, Py_ssize_t first, Py_ssize_t end) except -2

    @cython.locals(at=Py_ssize_t)
    cdef Py_ssize_t _identifier(self, Py_ssize_t first) except -2

    cdef void _part(self) noexcept

    cdef void _open(self) noexcept

    @cython.locals(slots="const unsigned char*", rows="const unsigned char*", slot=Py_ssize_t, row=int)
    cdef int _word(self, const unsigned char* text, Py_ssize_t first, Py_ssize_t end, Py_ssize_t at, bint quoted) except -1

    @cython.locals(rows="const unsigned char*", special=int, told=int)
    cdef int _first(self, int row, Py_ssize_t at) except -1

    cdef int _special(self, int special, Py_ssize_t first, Py_ssize_t at) except -1

cdef Reader READER

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
