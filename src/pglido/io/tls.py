"""TLS contexts from settings: one for clients, one for each way that servers are reached."""

import ssl
from dataclasses import dataclass

from .secure import Tls

# ALPN name of the protocol (protocol chapter "SSL Session Encryption"); required with direct TLS.
ALPN = "postgresql"

_VERSIONS = {
    "tlsv1.0": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}
_GROUPS = {
    "all": ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"),
    "legacy": ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"),
    "secure": ("tlsv1.2", "tlsv1.3"),
    "default": ("tlsv1.2", "tlsv1.3"),
}


@dataclass(frozen=True)
class TlsFiles:
    """Files and choices of one side; empty means not given."""

    mode: str
    cert: str = ""
    key: str = ""
    ca: str = ""
    protocols: tuple[str, ...] = ("secure",)
    ciphers: str = "default"
    curve: str = "auto"


def accepting(files: TlsFiles) -> ssl.SSLContext | None:
    """The context for clients, None when TLS is off. Raises OSError or ssl.SSLError for unusable files."""
    if files.mode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key or None)
    context.set_alpn_protocols([ALPN])
    # Renegotiation would let a client make us read while we write.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # PostgreSQL has no sessions to resume either, and no library of its clients asks for one: two tickets for each
    # connection were a tenth of a handshake.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if files.ca:
        context.load_verify_locations(files.ca)
    if files.mode in ("verify-ca", "verify-full"):
        context.verify_mode = ssl.CERT_REQUIRED
    if files.curve != "auto":
        try:
            context.set_ecdh_curve(files.curve)
        except ValueError as error:
            raise OSError(f"client_tls_ecdhcurve: {error}") from error
    _restrict(context, files)
    return context


def dialling(files: TlsFiles) -> ssl.SSLContext | None:
    """The context towards servers, None when TLS is off. Raises OSError or ssl.SSLError for unusable files."""
    if files.mode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = files.mode == "verify-full"
    if files.mode in ("verify-ca", "verify-full"):
        context.verify_mode = ssl.CERT_REQUIRED
        if files.ca:
            context.load_verify_locations(files.ca)
        else:
            context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE
    if files.cert:
        context.load_cert_chain(files.cert, files.key or None)
    context.set_alpn_protocols([ALPN])
    _restrict(context, files)
    return context


def _restrict(context: ssl.SSLContext, files: TlsFiles) -> None:
    names: list[str] = []
    for word in files.protocols:
        names += _GROUPS.get(word.lower(), (word.lower(),))
    versions = sorted(_VERSIONS[name] for name in names if name in _VERSIONS)
    if versions:
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if files.ciphers not in ("", "default", "secure", "fast"):
        context.set_ciphers(files.ciphers)


def describe(tls: Tls | None) -> str:
    """What SHOW CLIENTS says of a connection's TLS: version/cipher, empty without."""
    if tls is None:
        return ""
    cipher = tls.session.cipher()
    return f"{tls.session.version()}/{cipher[0] if cipher else '?'}"
