# cython: annotation_typing=True
"""One io_uring, and the buffers that are lent to the kernel for what it receives. Compiled only, where liburing is.

Only one thread may use it (IORING_SETUP_SINGLE_ISSUER); results come only while it is waited for.
"""

import os

import cython
from cython.cimports.libc.errno import EAGAIN, EBUSY, EINTR, ENOSYS, ETIME
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memset
from cython.cimports.pglido.transport.uring_library import (
    IORING_OP_ASYNC_CANCEL,
    IORING_OP_POLL_ADD,
    IORING_OP_RECV,
    IORING_OP_SEND,
    IORING_SETUP_CLAMP,
    IORING_SETUP_CQSIZE,
    IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SUBMIT_ALL,
    IOSQE_CQE_SKIP_SUCCESS,
    __kernel_timespec,
    io_uring,
    io_uring_buf_reg,
    io_uring_buf_ring,
    io_uring_buf_ring_add,
    io_uring_buf_ring_advance,
    io_uring_buf_ring_init,
    io_uring_cqe,
    io_uring_cqe_seen,
    io_uring_free_probe,
    io_uring_get_probe_ring,
    io_uring_get_sqe,
    io_uring_opcode_supported,
    io_uring_params,
    io_uring_peek_batch_cqe,
    io_uring_peek_cqe,
    io_uring_prep_cancel64,
    io_uring_probe,
    io_uring_queue_exit,
    io_uring_queue_init_params,
    io_uring_register_buf_ring,
    io_uring_sq_ready,
    io_uring_sqe,
    io_uring_sqe_set_data64,
    io_uring_submit,
    io_uring_submit_and_get_events,
    io_uring_submit_and_wait_timeout,
)
from cython.cimports.posix.stdlib import posix_memalign

# Requests told to the kernel in one call; with more, there are more calls.
ENTRIES = 512
# Results the kernel can keep for us: a receive of each buffer, and a send of each of many links.
RESULTS = 4096
# Buffers lent to the kernel, a power of two, and their size: two of the pieces that PostgreSQL sends. What fills one is
# much. (With 4 KiB each piece was much, and results cost more than by epoll.)
LENT = 128
LENT_SIZE = 16384
# The same where it is a C int.
_SIZE = LENT_SIZE


class UringKernel:
    """Raises OSError where the kernel does not allow it, or is too old."""

    def __init__(self) -> None:
        self._open()
        self._probe()
        self._lend_all()

    def _open(self) -> None:
        params = cython.declare(io_uring_params)
        result: cython.int
        memset(cython.address(params), 0, cython.sizeof(io_uring_params))
        params.flags = (
            IORING_SETUP_SINGLE_ISSUER
            | IORING_SETUP_DEFER_TASKRUN
            | IORING_SETUP_SUBMIT_ALL
            | IORING_SETUP_CLAMP
            | IORING_SETUP_CQSIZE
        )
        params.cq_entries = RESULTS
        ring = cython.cast(cython.pointer[io_uring], malloc(cython.sizeof(io_uring)))
        if ring == cython.NULL:
            raise MemoryError
        result = io_uring_queue_init_params(ENTRIES, ring, cython.address(params))
        if result < 0:
            free(ring)
        check(result)
        self.ring = ring
        self.results = cython.cast(
            cython.pointer[cython.pointer[io_uring_cqe]], malloc(RESULTS * cython.sizeof(cython.p_void))
        )
        if self.results == cython.NULL:
            raise MemoryError

    def _probe(self) -> None:
        """Does the kernel know all that is asked of it?"""
        op: cython.int
        result: cython.int = 0
        probe: cython.pointer[io_uring_probe] = io_uring_get_probe_ring(self.ring)
        for op in (IORING_OP_RECV, IORING_OP_SEND, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL):
            if probe == cython.NULL or not io_uring_opcode_supported(probe, op):
                result = -ENOSYS
        if probe != cython.NULL:
            io_uring_free_probe(probe)
        check(result)

    def _lend_all(self) -> None:
        reg = cython.declare(io_uring_buf_reg)
        number: cython.int
        # The buffers, then 16 bytes for each one's place in the ring.
        memory: cython.p_void = cython.NULL
        if posix_memalign(cython.address(memory), 4096, LENT * (16 + _SIZE)):
            raise MemoryError
        self.memory = cython.cast(cython.p_char, memory)
        self.lent = cython.cast(cython.pointer[io_uring_buf_ring], self.memory + LENT * _SIZE)
        memset(cython.address(reg), 0, cython.sizeof(io_uring_buf_reg))
        reg.ring_addr = cython.cast(uint64_t, self.lent)
        reg.ring_entries = LENT
        reg.bgid = 0
        check(io_uring_register_buf_ring(self.ring, cython.address(reg), 0))
        io_uring_buf_ring_init(self.lent)
        for number in range(LENT):
            io_uring_buf_ring_add(self.lent, self.buffer(number), _SIZE, number, LENT - 1, number)
        io_uring_buf_ring_advance(self.lent, LENT)

    def __dealloc__(self) -> None:
        # All are null until they are made.
        if self.ring != cython.NULL:
            io_uring_queue_exit(self.ring)
        free(self.ring)
        free(self.results)
        free(self.memory)

    # Buffers.

    def lent_bytes(self) -> int:
        """Bytes of all that are lent."""
        return LENT * _SIZE

    def buffer(self, number: cython.int) -> cython.p_char:
        """Where a lent buffer is."""
        return self.memory + number * _SIZE

    def lend(self, number: cython.int) -> None:
        """Give a buffer back to the kernel."""
        io_uring_buf_ring_add(self.lent, self.buffer(number), _SIZE, number, LENT - 1, 0)
        io_uring_buf_ring_advance(self.lent, 1)

    # Requests.

    def entry(self) -> cython.pointer[io_uring_sqe]:
        """A request to fill in; it is told to the kernel with the next wait."""
        sqe: cython.pointer[io_uring_sqe] = io_uring_get_sqe(self.ring)
        if sqe == cython.NULL:
            io_uring_submit(self.ring)
            sqe = io_uring_get_sqe(self.ring)
            if sqe == cython.NULL:
                raise OSError(EAGAIN, "io_uring takes no requests")
        return sqe

    def cancel(self, name: uint64_t) -> None:
        """End a request. It may have ended by itself; only its own end counts."""
        sqe: cython.pointer[io_uring_sqe] = self.entry()
        io_uring_prep_cancel64(sqe, name, 0)
        sqe.flags |= IOSQE_CQE_SKIP_SUCCESS
        io_uring_sqe_set_data64(sqe, 0)

    # Results.

    def wait(self, timeout: cython.int) -> None:
        """Tell the kernel all requests, and wait up to `timeout` ms (-1: for ever) for a result. Raises OSError."""
        first: cython.pointer[io_uring_cqe] = cython.NULL
        time = cython.declare(__kernel_timespec)
        result: cython.int
        if timeout == 0:
            with cython.nogil:
                result = io_uring_submit_and_get_events(self.ring)
        elif timeout < 0:
            with cython.nogil:
                result = io_uring_submit_and_wait_timeout(self.ring, cython.address(first), 1, cython.NULL, cython.NULL)
        else:
            time.tv_sec = timeout // 1000
            time.tv_nsec = (timeout % 1000) * 1000000
            with cython.nogil:
                result = io_uring_submit_and_wait_timeout(
                    self.ring, cython.address(first), 1, cython.address(time), cython.NULL
                )
        if result not in (-ETIME, -EINTR, -EAGAIN, -EBUSY):
            check(result)

    def look(self) -> cython.int:
        """How many results there are in `results`, all of which stay; every request is told by then."""
        while io_uring_sq_ready(self.ring):
            io_uring_submit(self.ring)
        return io_uring_peek_batch_cqe(self.ring, self.results, RESULTS)

    def first(self) -> cython.pointer[io_uring_cqe]:
        """The oldest result, or null."""
        cqe: cython.pointer[io_uring_cqe] = cython.NULL
        return cqe if io_uring_peek_cqe(self.ring, cython.address(cqe)) == 0 else cython.NULL

    def seen(self, cqe: cython.pointer[io_uring_cqe]) -> None:
        """The oldest result is dealt with, or copied."""
        io_uring_cqe_seen(self.ring, cqe)


def check(result: cython.int) -> None:
    """Raise what the kernel says by a number below 0."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
