"""A client of the relay sees what it would see with a server of its own; both builds do the same, byte for byte."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, assume, given, settings

from . import frontend as fe
from .builds import BUILDS
from .world import Say, Script, World, private, view

NAMES = ["a", "b", "c"]
WORDS = ["select x", "select y", "select $1", "rows 3", "big 300", "", "notice n", "begin", "commit", "rollback"]
WORDS += ["fail", "error", "show application_name", "set application_name me", "set timezone Mars", "set datestyle SQL"]
WORDS += ["deallocate all", "discard all", "reset all", "copy out"]
SQL = st.sampled_from(WORDS)
NAME = st.sampled_from(NAMES)
ANY_NAME = st.sampled_from([*NAMES, ""])
ENDING = [Say(fe.copy_fail("the end") + fe.SYNC), Say(fe.query("rollback"), wait=True), Say(fe.TERMINATE)]

QUERY = st.builds(fe.query, st.one_of(SQL, st.lists(SQL, max_size=3).map(";".join)))
VALUES = st.sampled_from([(), (b"v",), (b"",)])
BINDS = st.builds(lambda name, values, portal: fe.bind(name, *values, portal=portal), ANY_NAME, VALUES, ANY_NAME)
EXTENDED = st.one_of(
    st.builds(fe.parse, NAME, SQL),
    st.builds(fe.parse, ANY_NAME, SQL),
    BINDS,
    BINDS,
    st.builds(fe.describe, ANY_NAME, st.sampled_from(["S", "P"])),
    st.builds(fe.execute, ANY_NAME, st.sampled_from([0, 0, 1, 2])),
    st.builds(fe.close, ANY_NAME, st.sampled_from(["S", "S", "P"])),
    st.just(fe.FLUSH),
)
# What a driver does: prepare (if it must), bind, execute.
DRIVER = st.builds(
    lambda name, sql, know: b"".join(
        ([] if know else [fe.parse(name, sql)])
        + [fe.bind(name, *[b"v"] * sql.count("$")), fe.describe("", "P"), fe.execute()]
    ),
    ANY_NAME,
    SQL,
    st.booleans(),
)
COPY = st.builds(
    lambda how, data, end, early: (
        (fe.query("copy in") if how else fe.parse("", "copy in") + fe.bind("") + fe.execute())
        + (fe.SYNC if early and not how else b"")
        + b"".join(fe.copy_data(one) for one in data)
        + end
        + (b"" if how else fe.SYNC)
    ),
    st.booleans(),
    st.lists(st.sampled_from([b"", b"row\n", b"bad", b"x" * 300]), max_size=3),
    st.sampled_from([fe.COPY_DONE, fe.copy_fail("no more")]),
    st.booleans(),
)
SAY = st.one_of(
    st.builds(Say, QUERY, st.booleans()),
    st.builds(
        lambda part, sync, wait: Say(part + (fe.SYNC if sync else b""), wait), EXTENDED, st.booleans(), st.booleans()
    ),
    st.builds(
        lambda part, sync, wait: Say(part + (fe.SYNC if sync else b""), wait), DRIVER, st.booleans(), st.booleans()
    ),
    st.builds(Say, st.just(fe.SYNC), st.booleans()),
    st.builds(Say, COPY, st.booleans()),
    st.builds(Say, st.just(fe.call(7)), st.booleans()),
)
START = st.sampled_from([{}, {"application_name": "one"}, {"application_name": "two", "timezone": "Venus"}])
SCRIPT = st.builds(lambda start, says: Script(start, [*says, *ENDING]), START, st.lists(SAY, max_size=8))


def difference(script: Script, seen: bytes) -> str:
    """Where what a client saw leaves what it should see, or nothing."""
    wanted, got = view(script.start, private(script)[0]), view(script.start, seen)
    if wanted == got:
        return ""
    at = next(
        (i for i, (one, two) in enumerate(zip(wanted, got, strict=False)) if one != two), min(len(wanted), len(got))
    )
    said = "\n".join(f"  {' wait ' if one.wait else '      '}{list(fe.split(one.data))}" for one in script.says)
    shown = f"at {at}\n  wanted {wanted[at : at + 4]}\n  saw    {got[at : at + 4]}"
    return f"client said (start {script.start}):\n{said}\n{shown}"


WORLD = (st.integers(1, 3), st.sampled_from([1, 2, 3, 100]), st.integers(0, 1000), st.booleans())
SETTINGS = settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def judge(scripts: list[Script], seats: int, limit: int, seed: int, small: bool) -> None:
    """Play the scripts on each build: nobody may notice anything, and the builds may not differ."""
    assume(all(private(script)[1] for script in scripts))
    logs: list[Any] = []
    for build in BUILDS:
        world = World(build, scripts, seats=seats, max_statements=limit)
        world.run(seed, small)
        for script, client in zip(scripts, world.clients, strict=True):
            problem = difference(script, bytes(client.seen))
            assert not problem, problem
        world.check()
        logs.append(world.log)
    assert logs[0] == logs[-1]


@given(st.lists(SCRIPT, min_size=1, max_size=3), *WORLD)
@SETTINGS
def test_clients_that_wait_notice_nothing(
    scripts: list[Script], seats: int, limit: int, seed: int, small: bool
) -> None:
    waiting = [Script(one.start, [Say(say.data, wait=True) for say in one.says]) for one in scripts]
    judge(waiting, seats, limit, seed, small)


@given(st.lists(SCRIPT, min_size=1, max_size=3), *WORLD)
@SETTINGS
def test_clients_that_pipeline_notice_nothing(
    scripts: list[Script], seats: int, limit: int, seed: int, small: bool
) -> None:
    judge(scripts, seats, limit, seed, small)
