"""What is known of servers that can't be opened: the last error, since when, and when to try again.

Rules:
1. Most errors pass: the server restarts, a name or a host is away, all its connections are taken. Clients wait in line
   for that, up to query_wait_timeout. `LASTING` lists those that waiting doesn't cure.
2. A pool is known to fail once an error lasts, or has been met for `patience` seconds. Then clients that log in are
   told at once, as by PgBouncer; a restart that is over sooner is noticed by nobody.
3. Attempts follow each other at a quarter of the time that the outage has lasted, up to server_login_retry: who waits,
   waits a quarter longer than the server was away.
"""

# SQLSTATE, or its class (PostgreSQL's appendix A): why it is told to those who wait, and not waited out. What never
# reached the server has 08001; 08, 53, 57 and 58 are the server's own troubles, which pass.
LASTING = {
    "0A": "feature_not_supported: the server does not speak as it is spoken to",
    "22": "data_exception: a startup parameter, or connect_query, is wrong",
    "28": "invalid_authorization_specification: password, pg_hba.conf, TLS or certificate",
    "3D": "invalid_catalog_name: there is no such database",
    "42": "access_rule_violation: no right to connect, unknown parameter, or connect_query is wrong",
    "55000": "object_not_in_prerequisite_state: the database takes no connections",
    "55P02": "cant_change_runtime_param: a startup parameter can't be set",
}

# Seconds before the second attempt, and at least between any two: a refused connection costs no time by itself.
FIRST_RETRY = 0.1
# Part of the time an outage has lasted that passes between two attempts.
SHARE = 0.25
# Seconds after the end of a pause, on top of its length: an attempt that begins later is the first of another outage.
PROMPT = 1.0
# Seconds for which clients that log in wait at least: a restart of the server takes less.
LOGIN_PATIENCE = 10.0


def lasts(sqlstate: str) -> bool:
    """Is this an error that waiting doesn't cure?"""
    return sqlstate in LASTING or sqlstate[:2] in LASTING


def last_error(problem: tuple[str, str] | None) -> str:
    """What clients are told of it in a DETAIL; empty for None."""
    return f"last error: {problem[1]}" if problem is not None else ""


class Outage:
    """`problem` is what the last attempt met (SQLSTATE, text), None once a server was opened.

    `since` is when the first attempt of those in a row began, `failed_at` when the last one failed, `retry_at` when
    the next may begin; monotonic seconds.
    """

    __slots__ = ("failed_at", "patience", "problem", "retry_at", "since")

    def __init__(self) -> None:
        self.problem: tuple[str, str] | None = None
        self.patience = LOGIN_PATIENCE
        self.since = 0.0
        self.failed_at = 0.0
        self.retry_at = 0.0

    def failed(self, began: float, now: float, problem: tuple[str, str], longest: float, chance: float) -> None:
        """An attempt that began at `began` failed; pauses are at most `longest`, and shortened by chance (0 to 1)."""
        if self.problem is None or began > self.retry_at + (self.retry_at - self.failed_at) + PROMPT:
            self.since = began
        self.patience = max(longest, LOGIN_PATIENCE)
        self.problem = problem
        self.failed_at = now
        pause = max(FIRST_RETRY, min(longest, SHARE * (now - self.since)))
        self.retry_at = now + pause * (0.5 + chance / 2)

    def over(self) -> None:
        """A server was opened."""
        self.problem = None
        self.retry_at = 0.0

    def met_since(self, moment: float) -> tuple[str, str] | None:
        """The last error, if it was met since then."""
        return self.problem if self.failed_at >= moment else None

    def lately(self, now: float) -> bool:
        """Did the last attempt fail, not so long ago that nothing is known any more?"""
        return self.problem is not None and now < self.retry_at + self.patience

    def known(self, now: float) -> bool:
        """Is it clear that waiting may be in vain?"""
        if self.problem is None or not self.lately(now):
            return False
        return lasts(self.problem[0]) or now - self.since >= self.patience
