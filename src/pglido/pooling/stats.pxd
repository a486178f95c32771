cdef class Stats:
    cdef public long long assignments, transactions, queries, received, sent
    cdef public long long logins, pins
    cdef public double transaction_time, query_time, wait_time
