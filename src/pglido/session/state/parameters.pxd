cdef class SessionParameters:
    cdef object __weakref__
    cdef readonly dict values
    cdef readonly dict prepared
    cdef readonly frozenset prepared_names
    cdef readonly tuple dialect
    cdef readonly bint odd
    cdef readonly bint own_temp
    cdef readonly bint large
    cdef readonly Py_ssize_t size
    cdef readonly bint hasty
