"""What is remembered is bounded in bytes as well as in entries, and can be let go of."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.builds import BUILDS, Build
from pglido.cache import caches, clear_all
from pglido.session.state import parameters
from pglido.sql import analysis

LOOKS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5000)), max_size=200)


@pytest.fixture(params=BUILDS, ids=lambda build: build.name)
def build(request: pytest.FixtureRequest) -> Build:
    """One build of it."""
    made: Build = request.param
    return made


@given(asked=LOOKS)
def test_no_more_is_kept_than_may_be(asked: list[tuple[int, int]]) -> None:
    for build in BUILDS:
        cache = build.cache.Cache(10_000, 20)
        for key, size in asked:
            found = cache.get(key)
            assert found in (None, f"value {key}")
            if found is None:
                cache.put(key, f"value {key}", size)
            assert cache.size() <= 10_000
            assert len(cache) <= 20


def test_what_is_asked_for_stays(build: Build) -> None:
    cache = build.cache.Cache(100_000, 100)
    cache.put("asked for", 1, 10)
    for number in range(1000):
        cache.put(number, number, 500)
        assert cache.get("asked for") == 1
    assert cache.get(3) is None
    assert cache.get(999) == 999


def test_what_would_take_much_of_it_is_not_kept(build: Build) -> None:
    cache = build.cache.Cache(8000, 100)
    cache.put("small", 1, 999)
    cache.put("large", 1, 1000)
    assert cache.get("small") == 1
    assert cache.get("large") is None


def test_texts_that_name_much_are_not_all_kept() -> None:
    analysis._remembered.clear()
    for number in range(300):
        analysis.look(f"set a{number} = 1;".encode() + b";".join([b"set b%d = 1" % n for n in range(900)]))
    assert 1_000_000 < analysis._remembered.size() <= analysis.KEPT_BYTES
    assert len(analysis._remembered) < 300


def test_all_is_let_go_of() -> None:
    gc.collect()
    analysis.look(b"set x = 1")
    parameters.path(parameters.EMPTY, parameters.of_pairs([("a", "b")]))
    assert len(analysis._remembered)
    clear_all()
    assert [one.size() for one in caches() if one.size()] == []
    assert not len(analysis._remembered)
