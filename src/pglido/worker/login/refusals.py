"""Why clients can't come in now, whoever they are: SQLSTATE and text."""

# As many clients as may be.
TOO_MANY = ("08P01", "no more connections allowed (max_client_conn)")
FULL = ("53300", "no more connections allowed (out of file descriptors), except by an admin to the console")
# The pooler uses more than max_memory.
SHORT_OF_MEMORY = ("53200", "out of memory: the pooler uses more memory than max_memory, try again later")
# DISABLE, on the console; behind it comes the database's name.
DISABLED = ("55000", "database does not allow connections: ")
# The worker drains.
SHUTTING_DOWN = ("57P03", "the database system is shutting down")
# client_tls_sslmode, for who comes by TCP without TLS.
NOT_ENCRYPTED = ("28000", "SSL required")
