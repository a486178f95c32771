"""What holds for clients of one listening socket before they have said anything."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListenerSecurity:
    """TLS of one kind of listening socket; no `context` where TLS is off, as on Unix sockets.

    `binding` is what SCRAM's channel binding proves: the end point of the certificate (RFC 5929).
    """

    unix: bool
    context: ssl.SSLContext | None
    binding: bytes | None
