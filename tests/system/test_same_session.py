"""A session of a pooler's client is the one that it would have had alone, whatever it and others do meanwhile."""

import os
from collections.abc import Iterator
from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from conftest import MakePooler
from harness.cluster import Cluster
from harness.twins import Step, hold
from harness.waiting import eventually
from harness.wire import ServerError, Wire

from .session_steps import HOMES, OBJECTS, ROLES, steps

# The twins have a database of their own, for advisory locks and tables are the database's.
TWINS = "twins"
EXAMPLES = int(os.environ.get("PGLIDO_TEST_EXAMPLES", "10"))


def prepare(cluster: Cluster) -> None:
    """Make what the steps speak of, in both databases."""
    with suppress(ServerError):
        for role in ROLES:
            cluster.admin(f"CREATE ROLE {role}; GRANT {role} TO app")
        for database in ("sessions", TWINS):
            cluster.admin(f"CREATE DATABASE {database} OWNER app")
            with cluster.wire("postgres", database) as wire:
                wire.run(OBJECTS)


@st.composite
def stories(draw: st.DrawFn) -> tuple[str, list[dict[str, str]], list[tuple[int, Step]]]:
    """Who the clients are, with which parameters they come, and what they say in which order."""
    user = draw(st.sampled_from(["app", "app", "postgres"]))
    # A superuser's role at its start decides on is_superuser, which is not told anew when RESET leads back to it.
    known = [home for home in HOMES if user == "app" or "role" not in home]
    homes = draw(st.lists(st.sampled_from(known), min_size=2, max_size=5))
    said = st.integers(0, len(homes) - 1).flatmap(lambda n: st.tuples(st.just(n), steps(n, not homes[n])))
    # Lists are short of their own accord.
    length = draw(st.sampled_from([5, 15, 30, 60]))
    return user, homes, draw(st.lists(said, min_size=length, max_size=60))


LEFT = """
SELECT (SELECT string_agg(name || '=' || setting, ' ') FROM pg_settings
        WHERE source = 'session' AND name NOT LIKE 'transaction_%'),
    coalesce(current_setting('app.x', true), '') || coalesce(current_setting('app.y', true), ''),
    current_setting('role'), session_user = user,
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""
CLEAN = [None, "", "none", "t", "0", "0", "0", "0"]


# Made where a search path does not lead to temporary ones.
UNMADE = ";".join(
    f"DROP TABLE IF EXISTS {schema}.mine_{number}"
    for schema in ("public", "other_one", '"Odd ""one"')
    for number in range(1, 6)
)
DATABASES = {"sessions": {}}


@pytest.fixture(params=["cluster", "cluster16"])
def server(request: pytest.FixtureRequest) -> Cluster:
    """Each version."""
    made: Cluster = request.getfixturevalue(request.param)
    prepare(made)
    return made


@pytest.fixture
def locks(server: Cluster) -> Iterator[Wire]:
    """A connection for looking at all locks."""
    with server.wire("postgres", "sessions") as wire:
        yield wire


@pytest.mark.parametrize(("servers", "workers"), [(1, 1), (2, 1), (3, 2)])
def test_client_cannot_tell_that_its_session_moves(
    servers: int, workers: int, server: Cluster, shared_pooler: MakePooler, locks: Wire
) -> None:
    pooler = shared_pooler(server, databases=DATABASES, default_pool_size=servers, workers=workers, max_pinned_share=1)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(stories())
    def is_the_same(story: tuple[str, list[dict[str, str]], list[tuple[int, Step]]]) -> None:
        user, homes, said = story
        logins = [
            ({"user": user, "database": "sessions", **home}, {"user": user, "database": TWINS, **home})
            for home in homes
        ]
        try:
            hold(pooler.address, server.address, logins, said, servers)
        finally:
            if any("mine_" in step.text for _, step in said):
                for database in ("sessions", TWINS):
                    server.admin(UNMADE, database)
        fresh = pooler.wire(user, "sessions")
        assert fresh.run(LEFT) == [CLEAN]
        fresh.bye()
        Wire.opened.remove(fresh)
        eventually(lambda: locks.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0")

    is_the_same()
