cimport cython

cdef int _BITS, _MASK, _KEYS
cdef int HEAD_SIZE, READY_SIZE
cdef bytes SHORT_HEAD, LONG_HEAD, READY

cpdef long long pid_of(int worker, long long serial) except -1

cdef class CancelKeys:
    cdef readonly int worker
    cdef bytes _secret
    cdef long long _block
    cdef int _size
    cdef bytes _keys

    @cython.locals(count=int, block="long long", key=bytes)
    cpdef bytes own(self, long long serial, int size)

    cpdef bytes of(self, int worker, long long serial, int size)

    @cython.locals(size=int, key=bytes, head=bytes, made=bytes, end="char*")
    cpdef bytes key_and_ready(self, long long serial, int minor)
