from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memchr

# `len` looks whether there are bytes at all.

cdef inline bytes cut(bytes data, Py_ssize_t start, Py_ssize_t stop):
    cdef Py_ssize_t size = len(data)
    stop = min(stop, size)
    if start == 0 and stop == size:
        return data
    if start < 0 or start >= stop:
        return b""
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, stop - start)

cdef inline Py_ssize_t find(bytes data, int letter, Py_ssize_t start) except -1:
    cdef Py_ssize_t size = len(data)
    cdef const char* text = PyBytes_AS_STRING(data)
    cdef const char* found
    if start < 0 or start >= size:
        return max(start, 0)
    found = <const char*>memchr(text + start, letter, size - start)
    return found - text if found != NULL else size

cdef inline long long int32(bytes data, Py_ssize_t at) except -1:
    if at < 0 or at + 4 > len(data):
        raise IndexError("no four bytes there")
    return length(<const unsigned char*>PyBytes_AS_STRING(data), at)

cdef inline long long length(const unsigned char* data, Py_ssize_t at) noexcept:
    cdef unsigned int number = data[at]
    number = number << 8 | data[at + 1]
    number = number << 8 | data[at + 2]
    return number << 8 | data[at + 3]

cdef inline void big_endian(char* data, unsigned int number) noexcept nogil:
    """Write an int32 of the wire to four bytes."""
    data[0] = <char>(number >> 24)
    data[1] = <char>(number >> 16 & 0xFF)
    data[2] = <char>(number >> 8 & 0xFF)
    data[3] = <char>(number & 0xFF)

cdef inline bytes four(unsigned int number):
    cdef char text[4]
    big_endian(text, number)
    return PyBytes_FromStringAndSize(text, 4)

cdef inline bytes xor(bytes left, bytes right):
    cdef Py_ssize_t size = len(left)
    cdef Py_ssize_t at
    cdef bytes both
    cdef char* text
    if size != len(right):
        raise ValueError("bytes of different length")
    both = PyBytes_FromStringAndSize(NULL, size)
    text = PyBytes_AS_STRING(both)
    for at in range(size):
        text[at] = PyBytes_AS_STRING(left)[at] ^ PyBytes_AS_STRING(right)[at]
    return both
