"""What happens to one who waits costs nothing for the others in line."""

from collections.abc import Callable

from harness.steps import assert_linear
from parity.builds import SOURCE

REFUSED = ("08001", "could not connect to server: Connection refused")
RETRY = 15.0


def test_attempts_that_fail_do_not_look_at_all_who_wait() -> None:
    """n clients wait, n attempts to open a server fail, and behind each a client that logs in is told."""

    def of_size(size: int) -> Callable[[], object]:
        limits = SOURCE.pooling.limits.Limits(login_retry=RETRY, wait_timeout=0.0, wait_notify=0.0)
        pool = SOURCE.pooling.pool.Pool(("db", "user"), limits, lambda: 1.0)
        pool.grant()
        for _ in range(size):
            pool.wait(object(), limits.startup_params, None, 0.0)
        start = 0.0
        while not pool.outage.known(start):
            pool.outage.failed(start, start, REFUSED, RETRY, 1.0)
            start = pool.outage.retry_at

        def fail() -> None:
            now = start
            for _ in range(size):
                now = max(now, pool.outage.retry_at)
                opened = [plan.slot for plan in pool.plan(now) if plan.verb.name == "CONNECT"]
                assert len(opened) == 1
                pool.failed(opened[0], *REFUSED, now)
                pool.wait_for_login(object(), limits.startup_params, None, now)
                assert "REJECT" in [plan.verb.name for plan in pool.plan(now)]
                assert pool.line.size == size

        return fail

    assert_linear(of_size, 40, most=400)
