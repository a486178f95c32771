"""Type bytes and request codes of the PostgreSQL protocol 3 (chapter "Message Formats")."""

# Frontend messages.
BIND = 0x42  # B
CLOSE = 0x43  # C
DESCRIBE = 0x44  # D
EXECUTE = 0x45  # E
FUNCTION_CALL = 0x46  # F
FLUSH = 0x48  # H
PARSE = 0x50  # P
QUERY = 0x51  # Q
SYNC = 0x53  # S
TERMINATE = 0x58  # X
PASSWORD = 0x70  # p, also SASLInitialResponse and SASLResponse

# Messages of both sides.
COPY_DATA = 0x64  # d
COPY_DONE = 0x63  # c
COPY_FAIL = 0x66  # f

# Backend messages.
AUTHENTICATION = 0x52  # R
BACKEND_KEY_DATA = 0x4B  # K
BIND_COMPLETE = 0x32  # 2
CLOSE_COMPLETE = 0x33  # 3
COMMAND_COMPLETE = 0x43  # C
COPY_IN_RESPONSE = 0x47  # G
COPY_OUT_RESPONSE = 0x48  # H
COPY_BOTH_RESPONSE = 0x57  # W
DATA_ROW = 0x44  # D
EMPTY_QUERY_RESPONSE = 0x49  # I
ERROR_RESPONSE = 0x45  # E
FUNCTION_CALL_RESPONSE = 0x56  # V
NEGOTIATE_PROTOCOL_VERSION = 0x76  # v
NO_DATA = 0x6E  # n
NOTICE_RESPONSE = 0x4E  # N
NOTIFICATION_RESPONSE = 0x41  # A
PARAMETER_DESCRIPTION = 0x74  # t
PARAMETER_STATUS = 0x53  # S
PARSE_COMPLETE = 0x31  # 1
PORTAL_SUSPENDED = 0x73  # s
READY_FOR_QUERY = 0x5A  # Z
ROW_DESCRIPTION = 0x54  # T

# Transaction status in ReadyForQuery.
IDLE = 0x49  # I
IN_TRANSACTION = 0x54  # T
FAILED_TRANSACTION = 0x45  # E

# First packets, told apart by the number after the length.
PROTOCOL_3_0 = 0x00030000
PROTOCOL_3_2 = 0x00030002
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

# A TLS ClientHello starts with this record type (RFC 8446, 5.1): direct TLS, without an SSLRequest before it.
TLS_HANDSHAKE = 0x16

# PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
MAX_STARTUP_PACKET = 10000

# Authentication codes (message R).
AUTH_OK = 0
AUTH_CLEARTEXT = 3
AUTH_MD5 = 5
AUTH_SASL = 10
AUTH_SASL_CONTINUE = 11
AUTH_SASL_FINAL = 12
