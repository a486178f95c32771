"""Unknown users look like a random one of those that exist, the same one each time."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth.decoys import PLAIN_SHAPE, ChallengeShape, SecretPopulation, mock_digest, mock_salt
from pglido.auth.secrets import Md5, Plain, Secret, Unset, Verifier

SEED = b"seed"
NAMES = [f"user{number}" for number in range(1000)]


def verifier(iterations: int, salt: bytes = bytes(16)) -> Verifier:
    return Verifier(iterations, salt, bytes(32), bytes(32))


def test_faces_are_met_as_often_as_their_owners() -> None:
    population = SecretPopulation.of([*[verifier(4096)] * 6, *[verifier(10_000, bytes(20))] * 3, Plain("x"), Unset()])
    met = Counter(population.scram_shape(mock_digest(SEED, name)) for name in NAMES)
    assert met.keys() == {ChallengeShape(4096), ChallengeShape(10_000, 20), PLAIN_SHAPE}
    assert met[ChallengeShape(4096)] > met[ChallengeShape(10_000, 20)] > met[PLAIN_SHAPE] > 50


def test_with_md5_scram_is_met_as_often_as_verifiers() -> None:
    population = SecretPopulation.of([verifier(4096), Plain("x"), Md5("x")])
    scram = sum(population.is_scram_in_md5(mock_digest(SEED, name)) for name in NAMES)
    assert 250 < scram < 420


@pytest.mark.parametrize("secrets", [[], [Unset()]])
def test_where_nothing_is_known_verifiers_are_supposed(secrets: list[Secret]) -> None:
    population = SecretPopulation.of(secrets)
    assert population == SecretPopulation()
    assert population.scram_shape(mock_digest(SEED, "joe")) == PLAIN_SHAPE
    assert population.is_scram_in_md5(mock_digest(SEED, "joe"))


def test_where_all_have_md5_secrets_scram_looks_as_if_made_on_the_fly() -> None:
    assert SecretPopulation.of([Md5("x")]).scram_shape(mock_digest(SEED, "joe")) == PLAIN_SHAPE


def test_one_more_secret_changes_the_look_of_few_names() -> None:
    many = [*[verifier(4096)] * 60, *[verifier(10_000)] * 30, *[Md5("x")] * 10]
    before, after = SecretPopulation.of(many), SecretPopulation.of([*many, verifier(10_000)])

    def looks(population: SecretPopulation) -> list[tuple[ChallengeShape, bool]]:
        lots = [mock_digest(SEED, name) for name in NAMES]
        return [(population.scram_shape(lot), population.is_scram_in_md5(lot)) for lot in lots]

    changed = sum(one != other for one, other in zip(looks(before), looks(after), strict=True))
    assert changed < len(NAMES) // 30


@given(st.text(), st.integers(1, 100))
def test_a_mock_salt_belongs_to_name_and_seed(user: str, size: int) -> None:
    lot = mock_digest(SEED, user)
    salt = mock_salt(lot, size)
    assert len(salt) == size
    assert salt == mock_salt(mock_digest(SEED, user), size)
    if size >= 16:
        assert salt != mock_salt(mock_digest(b"other", user), size)
        assert salt != mock_salt(mock_digest(SEED, user + "x"), size)
        assert salt[:16] != lot[:16]
