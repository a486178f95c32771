"""Both ways to calculate a hash come to the same, and the fast one is there where it should be."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth import digests
from pglido.build import interpreted


@given(st.binary(max_size=100), st.binary(max_size=300))
def test_hmac_is_that_of_python(key: bytes, data: bytes) -> None:
    assert digests.hmac_sha256(key, data) == digests.python_hmac_sha256(key, data)


@given(st.binary(max_size=300))
def test_a_hash_is_that_of_python(data: bytes) -> None:
    assert digests.sha256(data) == digests.python_sha256(data)


def test_one_key_leaves_nothing_to_the_next() -> None:
    keys = [b"", b"a", b"b" * 32, b"c" * 64, b"d" * 65]
    again = [digests.hmac_sha256(key, b"x") for key in keys for _ in range(2)]
    assert again == [digests.python_hmac_sha256(key, b"x") for key in keys for _ in range(2)]


def test_where_certified_modules_are_demanded_it_is_python_that_hashes(tmp_path: Path) -> None:
    conf = tmp_path / "openssl.cnf"
    algorithms = "[algorithms]\ndefault_properties = fips=yes\n"
    conf.write_text(f"openssl_conf = all\n[all]\nalg_section = algorithms\n{algorithms}")
    code = "from pglido.auth import digests as h; print(h.hmac_sha256 is h.python_hmac_sha256)"
    environ = {**os.environ, "OPENSSL_CONF": str(conf)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.skipif(
    "pglido.auth.libcrypto" in interpreted() or ssl.OPENSSL_VERSION_INFO < (3,), reason="needs OpenSSL 3, compiled"
)
def test_libcrypto_is_used() -> None:
    assert digests.hmac_sha256 is not digests.python_hmac_sha256
    with pytest.raises(TypeError):
        digests.hmac_sha256(None, b"")  # type: ignore[arg-type]
