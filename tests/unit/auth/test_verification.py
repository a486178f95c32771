"""What a client said is judged again where another secret would have been asked for in the very same way."""

import pytest
import scramp

from pglido.auth.decoys import SecretPopulation
from pglido.auth.errors import WRONG_PROOF, AuthError
from pglido.auth.scram_server import ScramTerms
from pglido.auth.secrets import Plain, Secret, Unset, md5_response, md5_secret
from pglido.auth.verification import Verification
from pglido.config.enums import AuthType

from .dialogue import SEED, counting, initial, make_verifier, request


def begun(method: AuthType, secret: Secret | None) -> Verification:
    return Verification(method, "joe", secret, None, ScramTerms(SecretPopulation(), 4096, counting(), SEED))


def refused(one: Verification, body: bytes) -> None:
    with pytest.raises(AuthError) as error:
        one.take(body)
    assert error.value.sqlstate == WRONG_PROOF


OLD = [None, Unset(), Plain("old"), make_verifier("old"), md5_secret("old", "joe")]
NEW = [Plain("new"), make_verifier("new", salt=b"another salt...."), md5_secret("new", "joe")]


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("new", NEW)
def test_a_password_in_clear_proves_the_new_secret(old: Secret | None, new: Secret) -> None:
    one = begun(AuthType.PASSWORD, old)
    one.begin()
    refused(one, b"new\0")
    proof = one.proves(new)
    assert proof is not None
    assert proof.credentials == Plain("new")
    for other in (*OLD, Plain("other"), make_verifier("other")):
        assert one.proves(other) is None


@pytest.mark.parametrize("old", [Plain("old"), md5_secret("old", "joe")])
@pytest.mark.parametrize("new", [Plain("new"), md5_secret("new", "joe")])
def test_an_md5_proof_proves_the_new_secret(old: Secret, new: Secret) -> None:
    one = begun(AuthType.MD5, old)
    _, salt = request(one.begin())
    refused(one, md5_response(md5_secret("new", "joe"), salt) + b"\0")
    proof = one.proves(new)
    assert proof is not None
    assert proof.credentials == new
    assert one.proves(None) is None
    # SCRAM would have been asked for.
    assert one.proves(make_verifier("new")) is None


def scram(one: Verification, password: str) -> bytes:
    """What a client with this password says last."""
    client = scramp.ScramClient(["SCRAM-SHA-256"], "joe", password)
    one.begin()
    _, data = request(one.take(initial("SCRAM-SHA-256", client.get_client_first())))
    client.set_server_first(data.decode())
    return client.get_client_final().encode()


def test_a_scram_proof_proves_a_verifier_with_the_salt_that_was_shown() -> None:
    one = begun(AuthType.SCRAM_SHA_256, make_verifier("old"))
    refused(one, scram(one, "new"))
    assert one.proves(make_verifier("new")) is not None
    assert one.proves(make_verifier("other")) is None


def test_a_scram_proof_says_nothing_of_another_salt() -> None:
    one = begun(AuthType.SCRAM_SHA_256, make_verifier("old"))
    refused(one, scram(one, "new"))
    assert one.proves(make_verifier("new", salt=b"another salt....")) is None
    assert one.proves(None) is None


def test_a_scram_proof_proves_another_password_in_clear() -> None:
    one = begun(AuthType.SCRAM_SHA_256, Plain("old"))
    refused(one, scram(one, "new"))
    assert one.proves(Plain("new")) is not None


def test_what_was_proved_is_the_same_when_it_is_judged_again() -> None:
    one = begun(AuthType.SCRAM_SHA_256, make_verifier("right"))
    assert one.take(scram(one, "right")) == b""
    again = one.proves(make_verifier("right"))
    assert one.proof is not None
    assert again is not None
    assert again.last == one.proof.last


def test_trust_asks_nothing() -> None:
    one = begun(AuthType.TRUST, Unset())
    assert one.begin() == b""
    assert one.proof is not None
    assert one.proves(None) is None
