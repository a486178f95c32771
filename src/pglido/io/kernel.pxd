# The system calls of the pump, as Linux declares them.

from libc.stdint cimport uint32_t

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void* ptr
        int fd

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)
    int epoll_wait(int epfd, epoll_event* events, int maxevents, int timeout)
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int fd, void* buf, size_t size, int flags)
    ssize_t send(int fd, const void* buf, size_t size, int flags)
    int MSG_NOSIGNAL, MSG_PEEK

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec

    int clock_gettime(int clock, timespec* now)
    int CLOCK_MONOTONIC
