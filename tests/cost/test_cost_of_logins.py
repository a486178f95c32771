"""A wrong password costs as much as a name that nobody has: in steps, and in keys derived, which take the most time."""

import struct
from typing import Any

import pytest

from harness.steps import steps
from parity.builds import SOURCE

auth = SOURCE.auth
AuthType = SOURCE.auth.verify_client.AuthType
PASSWORD = "the secret"
SALT = b"sixteen bytes..."
# Steps by which two refusals may differ: what the log says of each is made here, too.
FEW = 20


def verifier(iterations: int) -> Any:
    """A stored secret, as PostgreSQL makes it."""
    derived = auth.scram.derive(PASSWORD.encode(), SALT, 16)
    return auth.secrets.Verifier(iterations, SALT, derived.stored_key, derived.server_key)


SECRETS = {"verifier": verifier(4096), "other": verifier(5000), "plain": auth.secrets.Plain(PASSWORD)}


def login(method: Any, user: str, secret: Any, terms: Any) -> None:
    """A login with a wrong password, to its end."""
    dialogue = auth.verify_client.verify(method, user, secret, None, terms)
    next(dialogue)
    if method == AuthType.PASSWORD:
        dialogue.send(b"wrong\0")
    else:
        said = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        first = dialogue.send(b"SCRAM-SHA-256\0" + struct.pack("!I", len(said)) + said)[9:]
        dialogue.send(b"c=biws," + first.split(b",")[0] + b",p=" + auth.scram.base64(b"x" * 32))


def refusal(*login_of: Any) -> None:
    """Such a login, which is refused."""
    with pytest.raises(auth.errors.AuthError, match=r"wrong password|no such user"):
        login(*login_of)


# The secrets that there are; the first is that of the user whose password is wrong.
CROWDS = [
    ["verifier"],
    ["plain"],
    ["verifier", "plain"],
    ["plain", "verifier"],
    ["verifier", "other"],
    ["other", "verifier"],
]


@pytest.mark.parametrize("population", CROWDS, ids=".".join)
@pytest.mark.parametrize("method", [AuthType.PASSWORD, AuthType.SCRAM_SHA_256])
def test_unknown_user_costs_as_much_as_a_wrong_password(
    population: list[str], method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second refusal of each: what is had once for all, was had by the first."""
    derived: list[int] = []

    def derive(password: bytes, salt: bytes, iterations: int) -> Any:
        derived.append(iterations)
        return auth.scram.Derived(b"c" * 32, b"s" * 32, b"k" * 32)

    monkeypatch.setattr(auth.scram, "derive", derive)
    everybody = auth.decoys.SecretPopulation.of([SECRETS[name] for name in population])
    terms = auth.scram_server.ScramTerms(everybody, 4096, lambda size: b"n" * size, bytes(32))
    costs = []
    for user, secret in (("app", SECRETS[population[0]]), ("usr", None)):
        for _ in range(2):
            derived.clear()
            taken = steps(lambda: refusal(method, user, secret, terms))  # noqa: B023
        costs.append((taken, list(derived)))
    (wrong, of_wrong), (unknown, of_unknown) = costs
    assert abs(wrong - unknown) <= FEW, costs
    assert len(of_wrong) == len(of_unknown), costs
    if "other" not in population:
        assert of_wrong == of_unknown
