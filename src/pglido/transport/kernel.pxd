# The system calls of the transport, as Linux declares them.

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

# Not libc's own functions: those prepare for a thread to be cancelled in them, 4 % of a transaction.
cdef extern from *:
    """
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static inline ssize_t pglido_recv(int fd, void *buf, size_t size, int flags) {
        return syscall(SYS_recvfrom, fd, buf, size, flags, NULL, NULL);
    }
    static inline ssize_t pglido_send(int fd, const void *buf, size_t size, int flags) {
        return syscall(SYS_sendto, fd, buf, size, flags, NULL, 0);
    }
    """
    ssize_t recv "pglido_recv"(int fd, void* buf, size_t size, int flags) nogil
    ssize_t send "pglido_send"(int fd, const void* buf, size_t size, int flags) nogil

cdef extern from "sys/socket.h" nogil:
    int MSG_NOSIGNAL, MSG_PEEK

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec

    int clock_gettime(int clock, timespec* now)
    int CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void* data, size_t size)
    int close(int fd)

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t

    struct sockaddr:
        unsigned short sa_family

    struct sockaddr_storage:
        unsigned short ss_family

    int accept4(int fd, sockaddr* peer, socklen_t* size, int flags)
    int AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_NONBLOCK

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        uint32_t s_addr

    struct in6_addr:
        unsigned char s6_addr[16]

    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        unsigned short sin6_port
        in6_addr sin6_addr

    unsigned short ntohs(unsigned short port)

cdef extern from "arpa/inet.h" nogil:
    const char* inet_ntop(int family, const void* address, char* text, socklen_t size)

cdef extern from "sys/prctl.h" nogil:
    int prctl(int option, unsigned long argument)
    int PR_SET_PDEATHSIG

cdef extern from "unistd.h" nogil:
    unsigned int alarm(unsigned int seconds)
