"""auth_query without its connection: what its answer means, and a cache of answers.

Who asks, must: run the query with the user name as parameter `$1` of the extended protocol, on a connection
that no setting of any client has touched, and only once at a time for a name.
The default query gives NULL for a password whose VALID UNTIL is past.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .secrets import Secret, parse

Row = Sequence[bytes | None]
Key = tuple[str, str]


class QueryError(Exception):
    """An auth_query that gives what it must not; the text is for the log."""


def secret_of(user: str, rows: Sequence[Row]) -> Secret | None:
    """What the rows (name, secret) say of `user`: None without a row (or with one of NULLs), Unset where
    the secret is NULL or empty.

    Raises QueryError for more than one row, other than two columns, or another name than the one asked for.
    """
    if not rows:
        return None
    if list(rows[0]) == [None, None]:
        # A look-up function with OUT parameters finds nobody.
        return None
    if len(rows) > 1:
        raise QueryError(f'auth_query gave {len(rows)} rows for user "{user}", expected one or none')
    if len(rows[0]) != 2:
        raise QueryError(f"auth_query gave {len(rows[0])} columns, expected 2: name and secret")
    name, secret = (None if value is None else value.decode("utf-8", "surrogateescape") for value in rows[0])
    if name != user:
        shown = "NULL" if name is None else f'"{name}"'
        raise QueryError(f'auth_query gave the name {shown} when asked for user "{user}"')
    return parse(secret)


@dataclass(frozen=True, slots=True)
class Answer:
    """What auth_query said at `since`; the secret is None where there is no such user."""

    secret: Secret | None
    since: float


class Answers:
    """Answers of auth_query by (auth database, user), each good for a time.

    Known users are kept `ttl` seconds, unknown names `failure_ttl`; 0 keeps none. Each kind has room for
    `size` entries and makes room for a new one by dropping the oldest, so that a flood of unknown names drops
    no known user. `now` is any monotonic clock in seconds.
    """

    def __init__(self, ttl: float, failure_ttl: float, size: int = 10_000) -> None:
        self._ttl = ttl
        self._failure_ttl = failure_ttl
        self._size = size
        self._known: dict[Key, Answer] = {}
        self._unknown: dict[Key, Answer] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def __repr__(self) -> str:
        return f"<Answers known={len(self._known)} unknown={len(self._unknown)}>"

    def get(self, key: Key, now: float) -> Answer | None:
        """The answer, if there is one that is still good."""
        for answers, ttl in ((self._known, self._ttl), (self._unknown, self._failure_ttl)):
            answer = answers.get(key)
            if answer is None:
                continue
            if now - answer.since < ttl:
                return answer
            del answers[key]
        return None

    def put(self, key: Key, secret: Secret | None, now: float) -> None:
        """Keep what auth_query has just said."""
        self.drop(key)
        answers, ttl = (self._unknown, self._failure_ttl) if secret is None else (self._known, self._ttl)
        if ttl <= 0:
            return
        if len(answers) >= self._size:
            del answers[next(iter(answers))]
        answers[key] = Answer(secret, now)

    def doubt(self, key: Key, now: float) -> None:
        """A login failed against this answer: the password may have changed, so ask again next time.

        An answer younger than `failure_ttl` stays, so that guessing costs the database no query each.
        """
        answer = self._known.get(key)
        if answer is not None and now - answer.since >= self._failure_ttl:
            del self._known[key]

    def drop(self, key: Key) -> None:
        """Forget what is known of this user."""
        self._known.pop(key, None)
        self._unknown.pop(key, None)

    def clear(self) -> None:
        """Forget everything, as on reload."""
        self._known.clear()
        self._unknown.clear()

    def secrets(self) -> Iterator[Secret]:
        """The secrets of known users, for the crowd that unknown ones hide in."""
        return (answer.secret for answer in self._known.values() if answer.secret is not None)
