"""tls-server-end-point takes the hash that the certificate's signature names."""

import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from pglido.auth.channel_binding import end_point

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def certificate(key: Any, algorithm: Any, **signing: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
    )
    return builder.sign(key, algorithm, **signing).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("key", [RSA, EC])
@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_the_hash_is_the_signatures(key: Any, name: str) -> None:
    made = certificate(key, getattr(hashes, name.upper())())
    assert end_point(made) == hashlib.new(name, made).digest()


def test_pss_signatures_name_their_hash_too() -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
    made = certificate(RSA, hashes.SHA384(), rsa_padding=pss)
    assert end_point(made) == hashlib.sha384(made).digest()


# sha1WithRSAEncryption and md5WithRSAEncryption, for which libraries no longer sign.
@pytest.mark.parametrize("weak", ["2a864886f70d010105", "2a864886f70d010104"])
def test_weak_hashes_become_sha256(weak: str) -> None:
    strong = bytes.fromhex("2a864886f70d01010b")
    made = certificate(RSA, hashes.SHA256()).replace(strong, bytes.fromhex(weak))
    assert end_point(made) == hashlib.sha256(made).digest()


def test_ed25519_has_no_binding() -> None:
    assert end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None


def test_garbage_is_no_certificate() -> None:
    with pytest.raises(ValueError, match="parsing"):
        end_point(b"garbage")
