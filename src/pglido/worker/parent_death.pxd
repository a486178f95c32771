cdef void _parent_died(int number) noexcept nogil
