"""The words a setting may take where only some have a meaning."""

from __future__ import annotations

from enum import StrEnum


class PoolMode(StrEnum):
    """When a server goes back to the pool: at disconnect, after a transaction, after a statement; or LISTEN only."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"
    LISTEN = "listen"


class OnLoss(StrEnum):
    """What listening clients get when the connection was lost that their notifications come by."""

    NOTICE = "notice"
    DISCONNECT = "disconnect"


class SessionStateMode(StrEnum):
    """What to do with a client whose session keeps, beyond a transaction, what no other server can be given."""

    PIN = "pin"
    REJECT = "reject"
    IGNORE = "ignore"


class SslMode(StrEnum):
    """libpq's sslmode, on either side of the pooler."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class EventBackend(StrEnum):
    """How a worker waits for its sockets, receives and sends."""

    AUTO = "auto"
    EPOLL = "epoll"
    IO_URING = "io_uring"


class AuthType(StrEnum):
    """How a client proves who it is."""

    TRUST = "trust"
    PASSWORD = "password"  # noqa: S105
    MD5 = "md5"
    SCRAM_SHA_256 = "scram-sha-256"


class LoadBalance(StrEnum):
    """Which of several hosts a new server connection goes to."""

    ROUND_ROBIN = "round-robin"
    DISABLE = "disable"


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe lines that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


TLS_PROTOCOLS = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")
TLS_PROTOCOL_WORDS = ("secure", "all", "legacy", *TLS_PROTOCOLS)

SYSLOG_FACILITIES = (
    *("auth", "authpriv", "daemon", "user"),
    *(f"local{number}" for number in range(8)),
)


def tls_range(protocols: tuple[str, ...]) -> tuple[str, str]:
    """Lowest and highest TLS version that `protocols` allow, as two of TLS_PROTOCOLS.

    `secure` is 1.2 and 1.3; `all` and `legacy` are everything from 1.0. A gap in a list is closed.
    """
    allowed: set[str] = set()
    for word in protocols:
        if word == "secure":
            allowed.update(("tlsv1.2", "tlsv1.3"))
        elif word in ("all", "legacy"):
            allowed.update(TLS_PROTOCOLS)
        else:
            allowed.add(word)
    ordered = [version for version in TLS_PROTOCOLS if version in allowed] or ["tlsv1.2", "tlsv1.3"]
    return ordered[0], ordered[-1]
