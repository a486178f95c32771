from pglido.auth.openssl cimport digest_t, mac_final_t, mac_init_t, mac_update_t

cdef size_t address(object library, str name) except 0

cdef int demand(bint done) except -1

cdef class Libcrypto:
    cdef mac_init_t init
    cdef mac_update_t update
    cdef mac_final_t final
    cdef digest_t digest
    cdef void* kind
    cdef void* context

    cpdef bytes hmac_sha256(self, bytes key, bytes data)

    cpdef bytes sha256(self, bytes data)
