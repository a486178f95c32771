from libc.stdint cimport uint64_t

from pglido.transport.uring_library cimport io_uring, io_uring_buf_ring, io_uring_cqe, io_uring_sqe

cdef int ENTRIES, LENT, RESULTS, _SIZE

cdef class UringKernel:
    cdef io_uring* ring
    cdef io_uring_buf_ring* lent
    cdef char* memory
    cdef io_uring_cqe** results

    cdef int _open(self) except -1
    cdef int _probe(self) except -1
    cdef int _lend_all(self) except -1
    cdef char* buffer(self, int number) noexcept
    cdef void lend(self, int number) noexcept
    cdef io_uring_sqe* entry(self) except NULL
    cdef object cancel(self, uint64_t name)
    cdef object wait(self, int timeout)
    cdef int look(self) noexcept
    cdef io_uring_cqe* first(self) noexcept
    cdef void seen(self, io_uring_cqe* cqe) noexcept

cdef int check(int result) except -1
