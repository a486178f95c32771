from pglido.auth.openssl cimport final_t, init_t, update_t

cdef size_t address(object library, str name) except 0

cdef int demand(bint done) except -1

cdef class Libcrypto:
    cdef init_t init
    cdef update_t update
    cdef final_t final

    cdef int digest(self, char* out, const char* block, size_t blocked, const char* data, size_t size) except -1

    cpdef bytes hmac_sha256(self, bytes key, bytes data)

    cpdef bytes sha256(self, bytes data)
