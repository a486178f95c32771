cimport cython

cdef int NONCE_SIZE

cdef class Derivations:
    cdef Py_ssize_t _size
    cdef dict _keys

    @cython.locals(key=tuple)
    cpdef object find(self, str password, bytes salt, long long iterations)

    cpdef int keep(self, str password, bytes salt, long long iterations, object derived) except -1

    cpdef object get(self, str password, bytes salt, long long iterations)

cpdef bytes digest(bytes key)

cpdef bytes sign(bytes key, bytes auth_message)

@cython.locals(both=bytearray, at=Py_ssize_t)
cpdef bytes xor(bytes left, bytes right)

cpdef bytes base64(bytes data)
