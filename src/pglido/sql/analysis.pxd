from pglido.sql cimport clauses, lexer, scanner

cdef int ANYTHING, CONFIG, LEAD, PREPARES, RUNS, SET, SETS, SETTINGS

cdef class Analysis:
    cdef readonly tuple names
    cdef readonly bint exact
    cdef readonly bint vague
    cdef readonly tuple channels
    cdef readonly tuple executes
    cdef readonly tuple prepares
    cdef readonly tuple databases
    cdef readonly int defaults
    cdef readonly tuple statements

cpdef Analysis look(bytes text)
