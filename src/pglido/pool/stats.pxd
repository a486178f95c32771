cdef class Stats:
    cdef public long long assignments, transactions, queries, received, sent
    cdef public long long client_parses, server_parses, binds, logins, errors
    cdef public double transaction_time, query_time, wait_time
