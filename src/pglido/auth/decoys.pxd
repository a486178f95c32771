from pglido.protocol cimport octets

cpdef bytes mock_digest(bytes seed, str user)

cpdef bytes mock_salt(bytes digest, Py_ssize_t size)
