"""Fixtures of all tests that run whole processes: PostgreSQL servers, poolers, certificates."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run: a search for new ones is made on purpose, with --hypothesis-profile=default.
# What one of them takes depends on what else the machine does.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

pytest.register_assert_rewrite("harness")

from harness.cluster import Cluster  # noqa: E402
from harness.pooler import Pooler, default_config, new_port  # noqa: E402
from harness.tls import Certificates  # noqa: E402
from harness.wire import Wire  # noqa: E402

MakePooler = Callable[..., Pooler]
_FAILED = pytest.StashKey[bool]()
LOG_TAIL = 2500  # characters of each pooler's log shown with a failure


@pytest.fixture(autouse=True)
def close_wires() -> Iterator[None]:
    """Close the raw connections of a test when it ends; remember where the logs of its poolers begin."""
    for one in Pooler.live:
        one.log_start = len(one.log)
    yield
    _close_wires()


@pytest.fixture
def patience() -> Iterator[None]:
    """The test may take a minute, and no more."""

    def late(*_: object) -> None:
        raise TimeoutError("the test takes too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _close_wires() -> None:
    while Wire.opened:
        Wire.opened.pop().close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL 18, shared by all tests; nobody stops it."""
    made = Cluster.create(18)
    yield made
    made.server.remove()


@pytest.fixture(scope="session")
def cluster16() -> Iterator[Cluster]:
    """PostgreSQL 16, shared by all tests; nobody stops it."""
    made = Cluster.create(16)
    yield made
    made.server.remove()


@pytest.fixture(scope="session")
def tls_cluster(certificates: Certificates) -> Iterator[Cluster]:
    """PostgreSQL 17 with TLS, certified as localhost."""
    made = Cluster.create(17, tls=(certificates.server.certificate, certificates.server.key))
    yield made
    made.server.remove()


@pytest.fixture(params=["cluster16", "tls_cluster", "cluster"])
def every_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each PostgreSQL that there is, in turn: 16, 17 and 18."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL 18 of the test's own, to be stopped and started at will."""
    made = Cluster.create(18)
    yield made
    made.server.remove()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Two authorities, and certificates for servers and clients."""
    return Certificates.create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def pooler(tmp_path: Path, cluster: Cluster) -> Iterator[MakePooler]:
    """Start poolers: `pooler(databases={...}, users={...}, server=cluster, setting=value, ...)`."""
    started: list[Pooler] = []
    cluster.overlook()

    def make(server: Any = cluster, **more: Any) -> Pooler:
        folder = tmp_path / f"pooler{len(started)}"
        folder.mkdir()
        port = new_port()
        one = Pooler(folder, default_config(port, server.port, **more), port)
        started.append(one)
        return one.start()

    yield make
    _close_wires()  # a pooler waits for transactions to end
    _stop(started)
    cluster.overlook_nobody()


@pytest.fixture(scope="session")
def all_shared_poolers() -> Iterator[dict[str, Pooler]]:
    """The shared poolers by their settings."""
    started: dict[str, Pooler] = {}
    yield started
    _stop(list(started.values()))


@pytest.fixture
def shared_pooler(
    all_shared_poolers: dict[str, Pooler], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[MakePooler]:
    """Poolers for tests that leave nothing behind: `shared_pooler(server, setting=value, ...)`, one per settings.

    The ones of a test that failed are stopped, so that the next test gets fresh ones.
    """
    used: list[str] = []

    def make(server: Cluster, **more: Any) -> Pooler:
        name = repr((server.port, sorted(more.items())))
        used.append(name)
        one = all_shared_poolers.get(name)
        if one is None or one.process is None or one.process.poll() is not None:
            port = new_port()
            folder = tmp_path_factory.mktemp("pooler")
            one = Pooler(folder, default_config(port, server.port, **more), port).start()
            all_shared_poolers[name] = one
        return one

    yield make
    _close_wires()
    if request.node.stash.get(_FAILED, False):
        _stop([all_shared_poolers.pop(name) for name in set(used) if name in all_shared_poolers])


def _stop(poolers: list[Pooler]) -> None:
    """Stop all of them, and only then report what went wrong."""
    failures = []
    for one in poolers:
        try:
            one.stop()
        except Exception as error:
            failures.append(error)
    for one in poolers:
        if one in Pooler.live:
            Pooler.live.remove(one)
    if failures:
        raise failures[0]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the logs of the running poolers with each failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        item.stash[_FAILED] = True
        for one in Pooler.live:
            if new := one.log[one.log_start :]:
                report.sections.append((f"log of pglido on port {one.port}", new[-LOG_TAIL:]))
