from pglido.protocol cimport octets

cpdef bytes draw(bytes seed, str user)

cpdef bytes mock_salt(bytes lot, Py_ssize_t size)
