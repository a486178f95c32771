"""Every test of a session runs on each build of it."""

from collections.abc import Iterator

import pytest

from parity.builds import BUILDS, Build

pytest.register_assert_rewrite("session.dialogue")

from .dialogue import Talk  # noqa: E402


@pytest.fixture(params=BUILDS, ids=lambda build: build.name)
def build(request: pytest.FixtureRequest) -> Build:
    """One build of the core."""
    made: Build = request.param
    return made


@pytest.fixture
def talk(build: Build) -> Iterator[Talk]:
    """A client, two servers, and nothing said yet; what was sent and not expected fails the test."""
    made = Talk(build)
    yield made
    made.nothing_left()
