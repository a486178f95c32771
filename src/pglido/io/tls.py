"""TLS contexts from settings: one for clients, one for each way that servers are reached."""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class ServerTls:
    """How servers are reached by TLS: `named` those with a host name, `addressed` those of an IP address.

    With verify-full OpenSSL looks whether a certificate is for the name. It does not take the common name for an
    address, as libpq does: `check_address` does that after the handshake.
    """

    named: ssl.SSLContext
    addressed: ssl.SSLContext

    def context(self, host: str) -> ssl.SSLContext:
        """The context for a host."""
        return self.addressed if _is_address(host) else self.named

    def check(self, session: ssl.SSLObject | ssl.SSLSocket, host: str) -> None:
        """After a handshake: is what OpenSSL has not looked at right, too? Raises ssl.SSLCertVerificationError."""
        if self.named is not self.addressed and _is_address(host):
            check_address(session.getpeercert() or {}, host)


def dialling(files: TlsFiles) -> ServerTls | None:
    """The contexts towards servers, None when TLS is off. Raises OSError or ssl.SSLError for unusable files."""
    if files.mode == "disable":
        return None
    named = _towards_servers(files)
    if files.mode != "verify-full":
        return ServerTls(named, named)
    named.check_hostname = True
    return ServerTls(named, _towards_servers(files))


def _towards_servers(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_address(certificate: Mapping[str, Any], host: str) -> None:
    """Is the certificate (as `getpeercert` gives it) for the IP address `host`? By libpq's rules (verify_peer_name):

    one of its alternative names is the address, or is spelled like it, or, where none is an address, its common name
    is. Raises ssl.SSLCertVerificationError.
    """
    wanted = ipaddress.ip_address(host)
    alternatives = certificate.get("subjectAltName", ())
    addresses = [value for kind, value in alternatives if kind == "IP Address"]
    spelled = [value for kind, value in alternatives if kind == "DNS"]
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"][:1]
    if not addresses:
        spelled += common
    if any(_is_address(value) and ipaddress.ip_address(value) == wanted for value in addresses):
        return
    if any(value.lower() == host.lower() for value in spelled):
        return
    shown = (addresses + spelled + common + ["nobody"])[0]
    raise ssl.SSLCertVerificationError(f'server certificate for "{shown}" does not match host name "{host}"')


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
