# Numbers and texts put together, for what is written of every connection: printf takes ten times as long.

from libc.string cimport memcpy

cdef inline int decimal(char* text, unsigned long long number) noexcept nogil:
    """Write a number to `text`, without a zero behind it; returns how many digits it has, 20 at most."""
    cdef int size = 1
    cdef int at
    cdef unsigned long long rest = number
    while rest >= 10:
        rest //= 10
        size += 1
    for at in range(size - 1, -1, -1):
        text[at] = 48 + number % 10
        number //= 10
    return size

cdef inline char* append(char* end, const char* text, Py_ssize_t size) noexcept nogil:
    """Copy bytes to the end of a text; returns where it ends then."""
    memcpy(end, text, size)
    return end + size
