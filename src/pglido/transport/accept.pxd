cpdef tuple accept(int fd)
