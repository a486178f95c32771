"""Channel binding: what a certificate adds to a SCRAM exchange, so that nobody between can relay it."""

import hashlib
from functools import lru_cache


# A handful of certificates, each met again at every login.
@lru_cache(maxsize=64)
def end_point(certificate: bytes) -> bytes | None:
    """tls-server-end-point (RFC 5929, 4.1): the hash of the server's certificate, given as DER.

    The hash is that of the certificate's signature, SHA-256 where this is MD5 or SHA-1. None where a
    signature algorithm has no such hash (Ed25519, Ed448): then there is no binding, as for PostgreSQL.
    Raises ValueError for what is no certificate.
    """
    # Only processes that serve TLS pay for this import (about 10 MB and 50 ms).
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return hashlib.new(name, certificate).digest()
