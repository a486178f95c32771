"""TLS contexts from settings and the contents of files: one for clients, one for each way that servers are reached.

The files themselves are read by the control process only: a worker that starts, or a pool that is made, needs none.
"""

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from ..config.model import Config, PoolSettings, Settings, rows
from .tls_record import TlsRecords

# ALPN name of the protocol (protocol chapter "SSL Session Encryption"); required with direct TLS.
ALPN = "postgresql"

# What a database may have of its own.
_SERVER_KEYS = tuple(key for key in rows("databases") if key.startswith("server_tls_"))

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


Contents = Mapping[str, bytes]
"""What is in the files, by path."""


class TlsError(ValueError):
    """TLS can't be set up. `key` is the last part of the setting's name, behind `client_tls_` or `server_tls_`."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


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

    @property
    def paths(self) -> dict[str, str]:
        """The files that are needed, by the last part of their settings' names."""
        if self.mode == "disable":
            return {}
        named = {"cert_file": self.cert, "key_file": self.key, "ca_file": self.ca}
        return {key: path for key, path in named.items() if path}


def client_side(settings: Settings) -> TlsFiles:
    """What clients meet."""
    return TlsFiles(
        mode=settings.client_tls_sslmode.value,
        cert=settings.client_tls_cert_file,
        key=settings.client_tls_key_file,
        ca=settings.client_tls_ca_file,
        protocols=settings.client_tls_protocols,
        ciphers=settings.client_tls_ciphers,
        curve=settings.client_tls_ecdhcurve,
    )


def server_side(pool: PoolSettings | Settings) -> TlsFiles:
    """What a pool's servers meet; of the global settings: where a database has none of its own."""
    return TlsFiles(
        mode=pool.server_tls_sslmode.value,
        cert=pool.server_tls_cert_file,
        key=pool.server_tls_key_file,
        ca=pool.server_tls_ca_file,
        protocols=pool.server_tls_protocols,
        ciphers=pool.server_tls_ciphers,
    )


def server_sides(config: Config) -> dict[TlsFiles, str]:
    """Everything that servers of these databases may meet, each with the first database that it is for."""
    found: dict[TlsFiles, str] = {}
    seen: set[tuple[object, ...]] = set()
    for name, database in config.databases.items():
        own = tuple(getattr(database, key) for key in _SERVER_KEYS)
        if own not in seen:
            seen.add(own)
            given = {key: value for key, value in zip(_SERVER_KEYS, own, strict=True) if value is not None}
            found.setdefault(server_side(msgspec.structs.replace(config.settings, **given)), name)
    return found


def read_files(files: TlsFiles, known: Contents | None = None) -> dict[str, bytes]:
    """The contents of these files, read but where they are `known`. Raises TlsError."""
    found: dict[str, bytes] = {}
    for key, path in files.paths.items():
        if known is not None and path in known:
            found[path] = known[path]
            continue
        try:
            with open(path, "rb") as file:
                found[path] = file.read()
        except OSError as error:
            raise TlsError(key, f"the file {path} can't be read: {error.strerror}") from error
    return found


def accepting(files: TlsFiles, contents: Contents) -> ssl.SSLContext | None:
    """The context for clients, None when TLS is off. Raises TlsError."""
    if files.mode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_pair(context, files, contents)
    context.set_alpn_protocols([ALPN])
    # Renegotiation would let a client make us read while we write.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # PostgreSQL has no sessions to resume either, and no library of its clients asks for one: two tickets for each
    # connection were a tenth of a handshake.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if files.ca:
        _load_authorities(context, files.ca, contents)
    if files.mode in ("verify-ca", "verify-full"):
        context.verify_mode = ssl.CERT_REQUIRED
    if files.curve != "auto":
        _try("ecdhcurve", lambda: context.set_ecdh_curve(files.curve))
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


def dialling(files: TlsFiles, contents: Contents) -> ServerTls | None:
    """The contexts towards servers, None when TLS is off. Raises TlsError."""
    if files.mode == "disable":
        return None
    named = _towards_servers(files, contents)
    if files.mode != "verify-full":
        return ServerTls(named, named)
    named.check_hostname = True
    return ServerTls(named, _towards_servers(files, contents))


def _towards_servers(files: TlsFiles, contents: Contents) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if files.mode in ("verify-ca", "verify-full"):
        context.verify_mode = ssl.CERT_REQUIRED
        if files.ca:
            _load_authorities(context, files.ca, contents)
        else:
            _load_system_authorities(context)
    else:
        context.verify_mode = ssl.CERT_NONE
    if files.cert:
        _load_pair(context, files, contents)
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


def certificate_of(content: bytes) -> bytes:
    """The first certificate of a PEM file, in DER. Raises ValueError if there is none."""
    text = content.decode("latin-1")
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)])


def _load_pair(context: ssl.SSLContext, files: TlsFiles, contents: Contents) -> None:
    """Certificate and key; without a key file the key is in the certificate's."""
    certificate = contents[files.cert]
    key = contents[files.key] if files.key else certificate
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise TlsError("cert_file", f"the file {files.cert} has no certificate in PEM")
    if b"PRIVATE KEY-----" not in key:
        raise TlsError("key_file", f"the file {files.key or files.cert} has no private key in PEM")
    if b"ENCRYPTED" in key:
        raise TlsError("key_file", f"the private key in {files.key or files.cert} has a password")
    with _readable("cert_file", certificate) as cert_path, _readable("key_file", key) as key_path:
        try:
            # Without a password OpenSSL would ask the terminal for it, and wait.
            context.load_cert_chain(cert_path, key_path, password=lambda: b"")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                text = f"the key in {files.key or files.cert} does not fit the certificate in {files.cert}"
                raise TlsError("key_file", text) from error
            what = f"{files.cert}, {files.key}" if files.key else files.cert
            raise TlsError("cert_file", f"can't be used ({what}): {_reason(error)}") from error


def _load_authorities(context: ssl.SSLContext, path: str, contents: Contents) -> None:
    with _readable("ca_file", contents[path]) as readable:
        try:
            context.load_verify_locations(readable)
        except ssl.SSLError as error:
            raise TlsError("ca_file", f"the file {path} can't be used: {_reason(error)}") from error


def _load_system_authorities(context: ssl.SSLContext) -> None:
    """Without a descriptor OpenSSL would find none, and not say so."""
    try:
        with open(os.devnull, "rb"):
            pass
    except OSError as error:
        raise TlsError("ca_file", f"the system's authorities can't be loaded: {error.strerror}") from error
    context.load_default_certs()


@contextmanager
def _readable(key: str, content: bytes) -> Iterator[str]:
    """A path at which OpenSSL, which takes certificates and keys from files only, finds these bytes in memory.

    Raises TlsError, of the setting `key`, where the system can't give one, or no descriptor to read it by.
    """
    try:
        fd = os.memfd_create("pglido-tls", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(content)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise TlsError(key, f"can't be loaded: {error.strerror}") from error


def _try(key: str, action: Callable[[], None]) -> None:
    try:
        action()
    except (ValueError, ssl.SSLError) as error:
        raise TlsError(key, _reason(error)) from error


def _reason(error: Exception) -> str:
    """What OpenSSL says, without the places in its and Python's source."""
    said = getattr(error, "reason", None)
    return said.replace("_", " ").lower() if said else str(error)


def _restrict(context: ssl.SSLContext, files: TlsFiles) -> None:
    names: list[str] = []
    for word in files.protocols:
        names += _GROUPS.get(word.lower(), (word.lower(),))
    versions = sorted(_VERSIONS[name] for name in names if name in _VERSIONS)
    if versions:
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if files.ciphers not in ("", "default", "secure", "fast"):
        _try("ciphers", lambda: context.set_ciphers(files.ciphers))


def describe(tls: TlsRecords | None) -> str:
    """What SHOW CLIENTS says of a connection's TLS: version/cipher, empty without."""
    if tls is None:
        return ""
    cipher = tls.session.cipher()
    return f"{tls.session.version()}/{cipher[0] if cipher else '?'}"
