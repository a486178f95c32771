# liburing, as far as the transport needs it.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "liburing.h" nogil:
    struct io_uring:
        pass

    struct io_uring_sqe:
        unsigned char flags
        unsigned short buf_group

    struct io_uring_cqe:
        uint64_t user_data
        int res
        uint32_t flags

    struct io_uring_params:
        uint32_t flags
        uint32_t cq_entries

    struct io_uring_buf_ring:
        pass

    struct io_uring_buf_reg:
        uint64_t ring_addr
        uint32_t ring_entries
        unsigned short bgid

    struct io_uring_probe:
        pass

    struct __kernel_timespec:
        long long tv_sec
        long long tv_nsec

    int io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* params)
    void io_uring_queue_exit(io_uring* ring)
    io_uring_probe* io_uring_get_probe_ring(io_uring* ring)
    int io_uring_opcode_supported(io_uring_probe* probe, int op)
    void io_uring_free_probe(io_uring_probe* probe)
    int io_uring_register_buf_ring(io_uring* ring, io_uring_buf_reg* reg, unsigned flags)
    void io_uring_buf_ring_init(io_uring_buf_ring* ring)
    void io_uring_buf_ring_add(
        io_uring_buf_ring* ring, void* address, unsigned size, unsigned short number, int mask, int offset
    )
    void io_uring_buf_ring_advance(io_uring_buf_ring* ring, int count)

    io_uring_sqe* io_uring_get_sqe(io_uring* ring)
    void io_uring_sqe_set_data64(io_uring_sqe* sqe, uint64_t data)
    void io_uring_prep_recv_multishot(io_uring_sqe* sqe, int fd, void* buf, size_t size, int flags)
    void io_uring_prep_send(io_uring_sqe* sqe, int fd, const void* buf, size_t size, int flags)
    void io_uring_prep_poll_add(io_uring_sqe* sqe, int fd, unsigned mask)
    void io_uring_prep_poll_multishot(io_uring_sqe* sqe, int fd, unsigned mask)
    void io_uring_prep_cancel64(io_uring_sqe* sqe, uint64_t data, int flags)

    unsigned io_uring_sq_ready(io_uring* ring)
    int io_uring_submit(io_uring* ring)
    int io_uring_submit_and_get_events(io_uring* ring)
    int io_uring_submit_and_wait_timeout(
        io_uring* ring, io_uring_cqe** cqe, unsigned count, __kernel_timespec* timeout, void* signals
    )
    unsigned io_uring_peek_batch_cqe(io_uring* ring, io_uring_cqe** cqes, unsigned count)
    int io_uring_peek_cqe(io_uring* ring, io_uring_cqe** cqe)
    void io_uring_cqe_seen(io_uring* ring, io_uring_cqe* cqe)

    uint32_t IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_CQSIZE
    uint32_t IORING_SETUP_SUBMIT_ALL, IORING_SETUP_CLAMP
    uint32_t IORING_CQE_F_BUFFER, IORING_CQE_F_MORE
    unsigned char IOSQE_BUFFER_SELECT, IOSQE_CQE_SKIP_SUCCESS
    int IORING_CQE_BUFFER_SHIFT
    int IORING_OP_SEND, IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL

cdef extern from "errno.h" nogil:
    int ECANCELED

cdef extern from "sys/socket.h" nogil:
    int MSG_DONTWAIT, MSG_WAITALL
