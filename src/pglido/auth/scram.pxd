cimport cython

cdef int NONCE_SIZE

cdef class Keys:
    cdef readonly long long iterations
    cdef readonly bytes salt
    cdef readonly bytes client_key
    cdef readonly bytes server_key

cdef class Derivations:
    cdef Py_ssize_t _size
    cdef dict _keys

    @cython.locals(key=tuple)
    cpdef object find(self, str password, bytes salt, long long iterations)

    cpdef int keep(self, str password, bytes salt, long long iterations, object derived) except -1

    cpdef object get(self, str password, bytes salt, long long iterations)

cpdef bytes digest(bytes key)

cpdef bytes sign(bytes key, bytes auth_message)

cpdef bytes base64(bytes data)

cpdef bytes unbase64(bytes text)
