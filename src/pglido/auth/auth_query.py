"""auth_query without its connection: what its answer means, and a memory of answers.

Who asks, must: run the query with the user name as parameter `$1` of the extended protocol, on a connection
that no setting of any client has touched, and only once at a time for a name.

A query gives name and secret, as in PgBouncer. Only one with a third column, for how many seconds the secret is valid
from now on (NULL: without end), is remembered: else the memory would hide that it has expired.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .secrets import Secret, Unset, parse

Row = Sequence[bytes | None]
# Where is asked (database, role and query), and for whom.
Key = tuple[tuple[str, str, str], str]

# Seconds between two questions for one name that were asked because a proof failed: guessing costs no query each.
PAUSE = 1.0

NEVER = -math.inf


class QueryError(Exception):
    """An auth_query that gives what it must not; the text is for the log."""


@dataclass(frozen=True, slots=True)
class AuthQueryAnswer:
    """What is known of a user: its `name` as auth_query spells it, and the secret, None where there is no such user.

    It is what held at `since`, and is good until `until` (monotonic seconds). `again` is when it was last asked
    for because a proof had failed.
    """

    name: str
    secret: Secret | None
    since: float = NEVER
    until: float = NEVER
    again: float = NEVER


def read_answer(user: str, rows: Sequence[Row], width: int, now: float, ttl: float) -> AuthQueryAnswer:
    """What the `rows`, which have `width` columns, say of `user` to a question asked at `now`.

    No user without a row (or with one of NULLs), Unset where the secret is NULL or empty. Another name than the one
    asked for is that of the user, as in PgBouncer: the query may know better how it is spelled. Raises QueryError for
    more than one row, other than two or three columns, or a name or a time that is none.
    """
    if width not in (2, 3):
        raise QueryError(f"auth_query gave {width} columns, expected 2: name and secret (3: the seconds it is valid)")
    until = now + ttl if width > 2 else now
    # A look-up function with OUT parameters that finds nobody gives NULLs.
    if not rows or not any(value is not None for value in rows[0]):
        return AuthQueryAnswer(user, None, now, until)
    if len(rows) > 1:
        raise QueryError(f'auth_query gave {len(rows)} rows for user "{user}", expected one or none')
    name, text, *valid = (None if value is None else value.decode("utf-8", "surrogateescape") for value in rows[0])
    if not name:
        raise QueryError(f'auth_query gave no name when asked for user "{user}"')
    secret = parse(text)
    if valid and valid[0] is not None:
        try:
            rest = float(valid[0])
        except ValueError:
            rest = math.nan
        if math.isnan(rest):
            raise QueryError(f'auth_query gave no number of seconds in its third column for user "{user}"')
        secret = secret if rest > 0 else Unset()
        until = min(until, now + max(rest, 0))
    return AuthQueryAnswer(name, secret, now, until)


class AuthQueryCache:
    """Answers of auth_query by key, each good until it says. There is room for `size` of them.

    Existing users and others have the same life and the same room, so that the time until one is asked for again does
    not tell them apart.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._answers: dict[Key, AuthQueryAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __repr__(self) -> str:
        return f"<AuthQueryCache {len(self)}>"

    def get(self, key: Key, now: float) -> AuthQueryAnswer | None:
        """The answer, if there is one that is still good."""
        answer = self._answers.get(key)
        if answer is not None and now >= answer.until:
            del self._answers[key]
            return None
        return answer

    def put(self, key: Key, answer: AuthQueryAnswer, now: float) -> None:
        """Keep what auth_query has just said, if it is good for a while."""
        self._answers.pop(key, None)
        if answer.until > now:
            self._answers[key] = answer
            if len(self._answers) > self._size:
                del self._answers[next(iter(self._answers))]

    def doubtful(self, key: Key, began: float, now: float) -> bool:
        """Is there an answer of before `began` that may be asked for again now, though it is still good?"""
        answer = self.get(key, now)
        return answer is not None and answer.since < began and now - answer.again >= PAUSE

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()
