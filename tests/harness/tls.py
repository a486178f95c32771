"""Certificates made for the run of the tests, and the TLS contexts that go with them."""

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_START = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
_END = _START + datetime.timedelta(days=30)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class _Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder(self.name, self.name, self.key.public_key(), 1, _START, _END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, file: str, common_name: str, names: tuple[str, ...] = (), address: str = "") -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateBuilder(
            self.name, subject, key.public_key(), x509.random_serial_number(), _START, _END
        ).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        others: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if address:
            others.append(x509.IPAddress(ipaddress.ip_address(address)))
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
        pair = Pair(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        certificate = builder.sign(self.key, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.key.chmod(0o600)
        return pair


@dataclass(frozen=True)
class Certificates:
    """`server` is localhost and 127.0.0.1, `stranger` another host of the same authority, `fresh` a successor of
    `server`; `client` is the user app's. `forged` and `forged_client` come from another authority. `common` says
    127.0.0.1 in its common name alone, `other_common` has another address besides, and `named` a host name."""

    authority: Path
    other_authority: Path
    server: Pair
    fresh: Pair
    stranger: Pair
    client: Pair
    forged: Pair
    forged_client: Pair
    common: Pair
    other_common: Pair
    named: Pair

    @classmethod
    def create(cls, folder: Path) -> "Certificates":
        """Make them all; takes some milliseconds."""
        good, other = _Authority(folder, "authority"), _Authority(folder, "other")
        here = (("localhost",), "127.0.0.1")
        return cls(
            good.path,
            other.path,
            good.issue("server", "localhost", *here),
            good.issue("fresh", "localhost", *here),
            good.issue("stranger", "elsewhere.example", ("elsewhere.example",)),
            good.issue("client", "app"),
            other.issue("forged", "localhost", *here),
            other.issue("forged_client", "app"),
            good.issue("common", "127.0.0.1"),
            good.issue("other_common", "127.0.0.1", (), "127.0.0.2"),
            good.issue("named", "127.0.0.1", ("localhost",)),
        )

    def client_context(self, pair: Pair | None = None, *, verify: bool = True) -> ssl.SSLContext:
        """What a client uses; without `verify` it takes any server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if verify:
            context.load_verify_locations(self.authority)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if pair:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def server_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """What a server uses, by default with the certificate `server`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chosen = pair or self.server
        context.load_cert_chain(chosen.certificate, chosen.key)
        return context
