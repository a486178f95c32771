"""The global settings: one row per key of `[pglido]`, in the order of the documentation.

Names and meanings are PgBouncer's wherever it has the concept. Durations are seconds, sizes bytes.
A default that differs from PgBouncer's 1.25 says why in its help.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .enums import (
    SYSLOG_FACILITIES,
    TLS_PROTOCOL_WORDS,
    AuthType,
    EventBackend,
    LogFormat,
    LogLevel,
    OnLoss,
    PoolMode,
    SessionStateMode,
    SslMode,
)
from .schema import Kind, Row

# Login roles only, and no secret for a role that is past its VALID UNTIL; and how long until then, if there is an end.
_LOOKED_UP = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END"
_OF_WHOM = " FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
_VALID_FOR = ", CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil - now()) END"
AUTH_QUERY_OF_PGBOUNCER = _LOOKED_UP + _OF_WHOM
AUTH_QUERY = _LOOKED_UP + _VALID_FOR + _OF_WHOM

# The first key of each chapter of the documentation.
CHAPTERS = {
    "listen_addr": "Where clients come in",
    "workers": "Processes",
    "pool_mode": "Pools",
    "listen_on_loss": "Notifications",
    "max_client_conn": "Limits",
    "query_timeout": "Timeouts",
    "server_lifetime": "Server connections",
    "auth_type": "Who may in",
    "client_tls_sslmode": "TLS to clients",
    "server_tls_sslmode": "TLS to servers",
    "logfile": "Log and statistics",
    "tcp_keepalive": "Network",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The `[pglido]` section (in a pgbouncer.ini `[pgbouncer]`); row.py says how a field becomes a key."""

    listen_addr: Annotated[
        tuple[str, ...],
        Row(
            "Addresses to listen on, or `*` for all; empty means Unix socket only. PgBouncer listens on none"
            " unless told; pglido starts with the one that is safe.",
            reload=False,
            ini_default=(),
        ),
    ] = ("127.0.0.1",)
    listen_port: Annotated[
        int,
        Row("Port of the TCP sockets; it also names the Unix socket.", reload=False, low=1, high=65535),
    ] = 6432
    listen_backlog: Annotated[
        int,
        Row(
            "How many connections the kernel may queue for accept, per listening socket. PgBouncer has 128;"
            " more lets a storm of connections wait instead of being retried by TCP.",
            reload=False,
            ini_default=128,
            low=1,
        ),
    ] = 1024
    unix_socket_dir: Annotated[
        str,
        Row(
            "Directory of the Unix socket; `@` in front puts it into the abstract namespace; empty means"
            " none. It is also where a database without `host` is looked for.",
            reload=False,
        ),
    ] = "/tmp"  # noqa: S108
    unix_socket_mode: Annotated[
        int, Row("File mode of the Unix socket.", Kind.MODE, reload=False, high=0o777)
    ] = 0o777
    unix_socket_group: Annotated[str, Row("Group that owns the Unix socket.", reload=False)] = ""

    workers: Annotated[
        int,
        Row(
            'Number of worker processes; `"auto"` is one per processor that the process may use.',
            Kind.WORKERS,
            reload=False,
            high=254,
            zero="auto",
            own=True,
        ),
    ] = 0
    worker_timeout: Annotated[
        float,
        Row(
            "A worker that has not moved for so long is killed and replaced; its clients see a closed connection."
            " Before that, after 1.5 s, the others accept in its place.",
            zero="never",
            own=True,
        ),
    ] = 30.0
    event_backend: Annotated[
        EventBackend,
        Row(
            "How workers wait for their sockets, receive and send. `auto` is `io_uring` where the kernel allows"
            " it (Linux 6.1 or newer) and pglido was built with liburing, else `epoll`.",
            reload=False,
            own=True,
        ),
    ] = EventBackend.AUTO
    user: Annotated[
        str,
        Row(
            "System user to become after start, when started as root. Without it pglido refuses to run as root, but in"
            " a container, as process 1; `root` stays root.",
            reload=False,
        ),
    ] = ""
    pidfile: Annotated[
        str, Row("File that holds the number of the control process.", Kind.PATH, reload=False)
    ] = ""
    shutdown_timeout: Annotated[
        float,
        Row("How long a stop waits for transactions to finish.", zero="do not wait", own=True),
    ] = 30.0

    pool_mode: Annotated[
        PoolMode,
        Row(
            "When a server goes back to the pool: `session` at disconnect, `transaction` after each"
            " transaction, `statement` after each statement. `listen` is for clients that only LISTEN: they share"
            " one server connection per worker ([LISTEN](listen.md)). PgBouncer's default is `session`; pglido"
            " exists for `transaction`.",
            ini_default=PoolMode.SESSION,
        ),
    ] = PoolMode.TRANSACTION
    default_pool_size: Annotated[
        int, Row("Server connections per database and user.", zero="unlimited")
    ] = 20
    min_pool_size: Annotated[
        int,
        Row(
            "Server connections kept open for a pool that has a client, or whose database names its `user`.",
            zero="none",
        ),
    ] = 0
    reserve_pool_size: Annotated[
        int, Row("Server connections on top of the pool size once a client waited too long.", zero="none")
    ] = 0
    reserve_pool_timeout: Annotated[
        float, Row("How long a client waits before the reserve is opened.", zero="never opened")
    ] = 5.0
    server_round_robin: Annotated[
        bool, Row("Use idle server connections in turn, instead of the most recently used first.")
    ] = False
    max_parallel_connects: Annotated[
        int, Row("Server connections that one pool opens at the same time, per worker.", low=1, own=True)
    ] = 4
    max_prepared_statements: Annotated[
        int,
        Row(
            "Prepared statements kept per server connection; the least recently used goes first.",
            zero="named prepared statements are not followed",
        ),
    ] = 200
    server_reset_query: Annotated[
        str, Row("Run when a client leaves, in session mode, before another gets the server.")
    ] = "DISCARD ALL"
    server_reset_query_always: Annotated[
        bool, Row("Run `server_reset_query` whenever a server is given back, in every pool mode.")
    ] = False
    defer_begin: Annotated[
        bool,
        Row(
            "In transaction mode: a bare BEGIN takes no server until the next statement comes; the transaction, its"
            " now() and its snapshot begin only then.",
            own=True,
        ),
    ] = False
    on_session_state: Annotated[
        SessionStateMode,
        Row(
            "In transaction and statement mode: what becomes of a client that keeps a temporary table, a cursor WITH"
            " HOLD, a session advisory lock and the like beyond its transaction. `pin`: it keeps its server until that"
            " is gone; `reject`: it is disconnected with an error; `ignore`: nobody looks, and the next client meets"
            " it, as with other poolers. Settings, roles and prepared statements follow the client in any case.",
            own=True,
        ),
    ] = SessionStateMode.PIN
    max_pinned_share: Annotated[
        float,
        Row(
            "The share of a pool's size that may be pinned, over all workers, one server at least; who would need one"
            " more is disconnected with an error.",
            Kind.FRACTION,
            high=1,
            own=True,
        ),
    ] = 0.9
    pin_timeout: Annotated[
        float,
        Row("A client that keeps its server pinned and is idle for longer is disconnected.", zero="never", own=True),
    ] = 0.0
    pin_functions: Annotated[
        tuple[str, ...],
        Row(
            "Names of functions of your own, without their schemas, that leave something in the server process, such as"
            " those of an extension in C. A client that calls one keeps its server, which is closed when the client"
            " has left.",
            own=True,
        ),
    ] = ()
    ignore_startup_parameters: Annotated[
        tuple[str, ...],
        Row("Startup parameters of clients that are dropped instead of being set on the server."),
    ] = ()
    application_name_add_host: Annotated[
        bool, Row("Append the client's address and port to `application_name` at login.")
    ] = False

    listen_on_loss: Annotated[
        OnLoss,
        Row(
            "What a listening client gets when the connection was lost that notifications come by: a `notice`"
            " once they come again, or a `disconnect` at once, so that it looks anew at what it is interested in.",
            own=True,
        ),
    ] = OnLoss.NOTICE
    listen_buffer_size: Annotated[
        int,
        Row(
            "Bytes of notifications kept for a client that does not take them; beyond that it is disconnected.",
            Kind.SIZE,
            low=16384,
            own=True,
        ),
    ] = 1024 * 1024

    max_client_conn: Annotated[
        int,
        Row(
            "Client connections in total, over all workers. PgBouncer has 100; an idle client costs about a"
            " kilobyte here.",
            ini_default=100,
            low=1,
        ),
    ] = 1000
    max_db_connections: Annotated[
        int, Row("Server connections per database, over all users.", zero="unlimited")
    ] = 0
    max_db_client_connections: Annotated[
        int, Row("Client connections per database, over all users.", zero="unlimited")
    ] = 0
    max_user_connections: Annotated[
        int, Row("Server connections per user, over all databases.", zero="unlimited")
    ] = 0
    max_user_client_connections: Annotated[
        int, Row("Client connections per user, over all databases.", zero="unlimited")
    ] = 0
    max_packet_size: Annotated[
        int, Row("Largest message accepted from either side.", Kind.SIZE, low=1024, high=2147483647)
    ] = 2147483647
    max_held_bytes: Annotated[
        int,
        Row(
            "Bytes kept per worker for all clients: messages that are incomplete, prepared statements (a text that"
            " several share once), channels, and what an error could bring back. A client with more than 16 kB that"
            " would need more gets 53200 for the statement. For queries that are not all there yet there is a quarter"
            " more. A Query of more than 16 kB for which there is no room is not read, and so pins its client.",
            Kind.SIZE,
            low=65536,
            own=True,
        ),
    ] = 512 * 1024 * 1024
    max_client_held_bytes: Annotated[
        int,
        Row(
            "The same for one client, with the texts that it shares. Beyond that it gets 53200 for the statement,"
            " and its session goes on.",
            Kind.SIZE,
            zero="as max_held_bytes",
            own=True,
        ),
    ] = 256 * 1024 * 1024
    max_memory: Annotated[
        int,
        Row(
            "Memory of all processes together, besides what is shared and what belongs to files. Above it new clients"
            " and new prepared statements are refused with 53200, and caches shrink, until a tenth of it is free;"
            " connected clients go on, and admins get in.",
            Kind.SIZE,
            zero="no limit",
            own=True,
        ),
    ] = 0

    query_timeout: Annotated[float, Row("A query that runs longer is cut off.", zero="off")] = 0.0
    query_wait_timeout: Annotated[
        float, Row("A client that waits longer for a server is disconnected.", zero="off")
    ] = 120.0
    query_wait_notify: Annotated[
        float, Row("After waiting this long for a server the client gets a NOTICE.", zero="off")
    ] = 5.0
    cancel_wait_timeout: Annotated[
        float, Row("A cancel request that waits longer for a server connection is dropped.", zero="off")
    ] = 10.0
    client_login_timeout: Annotated[
        float, Row("A client that has not logged in by then is disconnected.", zero="off")
    ] = 60.0
    client_idle_timeout: Annotated[
        float, Row("A client that is idle longer, outside a transaction, is disconnected.", zero="off")
    ] = 0.0
    idle_transaction_timeout: Annotated[
        float, Row("A client that is idle longer inside a transaction is disconnected.", zero="off")
    ] = 0.0
    transaction_timeout: Annotated[
        float, Row("A client whose transaction takes longer is disconnected.", zero="off")
    ] = 0.0

    server_lifetime: Annotated[
        float, Row("An idle server connection that is older is closed.", zero="used once")
    ] = 3600.0
    server_lifetime_jitter: Annotated[
        float,
        Row(
            "Fraction by which `server_lifetime` varies at random, so that connections don't end together.",
            Kind.FRACTION,
            high=1,
            zero="off",
            own=True,
        ),
    ] = 0.2
    server_idle_timeout: Annotated[
        float, Row("A server connection that is unused longer is closed.", zero="off")
    ] = 600.0
    autodb_idle_timeout: Annotated[
        float,
        Row("A pool that the database `*` has made, and that is unused longer, is forgotten.", zero="off"),
    ] = 3600.0
    server_connect_timeout: Annotated[
        float, Row("Time to connect and log in to a server.", zero="off")
    ] = 15.0
    server_login_retry: Annotated[
        float,
        Row(
            "Longest pause before connecting is tried again after it failed. A pool that has failed for as long,"
            " 10 s at least, and has no server refuses logins with the last error."
        ),
    ] = 15.0
    server_check_delay: Annotated[
        float,
        Row("A server connection idle for longer is probed before it is used.", zero="always probed"),
    ] = 30.0
    server_check_query: Annotated[
        str,
        Row("The probe; `<empty>` sends an empty query, an empty string turns probing off."),
    ] = "<empty>"
    dns_max_ttl: Annotated[float, Row("How long the address of a host name is kept.")] = 15.0
    dns_nxdomain_ttl: Annotated[float, Row("How long it is kept that a host name has no address.")] = 15.0

    auth_type: Annotated[
        AuthType,
        Row(
            "How clients prove who they are. `md5` also accepts SCRAM where the stored secret is one."
            " PgBouncer's default is `md5`, which PostgreSQL is abandoning.",
            ini_default=AuthType.MD5,
        ),
    ] = AuthType.SCRAM_SHA_256
    auth_file: Annotated[str, Row("List of users and secrets in PgBouncer's format.", Kind.PATH)] = ""
    auth_user: Annotated[
        str,
        Row("Role that looks up users which are neither in the file nor in `auth_file`; empty: no look-up."),
    ] = ""
    auth_query: Annotated[
        str,
        Row(
            "The look-up: takes the name as `$1`, gives the name and the secret, and, if the answer may be remembered,"
            " for how many seconds from now on the secret is valid.",
            ini_default=AUTH_QUERY_OF_PGBOUNCER,
        ),
    ] = AUTH_QUERY
    auth_dbname: Annotated[
        str, Row("Database in which the look-up runs; empty: the one that the client asked for.")
    ] = ""
    auth_query_ttl: Annotated[
        float,
        Row(
            "How long the answer of an `auth_query` with three columns is remembered. One with two never is, for it"
            " does not tell when the secret expires.",
            zero="not at all",
            ini_default=0.0,
            own=True,
        ),
    ] = 5.0
    scram_iterations: Annotated[
        int, Row("Iterations for verifiers made from plain passwords.", low=1, high=10_000_000)
    ] = 4096
    auth_mock_seed: Annotated[
        str,
        Row(
            "A secret text that decides what challenge a name gets that nobody has: the same after a restart, and from"
            " every pooler that has the same text. Empty: the key in `client_tls_key_file` decides, without TLS what is"
            " drawn at each start.",
            secret=True,
            own=True,
        ),
    ] = ""
    admin_users: Annotated[tuple[str, ...], Row("Users who may run every console command.")] = ()
    stats_users: Annotated[tuple[str, ...], Row("Users who may run SHOW on the console.")] = ()

    client_tls_sslmode: Annotated[
        SslMode,
        Row(
            "TLS from clients: `allow` and `prefer` let them choose, `require` demands it, `verify-ca` and"
            " `verify-full` also demand a client certificate."
        ),
    ] = SslMode.DISABLE
    client_tls_key_file: Annotated[str, Row("Private key of the certificate.", Kind.PATH)] = ""
    client_tls_cert_file: Annotated[str, Row("Certificate shown to clients.", Kind.PATH)] = ""
    client_tls_ca_file: Annotated[
        str, Row("Certificates that sign those of clients.", Kind.PATH)
    ] = ""
    client_tls_protocols: Annotated[
        tuple[str, ...],
        Row("TLS versions: `secure` (1.2 and 1.3), `all`, or a list.", choices=TLS_PROTOCOL_WORDS),
    ] = ("secure",)
    client_tls_ciphers: Annotated[
        str, Row("OpenSSL cipher string for TLS 1.2; `default` leaves OpenSSL's.")
    ] = "default"
    client_tls_ecdhcurve: Annotated[str, Row("Name of the curve, or `auto`.")] = "auto"

    server_tls_sslmode: Annotated[
        SslMode,
        Row(
            "TLS to servers over TCP: `allow` and `prefer` try it, `require` demands it, `verify-ca` checks"
            " the certificate, `verify-full` the host name too."
        ),
    ] = SslMode.PREFER
    server_tls_ca_file: Annotated[
        str, Row("Certificates that sign those of servers; empty: the system's.", Kind.PATH)
    ] = ""
    server_tls_key_file: Annotated[str, Row("Private key of the certificate.", Kind.PATH)] = ""
    server_tls_cert_file: Annotated[str, Row("Certificate shown to servers.", Kind.PATH)] = ""
    server_tls_protocols: Annotated[
        tuple[str, ...],
        Row("TLS versions: `secure` (1.2 and 1.3), `all`, or a list.", choices=TLS_PROTOCOL_WORDS),
    ] = ("secure",)
    server_tls_ciphers: Annotated[
        str, Row("OpenSSL cipher string for TLS 1.2; `default` leaves OpenSSL's.")
    ] = "default"

    logfile: Annotated[
        str, Row("File the log goes to; empty: standard error. SIGHUP opens it anew.", Kind.PATH)
    ] = ""
    log_format: Annotated[LogFormat, Row("Log lines as text or as JSON.", own=True)] = LogFormat.TEXT
    log_level: Annotated[LogLevel, Row("The least severe lines that are logged.", own=True)] = LogLevel.INFO
    verbose: Annotated[int, Row("PgBouncer's verbosity: 1 and more is `log_level = debug`.")] = 0
    syslog: Annotated[bool, Row("Send the log to syslog instead.")] = False
    syslog_ident: Annotated[
        str, Row("Name of the process in syslog.", ini_default="pgbouncer")
    ] = "pglido"
    syslog_facility: Annotated[str, Row("Facility in syslog.", choices=SYSLOG_FACILITIES)] = "daemon"
    log_connections: Annotated[bool, Row("Log each login.")] = True
    log_disconnections: Annotated[bool, Row("Log each disconnect with its reason.")] = True
    log_pooler_errors: Annotated[bool, Row("Log the errors that pglido itself sends to clients.")] = True
    log_stats: Annotated[bool, Row("Log a line of totals every `stats_period`.")] = True
    stats_period: Annotated[float, Row("Period of averages and of `log_stats`.", low=0.1)] = 60.0

    tcp_keepalive: Annotated[bool, Row("TCP keepalive on all connections.")] = True
    tcp_keepcnt: Annotated[int, Row("Unanswered probes until a peer is dead.", zero="kernel's")] = 0
    tcp_keepidle: Annotated[
        float, Row("Idle time before the first probe, rounded up to seconds.", zero="kernel's")
    ] = 0.0
    tcp_keepintvl: Annotated[
        float, Row("Time between probes, rounded up to seconds.", zero="kernel's")
    ] = 0.0
    tcp_user_timeout: Annotated[
        float,
        Row(
            "How long data may stay unacknowledged. In a pgbouncer.ini the number is milliseconds.",
            ini_unit=0.001,
            zero="kernel's",
        ),
    ] = 0.0
    tcp_defer_accept: Annotated[
        float,
        Row(
            "A connection is accepted when data comes, or after this long, rounded up to seconds."
            " In a pgbouncer.ini 1 means 45 seconds.",
            reload=False,
            zero="off",
        ),
    ] = 45.0
    tcp_socket_buffer: Annotated[
        int, Row("Size of the kernel's buffers per socket.", Kind.SIZE, high=1 << 30, zero="kernel's")
    ] = 0

    @property
    def effective_log_level(self) -> LogLevel:
        """`log_level`, unless `verbose` asks for more."""
        return LogLevel.DEBUG if self.verbose > 0 else self.log_level
