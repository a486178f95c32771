# Of OpenSSL's libcrypto: EVP_MAC(3), EVP_DigestInit(3), OSSL_PARAM(3). Bytes are `char` here, as Python's are.

ctypedef void* (*fetch_t)(void* library, const char* name, const char* properties) noexcept
ctypedef void* (*mac_new_t)(void* mac) noexcept
ctypedef int (*mac_init_t)(void* context, const char* key, size_t size, const Parameter* parameters) noexcept
ctypedef int (*mac_update_t)(void* context, const char* data, size_t size) noexcept
ctypedef int (*mac_final_t)(void* context, char* out, size_t* written, size_t size) noexcept
ctypedef int (*digest_t)(
    const char* data, size_t size, char* out, unsigned int* written, const void* kind, void* engine
) noexcept

cdef struct Parameter:
    const char* key
    unsigned int data_type
    void* data
    size_t data_size
    size_t return_size

cdef enum:
    # Bytes of what SHA-256 makes.
    SIZE = 32
    OSSL_PARAM_UTF8_STRING = 4
