# Of OpenSSL's libcrypto: SHA256_Init(3), EVP_default_properties_is_fips_enabled(3). Bytes are `char` here, as Python's are.

ctypedef int (*init_t)(unsigned int* context) noexcept
ctypedef int (*update_t)(unsigned int* context, const char* data, size_t size) noexcept
ctypedef int (*final_t)(char* out, unsigned int* context) noexcept
ctypedef int (*fips_t)(void* library) noexcept

cdef enum:
    # Bytes of what SHA-256 makes, and of the blocks that it takes.
    SIZE = 32
    BLOCK = 64
    # Integers of an SHA256_CTX: 8 of the state, 2 that count bits, 16 of a block, 2 lengths.
    CONTEXT = 28
