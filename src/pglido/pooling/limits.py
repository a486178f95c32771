"""The numbers that one pool's policy goes by; times in seconds."""

from dataclasses import dataclass

FOREVER = float("inf")


@dataclass(frozen=True)
class Limits:
    """`minimum` is this worker's part of min_pool_size; `startup_params` what new servers are opened with by default.
    """

    minimum: int = 0
    parallel_connects: int = 4
    wait_timeout: float = 120.0
    wait_notify: float = 5.0
    lifetime: float = 3600.0
    lifetime_jitter: float = 0.2
    idle_timeout: float = 600.0
    login_retry: float = 15.0
    check_delay: float = 30.0
    round_robin: bool = False
    startup_params: object = None
